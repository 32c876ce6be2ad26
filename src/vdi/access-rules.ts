import { SheepError } from '../base/errors.ts';
import {
  bitsOf,
  formatIp,
  type IpNetwork,
  isInNetwork,
  masked,
  parseIp,
  unmapped,
  unmappedNetwork,
} from '../base/ip.ts';
import type { Client } from '../contracts/exports.ts';

/**
 * Who may attach a VDI: a list of rules, one of which has to fit. Each is a text:
 *
 *   default       programs of this machine, and certificates of our authority
 *   unix          whoever could open one of the unix sockets
 *   cidr:A/N      an IPv4 or IPv6 address of this network
 *   cert:NAME     a client that has proven a certificate with this common name
 *   psk:USER      a client that has proven the pre-shared key of this user
 *
 * Nothing is matched in part: an address by its bits, a name as a whole and to the letter.
 */
type Rule =
  | { readonly kind: 'default' | 'unix' }
  | { readonly kind: 'cidr'; readonly network: IpNetwork }
  | { readonly kind: 'cert' | 'psk'; readonly name: string };

export const DEFAULT_RULES: readonly string[] = ['default'];

/** A VDI that needs more of them wants a certificate authority of its own. */
const RULES_MAX = 64;
const NAME_BYTES_MAX = 255;
const LOOPBACK = [
  { address: Uint8Array.of(127, 0, 0, 0), prefixBits: 8 },
  { address: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), prefixBits: 128 },
] as const satisfies readonly IpNetwork[];

/** What would end a rule in a list, or could not be seen in it: written as `%xx`. */
const ESCAPED = /[,%\p{White_Space}\p{Cc}\p{Cf}]/gu;

export interface Circumstances {
  /** The operator serves a network that he trusts: `default` lets in whoever can reach the sheep. */
  readonly networkTrusted: boolean;
}

/**
 * The rules as they are stored: each in its one canonical text, none twice.
 * @throws SheepError `ERR_BAD_INPUT` with the rule that is none, and what to write
 */
export function canonicalRules(texts: readonly string[]): string[] {
  const rules = [...new Set(texts.map((text) => formatRule(parseRule(text))))];
  if (rules.length >= 1 && rules.length <= RULES_MAX) return rules;
  const why =
    rules.length === 0 ? 'nobody could attach the VDI' : `that is ${rules.length} of them`;
  throw new SheepError('ERR_BAD_INPUT', `give 1 to ${RULES_MAX} access rules: ${why}`, {
    rules: rules.length,
  });
}

/** The first of these rules that lets the client in; undefined: none does. */
export function ruleFor(
  client: Client,
  rules: readonly string[],
  circumstances: Circumstances,
): string | undefined {
  return rules.find((text) => fits(parseRule(text), client, circumstances));
}

function fits(rule: Rule, client: Client, { networkTrusted }: Circumstances): boolean {
  const { transport, proof } = client;
  switch (rule.kind) {
    case 'default':
      if (transport === 'unix' || networkTrusted || proof?.kind === 'certificate') return true;
      return LOOPBACK.some((network) => isFrom(client, network));
    case 'unix':
      return transport === 'unix';
    case 'cidr':
      return isFrom(client, rule.network);
    case 'cert':
      return proof?.kind === 'certificate' && proof.commonName === rule.name;
    case 'psk':
      return proof?.kind === 'psk' && proof.user === rule.name;
  }
}

function isFrom({ transport, address = '' }: Client, network: IpNetwork): boolean {
  if (transport !== 'tcp') return false;
  const [withoutZone = ''] = address.split('%');
  const parsed = parseIp(withoutZone);
  return parsed !== undefined && isInNetwork(unmapped(parsed), network);
}

/** @throws SheepError `ERR_BAD_INPUT` */
function parseRule(text: string): Rule {
  if (text === 'default' || text === 'unix') return { kind: text };
  const colon = text.indexOf(':');
  const [kind, value] = [text.slice(0, Math.max(colon, 0)), text.slice(colon + 1)];
  switch (kind) {
    case 'cidr':
      return { kind, network: parseNetwork(text, value) };
    case 'cert':
    case 'psk':
      return { kind, name: parseName(text, value) };
    default:
      throw badRule('give default, unix, cidr:ADDRESS/BITS, cert:NAME or psk:USER', text);
  }
}

function formatRule(rule: Rule): string {
  switch (rule.kind) {
    case 'default':
    case 'unix':
      return rule.kind;
    case 'cidr':
      return `cidr:${formatIp(rule.network.address)}/${rule.network.prefixBits}`;
    case 'cert':
    case 'psk':
      return `${rule.kind}:${rule.name.replace(ESCAPED, encodeURIComponent)}`;
  }
}

/** `10.0.0.0/8`, `fd00::/8`; an address alone is a network of one. */
function parseNetwork(text: string, value: string): IpNetwork {
  const [addressText = '', bitsText, ...more] = value.split('/');
  const address = parseIp(addressText);
  if (address === undefined || more.length > 0) {
    throw badRule('give the address of a network and its bits, as in cidr:10.0.0.0/8', text);
  }
  const bitsMax = bitsOf(address);
  const prefixBits = bitsText === undefined ? bitsMax : parsePrefix(bitsText);
  if (prefixBits === undefined || prefixBits > bitsMax) {
    throw badRule(`behind the / give a number of bits from 0 to ${bitsMax}`, text);
  }
  const network = masked(address, prefixBits);
  if (formatIp(network) !== formatIp(address)) {
    const one = `cidr:${formatIp(address)}/${bitsMax}`;
    const all = `cidr:${formatIp(network)}/${prefixBits}`;
    throw badRule(`is it the address ${one} or the network ${all}?`, text);
  }
  return unmappedNetwork({ address, prefixBits });
}

function parsePrefix(text: string): number | undefined {
  return /^(?:0|[1-9]\d{0,2})$/.test(text) ? Number(text) : undefined;
}

function parseName(text: string, value: string): string {
  let name: string;
  try {
    // Refuses a % that begins no character, and halves of surrogates.
    name = decodeURIComponent(value);
    encodeURIComponent(name);
  } catch {
    throw badRule('in a name, % begins the code of a character in UTF-8: write %25 for it', text);
  }
  const bytes = new TextEncoder().encode(name).length;
  if (bytes >= 1 && bytes <= NAME_BYTES_MAX) return name;
  throw badRule(`a name has 1 to ${NAME_BYTES_MAX} bytes`, text);
}

function badRule(what: string, text: string): SheepError {
  const shown = JSON.stringify(text.slice(0, 100).toWellFormed());
  const message = `${shown} is no access rule: ${what}`;
  return new SheepError('ERR_BAD_INPUT', message, { rule: text.slice(0, 300).toWellFormed() });
}
