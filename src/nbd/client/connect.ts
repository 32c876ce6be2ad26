import { describeError, SheepError } from '../../base/errors.ts';
import { type Log, silentLog } from '../../base/log.ts';
import type { BlockDevice } from '../../contracts/block-device.ts';
import type { Address, Net } from '../../contracts/net.ts';
import type { Tls } from '../../contracts/tls.ts';
import { Aligned } from './aligned.ts';
import { Link } from './link.ts';
import { RemoteDevice } from './remote-device.ts';
import { type BlockSizes, offers } from './terms.ts';
import { isProtocolString } from './words.ts';

export interface NbdClientOptions {
  /** Metadata contexts that `describe` is to answer; `info.contexts` tells which the server has. */
  readonly contexts?: readonly string[];
  /** The export is opened inside TLS, or not at all. */
  readonly tls?: Tls;
  readonly log?: Log;
  /** Ends the connecting; afterwards each operation has its own. Without it a mute server is
   * waited for. */
  readonly signal?: AbortSignal;
}

/** An export of a server. Disposing it ends the connection; what is in flight then fails. */
export interface NbdClient extends BlockDevice {
  readonly describe: NonNullable<BlockDevice['describe']>;
  /** What the server asks of requests. It is kept to here: good sizes, not necessary ones. */
  readonly blocks: BlockSizes;
  /** Several connections to this export show the same disk ("NBD_FLAG_CAN_MULTI_CONN"). */
  readonly multiConn: boolean;
  /** Aborted with the reason when the connection is lost, also while nothing is asked. */
  readonly lost: AbortSignal;
}

/**
 * Opens an export over one connection. Operations need no order and no limit: as many as the server
 * should have at once are sent, the others wait. A server that breaks the protocol, or goes, fails
 * everything that waits, and all that is asked later, with what was wrong. A change that is aborted
 * after it was sent may still take effect, at any time until the connection ends.
 * @throws SheepError `ERR_NOT_FOUND` no such export, `ERR_BAD_INPUT` a name that cannot be,
 *         `ERR_UNSUPPORTED` a server that wants TLS, or has none, or is too old, `ERR_FORBIDDEN` one
 *         that does not accept what is shown to it, or shows what is not accepted, `ERR_BAD_FRAME` one that breaks
 *         the protocol, `ERR_IO` nobody there; the signal's reason
 */
export async function connectNbd(
  net: Net,
  address: Address,
  exportName: string,
  options: NbdClientOptions = {},
): Promise<NbdClient> {
  const { contexts = [], tls, log = silentLog, signal } = options;
  for (const name of [exportName, ...contexts]) {
    if (!isProtocolString(name)) {
      throw new SheepError('ERR_BAD_INPUT', 'a name is at most 4096 bytes, without NUL', { name });
    }
  }
  const stream = await net.dial(address, signal === undefined ? {} : { signal });
  const link = new Link(stream, { exportName, contexts }, tls);
  try {
    const terms = await orAborted(link.agreed, signal);
    const remote = new RemoteDevice(link, terms);
    const { blocks, contexts: selected } = terms;
    const device = blocks.minimumBytes > 1 ? new Aligned(remote, blocks.minimumBytes) : remote;
    const facts = { address, export: exportName, contexts: [...selected.keys()].join(' ') };
    log.event('info', 'nbd.client-connected', facts);
    const lost = new AbortController();
    link.onFailure((error) => {
      log.event('warn', 'nbd.client-failed', { ...facts, cause: describeError(error) });
      lost.abort(error);
    });
    const multiConn = offers(terms, 'CAN_MULTI_CONN');
    return Object.assign(device, { blocks, multiConn, lost: lost.signal });
  } catch (error) {
    link.fail(error);
    throw error;
  }
}

/** The outcome, or the signal's reason if that comes first. */
async function orAborted<T>(outcome: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await outcome;
  const { promise, reject } = Promise.withResolvers<never>();
  const aborted = () => reject(signal.reason);
  if (signal.aborted) aborted();
  signal.addEventListener('abort', aborted, { once: true });
  try {
    return await Promise.race([outcome, promise]);
  } finally {
    signal.removeEventListener('abort', aborted);
  }
}
