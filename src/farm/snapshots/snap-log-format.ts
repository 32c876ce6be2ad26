import { crc32 } from 'node:zlib';
import { Reader, Writer } from '../../base/bytes.ts';
import { NAME_BYTES } from '../../base/content.ts';
import { isFault, SheepError } from '../../base/errors.ts';

/**
 * The bytes of `sys_snap` and `user_snap` (FORMATS.md): records one behind the other, big-endian.
 *
 * magic u32 | body length u32 | crc32 of the body u32 | crc32 of the 12 bytes before it u32 | body:
 * version u16 | kind u16 | store id 16 | epoch u32 | time u64 | name 32 | tag, to the end
 */
const LOG_VERSION = 1;
const RECORD_MAGIC = 0x5348_504c; // "SHPL"
const RECORD_HEADER_BYTES = 16;
/** A tag has at most 255 bytes. */
const BODY_BYTES_MAX = 1024;
/** The least that a medium writes whole: what a power cut leaves unwritten is a run of these. */
const SECTOR_BYTES = 512;
const KIND = { snap: 1, cancel: 2 } as const;

/** What a line says of the snap object that it names. */
export interface SnapLine {
  readonly kind: keyof typeof KIND;
  readonly epoch: number;
  readonly timeMs: number;
  readonly name: Uint8Array;
  readonly tag: string;
}

export interface SnapLogContents {
  readonly lines: readonly SnapLine[];
  /** Where the next line goes. */
  readonly end: number;
  /** What stands at `end`: nothing, a line that a stop left unfinished, or damage. */
  readonly tail: 'clean' | 'torn' | 'damaged';
}

export function encodeSnapLine(line: SnapLine, storeId: Uint8Array): Uint8Array {
  const body = new Writer(128)
    .u16(LOG_VERSION)
    .u16(KIND[line.kind])
    .bytes(storeId)
    .u32(line.epoch)
    .u64(line.timeMs)
    .bytes(line.name)
    .text(line.tag)
    .done();
  const head = new Writer(RECORD_HEADER_BYTES + body.length)
    .u32(RECORD_MAGIC)
    .u32(body.length)
    .u32(crc32(body));
  return head.u32(crc32(head.done())).bytes(body).done();
}

/**
 * Reads a whole log. Lines behind a damaged one are read as well: what they name must not be lost
 * with it.
 * @throws SheepError `ERR_VERSION` for lines of another version or of another store
 */
export function readSnapLog(bytes: Uint8Array, storeId: Uint8Array, path: string): SnapLogContents {
  const lines: SnapLine[] = [];
  let damaged = false;
  let at = 0;
  for (;;) {
    const body = bodyAt(bytes, at);
    if (body !== undefined) {
      lines.push(decodeBody(body, storeId, path, at));
      at += RECORD_HEADER_BYTES + body.length;
      continue;
    }
    const next = nextLine(bytes, at);
    if (next === undefined) break;
    damaged = true;
    at = next;
  }
  if (damaged) return { lines, end: at, tail: 'damaged' };
  return { lines, end: at, tail: tailAt(bytes, at) };
}

/** The body of the line at `at`, if it is whole and fits its checksums. */
function bodyAt(bytes: Uint8Array, at: number): Uint8Array | undefined {
  const length = bodyLengthAt(bytes, at);
  if (length === undefined || at + RECORD_HEADER_BYTES + length > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  const body = bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
  return crc32(body) === view.getUint32(8) ? body : undefined;
}

function bodyLengthAt(bytes: Uint8Array, at: number): number | undefined {
  if (at + RECORD_HEADER_BYTES > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  if (view.getUint32(0) !== RECORD_MAGIC) return undefined;
  if (view.getUint32(12) !== crc32(bytes.subarray(at, at + 12))) return undefined;
  const length = view.getUint32(4);
  return length <= BODY_BYTES_MAX ? length : undefined;
}

function nextLine(bytes: Uint8Array, after: number): number | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = buffer.indexOf('SHPL', after + 1); at >= 0; at = buffer.indexOf('SHPL', at + 1)) {
    if (bodyAt(bytes, at) !== undefined) return at;
  }
  return undefined;
}

function decodeBody(body: Uint8Array, storeId: Uint8Array, path: string, at: number): SnapLine {
  const reader = new Reader(body);
  try {
    const version = reader.u16('version');
    if (version !== LOG_VERSION) {
      throw new SheepError(
        'ERR_VERSION',
        `${path} has a line of version ${version} at byte ${at}, this program knows version ` +
          `${LOG_VERSION}; use the one that wrote it`,
        { path, found: version, known: LOG_VERSION },
      );
    }
    const kind = reader.u16('kind');
    if (Buffer.compare(reader.bytes(16, 'store id'), storeId) !== 0) {
      throw new SheepError(
        'ERR_VERSION',
        `${path} has a line of another store at byte ${at}; put the file back that belongs here`,
        { path, at },
      );
    }
    const epoch = reader.u32('epoch');
    const timeMs = reader.size('time');
    const name = new Uint8Array(reader.bytes(NAME_BYTES, 'name'));
    const tag = reader.text(reader.left, 'tag');
    if (kind === KIND.snap) return { kind: 'snap', epoch, timeMs, name, tag };
    if (kind === KIND.cancel) return { kind: 'cancel', epoch, timeMs, name, tag };
    throw new SheepError('ERR_BAD_FRAME', `no line is of kind ${kind}`);
  } catch (cause) {
    if (!isFault(cause, 'ERR_BAD_FRAME')) throw cause;
    // Its checksum fits: somebody wrote it so.
    const message = `${path}: its line at byte ${at} cannot be read`;
    throw new SheepError('ERR_VERSION', message, { path, at }, cause);
  }
}

/**
 * A stop leaves of the last line each sector written or as it was, zero, and the file as long as it
 * was or is; it changes no byte. All else was changed later, and a snap may be lost with it.
 */
function tailAt(bytes: Uint8Array, at: number): SnapLogContents['tail'] {
  if (at === bytes.length) return 'clean';
  const length = bodyLengthAt(bytes, at);
  const end = at + RECORD_HEADER_BYTES + (length ?? 0);
  if (end > bytes.length) return 'torn';
  const last = length === undefined ? bytes.length : end;
  for (let from = at; from < last; ) {
    const to = Math.min(last, from - (from % SECTOR_BYTES) + SECTOR_BYTES);
    if (bytes.subarray(from, to).every((byte) => byte === 0)) return 'torn';
    from = to;
  }
  return 'damaged';
}
