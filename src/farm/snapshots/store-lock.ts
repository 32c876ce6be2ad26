import { describeError, isFault, SheepError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Disk } from '../../contracts/disk.ts';
import type { Clock, Random } from '../../contracts/seams.ts';
import { readText } from '../whole-file.ts';
import { SNAPSHOT_LIMITS, type SnapshotLimits } from './limits.ts';

/** Who writes, as others are told. */
export interface LockHolder {
  /** A name that no other machine has which writes to this store. */
  readonly host: string;
  readonly pid: number;
}

/** What stands in the lock while somebody holds it. */
interface LockText extends LockHolder {
  readonly bootId: string;
  /** Another for each taking: tells whether it is still ours. */
  readonly nonce: string;
  /** Wall time at which its holder was last seen alive. */
  readonly refreshedMs: number;
}

export interface LockPlace {
  readonly disk: Disk;
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly holder: LockHolder;
  readonly limits?: SnapshotLimits;
}

/** The right to write to a store. */
export interface StoreLock extends AsyncDisposable {
  /** @throws SheepError `ERR_BUSY` once somebody else has taken it for dead and taken over */
  check(): Promise<void>;
}

/**
 * Takes the lock of a store: the system's, and, because on a share that may be of one machine only,
 * a text that is written anew as long as we live. A text of another machine counts until it was not
 * refreshed for `lockStaleMs`; one of this machine is of a process that died, or we had not got here.
 * @throws SheepError `ERR_BUSY` with who holds it
 */
export async function lockStore(place: LockPlace): Promise<StoreLock> {
  const { disk, directory, clock, random, log, holder, limits = SNAPSHOT_LIMITS } = place;
  const path = `${directory}/lock`;
  await using taking = new AsyncDisposableStack();
  taking.use(await lockFile(disk, path));
  const found = await readLock(disk, path);
  const bootId = await disk.bootId();
  // One kernel or one machine: the system's lock would have told of whoever lives.
  if (found !== undefined && found.bootId !== bootId && found.host !== holder.host) {
    const silentMs = Math.abs(clock.wallMs() - found.refreshedMs);
    if (silentMs < limits.lockStaleMs) throw busy(path, found, limits);
  }
  if (found !== undefined) log.event('warn', 'snapshots.lock-taken-over', { ...found, path });
  const nonce = Buffer.from(random.bytes(8)).toString('hex');
  const ours = { ...holder, bootId, nonce };
  await writeLock(disk, path, { ...ours, refreshedMs: clock.wallMs() });
  taking.defer(async () => {
    try {
      const now = await readLock(disk, path);
      if (now?.nonce === nonce) await writeLock(disk, path, undefined);
    } catch (error) {
      // The system's lock is given back in any case; others wait until the text is stale.
      log.event('warn', 'snapshots.lock-left', { path, cause: describeError(error) });
    }
  });

  const check = async () => {
    const now = await readLock(disk, path);
    if (now?.nonce === nonce) return;
    throw new SheepError(
      'ERR_BUSY',
      `${path} was taken over${now === undefined ? '' : ` by ${now.host}, process ${now.pid}`}; ` +
        'what was not finished is not there',
      { path },
    );
  };
  const stop = new AbortController();
  const refreshing = (async () => {
    while (!stop.signal.aborted) {
      await clock.sleep(limits.lockRefreshMs, stop).catch(() => undefined);
      if (stop.signal.aborted) return;
      await check();
      await writeLock(disk, path, { ...ours, refreshedMs: clock.wallMs() });
    }
  })();
  refreshing.catch((error) => {
    log.event('error', 'snapshots.lock-lost', { path, cause: describeError(error) });
  });
  const held = taking.move();
  return {
    check,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await refreshing.catch(() => undefined);
      await held[Symbol.asyncDispose]();
    },
  };
}

async function lockFile(disk: Disk, path: string): Promise<AsyncDisposable> {
  try {
    return await disk.lock(path);
  } catch (error) {
    if (!isFault(error, 'ERR_BUSY')) throw error;
    throw busy(path, await readLock(disk, path), undefined);
  }
}

function busy(path: string, found: LockText | undefined, limits: SnapshotLimits | undefined) {
  const who = found === undefined ? 'another process' : `${found.host}, process ${found.pid}`;
  const wait =
    limits === undefined
      ? 'wait until it is done'
      : `if it is dead, try again ${limits.lockStaleMs / 60_000} minutes after it was`;
  return new SheepError('ERR_BUSY', `${path} is held by ${who}; ${wait}`, { path, holder: who });
}

/** Undefined if nobody holds it, or if it was cut off while it was written. */
async function readLock(disk: Disk, path: string): Promise<LockText | undefined> {
  const text = await readText(disk, path);
  try {
    const value: unknown = JSON.parse(text ?? '');
    return isLockText(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isLockText(value: unknown): value is LockText {
  if (typeof value !== 'object' || value === null) return false;
  const { host, pid, bootId, nonce, refreshedMs } = value as Record<string, unknown>;
  return (
    typeof host === 'string' &&
    typeof pid === 'number' &&
    typeof bootId === 'string' &&
    typeof nonce === 'string' &&
    typeof refreshedMs === 'number'
  );
}

/** In place, because the lock is on this very file; nobody needs it after a power cut. */
async function writeLock(disk: Disk, path: string, text: LockText | undefined): Promise<void> {
  await using file = await disk.open(path);
  const bytes = new TextEncoder().encode(text === undefined ? '' : `${JSON.stringify(text)}\n`);
  await file.write(0, bytes);
  await file.truncate(bytes.length);
}
