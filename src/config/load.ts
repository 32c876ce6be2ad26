import type { z } from 'zod';
import { isLocal, parseAddress } from '../base/address.ts';
import { SheepError } from '../base/errors.ts';
import type { LogLevel } from '../base/log.ts';
import {
  ADMIN_TCP_DEFAULT,
  DIRECTORY_DEFAULT,
  NBD_DEFAULT,
  SLOW_REQUEST_MS_DEFAULT,
} from './defaults.ts';
import { SCHEMA_KEY, Settings } from './schema.ts';
import { parseShape, type WantedShape } from './store-shape.ts';

/** How a sheep runs: every default filled in, every rule checked. */
export interface SheepConfig {
  /** The store of this node. */
  readonly directory: string;
  /** Addresses where NBD is served, and of the unix sockets among them owner and mode. */
  readonly nbd: readonly string[];
  readonly nbdGroup?: string;
  readonly nbdMode?: number;
  readonly admin: readonly string[];
  /** `NAME:SIZE` of VDIs that are made if they do not exist. */
  readonly vdis: readonly string[];
  /** The store of cluster snapshots has this shape, and is made if it does not exist. */
  readonly format?: WantedShape;
  /** Where its certificates and keys for TLS lie; without it there is no TLS. */
  readonly tls?: { readonly certs?: string; readonly psk?: string };
  /** NBD is served inside of TLS only. */
  readonly tlsRequire: boolean;
  readonly insecureNetwork: boolean;
  readonly logLevel: LogLevel;
  readonly checksums: boolean;
  /** A request that takes so long or longer is logged; 0: none is. */
  readonly slowRequestMs: number;
}

/** `fd:NUMBER` of sockets that a service manager opened for us. */
export interface PassedAddresses {
  readonly nbd: readonly string[];
  /** Unix sockets only. */
  readonly admin: readonly string[];
}

/** Where settings came from, for messages. */
export interface Source {
  readonly settings: unknown;
  /** How a setting is called there: `--nbd-mode`, or `nbdMode in sheep.json`. */
  readonly nameOf: (key: string) => string;
}

/** Flags, by their names in `Settings`. */
export function fromFlags(settings: unknown): Source {
  return { settings, nameOf: (key) => (key === 'directory' ? 'DIR' : `--${dashed(key)}`) };
}

/** The text of the file that `--config` names. @throws SheepError `ERR_BAD_INPUT` */
export function fromFile(path: string, text: string): Source {
  const nameOf = (key: string) => `${key} in ${path}`;
  let settings: unknown;
  try {
    settings = JSON.parse(text);
  } catch (cause) {
    throw new SheepError('ERR_BAD_INPUT', `${path} is not JSON`, { path }, cause);
  }
  if (typeof settings !== 'object' || settings === null) return { settings, nameOf };
  const { [SCHEMA_KEY]: _, ...own } = settings as Record<string, unknown>;
  return { settings: Array.isArray(settings) ? settings : own, nameOf };
}

/**
 * One configuration of several sources; an earlier one wins, setting by setting.
 * @param passed  served instead of the default addresses, and besides those that are given
 * @throws SheepError `ERR_BAD_INPUT`: one sentence with the setting, its value and what to do
 */
export function loadConfig(
  sources: readonly Source[],
  passed: PassedAddresses = { nbd: [], admin: [] },
): SheepConfig {
  const checked = sources.map(checkSource);
  const settings: Settings = Object.assign({}, ...checked.toReversed());
  const directory = settings.directory ?? DIRECTORY_DEFAULT;
  const nbdDefault = passed.nbd.length > 0 ? [] : [NBD_DEFAULT];
  const adminDefault =
    passed.admin.length > 0 ? [] : [`unix:${directory}/admin.sock`, ADMIN_TCP_DEFAULT];
  const config: SheepConfig = {
    directory,
    nbd: [...passed.nbd, ...(settings.nbd ?? nbdDefault)],
    ...(settings.nbdGroup !== undefined && { nbdGroup: settings.nbdGroup }),
    ...(settings.nbdMode !== undefined && { nbdMode: Number.parseInt(settings.nbdMode, 8) }),
    admin: [...passed.admin, ...(settings.admin ?? adminDefault)],
    vdis: settings.vdis ?? [],
    ...(settings.format !== undefined && { format: parseShape(settings.format) }),
    ...tlsOf(settings),
    insecureNetwork: settings.insecureNetwork ?? false,
    logLevel: settings.logLevel ?? 'info',
    checksums: settings.checksums !== 'off',
    slowRequestMs: settings.slowRequest ?? SLOW_REQUEST_MS_DEFAULT,
  };
  refuseUnused(config);
  refuseInsecure(insecureAddresses(config), config.insecureNetwork);
  return config;
}

