import { isFault, SheepError } from '../base/errors.ts';
import type { DeviceInfo } from '../contracts/block-device.ts';
import type { ExportEntry } from '../contracts/exports.ts';
import { HANDSHAKE_FLAG, nameOf, OPT, REP } from './constants.ts';
import {
  CLIENT_FLAGS_BYTES,
  decodeOptionHeader,
  exportNameReply,
  OPTION_HEADER_BYTES,
  optionReply,
} from './frames.ts';
import type { NbdLimits } from './limits.ts';
import { contextReply, listed, type Selection, select } from './meta-contexts.ts';
import {
  decodeExportName,
  decodeInfoOption,
  decodeMetaOption,
  errorReply,
  exportFlags,
  type InfoOption,
  infoReplies,
  type MetaOption,
  serverReply,
} from './options.ts';
import type { Terms } from './validate.ts';

/**
 * The handshake ("Newstyle negotiation") as a table: a state says how many bytes it needs, `step`
 * takes exactly so many to the next state, and what is to be done about it comes out as effects.
 *
 *   client-flags ──▶ option ──▶ data ──▶ option …            answered at once
 *                      │          └────▶ asking ──▶ option … the exports are asked
 *                      └────▶ skip ────▶ option …            larger than we read: refused, skipped
 *   any ──▶ over: into transmission, or closed
 */
export type State =
  | { readonly at: 'client-flags' }
  | { readonly at: 'option'; readonly agreed: Agreed }
  | {
      readonly at: 'data';
      readonly agreed: Agreed;
      readonly option: number;
      readonly length: number;
    }
  | { readonly at: 'skip'; readonly agreed: Agreed; readonly option: number; readonly left: number }
  | { readonly at: 'asking'; readonly agreed: Agreed; readonly question: Question }
  | { readonly at: 'over' };

/** What both sides hold to so far. */
export interface Agreed {
  readonly fixed: boolean;
  readonly noZeroes: boolean;
  readonly structured: boolean;
  /** The latest selection of metadata contexts. */
  readonly selected?: Selection;
  readonly optionsSeen: number;
  /** Exports in the longest list that the client was shown. */
  readonly exportsShown: number;
}

/** What only the exports know. `open` opens, the others do not. */
export type Question =
  | { readonly ask: 'list' }
  | { readonly ask: 'info'; readonly option: number; readonly about: InfoOption }
  | { readonly ask: 'meta'; readonly option: number; readonly about: MetaOption }
  | { readonly ask: 'open'; readonly option: number; readonly about: InfoOption };

/** `entries` to `list`, `info` to the others (undefined: no such export), `refused` to any. */
export type Answer =
  | { readonly entries: readonly ExportEntry[] }
  | { readonly info: DeviceInfo | undefined }
  | { readonly refused: number; readonly text: string };

export type Effect =
  | { readonly do: 'send'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly do: 'ask'; readonly question: Question }
  /** The client broke the protocol, or asked what cannot be answered but by closing. */
  | { readonly do: 'refuse'; readonly why: string }
  | { readonly do: 'begin'; readonly terms: Terms; readonly name: string }
  | { readonly do: 'end' };

export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
}

export interface Circumstances {
  readonly limits: NbdLimits;
  /** The server is stopping: every option is answered so. */
  readonly stopping: boolean;
}

export const FIRST_STATE: State = { at: 'client-flags' };

/** Skipped bytes come in portions of at most this. */
const SKIP_BYTES = 16 * 1024;

/** How many bytes `step` needs next; Infinity where it waits for something else. */
export function need(state: State): number {
  switch (state.at) {
    case 'client-flags':
      return CLIENT_FLAGS_BYTES;
    case 'option':
      return OPTION_HEADER_BYTES;
    case 'data':
      return state.length;
    case 'skip':
      return Math.min(state.left, SKIP_BYTES);
    case 'asking':
    case 'over':
      return Number.POSITIVE_INFINITY;
  }
}

/** Takes exactly `need(state)` bytes, which are borrowed. Never throws. */
export function step(state: State, bytes: Uint8Array, now: Circumstances): Step {
  switch (state.at) {
    case 'client-flags':
      return clientFlags(bytes);
    case 'option':
      return optionHeader(state.agreed, bytes, now.limits);
    case 'data':
      return option(state.agreed, state.option, bytes, now);
    case 'skip':
      return skip(state.agreed, state.option, state.left - bytes.length, now.limits);
    case 'asking':
    case 'over':
      return { state, effects: [] };
  }
}

