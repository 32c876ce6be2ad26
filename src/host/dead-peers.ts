import type { Socket } from 'node:net';
import koffi from 'koffi';

const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;

const setsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Uint32Array,
  length: number,
) => number = koffi
  .load(null)
  .func('int setsockopt(int fd, int level, int option, const uint32_t *value, uint32_t length)');

export interface DeadPeerTimes {
  /** A connection that is silent for so long is asked whether the other side still lives. */
  readonly askAfterMs: number;
  /** It is over when the other side has acknowledged nothing for so long. */
  readonly overAfterMs: number;
}
const TIMES: DeadPeerTimes = { askAfterMs: 30_000, overAfterMs: 60_000 };

/**
 * Lets the kernel end a TCP connection whose other side is gone without a word (power, cable), so
 * that it frees what it holds: within a minute, be it silent or be there replies on their way. By
 * themselves keep-alive probes do not run while data is on its way, and that is tried for a quarter
 * of an hour. The error is ETIMEDOUT.
 */
export function endWithDeadPeer(socket: Socket, times = TIMES): void {
  socket.setKeepAlive(true, times.askAfterMs);
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0) return;
  const value = Uint32Array.of(times.overAfterMs);
  // Where the kernel does not know the option its own times are what is left.
  setsockopt(handle.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value, value.byteLength);
}
