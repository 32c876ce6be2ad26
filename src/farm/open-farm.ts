import { describeError, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Disk } from '../contracts/disk.ts';
import type { Clock, Random } from '../contracts/seams.ts';
import { ActivityLog } from './activity-log.ts';
import { noSums, xxh3Sums } from './checksums.ts';
import { storeIsEmpty } from './empty.ts';
import { Farm } from './farm.ts';
import { Flusher } from './flusher.ts';
import { type Identity, openIdentity, refuseStrangers } from './identity.ts';
import { giveBack, Journal, type JournalOwner } from './journal.ts';
import { bootMark } from './journal-format.ts';
import { type JournalScan, scanJournal } from './journal-scan.ts';
import { checkLimits, FARM_LIMITS, type FarmLimits, segmentBytesOn } from './limits.ts';
import { Maintenance } from './maintenance.ts';
import { OpenSet } from './open-set.ts';
import { finishRemovals, finishZeroed, redoJournal } from './recovery.ts';
import { Space } from './space.ts';

export interface FarmOptions {
  /** The store's folder; made if it does not exist. */
  readonly directory: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** False: new blocks carry no checksum (`--checksums=off`); those that have one keep it. */
  readonly checksums: boolean;
  readonly limits?: FarmLimits;
  /**
   * Looks whether what else lies in the folder is sound. Called with the lock held and nothing
   * changed yet; what it throws ends the opening, so that a store is refused as it was found.
   */
  readonly inspect?: (identity: Identity) => Promise<void>;
}

/**
 * Opens the store in a folder, or makes it: the lock first, then who it is, then what the journal
 * owes, and only then the first request.
 * @throws SheepError `ERR_BUSY` if another process has it; `ERR_VERSION`, `ERR_CORRUPT`
 */
export async function openFarm(options: FarmOptions): Promise<Farm> {
  const { directory, disk, log, random } = options;
  const limits = options.limits ?? FARM_LIMITS;
  checkLimits(limits);
  await refuseStrangers(disk, directory); // the lock is a file, and would be left there
  await disk.makeDirectory(directory);
  await using owned = new AsyncDisposableStack();
  owned.use(await disk.lock(`${directory}/lock`));
  const identity = await openIdentity(disk, directory, random);
  const scan = await scanStore(disk, directory, identity);
  await options.inspect?.(identity);
  await makeDirectories(disk, directory);
  const bootId = await disk.bootId();
  await recover(options, scan, bootId);

  const activity = new ActivityLog(bootMark(bootId), scan.listed.values());
  const { totalBytes } = await disk.space(directory);
  const place = {
    ...{ disk, directory, bootId },
    ...{ storeId: identity.nodeId, segmentBytes: segmentBytesOn(totalBytes, limits) },
  };
  const owner: JournalOwner = {
    snapshot: () => activity.snapshot(),
    appended: (entries, segment) => {
      activity.appended(entries, segment);
      if (activity.size > crowdedFrom && !stop.signal.aborted) relieve();
    },
    rotated: () => {
      if (journal.segments.length > limits.segmentsMax && !stop.signal.aborted) shorten();
    },
    failed: (error) => void flusher.fail(error),
  };
  const journal = await Journal.start(place, owner, scan.nextSegment, {
    record: scan.nextRecord,
    sequence: scan.nextSequence,
  });
  activity.use(journal);
  // If one of them comes back after a power cut, the scan knows that a start came after it.
  for (const path of scan.segmentFiles) await giveBack(disk, directory, path);

  const open = new OpenSet(limits);
  const flusher = new Flusher({ disk, directory, limits, activity, journal, open });
  const maintenance = new Maintenance({ disk, directory, open, activity, journal, flusher });
  const stop = new AbortController();
  const failed = (error: unknown) =>
    log.event('error', 'farm.maintenance-failed', { reason: describeError(error) });
  const shorten = () => void maintenance.shorten().catch(failed);
  let crowdedFrom = limits.listedObjects;
  // What is listed may all be in use: then the next round waits until it has grown some more.
  const relieve = () => {
    crowdedFrom = Number.POSITIVE_INFINITY;
    const done = () => {
      crowdedFrom = Math.max(limits.listedObjects, activity.size * 1.25);
    };
    void maintenance.run().catch(failed).finally(done);
  };
  const rounds = runRounds(options, () => maintenance.run().catch(failed), stop.signal);
  const held = owned.move();
  log.event('info', 'farm.opened', { directory, listed: activity.size, clean: scan.clean });
  return new Farm({
    ...{ disk, directory, random, log, identity, open, activity, flusher, journal },
    sums: options.checksums ? xxh3Sums : noSums,
    space: new Space(disk, directory, limits),
    maintain: () => maintenance.run(),
    close: async () => {
      stop.abort();
      await rounds;
      try {
        await flusher.idle();
        await maintenance.settleAll();
        journal.renew();
        await activity.markClean();
        while (journal.segments.length > 1) await journal.discardOldest();
      } finally {
        await journal.close();
        open.closeAll();
        await held.disposeAsync();
      }
    },
  });
}

/** All folders at once, so that making an object never has to make one. */
async function makeDirectories(disk: Disk, directory: string): Promise<void> {
  await disk.makeDirectory(`${directory}/journal`);
  await disk.makeDirectory(`${directory}/obj`);
  const present = new Set(await disk.list(`${directory}/obj`));
  const wanted = Array.from({ length: 256 }, (_, low) => low.toString(16).padStart(2, '0'));
  const missing = wanted.filter((name) => !present.has(name));
  if (missing.length === 0) return;
  for (const name of missing) await disk.makeDirectory(`${directory}/obj/${name}`);
  await disk.syncDirectory(`${directory}/obj`);
  await disk.syncDirectory(directory);
}

/** What the journal owes; nothing is changed. @throws SheepError `ERR_CORRUPT`, `ERR_MISSING` */
async function scanStore(disk: Disk, directory: string, identity: Identity): Promise<JournalScan> {
  const scan = await scanJournal(disk, directory, identity.nodeId);
  if (!scan.silent || (await storeIsEmpty(disk, directory))) return scan;
  throw new SheepError(
    'ERR_MISSING',
    `the journal ${directory}/journal is missing or cannot be read, and the store is not empty; ` +
      'restore it from a backup',
    { directory },
  );
}

/** Brings the disk to a state in which the journal owes nothing. */
async function recover(options: FarmOptions, scan: JournalScan, bootId: string): Promise<void> {
  const { directory, disk, log } = options;
  if (scan.clean) return;
  if (scan.bootId === bootId) {
    // The machine went on: its page cache has everything, and is newer than the journal.
    await finishRemovals(disk, directory, scan);
    await finishZeroed(disk, directory, scan);
    await disk.syncAll(directory);
    log.event('warn', 'farm.unclean-stop', { directory, suspects: scan.listed.size });
    return;
  }
  const sums = options.checksums ? xxh3Sums : noSums;
  const redone = await redoJournal(disk, directory, scan, sums);
  log.event('warn', 'farm.power-cut', { directory, suspects: scan.listed.size, ...redone });
}

/** A round every half of the time after which a clean object leaves the activity log. */
async function runRounds(
  { clock, limits = FARM_LIMITS }: FarmOptions,
  round: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await clock.sleep(limits.retireAfterMs / 2, { signal });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    await round();
  }
}