function tlsOf({ tlsCerts, tlsPsk, tlsRequire = false }: Settings) {
  if (tlsCerts === undefined && tlsPsk === undefined) {
    if (!tlsRequire) return { tlsRequire };
    throw new SheepError(
      'ERR_BAD_INPUT',
      '--tls-require needs what TLS is made with: add --tls-certs DIR or --tls-psk FILE',
    );
  }
  const tls = {
    ...(tlsCerts !== undefined && { certs: tlsCerts }),
    ...(tlsPsk !== undefined && { psk: tlsPsk }),
  };
  return { tls, tlsRequire };
}

/**
 * The addresses that whoever is in the network can use without proving who he is: of NBD unless it
 * insists on TLS, of the admin API unless there are certificates for it. Those of `served` may be
 * the ones in use.
 */
export function insecureAddresses(
  served: Pick<SheepConfig, 'nbd' | 'admin' | 'tls' | 'tlsRequire'>,
): string[] {
  const { nbd, admin, tls, tlsRequire } = served;
  const open = [...(tlsRequire ? [] : nbd), ...(tls?.certs === undefined ? admin : [])];
  return open.filter((address) => {
    const where = parseAddress(address);
    return !('fd' in where) && !isLocal(where);
  });
}

/** Whoever reaches NBD reads and writes every disk, so strangers must not. @throws SheepError `ERR_BAD_INPUT` */
export function refuseInsecure(insecure: readonly string[], allowed: boolean): void {
  const [address] = insecure;
  if (allowed || address === undefined) return;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `${address} can be reached from other machines, and nobody there would have to prove who he ` +
      'is; use 127.0.0.1 or unix:/PATH, serve it inside TLS with --tls-certs DIR and ' +
      '--tls-require, or give --insecure-network if the network is trusted',
    { address },
  );
}

/** What is wrong with one source, a sentence each, with the setting, its value and what to do. */
export function problemsOf({ settings, nameOf }: Source): string[] {
  const { error } = Settings.safeParse(withoutContents(settings));
  return (error?.issues ?? []).flatMap((issue) => {
    const [key] = issue.path;
    if (issue.code === 'unrecognized_keys') return issue.keys.map((each) => unknown(each, nameOf));
    const subject = typeof key === 'string' ? nameOf(key) : nameOf('the settings');
    return [`${subject}: ${sentence(issue, settings)}`];
  });
}

/**
 * No setting is an object, and of one that is given zod would compare a `length` in it that need not
 * be comparable: so it sees an empty one.
 */
function withoutContents(settings: unknown): unknown {
  if (!isObject(settings)) return settings;
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [key, isObject(value) ? {} : value]),
  );
}
function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkSource(source: Source): Settings {
  const [problem] = problemsOf(source);
  if (problem !== undefined) throw new SheepError('ERR_BAD_INPUT', problem);
  return Settings.parse(source.settings);
}

function unknown(key: string, nameOf: Source['nameOf']): string {
  const known = Object.keys(Settings.shape);
  const bare = (text: string) => text.toLowerCase().replace(/[^a-z]|s$/g, '');
  const meant = known.find((each) => bare(each) === bare(key));
  const hint = meant === undefined ? '' : `; '${meant}' is meant, perhaps`;
  return `there is no setting ${nameOf(key)}${hint}; those that exist: ${known.join(', ')}`;
}

function sentence(issue: z.core.$ZodIssue, settings: unknown): string {
  let value = settings;
  for (const step of issue.path) value = (value as Record<PropertyKey, unknown>)[step];
  const shown = JSON.stringify(value)?.slice(0, 100) ?? 'nothing';
  return issue.message.includes(shown) ? issue.message : `${issue.message}, not ${shown}`;
}

/** An option that would have no effect is a mistake of whoever gave it. */
function refuseUnused({ nbd, nbdGroup, nbdMode }: SheepConfig): void {
  if (nbdGroup === undefined && nbdMode === undefined) return;
  if (nbd.some((address) => address.startsWith('unix:'))) return;
  throw new SheepError(
    'ERR_BAD_INPUT',
    '--nbd-group and --nbd-mode are for unix sockets, and NBD is served on none; ' +
      'add --nbd unix:/PATH, or leave them out',
  );
}

function dashed(key: string): string {
  // `--vdi` is given once for each.
  if (key === 'vdis') return 'vdi';
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
