import { FAULTS, type FaultCode, SheepError } from '../base/errors.ts';
import { ERRNO, type ErrnoName, REP } from './constants.ts';

/** What a refused request is answered with; `text` goes to clients with structured replies. */
export interface Refusal {
  readonly errno: number;
  readonly text: string;
}

/** One sentence for each fault. A fault's own message may name files and addresses: log only. */
const TOLD = {
  ERR_BAD_FRAME: 'stored bytes are not what their format says',
  ERR_BAD_INPUT: 'the request cannot be',
  ERR_OUT_OF_RANGE: 'the request reaches beyond the end of the export',
  ERR_READ_ONLY: 'the export is read-only',
  ERR_NO_SPACE: 'the store is full',
  ERR_NOT_FAST: 'zeroing would not be faster than writing',
  ERR_CORRUPT: 'stored data is damaged',
  ERR_MISSING: 'stored data is missing',
  ERR_IO: 'the store failed',
  ERR_LOST: 'stored data is lost',
  ERR_EXISTS: 'it exists already',
  ERR_NOT_FOUND: 'it does not exist',
  ERR_BUSY: 'the store is busy',
  ERR_VERSION: 'the store is of another version',
  ERR_FORBIDDEN: 'not allowed',
  ERR_LIMIT: 'too much at once',
  ERR_SHUTDOWN: 'the server is stopping',
  ERR_UNSUPPORTED: 'the server cannot do this here',
} as const satisfies Record<FaultCode, string>;

/**
 * What the client is told when the device failed: the one place where faults become numbers.
 * ENOTSUP is legal only as the answer to FAST_ZERO, EOVERFLOW only to DF ("Error values"); to any
 * other request they become EINVAL. An error that is no SheepError is EIO.
 */
export function refusalOf(error: unknown, asked: { fastZero: boolean; df: boolean }): Refusal {
  if (!(error instanceof SheepError)) return { errno: ERRNO.EIO, text: TOLD.ERR_IO };
  return { errno: legalErrno(FAULTS[error.code].nbd, asked), text: TOLD[error.code] };
}

function legalErrno(name: ErrnoName, asked: { fastZero: boolean; df: boolean }): number {
  if (name === 'ENOTSUP' && !asked.fastZero) return ERRNO.EINVAL;
  if (name === 'EOVERFLOW' && !asked.df) return ERRNO.EINVAL;
  return ERRNO[name];
}

const REFUSED: Readonly<Record<number, FaultCode>> = {
  [ERRNO.EPERM]: 'ERR_FORBIDDEN',
  [ERRNO.EINVAL]: 'ERR_BAD_INPUT',
  [ERRNO.EOVERFLOW]: 'ERR_BAD_INPUT',
  [ERRNO.ENOMEM]: 'ERR_LIMIT',
  [ERRNO.ENOSPC]: 'ERR_NO_SPACE',
  [ERRNO.ENOTSUP]: 'ERR_NOT_FAST',
  [ERRNO.ESHUTDOWN]: 'ERR_SHUTDOWN',
};

/** The other direction: the fault that another server's refusal is to us. Unknown ones are EIO. */
export function faultOf(errno: number): FaultCode {
  return REFUSED[errno] ?? 'ERR_IO';
}

/**
 * What an option is answered with when the exports failed. Two refusals are meant for people and
 * carry their own sentence: who has it open, and that it is not theirs.
 */
export function optionRefusalOf(error: unknown): { refused: number; text: string } {
  if (!(error instanceof SheepError)) return { refused: REP.ERR_UNKNOWN, text: TOLD.ERR_IO };
  switch (error.code) {
    case 'ERR_SHUTDOWN':
      return { refused: REP.ERR_SHUTDOWN, text: TOLD.ERR_SHUTDOWN };
    case 'ERR_BUSY':
    case 'ERR_FORBIDDEN':
      return { refused: REP.ERR_POLICY, text: error.message };
    default:
      return { refused: REP.ERR_UNKNOWN, text: TOLD[error.code] };
  }
}
