import { Reader, Writer } from '../../base/bytes.ts';
import { SheepError } from '../../base/errors.ts';
import {
  BASE_ALLOCATION,
  GREETING_MAGIC,
  HANDSHAKE_FLAG,
  OPT,
  OPTION_MAGIC,
  REP,
} from '../constants.ts';
import {
  decodeInfo,
  decodeMetaContext,
  decodeReplyHeader,
  goOption,
  OPTION_REPLY_BYTES,
  optionBytes,
  optionFault,
  setMetaOption,
} from './options.ts';
import { DEFAULT_BLOCKS, type ServerTerms } from './terms.ts';

/**
 * The handshake from the client's side, as a table like the server's: a state says how many bytes
 * it needs, `step` takes exactly so many. Pure; what a server must not say throws SheepError.
 *
 *   greeting ──▶ (STARTTLS, then TLS)
 *      └───▶ EXTENDED_HEADERS ─┬───────────────────────┬▶ SET_META_CONTEXT ──▶ GO ──▶ over
 *                                  └▶ (refused) STRUCTURED_REPLY ─── refused ───────▲
 *   (each option: reply header ──▶ payload ──▶ next reply or next option)
 */
export type State =
  | { readonly at: 'greeting' }
  | { readonly at: 'reply'; readonly option: number; readonly heard: Heard }
  | {
      readonly at: 'payload';
      readonly option: number;
      readonly heard: Heard;
      readonly type: number;
      readonly length: number;
    }
  | { readonly at: 'over'; readonly terms: ServerTerms };

/** What is known so far. */
interface Heard extends Omit<ServerTerms, 'sizeBytes' | 'flags'> {
  readonly sizeBytes?: number;
  readonly flags?: number;
  /** Replies to the option that is under way. */
  readonly replies: number;
}

export interface Wanted {
  readonly exportName: string;
  /** Besides base:allocation. */
  readonly contexts: readonly string[];
  /** Nothing is asked outside of TLS: whoever refuses it is not gone on with. */
  readonly tls: boolean;
}

export interface Step {
  readonly state: State;
  readonly send?: Uint8Array<ArrayBuffer>;
  /** The next byte belongs to TLS; `send` goes inside of it. */
  readonly secure?: true;
}

export const FIRST_STATE: State = { at: 'greeting' };

const GREETING_BYTES = 18;
/** An option has a reply for each context or piece of information that we asked for, and few more. */
const REPLIES_MAX = 64;
/** "Oldstyle negotiation": where the option magic would stand. */
const OLDSTYLE_MAGIC = 0x0000420281861253n;

export function need(state: State): number {
  switch (state.at) {
    case 'greeting':
      return GREETING_BYTES;
    case 'reply':
      return OPTION_REPLY_BYTES;
    case 'payload':
      return state.length;
    case 'over':
      return Number.POSITIVE_INFINITY;
  }
}

/** Takes exactly `need(state)` bytes, which are borrowed. @throws SheepError */
export function step(state: State, bytes: Uint8Array, wanted: Wanted): Step {
  switch (state.at) {
    case 'greeting':
      return greeting(bytes, wanted);
    case 'reply': {
      const { type, length } = decodeReplyHeader(bytes, state.option);
      const replies = state.heard.replies + 1;
      if (replies > REPLIES_MAX + wanted.contexts.length) {
        throw new SheepError('ERR_BAD_FRAME', 'an option is answered without end');
      }
      return {
        state: { ...state, at: 'payload', heard: { ...state.heard, replies }, type, length },
      };
    }
    case 'payload':
      return reply(state.option, state.heard, state.type, bytes, wanted);
    case 'over':
      return { state };
  }
}

/** magic u64 | option magic u64 | handshake flags u16. */
function greeting(bytes: Uint8Array, { tls }: Wanted): Step {
  const reader = new Reader(bytes);
  const [magic, second] = [reader.u64('magic'), reader.u64('option magic')];
  if (magic !== GREETING_MAGIC) {
    throw new SheepError('ERR_BAD_FRAME', 'this is no NBD server', { magic });
  }
  const flags = reader.u16('handshake flags');
  const old = second === OLDSTYLE_MAGIC || (flags & HANDSHAKE_FLAG.fixedNewstyle) === 0;
  if (old) throw new SheepError('ERR_UNSUPPORTED', 'the server is too old: no fixed newstyle');
  if (second !== OPTION_MAGIC) {
    throw new SheepError('ERR_BAD_FRAME', 'this is no NBD server', { magic: second });
  }
  const both = flags & (HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes);
  const option = tls ? OPT.STARTTLS : OPT.EXTENDED_HEADERS;
  const send = new Writer().u32(both).bytes(optionBytes(option)).done();
  return { state: { at: 'reply', option, heard: NOTHING_HEARD }, send };
}