function clientFlags(bytes: Uint8Array): Step {
  const flags = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  const known = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;
  if ((flags & ~known) !== 0) return refuse(`client flags 0x${flags.toString(16)}`);
  const agreed: Agreed = {
    fixed: (flags & HANDSHAKE_FLAG.fixedNewstyle) !== 0,
    noZeroes: (flags & HANDSHAKE_FLAG.noZeroes) !== 0,
    structured: false,
    optionsSeen: 0,
    exportsShown: 0,
  };
  return { state: { at: 'option', agreed }, effects: [] };
}

function optionHeader(before: Agreed, bytes: Uint8Array, limits: NbdLimits): Step {
  let header: { option: number; length: number };
  try {
    header = decodeOptionHeader(bytes);
  } catch (error) {
    if (isFault(error, 'ERR_BAD_FRAME')) return refuse('option magic');
    throw error;
  }
  const { option, length } = header;
  const name = nameOf(OPT, option);
  const agreed = { ...before, optionsSeen: before.optionsSeen + 1 };
  if (agreed.optionsSeen > limits.optionsMax + limits.optionsPerExport * agreed.exportsShown) {
    return refuse('too many options');
  }
  if (!agreed.fixed && option !== OPT.EXPORT_NAME) return refuse(`${name} without fixed newstyle`);
  // An export name is all of its option's data, and its option has no reply for errors.
  if (option === OPT.EXPORT_NAME && length > limits.stringMaxBytes) return refuse('a long name');
  if (length <= limits.optionBytesMax) {
    return { state: { at: 'data', agreed, option, length }, effects: [] };
  }
  if (length > limits.optionSkipMaxBytes) return refuse(`${length} bytes of option data`);
  return { state: { at: 'skip', agreed, option, left: length }, effects: [] };
}

function skip(agreed: Agreed, option: number, left: number, limits: NbdLimits): Step {
  if (left > 0) return { state: { at: 'skip', agreed, option, left }, effects: [] };
  return fail(agreed, option, REP.ERR_TOO_BIG, 'more option data than this server reads', limits);
}

/** A whole option has arrived. */
function option(agreed: Agreed, option: number, data: Uint8Array, now: Circumstances): Step {
  const { limits } = now;
  if (option === OPT.ABORT) {
    return { state: { at: 'over' }, effects: [ack(option), { do: 'end' }] };
  }
  if (option === OPT.EXPORT_NAME) return exportName(agreed, data, now);
  if (now.stopping) {
    const told = errorReply(option, REP.ERR_SHUTDOWN, 'the server is stopping', limits);
    return { state: { at: 'over' }, effects: [{ do: 'send', bytes: told }, { do: 'end' }] };
  }
  try {
    return fixedOption(agreed, option, data, limits);
  } catch (error) {
    if (!(error instanceof SheepError)) throw error;
    const type = error.code === 'ERR_LIMIT' ? REP.ERR_TOO_BIG : REP.ERR_INVALID;
    return fail(agreed, option, type, error.message, limits);
  }
}

function exportName(agreed: Agreed, data: Uint8Array, now: Circumstances): Step {
  if (now.stopping) return refuse('the server is stopping');
  try {
    const name = decodeExportName(data, now.limits);
    const about = { name, wanted: new Set<number>() };
    return ask(agreed, { ask: 'open', option: OPT.EXPORT_NAME, about });
  } catch (error) {
    if (error instanceof SheepError) return refuse(error.message);
    throw error;
  }
}

/** @throws SheepError for data that is not of the option's form */
function fixedOption(agreed: Agreed, option: number, data: Uint8Array, limits: NbdLimits): Step {
  switch (option) {
    case OPT.LIST:
      noData(option, data);
      return ask(agreed, { ask: 'list' });
    case OPT.INFO:
      return ask(agreed, { ask: 'info', option, about: decodeInfoOption(data, limits) });
    case OPT.GO:
      return ask(agreed, { ask: 'open', option, about: decodeInfoOption(data, limits) });
    case OPT.STRUCTURED_REPLY:
      noData(option, data);
      if (agreed.structured) return fail(agreed, option, REP.ERR_INVALID, 'agreed before', limits);
      return reply({ ...agreed, structured: true }, [ack(option)]);
    case OPT.LIST_META_CONTEXT:
      return ask(agreed, { ask: 'meta', option, about: decodeMetaOption(data, limits) });
    case OPT.SET_META_CONTEXT:
      if (!agreed.structured) {
        const why = 'structured replies come first';
        return fail(agreed, option, REP.ERR_INVALID, why, limits);
      }
      return ask(unselected(agreed), {
        ask: 'meta',
        option,
        about: decodeMetaOption(data, limits),
      });
    case OPT.STARTTLS:
      noData(option, data);
      return fail(agreed, option, REP.ERR_POLICY, 'this server has no certificate', limits);
    default:
      return fail(agreed, option, REP.ERR_UNSUP, 'this server does not know the option', limits);
  }
}

