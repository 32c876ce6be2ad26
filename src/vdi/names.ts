import { SheepError } from '../base/errors.ts';
import { INDEXES_MAX } from '../base/ids.ts';
import { BLOCK_BYTES, GiB, KiB, MiB, PiB, roundUp, TiB } from '../base/units.ts';

/**
 * What people type: names of VDIs and sizes. Every refusal is `ERR_BAD_INPUT` and says what was
 * wrong, with which value, and what to do instead.
 */

const NAME_BYTES_MAX = 255;
export const SIZE_BYTES_MAX = PiB;
const OBJECT_BYTES_MIN = MiB;
const OBJECT_BYTES_MAX = 64 * MiB;
export const OBJECT_BYTES_DEFAULT = 4 * MiB;

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: KiB,
  kib: KiB,
  m: MiB,
  mib: MiB,
  g: GiB,
  gib: GiB,
  t: TiB,
  tib: TiB,
  p: PiB,
  pib: PiB,
};

/** In an export name `@`, `+` and `/` separate the tag, the mode and the path of a URI. */
const SEPARATORS = /[@+/]/u;
const INVISIBLE = /[\p{White_Space}\p{Cc}]/u;

/** `text`, if a VDI may have it as its name: 1 to 255 bytes of UTF-8. */
export function parseVdiName(text: string): string {
  if (text === '') throw badInput('a VDI needs a name of at least one character', text);
  return parseWord(text, 'name');
}

/** `text`, if a snapshot may have it as its tag: as a name, and not an ID. */
export function parseTag(text: string): string {
  if (text === '') throw badInput('a snapshot needs a tag of at least one character', text);
  if (isId(text)) {
    throw badInput(
      `the tag ${quote(text)} is all digits, which is how the ID of a snapshot looks; ` +
        `choose a tag with another character in it, as in v${text.slice(0, 20)}`,
      text,
    );
  }
  return parseWord(text, 'tag');
}

/** Whether this names a snapshot by its ID, the vid in decimal, and not by a tag. */
export function isId(snapshot: string): boolean {
  return /^\d+$/.test(snapshot);
}

/** Which snapshot: by its VDI's name, and its tag or its ID in decimal. */
export interface SnapshotRef {
  readonly name: string;
  readonly snapshot: string;
}

/** The parts of `NAME`, `NAME@TAG` or `NAME@ID`. */
export function parseExportName(text: string): { name: string; snapshot?: string } {
  const at = text.indexOf('@');
  if (at < 0) return { name: parseVdiName(text) };
  const snapshot = text.slice(at + 1);
  return {
    name: parseVdiName(text.slice(0, at)),
    snapshot: isId(snapshot) ? parseId(snapshot) : parseTag(snapshot),
  };
}

/** An ID in the one way of writing it: with zeroes before it a snapshot would have many names. */
function parseId(text: string): string {
  if (text === String(Number(text))) return text;
  throw badInput(`the ID ${quote(text)} is none; give it as 'collie vdi list' shows it`, text);
}

/** The rules that names and tags share. */
function parseWord(text: string, what: 'name' | 'tag'): string {
  if (!text.isWellFormed()) {
    throw badInput(`the ${what} ${quote(text)} is not Unicode; give it in UTF-8`, text);
  }
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > NAME_BYTES_MAX) {
    throw badInput(
      `the ${what} ${quote(text)} has ${bytes} bytes; a ${what} has at most ${NAME_BYTES_MAX}`,
      text,
    );
  }
  const separator = SEPARATORS.exec(text)?.[0];
  if (separator !== undefined) {
    throw badInput(
      `the ${what} ${quote(text)} contains '${separator}'; @, + and / mark tags, modes and paths, ` +
        `so choose a ${what} without them`,
      text,
    );
  }
  const invisible = INVISIBLE.exec(text)?.[0];
  if (invisible !== undefined) {
    throw badInput(
      `the ${what} ${quote(text)} contains ${describeInvisible(invisible)}; ` +
        `choose a ${what} without white space and control characters, for example with '-'`,
      text,
    );
  }
  return text;
}

