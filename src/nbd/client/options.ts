import { Reader, Writer } from '../../base/bytes.ts';
import { type FaultCode, SheepError } from '../../base/errors.ts';
import { INFO, nameOf, OPT, OPTION_MAGIC, OPTION_REPLY_MAGIC, REP } from '../constants.ts';
import type { BlockSizes } from './terms.ts';
import { forPeople } from './words.ts';

/** Options as a client sends them, and the replies to them. Decoders refuse with `ERR_BAD_FRAME`. */

export const OPTION_REPLY_BYTES = 20;
/** No reply that we ask for is longer: a name or a text of 4096 bytes and a few numbers. */
const REPLY_PAYLOAD_MAX_BYTES = 8 * 1024;
const MINIMUM_BLOCK_MAX_BYTES = 64 * 1024;

/** option magic u64 | option u32 | length u32 | data. */
export function optionBytes(option: number, data = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
  const writer = new Writer(16 + data.length).u64(OPTION_MAGIC).u32(option);
  return writer.u32(data.length).bytes(data).done();
}

/** NBD_OPT_GO: name length u32, name, count u16, count × info type u16. */
export function goOption(name: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(name);
  const data = new Writer().u32(bytes.length).bytes(bytes).u16(2);
  return optionBytes(OPT.GO, data.u16(INFO.BLOCK_SIZE).u16(INFO.DESCRIPTION).done());
}

/** NBD_OPT_SET_META_CONTEXT: name as above, count u32, count × (length u32, context). */
export function setMetaOption(name: string, contexts: readonly string[]): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const bytes = encoder.encode(name);
  const data = new Writer().u32(bytes.length).bytes(bytes).u32(contexts.length);
  for (const context of contexts) {
    const text = encoder.encode(context);
    data.u32(text.length).bytes(text);
  }
  return optionBytes(OPT.SET_META_CONTEXT, data.done());
}

/** reply magic u64 | option u32 | reply type u32 | length u32; of the option that is under way. */
export function decodeReplyHeader(bytes: Uint8Array, option: number) {
  const reader = new Reader(bytes);
  const magic = reader.u64('option reply magic');
  if (magic !== OPTION_REPLY_MAGIC) {
    throw new SheepError('ERR_BAD_FRAME', 'something else stands where a reply should', { magic });
  }
  const about = reader.u32('option');
  const [type, length] = [reader.u32('reply type'), reader.u32('reply length')];
  if (about !== option) {
    const asked = nameOf(OPT, option);
    throw new SheepError('ERR_BAD_FRAME', `a reply to ${nameOf(OPT, about)} instead of ${asked}`);
  }
  if (length > REPLY_PAYLOAD_MAX_BYTES) {
    throw new SheepError('ERR_BAD_FRAME', `an option reply of ${length} bytes`, { length });
  }
  return { type, length };
}

/** NBD_REP_META_CONTEXT: context id u32, name. */
export function decodeMetaContext(payload: Uint8Array): { id: number; name: string } {
  const reader = new Reader(payload);
  const id = reader.u32('context id');
  return { id, name: reader.text(reader.left, 'context name') };
}

/** What one NBD_REP_INFO tells; {} for what we did not ask. */
export interface InfoTold {
  readonly export?: { readonly sizeBytes: number; readonly flags: number };
  readonly description?: string;
  readonly blocks?: BlockSizes;
}

/** NBD_REP_INFO: info type u16, then the body of that type. */
export function decodeInfo(payload: Uint8Array): InfoTold {
  const reader = new Reader(payload);
  const type = reader.u16('information type');
  if (type === INFO.EXPORT) {
    const told = { sizeBytes: reader.size('export size'), flags: reader.u16('transmission flags') };
    reader.end('the export information');
    return { export: told };
  }
  if (type === INFO.DESCRIPTION) {
    return { description: forPeople(reader.bytes(reader.left, 'description')) };
  }
  if (type !== INFO.BLOCK_SIZE) return {};
  const blocks = {
    minimumBytes: reader.u32('minimum block size'),
    preferredBytes: reader.u32('preferred block size'),
    payloadMaxBytes: reader.u32('maximum payload'),
  };
  reader.end('the block sizes');
  checkBlocks(blocks);
  return { blocks };
}

/** "Block size constraints": what the text says that a server must not say. */
function checkBlocks({ minimumBytes, preferredBytes, payloadMaxBytes }: BlockSizes): void {
  const wrong = (what: string, value: number) =>
    new SheepError('ERR_BAD_FRAME', `the server tells ${what} of ${value} bytes`, { value });
  if (!isPowerOfTwo(minimumBytes) || minimumBytes > MINIMUM_BLOCK_MAX_BYTES) {
    throw wrong('a minimum block', minimumBytes);
  }
  if (!isPowerOfTwo(preferredBytes) || preferredBytes < minimumBytes) {
    throw wrong('a preferred block', preferredBytes);
  }
  if (payloadMaxBytes < preferredBytes) throw wrong('a maximum payload', payloadMaxBytes);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && 2 ** Math.floor(Math.log2(value)) === value;
}

const REFUSALS: Readonly<Record<number, { code: FaultCode; says: string }>> = {
  [REP.ERR_UNSUP]: { code: 'ERR_UNSUPPORTED', says: 'the server does not know how' },
  [REP.ERR_POLICY]: { code: 'ERR_FORBIDDEN', says: 'the server forbids it' },
  [REP.ERR_TLS_REQD]: { code: 'ERR_UNSUPPORTED', says: 'the server insists on TLS' },
  [REP.ERR_UNKNOWN]: { code: 'ERR_NOT_FOUND', says: 'the server has no such export' },
  [REP.ERR_SHUTDOWN]: { code: 'ERR_SHUTDOWN', says: 'the server is stopping' },
};

/** What a refused option means, with the server's own words where it has some. */
export function optionFault(what: string, type: number, payload: Uint8Array): SheepError {
  const { code, says } = REFUSALS[type] ?? { code: 'ERR_IO', says: nameOf(REP, type) };
  const text = forPeople(payload);
  return new SheepError(code, `${what}: ${text === '' ? says : text}`, {
    reply: nameOf(REP, type),
  });
}