/** The exports have answered the question of an `asking` state. */
export function answer(state: State, given: Answer, now: Circumstances): Step {
  if (state.at !== 'asking') return { state, effects: [] };
  const { agreed, question } = state;
  const option = question.ask === 'list' ? OPT.LIST : question.option;
  if (now.stopping && option !== OPT.EXPORT_NAME) {
    const told = errorReply(option, REP.ERR_SHUTDOWN, 'the server is stopping', now.limits);
    return { state: { at: 'over' }, effects: [{ do: 'send', bytes: told }, { do: 'end' }] };
  }
  if ('refused' in given) {
    if (option === OPT.EXPORT_NAME) return refuse(given.text);
    return fail(agreed, option, given.refused, given.text, now.limits);
  }
  if (question.ask === 'list') {
    const entries = 'entries' in given ? given.entries : [];
    const exportsShown = Math.max(agreed.exportsShown, entries.length);
    const told = entries.map((entry) => send(serverReply(entry, now.limits)));
    return reply({ ...agreed, exportsShown }, [...told, ack(option)]);
  }
  const info = 'info' in given ? given.info : undefined;
  if (info === undefined) return unknownExport(agreed, option, question.about.name, now.limits);
  if (question.ask === 'meta')
    return metaContexts(agreed, option, question.about, info, now.limits);
  if (question.ask === 'open') return opened(agreed, option, question.about, info, now);
  const told = infoReplies(option, question.about, info, agreed.structured, now.limits);
  return reply(agreed, [...told.map(send), ack(option)]);
}

function metaContexts(
  agreed: Agreed,
  option: number,
  { name, queries }: MetaOption,
  info: DeviceInfo,
  limits: NbdLimits,
): Step {
  if (option === OPT.LIST_META_CONTEXT) {
    const told = listed(info, queries).map((context) => send(contextReply(option, 0, context)));
    return reply(agreed, [...told, ack(option)]);
  }
  const contexts = select(info, queries);
  if (contexts.length > limits.contextsMax) {
    const text = `more than ${limits.contextsMax} metadata contexts at once`;
    return fail(agreed, option, REP.ERR_TOO_BIG, text, limits);
  }
  const told = contexts.map((context) => send(contextReply(option, context.id, context.name)));
  return reply({ ...agreed, selected: { exportName: name, contexts } }, [...told, ack(option)]);
}

function opened(
  agreed: Agreed,
  option: number,
  about: InfoOption,
  info: DeviceInfo,
  now: Circumstances,
): Step {
  const { structured, selected } = agreed;
  const terms: Terms = {
    sizeBytes: info.sizeBytes,
    readOnly: info.readOnly,
    structured,
    contexts: selected?.exportName === about.name ? selected.contexts : [],
  };
  const begin: Effect = { do: 'begin', terms, name: about.name };
  if (option === OPT.EXPORT_NAME) {
    const flags = exportFlags(info, structured);
    const bytes = exportNameReply(info.sizeBytes, flags, !agreed.noZeroes);
    return { state: { at: 'over' }, effects: [send(bytes), begin] };
  }
  const told = infoReplies(option, about, info, structured, now.limits).map(send);
  return { state: { at: 'over' }, effects: [...told, ack(option), begin] };
}

function unknownExport(agreed: Agreed, option: number, name: string, limits: NbdLimits): Step {
  const echo = [...name].slice(0, limits.echoMaxCharacters).join('');
  if (option === OPT.EXPORT_NAME) return refuse('an export that does not exist');
  return fail(agreed, option, REP.ERR_UNKNOWN, `no export is named '${echo}'`, limits);
}

function noData(option: number, data: Uint8Array): void {
  if (data.length === 0) return;
  throw new SheepError('ERR_BAD_FRAME', `${nameOf(OPT, option)} has no data`);
}
function unselected(agreed: Agreed): Agreed {
  const { selected: _, ...rest } = agreed;
  return rest;
}

function ask(agreed: Agreed, question: Question): Step {
  return { state: { at: 'asking', agreed, question }, effects: [{ do: 'ask', question }] };
}
function reply(agreed: Agreed, effects: readonly Effect[]): Step {
  return { state: { at: 'option', agreed }, effects };
}
function fail(before: Agreed, option: number, type: number, text: string, limits: NbdLimits): Step {
  // A failed SET_META_CONTEXT leaves nothing selected, however it failed.
  const agreed = option === OPT.SET_META_CONTEXT ? unselected(before) : before;
  return reply(agreed, [send(errorReply(option, type, text, limits))]);
}
function refuse(why: string): Step {
  return { state: { at: 'over' }, effects: [{ do: 'refuse', why }] };
}
function send(bytes: Uint8Array<ArrayBuffer>): Effect {
  return { do: 'send', bytes };
}
function ack(option: number): Effect {
  return send(optionReply(option, REP.ACK));
}
