import { isFault, SheepError } from '../base/errors.ts';
import { HANDSHAKE_FLAG, nameOf, OPT, REP } from './constants.ts';
import { CLIENT_FLAGS_BYTES, decodeOptionHeader, OPTION_HEADER_BYTES } from './frames.ts';
import {
  type Agreed,
  ack,
  ask,
  type Circumstances,
  fail,
  refuse,
  reply,
  type State,
  type Step,
  unselected,
} from './handshake-state.ts';
import type { NbdLimits } from './limits.ts';
import { decodeExportName, decodeInfoOption, decodeMetaOption, errorReply } from './options.ts';
import type { ReplyForm } from './validate.ts';

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
      return optionHeader(state.agreed, bytes, now);
    case 'data':
      return option(state.agreed, state.option, bytes, now);
    case 'skip':
      return skip(state.agreed, state.option, state.left - bytes.length, now);
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
    ...NOTHING_AGREED,
    secured: false,
  };
  return { state: { at: 'option', agreed }, effects: [] };
}

/** Before the first option, and again when TLS begins. */
const NOTHING_AGREED = { form: 'simple', optionsSeen: 0, exportsShown: 0 } as const;

function optionHeader(before: Agreed, bytes: Uint8Array, now: Circumstances): Step {
  const { limits } = now;
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
  // Nothing is kept for somebody who has proven nothing and is going to be refused.
  const kept = length <= limits.optionAssuredBytes || !isTooEarly(agreed, option, now);
  if (length <= limits.optionBytesMax && kept) {
    return { state: { at: 'data', agreed, option, length }, effects: [] };
  }
  if (length > limits.optionSkipMaxBytes) return refuse(`${length} bytes of option data`);
  return { state: { at: 'skip', agreed, option, left: length }, effects: [] };
}

function skip(agreed: Agreed, option: number, left: number, now: Circumstances): Step {
  if (left > 0) return { state: { at: 'skip', agreed, option, left }, effects: [] };
  if (isTooEarly(agreed, option, now)) return tlsFirst(agreed, option, now.limits);
  const why = 'more option data than this server reads';
  return fail(agreed, option, REP.ERR_TOO_BIG, why, now.limits);
}

/** A whole option has arrived. */
function option(agreed: Agreed, option: number, data: Uint8Array, now: Circumstances): Step {
  const { limits } = now;
  if (option === OPT.ABORT) {
    return { state: { at: 'over' }, effects: [ack(option), { do: 'end' }] };
  }
  const tooEarly = isTooEarly(agreed, option, now);
  if (option === OPT.EXPORT_NAME && tooEarly) return refuse('EXPORT_NAME without TLS');
  if (option === OPT.EXPORT_NAME) return exportName(agreed, data, now);
  if (now.stopping) {
    const told = errorReply(option, REP.ERR_SHUTDOWN, 'the server is stopping', limits);
    return { state: { at: 'over' }, effects: [{ do: 'send', bytes: told }, { do: 'end' }] };
  }
  if (tooEarly) return tlsFirst(agreed, option, limits);
  try {
    if (option === OPT.STARTTLS) return startTls(agreed, data, now);
    return fixedOption(agreed, option, data, limits);
  } catch (error) {
    if (!(error instanceof SheepError)) throw error;
    const type = error.code === 'ERR_LIMIT' ? REP.ERR_TOO_BIG : REP.ERR_INVALID;
    return fail(agreed, option, type, error.message, limits);
  }
}

function exportName(agreed: Agreed, data: Uint8Array, now: Circumstances): Step {
  if (now.stopping) return refuse('the server is stopping');
  if (agreed.form === 'extended') return refuse('EXPORT_NAME with extended headers');
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
      if (agreed.form === 'extended') {
        const why = 'extended headers imply them';
        return fail(agreed, option, REP.ERR_EXT_HEADER_REQD, why, limits);
      }
      return agree(agreed, option, 'structured', limits);
    case OPT.EXTENDED_HEADERS:
      noData(option, data);
      return agree(agreed, option, 'extended', limits);
    case OPT.LIST_META_CONTEXT:
      return ask(agreed, { ask: 'meta', option, about: decodeMetaOption(data, limits) });
    case OPT.SET_META_CONTEXT:
      if (agreed.form === 'simple') {
        const why = 'structured replies come first';
        return fail(agreed, option, REP.ERR_INVALID, why, limits);
      }
      return ask(unselected(agreed), {
        ask: 'meta',
        option,
        about: decodeMetaOption(data, limits),
      });
    default:
      return fail(agreed, option, REP.ERR_UNSUP, 'this server does not know the option', limits);
  }
}

/** "FORCEDTLS": in the clear there is STARTTLS, and ABORT. */
function isTooEarly({ secured }: Agreed, option: number, { tls }: Circumstances): boolean {
  return tls === 'required' && !secured && option !== OPT.STARTTLS;
}
function tlsFirst(agreed: Agreed, option: number, limits: NbdLimits): Step {
  const why = 'this server wants TLS first, with a certificate or a key of yours';
  return fail(agreed, option, REP.ERR_TLS_REQD, why, limits);
}

/**
 * What was agreed in the clear may come from somebody in between, so it is forgotten; but for the two
 * flags, which TLS lets nobody send again. What came along behind the option would be taken for the
 * client's own word inside TLS: it does not belong there, and neither does who sent it.
 */
function startTls(
  agreed: Agreed,
  data: Uint8Array,
  { tls, followed, limits }: Circumstances,
): Step {
  const { fixed, noZeroes, secured } = agreed;
  noData(OPT.STARTTLS, data);
  if (secured) return fail(agreed, OPT.STARTTLS, REP.ERR_INVALID, 'this is TLS already', limits);
  if (tls === 'none') {
    const why = 'this server has no certificate and no keys';
    return fail(agreed, OPT.STARTTLS, REP.ERR_POLICY, why, limits);
  }
  if (followed) return refuse('plaintext after STARTTLS');
  const anew: Agreed = { fixed, noZeroes, ...NOTHING_AGREED, secured: true };
  return reply(anew, [ack(OPT.STARTTLS), { do: 'secure' }]);
}

function agree(agreed: Agreed, option: number, form: ReplyForm, limits: NbdLimits): Step {
  if (agreed.form === form) return fail(agreed, option, REP.ERR_INVALID, 'agreed before', limits);
  return reply({ ...agreed, form }, [ack(option)]);
}

function noData(option: number, data: Uint8Array): void {
  if (data.length === 0) return;
  throw new SheepError('ERR_BAD_FRAME', `${nameOf(OPT, option)} has no data`);
}
