/** What every operation that may wait accepts. Aborting rejects with the signal's reason. */
export interface Call {
  readonly signal?: AbortSignal;
}

/**
 * Nothing when it is already done, a promise only when it must wait: most requests are served from
 * memory, and a promise for each would cost more than the work.
 */
export type Completion = void | Promise<void>;

export interface ReadCall extends Call {
  /** Every block is proven by its bytes, also one that was proven before and is still in memory. */
  readonly proveAnew?: true;
}

export interface WriteCall extends Call {
  /** Settles only once the effect survives a power cut (NBD FUA). */
  readonly durable: boolean;
  /** A flush of these very bytes will follow soon: whoever keeps them may begin with it. */
  readonly flushFollows?: boolean;
}
