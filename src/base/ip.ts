/** An IPv4 address in 4 bytes or an IPv6 address in 16. */
export type IpAddress = Uint8Array;

/** The addresses whose first `prefixBits` bits are those of `address`; its other bits are 0. */
export interface IpNetwork {
  readonly address: IpAddress;
  readonly prefixBits: number;
}

/** `::ffff:0:0/96`: IPv4 addresses as IPv6 writes them (RFC 4291, 2.5.5.2). */
const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const MAPPED_BITS = MAPPED_PREFIX.length * 8;

/** The number of bits of an address: 32 or 128. */
export function bitsOf(address: IpAddress): number {
  return address.length * 8;
}

/**
 * An address as text, without zone, brackets, port or prefix; strict, as inet_pton is. One in
 * `::ffff:0:0/96` stays an IPv6 address here: see `unmapped`. Undefined: it is none.
 */
export function parseIp(text: string): IpAddress | undefined {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text);
}

/** What a v4-mapped address stands for; any other one as it is. */
export function unmapped(address: IpAddress): IpAddress {
  const mapped = address.length === 16 && MAPPED_PREFIX.every((byte, at) => address[at] === byte);
  return mapped ? address.subarray(MAPPED_PREFIX.length) : address;
}

/** The same of a network, if all of its addresses are v4-mapped. */
export function unmappedNetwork({ address, prefixBits }: IpNetwork): IpNetwork {
  const inner = unmapped(address);
  if (inner === address || prefixBits < MAPPED_BITS) return { address, prefixBits };
  return { address: inner, prefixBits: prefixBits - MAPPED_BITS };
}

/** `address` with zeroes behind its first `prefixBits` bits. */
export function masked(address: IpAddress, prefixBits: number): IpAddress {
  return address.map((byte, at) => byte & maskOf(prefixBits - at * 8));
}

/** False for addresses of the other family: no IPv6 network holds an IPv4 address. */
export function isInNetwork(address: IpAddress, network: IpNetwork): boolean {
  if (address.length !== network.address.length) return false;
  return address.every(
    (byte, at) => ((byte ^ (network.address[at] ?? 0)) & maskOf(network.prefixBits - at * 8)) === 0,
  );
}

/** As RFC 5952 writes it: lower case, no leading zeroes, the longest run of zero groups as `::`. */
export function formatIp(address: IpAddress): string {
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: 8 }, (_, at) => group(address, at));
  const { from, length } = longestZeroes(groups);
  const hex = (some: readonly number[]) => some.map((one) => one.toString(16)).join(':');
  if (length < 2) return hex(groups);
  return `${hex(groups.slice(0, from))}::${hex(groups.slice(from + length))}`;
}

/** The byte mask of which the first `bits` bits are set; `bits` may be below 0 or above 8. */
function maskOf(bits: number): number {
  return 0xff & ~(0xff >> Math.max(0, Math.min(8, bits)));
}

/** Four decimals; a leading zero is refused, because some read it as octal. */
function parseIpv4(text: string): IpAddress | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part))) {
    return undefined;
  }
  const numbers = parts.map(Number);
  return numbers.every((number) => number <= 255) ? Uint8Array.from(numbers) : undefined;
}

function parseIpv6(text: string): IpAddress | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, at) => groupsOf(half, at === halves.length - 1));
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 8 ? addressOf(head) : undefined;
  // `::` stands for one group of zeroes at least.
  if (tail === undefined || head.length + tail.length > 7) return undefined;
  const zeroes = Array.from({ length: 8 - head.length - tail.length }, () => 0);
  return addressOf([...head, ...zeroes, ...tail]);
}

/** The groups between colons; the last two may be written as an IPv4 address at the very end. */
function groupsOf(half: string, isEnd: boolean): number[] | undefined {
  if (half === '') return [];
  const groups: number[] = [];
  const parts = half.split(':');
  for (const [at, part] of parts.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else {
      const ipv4 = isEnd && at === parts.length - 1 ? parseIpv4(part) : undefined;
      if (ipv4 === undefined) return undefined;
      groups.push(group(ipv4, 0), group(ipv4, 1));
    }
  }
  return groups;
}

function addressOf(groups: readonly number[]): IpAddress {
  return Uint8Array.from(groups.flatMap((each) => [each >> 8, each & 0xff]));
}

function group(address: IpAddress, at: number): number {
  return ((address[at * 2] ?? 0) << 8) | (address[at * 2 + 1] ?? 0);
}

function longestZeroes(groups: readonly number[]): { from: number; length: number } {
  let best = { from: 0, length: 0 };
  for (let from = 0; from < groups.length; from += 1) {
    let end = from;
    while (groups[end] === 0) end += 1;
    if (end - from > best.length) best = { from, length: end - from };
  }
  return best;
}
