import { CMD, CMD_FLAG, ERRNO } from './constants.ts';
import type { Refusal } from './errno.ts';
import type { Head } from './head.ts';
import type { NbdLimits } from './limits.ts';
import type { MetaContext } from './meta-contexts.ts';

/**
 * How replies are framed: without length, in chunks, or in chunks with the longer headers that
 * requests then have too ("Extended headers").
 */
export type ReplyForm = 'simple' | 'structured' | 'extended';

/** What was agreed in the handshake and what the export is; fixed for a connection. */
export interface Terms {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly form: ReplyForm;
  /** Selected for this export, in the order in which their status is told; not if `simple`. */
  readonly contexts: readonly MetaContext[];
}

const NO_COMMAND: Refusal = { errno: ERRNO.EINVAL, text: 'no such command' };
const BAD_FLAG: Refusal = { errno: ERRNO.EINVAL, text: 'a flag does not belong to this command' };
const READ_ONLY: Refusal = { errno: ERRNO.EPERM, text: 'the export is read-only' };
const BEYOND: Refusal = { errno: ERRNO.EINVAL, text: 'the request reaches beyond the end' };
const NO_ROOM: Refusal = { errno: ERRNO.ENOSPC, text: 'the request reaches beyond the end' };
const TOO_LONG: Refusal = { errno: ERRNO.EINVAL, text: 'more than the maximum payload' };
const TOO_LONG_WHOLE: Refusal = { errno: ERRNO.EOVERFLOW, text: 'too long to be in one piece' };
const NO_CONTEXT: Refusal = { errno: ERRNO.EINVAL, text: 'no metadata context was agreed' };
const EMPTY: Refusal = { errno: ERRNO.EINVAL, text: 'an extent cannot be empty' };

interface Rule {
  /**
   * FUA is legal on every command, because we advertise it ("NBD_FLAG_SEND_FUA"). PAYLOAD_LEN is
   * with extended headers only.
   */
  readonly flags: number;
  readonly changes: boolean;
  /** What to answer if the range is not inside the export; absent: it has no range. */
  readonly outside?: Refusal;
  readonly payload: boolean;
}

/** Flags, class and range of each command; the order of the checks stands in `refusal`. */
const RULES: readonly (Rule | undefined)[] = inOrder({
  [CMD.READ]: { flags: CMD_FLAG.FUA | CMD_FLAG.DF, changes: false, outside: BEYOND, payload: true },
  [CMD.WRITE]: {
    flags: CMD_FLAG.FUA | CMD_FLAG.PAYLOAD_LEN,
    changes: true,
    outside: NO_ROOM,
    payload: true,
  },
  // Offset and length of a FLUSH are reserved; a flush that is refused for them helps nobody.
  [CMD.FLUSH]: { flags: CMD_FLAG.FUA, changes: false, payload: false },
  [CMD.TRIM]: { flags: CMD_FLAG.FUA, changes: true, outside: BEYOND, payload: false },
  [CMD.CACHE]: { flags: CMD_FLAG.FUA, changes: false, outside: BEYOND, payload: false },
  [CMD.WRITE_ZEROES]: {
    flags: CMD_FLAG.FUA | CMD_FLAG.NO_HOLE | CMD_FLAG.FAST_ZERO,
    changes: true,
    outside: NO_ROOM,
    payload: false,
  },
  [CMD.BLOCK_STATUS]: {
    flags: CMD_FLAG.FUA | CMD_FLAG.REQ_ONE | CMD_FLAG.PAYLOAD_LEN,
    changes: false,
    outside: BEYOND,
    payload: false,
  },
});

/** An array, not a record: looked up for every request. DISC has no entry, it has no reply. */
function inOrder(rules: Readonly<Record<number, Rule>>): (Rule | undefined)[] {
  return Array.from({ length: CMD.BLOCK_STATUS + 1 }, (_, type) => rules[type]);
}

/** Why a request cannot be served, or undefined. Pure. */
export function refusal(
  terms: Terms,
  limits: NbdLimits,
  { type, flags, offset, length }: Pick<Head, 'type' | 'flags' | 'offset' | 'length'>,
): Refusal | undefined {
  const rule = RULES[type];
  if (rule === undefined) return NO_COMMAND;
  if ((flags & ~rule.flags) !== 0) return BAD_FLAG;
  const whole = (flags & CMD_FLAG.DF) !== 0;
  if (whole && terms.form === 'simple') return BAD_FLAG;
  if ((flags & CMD_FLAG.PAYLOAD_LEN) !== 0 && terms.form !== 'extended') return BAD_FLAG;
  if (rule.changes && terms.readOnly) return READ_ONLY;
  if (rule.outside !== undefined) {
    if (offset > terms.sizeBytes || length > terms.sizeBytes - offset) return rule.outside;
  }
  if (rule.payload && length > limits.payloadMaxBytes) return TOO_LONG;
  if (whole && length > limits.readWholeMaxBytes) return TOO_LONG_WHOLE;
  if (type === CMD.BLOCK_STATUS) {
    if (terms.contexts.length === 0) return NO_CONTEXT;
    if (length === 0) return EMPTY;
  }
  return undefined;
}
