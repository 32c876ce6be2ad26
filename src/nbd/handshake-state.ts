import type { DeviceInfo } from '../contracts/block-device.ts';
import type { ExportEntry } from '../contracts/exports.ts';
import { OPT, REP } from './constants.ts';
import { optionReply } from './frames.ts';
import type { NbdLimits } from './limits.ts';
import type { Selection } from './meta-contexts.ts';
import { errorReply, type InfoOption, type MetaOption } from './options.ts';
import type { ReplyForm, Terms } from './validate.ts';

/**
 * The handshake ("Newstyle negotiation") as a table: a state says how many bytes it needs, `step`
 * takes exactly so many to the next state, and what is to be done about it comes out as effects.
 *
 *   client-flags ──▶ option ──▶ data ──▶ option …            answered at once
 *                      │          └────▶ asking ──▶ option … the exports are asked
 *                      │          └────▶ option …            after STARTTLS: inside TLS, from anew
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
  /** It goes on inside TLS. */
  readonly secured: boolean;
  readonly form: ReplyForm;
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
  /** The next byte belongs to TLS, and the state is for what comes inside of it. */
  | { readonly do: 'secure' }
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
  readonly tls: TlsMode;
  /** More bytes have come already, behind those of this step. */
  readonly followed: boolean;
}

/** "TLS": NOTLS, SELECTIVETLS and FORCEDTLS. */
export type TlsMode = 'none' | 'offered' | 'required';

// How a step is made

/** Without a selection of metadata contexts. */
export function unselected(agreed: Agreed): Agreed {
  const { selected: _, ...rest } = agreed;
  return rest;
}

/** Waits for what the exports say. */
export function ask(agreed: Agreed, question: Question): Step {
  return { state: { at: 'asking', agreed, question }, effects: [{ do: 'ask', question }] };
}

/** The option is answered: the next may come. */
export function reply(agreed: Agreed, effects: readonly Effect[]): Step {
  return { state: { at: 'option', agreed }, effects };
}

/** Answers the option with an error, and a sentence for people. */
export function fail(
  before: Agreed,
  option: number,
  type: number,
  text: string,
  limits: NbdLimits,
): Step {
  // A failed SET_META_CONTEXT leaves nothing selected, however it failed.
  const agreed = option === OPT.SET_META_CONTEXT ? unselected(before) : before;
  return reply(agreed, [send(errorReply(option, type, text, limits))]);
}

/** Closes. */
export function refuse(why: string): Step {
  return { state: { at: 'over' }, effects: [{ do: 'refuse', why }] };
}

export function send(bytes: Uint8Array<ArrayBuffer>): Effect {
  return { do: 'send', bytes };
}

export function ack(option: number): Effect {
  return send(optionReply(option, REP.ACK));
}
