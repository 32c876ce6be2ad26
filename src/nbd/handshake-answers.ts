import type { DeviceInfo } from '../contracts/block-device.ts';
import { OPT, REP } from './constants.ts';
import { exportNameReply } from './frames.ts';
import {
  type Agreed,
  type Answer,
  ack,
  type Circumstances,
  type Effect,
  fail,
  refuse,
  reply,
  type State,
  type Step,
  send,
} from './handshake-state.ts';
import type { NbdLimits } from './limits.ts';
import { contextReply, listed, select } from './meta-contexts.ts';
import {
  errorReply,
  exportFlags,
  type InfoOption,
  infoReplies,
  type MetaOption,
  serverReply,
} from './options.ts';
import type { Terms } from './validate.ts';

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
  const told = infoReplies(
    option,
    question.about,
    info,
    { form: agreed.form, contexts: true },
    now.limits,
  );
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
  const { form, selected } = agreed;
  const contexts = selected?.exportName === about.name ? selected.contexts : [];
  const terms: Terms = { sizeBytes: info.sizeBytes, readOnly: info.readOnly, form, contexts };
  const extensions = { form, contexts: contexts.length > 0 };
  const begin: Effect = { do: 'begin', terms, name: about.name };
  if (option === OPT.EXPORT_NAME) {
    const flags = exportFlags(info, extensions);
    const bytes = exportNameReply(info.sizeBytes, flags, !agreed.noZeroes);
    return { state: { at: 'over' }, effects: [send(bytes), begin] };
  }
  const told = infoReplies(option, about, info, extensions, now.limits).map(send);
  return { state: { at: 'over' }, effects: [...told, ack(option), begin] };
}

function unknownExport(agreed: Agreed, option: number, name: string, limits: NbdLimits): Step {
  const echo = [...name].slice(0, limits.echoMaxCharacters).join('');
  if (option === OPT.EXPORT_NAME) return refuse('an export that does not exist');
  return fail(agreed, option, REP.ERR_UNKNOWN, `no export is named '${echo}'`, limits);
}
