import type { Call } from './call.ts';

/** The memory in which a received chunk lies. */
export interface Loan {
  /** The chunk stays as it is until `release` was called as often as `hold`. */
  hold(): void;
  release(): void;
}

/** What a ByteStream tells its owner. Nothing is called after `closed`. */
export interface StreamEvents {
  /**
   * The next bytes, at least one; borrowed until this returns, or for longer by `loan`. A stream
   * receives into other memory meanwhile, and stops reading while too many chunks are held.
   * Never called while paused.
   */
  received(chunk: Uint8Array, loan: Loan): void;
  /** The other side sends no more; writing is still possible. */
  ended(): void;
  /** Gone, for good; `cause` where it broke. Called once. */
  closed(cause?: Error): void;
}

/** One connection. Suite: test/contracts/net.ts. */
export interface ByteStream {
  readonly peerName: string;
  readonly transport: 'tcp' | 'unix';
  /** The IP address of the other side, as text; over TCP only. */
  readonly peerAddress?: string;
  /** Starts reading. Called once, before anything else. */
  start(events: StreamEvents): void;
  pause(): void;
  resume(): void;
  /**
   * Sends in order; nothing, if there are none, but `done` has its turn. `bytes` are lent until
   * `done`, which is called in any case, also when the connection broke: never before this returns,
   * but in the same turn of the event loop where nothing has to wait. How much is waiting:
   * `unsentBytes`.
   */
  write(bytes: Uint8Array, done?: () => void): void;
  /** 0 once it is closed. */
  readonly unsentBytes: number;
  /**
   * Sends what is waiting, then tells the other side that no more comes. Closed once that side has
   * ended too; what it sends until then is received as before.
   */
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

export interface ListenOptions {
  /** Permission bits of a unix socket; 0o600 if absent. */
  readonly unixMode?: number;
  /** Name or number of the group that owns a unix socket. */
  readonly unixGroup?: string;
  /** A connection could not be accepted (libuv itself closes those for which no file is left); listening goes on. */
  readonly acceptFailed?: (cause: Error) => void;
}

export interface Net {
  /**
   * Calls `accept` for every connection. Disposing the listener ends only the listening; it settles
   * without waiting for the connections.
   * @throws SheepError `ERR_BUSY` if the address is in use, `ERR_BAD_INPUT` if it is none,
   *         `ERR_IO` if the operating system refuses it. A unix socket that nobody listens on any
   *         more is replaced.
   */
  listen(
    address: Address,
    accept: (stream: ByteStream) => void,
    options?: ListenOptions,
  ): Promise<Listener>;
  /**
   * Aborting ends the dialling, not a stream that it has brought.
   * @throws SheepError `ERR_BAD_INPUT`, `ERR_IO` if nobody answers there
   */
  dial(address: Address, call?: Call): Promise<ByteStream>;
}