/** Whole bytes from `512`, `8G`, `1.5TiB`; k, M, G, T and P count in 1024. */
function parseBytes(text: string): number {
  const [, digits, unit] = /^(\d{1,20}(?:\.\d{1,10}(?=[a-z]))?)([a-z]{0,3})$/iu.exec(text) ?? [];
  const factor = unit === undefined ? undefined : UNITS[unit.toLowerCase()];
  if (digits === undefined || factor === undefined) {
    throw badInput(
      `${quote(text)} is not a size; give a whole number of bytes, or a number with ` +
        'k, M, G, T, P or KiB, MiB, GiB, TiB, PiB behind it, as in 8G',
      text,
    );
  }
  return Math.ceil(Number(digits) * factor);
}

/** The size of a VDI in bytes, rounded up to whole blocks of 4 KiB. */
export function parseVdiSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes < 1) throw badInput(`a VDI of size ${text} is empty; give it at least 1 byte`, text);
  if (bytes > SIZE_BYTES_MAX) {
    throw badInput(`the size ${text} is too large; a VDI has at most 1PiB`, text);
  }
  return roundUp(bytes, BLOCK_BYTES);
}

/** The size of a VDI's objects in bytes: a power of two from 1 MiB to 64 MiB. */
export function parseObjectSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes < OBJECT_BYTES_MIN || bytes > OBJECT_BYTES_MAX || !Number.isInteger(Math.log2(bytes))) {
    throw badInput(`the object size ${text} cannot be; give 1M, 2M, 4M, 8M, 16M, 32M or 64M`, text);
  }
  return bytes;
}

/** Refuses what a person gives as the size of a VDI in bytes, if it cannot be one. */
export function checkVdiSize(sizeBytes: number): void {
  const possible = sizeBytes >= BLOCK_BYTES && sizeBytes <= SIZE_BYTES_MAX;
  if (possible && sizeBytes % BLOCK_BYTES === 0) return;
  throw badInput(
    `a VDI cannot have ${sizeBytes} bytes; give whole blocks of 4096 bytes, from one to 1PiB`,
    String(sizeBytes),
  );
}

/** Refuses a VDI that would have more objects than an oid can number. */
export function checkObjectCount(sizeBytes: number, objectBytes: number): void {
  if (Math.ceil(sizeBytes / objectBytes) <= INDEXES_MAX) return;
  const least = 2 ** Math.ceil(Math.log2(sizeBytes / INDEXES_MAX));
  throw new SheepError(
    'ERR_BAD_INPUT',
    `a VDI of ${sizeBytes} bytes in objects of ${objectBytes} would have more than 2^28 objects; ` +
      `give an object size of ${least / MiB}M or more`,
    { sizeBytes, objectBytes },
  );
}

/** The two parts of `NAME:SIZE`; the last colon counts, because a name may contain one. */
export function parseNameAndSize(text: string): { name: string; sizeBytes: number } {
  const colon = text.lastIndexOf(':');
  if (colon < 0) {
    throw badInput(`${quote(text)} has no size; give NAME:SIZE, as in demo:8G`, text);
  }
  return {
    name: parseVdiName(text.slice(0, colon)),
    sizeBytes: parseVdiSize(text.slice(colon + 1)),
  };
}

function describeInvisible(character: string): string {
  if (character === ' ') return 'a space';
  const code = character.codePointAt(0) ?? 0;
  return `the character U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
}

/** The value as it can stand in one line of a message. */
function quote(text: string): string {
  const shown = text.length > 60 ? `${text.slice(0, 57).toWellFormed()}...` : text.toWellFormed();
  return JSON.stringify(shown);
}

function badInput(message: string, value: string): SheepError {
  return new SheepError('ERR_BAD_INPUT', message, { value: value.slice(0, 300).toWellFormed() });
}
