import { SheepError } from '../../base/errors.ts';

/**
 * What a file begins or ends with if it is not the raw content of a disk. Each says what to do
 * instead, because the bytes of the container would make a disk that no guest can read.
 */
interface Foreign {
  readonly name: string;
  /** How qemu-img calls it; absent: qemu-img does not read it. */
  readonly qemu?: string;
  /** What gives the content on standard output; for what is only packed. */
  readonly unpack?: string;
  readonly where: 'head' | 'tail';
  /** From the beginning of the head, or of the last 512 bytes. */
  readonly at: number;
  readonly magic: Uint8Array;
}

const ascii = (text: string) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const at = (place: number, magic: Uint8Array) => ({ where: 'head', at: place, magic }) as const;
const atTail = (magic: Uint8Array) => ({ where: 'tail', at: 0, magic }) as const;

const FOREIGN: readonly Foreign[] = [
  // Then the version, u32: 1, or 2 and 3.
  { name: 'qcow', qemu: 'qcow', ...at(0, Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1)) },
  { name: 'qcow2', qemu: 'qcow2', ...at(0, Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0)) },
  { name: 'qed', qemu: 'qed', ...at(0, ascii('QED\0')) },
  { name: 'VMDK', qemu: 'vmdk', ...at(0, ascii('KDMV')) },
  { name: 'VMDK', qemu: 'vmdk', ...at(0, ascii('COWD')) },
  { name: 'VMDK descriptor', qemu: 'vmdk', ...at(0, ascii('# Disk DescriptorFile')) },
  { name: 'VHDX', qemu: 'vhdx', ...at(0, ascii('vhdxfile')) },
  { name: 'VHD', qemu: 'vpc', ...at(0, ascii('conectix')) },
  { name: 'VHD', qemu: 'vpc', ...at(512, ascii('cxsparse')) },
  { name: 'VHD', qemu: 'vpc', ...atTail(ascii('conectix')) },
  { name: 'VirtualBox VDI', qemu: 'vdi', ...at(64, Uint8Array.of(0x7f, 0x10, 0xda, 0xbe)) },
  { name: 'Parallels', qemu: 'parallels', ...at(0, ascii('WithoutFreeSpace')) },
  { name: 'Parallels', qemu: 'parallels', ...at(0, ascii('WithouFreSpacExt')) },
  { name: 'DMG', qemu: 'dmg', ...atTail(ascii('koly')) },
  { name: 'gzip', unpack: 'gzip -dc', ...at(0, Uint8Array.of(0x1f, 0x8b, 8)) },
  { name: 'xz', unpack: 'xz -dc', ...at(0, Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0)) },
  { name: 'zstd', unpack: 'zstd -dc', ...at(0, Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd)) },
  { name: 'bzip2', unpack: 'bzip2 -dc', ...at(0, ascii('BZh')) },
];

/** How much of the end of a file is looked at: the footer of a fixed VHD or of a DMG. */
export const TAIL_BYTES = 512;

/**
 * Refuses what is a disk image of another format, or packed.
 * @param head  the first bytes of the file, 4 KiB if it has so many
 * @param tail  its last 512 bytes, where they can be known
 * @param path  for the command that would be right; `-` for standard input
 * @throws SheepError `ERR_BAD_INPUT` with that command
 */
export function refuseForeign(
  head: Uint8Array,
  tail: Uint8Array | undefined,
  path: string,
  vdi: string,
): void {
  const found = FOREIGN.find(({ where, at: place, magic }) =>
    holds(where === 'head' ? head : (tail ?? EMPTY), place, magic),
  );
  if (found === undefined) return;
  const { name, qemu, unpack } = found;
  const file = path === '-' ? 'FILE' : quoted(path);
  const instead =
    unpack === undefined
      ? `convert it first: qemu-img convert -f ${qemu} -O raw ${file} ${rawName(path)}`
      : `unpack it on the way: ${unpack} ${file} | collie vdi import - ${quoted(vdi)} --size SIZE`;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `${path === '-' ? 'standard input' : path} is ${article(name)} ${name} file by its ` +
      `${found.where === 'head' ? 'first' : 'last'} bytes, and import takes the raw content of a ` +
      `disk; ${instead} (or say --raw, if these bytes are the content)`,
    { path, format: name },
  );
}

const EMPTY = new Uint8Array();

function holds(bytes: Uint8Array, place: number, magic: Uint8Array): boolean {
  return magic.every((byte, index) => bytes[place + index] === byte);
}

function rawName(path: string): string {
  return path === '-' ? 'FILE.raw' : quoted(`${path}.raw`);
}

function article(name: string): string {
  return /^(?:xz|[aeiou])/i.test(name) ? 'an' : 'a';
}

/** As a shell would take it. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
