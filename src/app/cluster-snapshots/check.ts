import { describeError, isDamage, isFault } from '../../base/errors.ts';
import type { Call } from '../../contracts/call.ts';
import type { Clock } from '../../contracts/seams.ts';
import { type CheckFinding, checkStore } from '../../farm/snapshots/check.ts';
import type { SnapshotStore } from '../../farm/snapshots/store.ts';
import type { VdiDirectory } from '../../vdi/directory.ts';
import { exportName, type VolumeRecord } from '../../vdi/record.ts';
import type {
  ClusterCheckedView,
  ClusterCheckLine,
  ClusterFlawView,
} from '../admin-cluster-views.ts';
import type { Checks } from '../checks.ts';
import { progressLines } from '../progress-lines.ts';
import type { Amount } from './operations.ts';

export interface CheckParts {
  /** Of snapshots; absent: there is none. */
  readonly store?: SnapshotStore;
  readonly directory: VdiDirectory;
  readonly checks: Checks;
  readonly clock: Clock;
}

/** Flaws of snapshots told one by one; more are only counted. */
const FLAWS_TOLD_MAX = 1000;
const SNAPSHOTS = 'snapshots of the cluster';

type Line = Exclude<ClusterCheckLine, { is: 'end' | 'error' }>;
/** What a part of the check came to. */
type Count = Pick<ClusterCheckedView, 'readBytes' | 'flawCount'>;

/**
 * Proves everything a cluster has: each snapshot of it down to its bytes, and each VDI and snapshot
 * that is served, one after the other. All that is wrong is told, and the last line is the result.
 * @param samplePercent  how many of a hundred slices of snapshots are read, drawn by chance
 * @throws SheepError `ERR_SHUTDOWN`, or the signal's reason
 */
export async function* checkCluster(
  parts: CheckParts,
  { samplePercent }: { readonly samplePercent: number },
  call: Call,
): AsyncGenerator<Exclude<ClusterCheckLine, { is: 'error' }>> {
  const { store, directory } = parts;
  let [readBytes, flawCount, exports] = [0, 0, 0];
  const add = (count: Count) => {
    readBytes += count.readBytes;
    flawCount += count.flawCount;
  };
  if (store !== undefined) add(yield* checkSnapshots(parts.clock, store, samplePercent, call));
  for (const record of [...(await directory.list()), ...(await directory.snapshots())]) {
    const count = yield* checkExport(parts, record, call);
    if (count === undefined) continue; // it was deleted meanwhile
    exports += 1;
    add(count);
  }
  const snapshots = store?.snaps('user').length ?? 0;
  yield { is: 'end', result: { snapshots, exports, readBytes, samplePercent, flawCount } };
}

async function* checkSnapshots(
  clock: Clock,
  store: SnapshotStore,
  samplePercent: number,
  call: Call,
): AsyncGenerator<Line, Count> {
  type Found = { readonly flaws: ClusterFlawView[]; readonly count: Count };
  const lines = progressLines<Amount, Found>(clock, call, async (its, progress) => {
    const flaws: ClusterFlawView[] = [];
    let [readBytes, flawCount] = [0, 0];
    const found = checkStore(store, {
      ...{ ...its, samplePercent, noun: 'snapshot' },
      progress: ({ provenBytes, totalBytes }) => {
        readBytes = provenBytes;
        progress({ doneBytes: provenBytes, totalBytes });
      },
    });
    for await (const finding of found) {
      flawCount += 1;
      if (flaws.length < FLAWS_TOLD_MAX) flaws.push(flawOf(finding));
    }
    return { flaws, count: { readBytes, flawCount } };
  });
  for await (const line of lines) {
    if (line.is === 'progress') yield { ...line, what: SNAPSHOTS };
    else {
      for (const flaw of line.result.flaws) yield { is: 'flaw', flaw };
      return line.result.count;
    }
  }
  return { readBytes: 0, flawCount: 0 };
}

function flawOf({ message, object, snap, disk, at, length }: CheckFinding): ClusterFlawView {
  return {
    message,
    ...(object !== undefined && { object }),
    ...(snap !== undefined && { snapshot: snap.tag }),
    ...(disk !== undefined && { export: exportName({ name: disk.name, tag: disk.snapshot }) }),
    ...(at !== undefined && { at }),
    ...(length !== undefined && { length }),
  };
}

/** Undefined if it is not there any more. */
async function* checkExport(
  { checks }: CheckParts,
  record: VolumeRecord,
  call: Call,
): AsyncGenerator<Line, Count | undefined> {
  const name = exportName(record);
  const bytesOf = (objects: number) => objects * record.objectBytes;
  try {
    for await (const line of checks.run(record, call)) {
      if (line.is === 'progress') {
        const doneBytes = bytesOf(line.objects);
        const { totalObjects } = line;
        const total = totalObjects === undefined ? {} : { totalBytes: bytesOf(totalObjects) };
        yield { is: 'progress', what: name, doneBytes, ...total };
      } else if (line.is === 'flaw') {
        const { message, object, at, length } = line.flaw;
        const where = { export: name, at, length, ...(object !== undefined && { object }) };
        yield { is: 'flaw', flaw: { message, ...where } };
      } else if (line.is === 'end') {
        return line.checked;
      }
    }
  } catch (error) {
    if (isFault(error, 'ERR_NOT_FOUND')) return undefined;
    // It cannot even be opened; others can.
    if (!isDamage(error)) throw error;
    const message = `'${name}' cannot be opened: ${describeError(error)}`;
    yield { is: 'flaw', flaw: { message, export: name } };
    return { readBytes: 0, flawCount: 1 };
  }
  return undefined;
}
