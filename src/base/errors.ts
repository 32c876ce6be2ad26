/**
 * Every way an operation can fail on purpose: what an NBD client is told, whether the same request
 * may succeed later, and the status that `collie` and the admin API give.
 */
export const FAULTS = {
  /** Bytes from the wire or the disk that are not what their format says. */
  ERR_BAD_FRAME: { nbd: 'EINVAL', retry: false, http: 400 },
  /** A name, size, tag or number that a person gave and that cannot be. */
  ERR_BAD_INPUT: { nbd: 'EINVAL', retry: false, http: 400 },
  /** A read, trim or status beyond the end. */
  ERR_OUT_OF_RANGE: { nbd: 'EINVAL', retry: false, http: 400 },
  ERR_READ_ONLY: { nbd: 'EPERM', retry: false, http: 409 },
  /** The medium is full, or would go below its reserve. */
  ERR_NO_SPACE: { nbd: 'ENOSPC', retry: true, http: 507 },
  /** A fast zero was asked for and would not be fast. */
  ERR_NOT_FAST: { nbd: 'ENOTSUP', retry: false, http: 409 },
  /** A checksum does not fit its bytes: named, and never returned as data. */
  ERR_CORRUPT: { nbd: 'EIO', retry: false, http: 500 },
  /** An object that must be there is not. */
  ERR_MISSING: { nbd: 'EIO', retry: false, http: 500 },
  /** The operating system refused; `cause` says why. */
  ERR_IO: { nbd: 'EIO', retry: true, http: 500 },
  /** Certain loss: flushed bytes can no longer be kept. */
  ERR_LOST: { nbd: 'EIO', retry: false, http: 500 },
  ERR_EXISTS: { nbd: 'EINVAL', retry: false, http: 409 },
  ERR_NOT_FOUND: { nbd: 'EINVAL', retry: false, http: 404 },
  /** Somebody is using it: an attached VDI, a store with a running daemon. */
  ERR_BUSY: { nbd: 'EIO', retry: true, http: 409 },
  /** A store or a file of another format version. */
  ERR_VERSION: { nbd: 'EIO', retry: false, http: 500 },
  ERR_FORBIDDEN: { nbd: 'EPERM', retry: false, http: 403 },
  ERR_LIMIT: { nbd: 'ENOMEM', retry: true, http: 429 },
  ERR_SHUTDOWN: { nbd: 'ESHUTDOWN', retry: true, http: 503 },
  /** The platform cannot do it (a system call that is not there). */
  ERR_UNSUPPORTED: { nbd: 'EINVAL', retry: false, http: 501 },
} as const satisfies Record<string, { nbd: string; retry: boolean; http: number }>;

export type FaultCode = keyof typeof FAULTS;
export type Facts = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

/** Facts as JSON can carry them: it has no bigint. */
export function plainFacts(facts: Facts): PlainFacts {
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [
      name,
      typeof value === 'bigint' ? value.toString() : value,
    ]),
  );
}
export type PlainFacts = Readonly<Record<string, string | number | boolean | undefined>>;

/** The one error we throw on purpose. `facts` are for the log; the message is for people. */
export class SheepError extends Error {
  override readonly name = 'SheepError';
  readonly code: FaultCode;
  readonly facts: Facts;
  constructor(code: FaultCode, message: string, facts: Facts = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.facts = facts;
  }
}

/** True if `error` is ours and of this code. */
export function isFault(error: unknown, code: FaultCode): error is SheepError {
  return error instanceof SheepError && error.code === code;
}

/** Something that was stored is not there as it was. */
export function isDamage(error: unknown): error is SheepError {
  return isFault(error, 'ERR_CORRUPT') || isFault(error, 'ERR_MISSING');
}

/** One line for people: the message and, where there is one, the message of its cause. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  const text = cause instanceof Error ? `${error.message} (${cause.message})` : error.message;
  return text.replace(/\s*\n\s*/g, ' '); // JSON.parse quotes what it was given
}