const NOTHING_HEARD: Heard = {
  description: '',
  form: 'simple',
  contexts: new Map(),
  blocks: DEFAULT_BLOCKS,
  replies: 0,
};

/** A whole reply to an option has arrived. */
function reply(
  option: number,
  heard: Heard,
  type: number,
  payload: Uint8Array,
  wanted: Wanted,
): Step {
  if (type === REP.ERR_SHUTDOWN) throw optionFault('the connection is refused', type, payload);
  const refused = type >= 0x8000_0000;
  if (type === REP.ACK && payload.length > 0) {
    throw new SheepError('ERR_BAD_FRAME', 'an acknowledgement with data');
  }
  const on = (more: Partial<Heard>): Step => ({
    state: { at: 'reply', option, heard: { ...heard, ...more } },
  });
  if (option === OPT.STARTTLS && refused) throw optionFault('there is no TLS', type, payload);
  if (option === OPT.STARTTLS && type === REP.ACK) {
    const state: State = { at: 'reply', option: OPT.EXTENDED_HEADERS, heard: NOTHING_HEARD };
    return { state, send: optionBytes(OPT.EXTENDED_HEADERS), secure: true };
  }
  if (option === OPT.EXTENDED_HEADERS && refused) return structured(heard);
  if (option === OPT.EXTENDED_HEADERS && type === REP.ACK) {
    return setMeta({ ...heard, form: 'extended' }, wanted);
  }
  if (option === OPT.STRUCTURED_REPLY && refused) return go(heard, wanted);
  if (option === OPT.STRUCTURED_REPLY && type === REP.ACK) {
    return setMeta({ ...heard, form: 'structured' }, wanted);
  }
  if (option === OPT.SET_META_CONTEXT && refused) {
    return go({ ...heard, contexts: new Map() }, wanted);
  }
  if (option === OPT.SET_META_CONTEXT && type === REP.META_CONTEXT) {
    return on({ contexts: withContext(heard.contexts, payload, wanted) });
  }
  if (option === OPT.SET_META_CONTEXT && type === REP.ACK) return go(heard, wanted);
  if (option === OPT.GO && refused) {
    const name = JSON.stringify(wanted.exportName);
    throw optionFault(`export ${name} cannot be opened`, type, payload);
  }
  if (option === OPT.GO && type === REP.INFO) {
    const { export: told, ...others } = decodeInfo(payload);
    return on({ ...told, ...others });
  }
  if (option === OPT.GO && type === REP.ACK) return { state: { at: 'over', terms: agreed(heard) } };
  throw new SheepError('ERR_BAD_FRAME', `reply type ${type} does not belong to the option`, {
    type,
  });
}

function withContext(
  before: ReadonlyMap<string, number>,
  payload: Uint8Array,
  wanted: Wanted,
): ReadonlyMap<string, number> {
  const { id, name } = decodeMetaContext(payload);
  if (name !== BASE_ALLOCATION && !wanted.contexts.includes(name)) {
    throw new SheepError('ERR_BAD_FRAME', 'a metadata context that nobody asked for');
  }
  if (before.has(name) || [...before.values()].includes(id)) {
    throw new SheepError('ERR_BAD_FRAME', 'one metadata context, or one id, twice', { id });
  }
  return new Map([...before, [name, id]]);
}

/** What a server without extended headers may still have. */
function structured(heard: Heard): Step {
  const state: State = {
    at: 'reply',
    option: OPT.STRUCTURED_REPLY,
    heard: { ...heard, replies: 0 },
  };
  return { state, send: optionBytes(OPT.STRUCTURED_REPLY) };
}

function setMeta(heard: Heard, { exportName, contexts }: Wanted): Step {
  const all = [...new Set([BASE_ALLOCATION, ...contexts])];
  const state: State = {
    at: 'reply',
    option: OPT.SET_META_CONTEXT,
    heard: { ...heard, replies: 0 },
  };
  return { state, send: setMetaOption(exportName, all) };
}

function go(heard: Heard, { exportName }: Wanted): Step {
  const state: State = { at: 'reply', option: OPT.GO, heard: { ...heard, replies: 0 } };
  return { state, send: goOption(exportName) };
}

function agreed({ sizeBytes, flags, replies: _, ...heard }: Heard): ServerTerms {
  if (sizeBytes === undefined || flags === undefined) {
    throw new SheepError('ERR_BAD_FRAME', 'the server does not tell the size of the export');
  }
  const { minimumBytes } = heard.blocks;
  if (sizeBytes % minimumBytes !== 0) {
    const why = `the export's size, ${sizeBytes}, is no multiple of its blocks of ${minimumBytes}`;
    throw new SheepError('ERR_BAD_FRAME', why, { sizeBytes, minimumBytes });
  }
  return { ...heard, sizeBytes, flags };
}
