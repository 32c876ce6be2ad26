/** What a ByteStream tells its owner. Nothing is called after `closed`. */
export interface StreamEvents {
  /** The next bytes; borrowed until this returns. Never called while paused. */
  received(chunk: Uint8Array): void;
  /** All that was written so far has been handed to the operating system. */
  drained(): void;
  /** The other side sends no more; writing is still possible. */
  ended(): void;
  /** Gone, for good; `cause` where it broke. Called once. */
  closed(cause?: Error): void;
}

/** One connection. Suite: test/contracts/net.ts. */
export interface ByteStream {
  readonly peerName: string;
  readonly transport: 'tcp' | 'unix';
  /** Starts reading. Called once, before anything else. */
  start(events: StreamEvents): void;
  pause(): void;
  resume(): void;
  /**
   * Sends in order. `bytes` are lent until `done`, which is called in any case, also when the
   * connection broke. How much is waiting: `unsentBytes`.
   */
  write(bytes: Uint8Array, done?: () => void): void;
  readonly unsentBytes: number;
  /** Sends what is waiting, then closes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** `host:port` (port 0: any free one), `[v6]:port` or `unix:PATH`. */
export type Address = string;

export interface Listener extends AsyncDisposable {
  /** The address in use, with the real port. */
  readonly address: Address;
}

export interface Net {
  /**
   * @throws SheepError `ERR_BUSY` if the address is in use, `ERR_BAD_INPUT` if it is none. A unix
   * socket that nobody listens on any more is replaced.
   */
  listen(
    address: Address,
    accept: (stream: ByteStream) => void,
    options?: { readonly unixMode?: number; readonly unixGroup?: string },
  ): Promise<Listener>;
  dial(address: Address): Promise<ByteStream>;
}
