import { describeError, SheepError } from '../../base/errors.ts';
import { seldomer } from '../../base/seldom.ts';
import type { Call } from '../../contracts/call.ts';
import type { VolumeRecord } from '../../vdi/record.ts';
import type { SnapshotParts } from './parts.ts';

/** After so long it is tried again. */
const RETRY_MS = 1_000;

export interface NamingCall extends Call {
  /** Told why names cannot be given, each time; and undefined once they are. */
  readonly heldUp?: (cause: unknown) => void;
}

/**
 * Gives what was decided to arrive its names, and goes on until all have theirs, whatever fails
 * meanwhile: what was decided cannot be taken back, and nobody may get at these names before.
 * @param replaced  as of `Arrivals.finish`
 * @throws SheepError `ERR_SHUTDOWN` once the signal is aborted and it has failed: then the next start
 *         goes on with it
 */
export async function giveNames(
  { directory, clock, log }: Pick<SnapshotParts, 'directory' | 'clock' | 'log'>,
  replaced: (gone: readonly VolumeRecord[]) => Promise<void>,
  { signal, heldUp }: NamingCall,
): Promise<void> {
  const seldom = seldomer();
  for (;;) {
    try {
      await directory.arrivals.finish(replaced);
      return heldUp?.(undefined);
    } catch (error) {
      heldUp?.(error);
      const cause = describeError(error);
      seldom((times) => log.event('error', 'cluster.load-not-named', { cause, times }));
      await rest(clock, signal, error);
    }
  }
}

async function rest(
  clock: SnapshotParts['clock'],
  signal: AbortSignal | undefined,
  cause: unknown,
): Promise<void> {
  try {
    signal?.throwIfAborted();
    await clock.sleep(RETRY_MS, { ...(signal && { signal }) });
  } catch {
    const message =
      'sheep is stopping; what was loaded from a snapshot of the cluster is whole, and gets its ' +
      'names with the next start';
    throw new SheepError('ERR_SHUTDOWN', message, {}, cause);
  }
}
