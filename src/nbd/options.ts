import { Reader, Writer } from '../base/bytes.ts';
import { SheepError } from '../base/errors.ts';
import type { DeviceInfo } from '../contracts/block-device.ts';
import type { ExportEntry } from '../contracts/exports.ts';
import { EXPORT_FLAG, INFO, OPT, REP } from './constants.ts';
import { optionReply } from './frames.ts';
import type { NbdLimits } from './limits.ts';
import type { ReplyForm } from './validate.ts';

/**
 * Payloads of options and of their replies. Every decoder refuses what is not exactly its form with
 * SheepError `ERR_BAD_FRAME`, and strings that are too long with `ERR_LIMIT`.
 */

/** NBD_OPT_INFO and NBD_OPT_GO: name length u32, name, count u16, count × info type u16. */
export interface InfoOption {
  readonly name: string;
  readonly wanted: ReadonlySet<number>;
}

export function decodeInfoOption(bytes: Uint8Array, limits: NbdLimits): InfoOption {
  const reader = new Reader(bytes);
  const name = string(reader, reader.u32('name length'), 'export name', limits);
  const count = reader.u16('number of information requests');
  const wanted = new Set<number>();
  for (let index = 0; index < count; index += 1) wanted.add(reader.u16('information request'));
  reader.end('the information requests');
  return { name, wanted };
}

/** NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT: name as above, count u32, count × query. */
export interface MetaOption {
  readonly name: string;
  readonly queries: readonly string[];
}

export function decodeMetaOption(bytes: Uint8Array, limits: NbdLimits): MetaOption {
  const reader = new Reader(bytes);
  const name = string(reader, reader.u32('name length'), 'export name', limits);
  const count = reader.u32('number of queries');
  if (count > limits.queriesMax) {
    throw new SheepError('ERR_LIMIT', `more than ${limits.queriesMax} queries at once`);
  }
  const queries: string[] = [];
  for (let index = 0; index < count; index += 1) {
    queries.push(string(reader, reader.u32('query length'), 'query', limits));
  }
  reader.end('the queries');
  return { name, queries };
}

/** NBD_OPT_EXPORT_NAME: nothing but the name. */
export function decodeExportName(bytes: Uint8Array, limits: NbdLimits): string {
  return string(new Reader(bytes), bytes.length, 'export name', limits);
}

/** "Values": strings are UTF-8, without NUL, of at most 4096 bytes. */
function string(reader: Reader, length: number, what: string, limits: NbdLimits): string {
  if (length > limits.stringMaxBytes) {
    throw new SheepError('ERR_LIMIT', `${what} of more than ${limits.stringMaxBytes} bytes`);
  }
  const text = reader.text(length, what);
  if (text.includes('\0')) throw new SheepError('ERR_BAD_FRAME', `${what} contains NUL`);
  return text;
}

/** NBD_REP_SERVER: name length u32, name, the rest is for people. */
export function serverReply(entry: ExportEntry, limits: NbdLimits): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode(entry.name);
  const description = cutUtf8(entry.description, limits.stringMaxBytes);
  const payload = new Writer(4 + name.length + description.length).u32(name.length);
  return optionReply(OPT.LIST, REP.SERVER, payload.bytes(name).bytes(description).done());
}

/** An error of the handshake, with a sentence for people. */
export function errorReply(option: number, type: number, text: string, limits: NbdLimits) {
  return optionReply(option, type, cutUtf8(text, limits.errorTextMaxBytes));
}

/** What beyond the base of the protocol a client may use. */
export interface Extensions {
  readonly form: ReplyForm;
  /** It has selected metadata contexts, or may still do so. */
  readonly contexts: boolean;
}

/** The NBD_REP_INFOs for an export; size, flags and block sizes are told whether asked or not. */
export function infoReplies(
  option: number,
  asked: InfoOption,
  info: DeviceInfo,
  extensions: Extensions,
  limits: NbdLimits,
): Uint8Array<ArrayBuffer>[] {
  const reply = (payload: Writer) => optionReply(option, REP.INFO, payload.done());
  const flags = exportFlags(info, extensions);
  const replies = [
    reply(new Writer().u16(INFO.EXPORT).u64(info.sizeBytes).u16(flags)),
    reply(
      new Writer()
        .u16(INFO.BLOCK_SIZE)
        .u32(limits.blockMinBytes)
        .u32(limits.blockPreferredBytes)
        .u32(limits.payloadMaxBytes),
    ),
  ];
  if (asked.wanted.has(INFO.NAME))
    replies.push(reply(new Writer().u16(INFO.NAME).text(asked.name)));
  if (asked.wanted.has(INFO.DESCRIPTION) && info.description !== '') {
    const description = cutUtf8(info.description, limits.stringMaxBytes);
    replies.push(reply(new Writer().u16(INFO.DESCRIPTION).bytes(description)));
  }
  return replies;
}

/**
 * The transmission flags. Multi-conn is true because connections to one export share one device,
 * and a settled write is what every later read of it shows.
 */
export function exportFlags(info: DeviceInfo, { form, contexts }: Extensions): number {
  const always =
    EXPORT_FLAG.HAS_FLAGS |
    EXPORT_FLAG.SEND_FLUSH |
    EXPORT_FLAG.SEND_FUA |
    EXPORT_FLAG.CAN_MULTI_CONN |
    EXPORT_FLAG.SEND_CACHE;
  const writing =
    EXPORT_FLAG.SEND_TRIM | EXPORT_FLAG.SEND_WRITE_ZEROES | EXPORT_FLAG.SEND_FAST_ZERO;
  return (
    always |
    (info.readOnly ? EXPORT_FLAG.READ_ONLY : writing) |
    (form === 'simple' ? 0 : EXPORT_FLAG.SEND_DF) |
    (form === 'extended' && contexts ? EXPORT_FLAG.BLOCK_STATUS_PAYLOAD : 0)
  );
}

/** The UTF-8 of `text`, cut between characters to at most `bytesMax`. */
export function cutUtf8(text: string, bytesMax: number): Uint8Array<ArrayBuffer> {
  const room = new Uint8Array(bytesMax);
  return room.subarray(0, new TextEncoder().encodeInto(text, room).written);
}
