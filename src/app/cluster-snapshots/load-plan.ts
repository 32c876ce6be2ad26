import { isFault, SheepError } from '../../base/errors.ts';
import type { Snap, SnapDisk } from '../../farm/snapshots/snap-contents.ts';
import { type Arriving, checkArriving } from '../../vdi/arrivals.ts';
import { parseVdiName } from '../../vdi/names.ts';
import { exportName, originOf, type VolumeRecord } from '../../vdi/record.ts';

/** What of a snapshot of the cluster comes back, and how. */
export interface LoadOptions {
  /** Only this VDI with its snapshots; absent: everything. */
  readonly vdi?: string;
  /** With `vdi`: under this name, which nothing has. */
  readonly as?: string;
  /** Working VDIs of these names go, unless somebody uses one. */
  readonly replace?: boolean;
}

/** What there is, when a load is planned. */
export interface Present {
  readonly clusterId: string;
  /** Every record in every state. */
  readonly records: readonly VolumeRecord[];
  /** Names of the clients that use the working VDI of a name. */
  readonly clientsOf: (name: string) => readonly string[];
}

/** A disk that is to be made. */
export interface LoadStep {
  readonly disk: SnapDisk;
  /** As it is to be called: `tag` '' is the working VDI. */
  readonly name: string;
  readonly tag: string;
  /** What it is grown from; absent: it begins empty. */
  readonly from?: Origin;
}

/** A disk that holds what another one begins with: one that is made before, or a record. */
export interface Origin {
  readonly disk: SnapDisk;
  readonly at: LoadStep | VolumeRecord;
}

export interface LoadPlan {
  /** Parents first. */
  readonly steps: readonly LoadStep[];
  /** Snapshots that are there as they were. */
  readonly reused: readonly VolumeRecord[];
  /** Working VDIs in whose place others come. */
  readonly replaced: readonly VolumeRecord[];
}

/** Conflicts told one by one. */
const TOLD_MAX = 5;

/**
 * What a load has to do, of what was saved and what there is. A disk that is there still is not made
 * again; every other one is grown from the nearest of its ancestors that is made or there.
 * @throws SheepError `ERR_NOT_FOUND` if there is no such VDI in it; `ERR_EXISTS`, `ERR_BUSY` with all
 *         that is in the way; `ERR_BAD_INPUT`; `ERR_CORRUPT` if it says what no VDI can be
 */
export function makePlan(snap: Snap, present: Present, options: LoadOptions): LoadPlan {
  const selected = select(snap, options);
  const byVid = new Map(snap.disks.map((disk) => [disk.vid, disk]));
  const there = new Frozen(present);
  const steps = new Map<SnapDisk, LoadStep>();
  const reused: VolumeRecord[] = [];
  for (const disk of selected) {
    const [name, tag] = [options.as ?? disk.name, disk.snapshot];
    const same = there.find(disk);
    const served = same.find(
      (record) => record.state === 'snapshot' && isCalled(record, name, tag),
    );
    if (served !== undefined) {
      reused.push(served);
      continue;
    }
    const find = (ancestor: SnapDisk) => steps.get(ancestor) ?? there.find(ancestor)[0];
    const from = parentOf(disk, same[0], byVid, find);
    steps.set(disk, { disk, name, tag, ...(from && { from }) });
  }
  const plan = { steps: [...steps.values()], reused };
  return { ...plan, replaced: refuseConflicts(plan, selected, present, options) };
}

/** Which disks are asked for, each of them one that can be. */
function select({ disks, tag }: Snap, { vdi, as }: LoadOptions): readonly SnapDisk[] {
  if (as !== undefined) parseVdiName(as);
  if (as !== undefined && vdi === undefined) {
    throw new SheepError('ERR_BAD_INPUT', 'one VDI can be given another name: say which', { as });
  }
  const selected = vdi === undefined ? disks : disks.filter(({ name }) => name === vdi);
  if (vdi !== undefined && selected.length === 0) {
    const message = `the snapshot '${tag}' holds no VDI '${vdi}'; show says which it holds`;
    throw new SheepError('ERR_NOT_FOUND', message, { vdi });
  }
  checkDisks(selected);
  return selected;
}

/** @throws SheepError `ERR_CORRUPT` if a snapshot says what no VDI can be */
export function checkDisks(disks: readonly SnapDisk[]): void {
  const names = new Set<string>();
  for (const disk of disks) {
    const name = exportName({ name: disk.name, tag: disk.snapshot });
    try {
      checkArriving(arrivingOf(disk, disk.name));
    } catch (cause) {
      if (!isFault(cause, 'ERR_BAD_INPUT')) throw cause;
      throw new SheepError('ERR_CORRUPT', 'it holds what no VDI can be', { vid: disk.vid }, cause);
    }
    if (names.has(name)) throw new SheepError('ERR_CORRUPT', `it holds '${name}' twice`, { name });
    names.add(name);
  }
}

/** What is to be here of a disk, under a name. */
export function arrivingOf(disk: SnapDisk, name: string): Arriving {
  const { snapshot: tag, sizeBytes, objectBytes, createdMs, allow } = disk;
  const arriving = { name, tag, sizeBytes, objectBytes, createdMs, allow };
  return tag === '' ? arriving : { ...arriving, origin: originOf(disk) };
}

/** What is frozen and will never change: by what it is, wherever that was saved. */
class Frozen {
  readonly #byOrigin: Map<string, VolumeRecord[]>;

  constructor({ clusterId, records }: Present) {
    const frozen = records.filter(({ state, shrunkFromBytes }) => {
      return (state === 'snapshot' || state === 'held') && shrunkFromBytes === 0;
    });
    const loaded = frozen.filter(({ origin }) => origin !== undefined);
    this.#byOrigin = Map.groupBy(loaded, ({ origin = '' }) => origin);
    for (const record of frozen) {
      const here = originOf({ clusterId, vid: record.vid });
      this.#byOrigin.set(here, [record, ...(this.#byOrigin.get(here) ?? [])]);
    }
  }

  /** Records that are this very disk: one of its own, or such that it was loaded to. */
  find(disk: SnapDisk): VolumeRecord[] {
    const { snapshotMs, sizeBytes, objectBytes } = disk;
    return (this.#byOrigin.get(originOf(disk)) ?? []).filter((record) => {
      const asLarge = record.sizeBytes === sizeBytes && record.objectBytes === objectBytes;
      return record.createdMs === snapshotMs && asLarge;
    });
  }
}

function isCalled(record: VolumeRecord, name: string, tag: string): boolean {
  return record.name === name && record.tag === tag;
}

/** An ancestor that is made is taken before the disk itself: the family is to be as it was. */
function parentOf(
  disk: SnapDisk,
  own: VolumeRecord | undefined,
  byVid: ReadonlyMap<number, SnapDisk>,
  find: (ancestor: SnapDisk) => Origin['at'] | undefined,
): Origin | undefined {
  let ancestor = byVid.get(disk.parent);
  let at = ancestor && find(ancestor);
  while (ancestor !== undefined && at === undefined) {
    ancestor = byVid.get(ancestor.parent);
    at = ancestor && find(ancestor);
  }
  const isMade = at !== undefined && 'disk' in at;
  if (own !== undefined && !isMade) return { disk, at: own };
  if (ancestor === undefined || at === undefined) return undefined;
  return ancestor.objectBytes === disk.objectBytes ? { disk: ancestor, at } : undefined;
}

/** @returns the working VDIs that are replaced */
function refuseConflicts(
  { steps, reused }: Omit<LoadPlan, 'replaced'>,
  selected: readonly SnapDisk[],
  { clusterId, records, clientsOf }: Present,
  { as, replace = false }: LoadOptions,
): VolumeRecord[] {
  const taken: string[] = [];
  const busy: string[] = [];
  const replaced: VolumeRecord[] = [];
  const working = new Set(steps.filter(({ tag }) => tag === '').map(({ name }) => name));
  const snapshots = new Set(steps.filter(({ tag }) => tag !== '').map(exportName));
  const names = new Set(steps.map(({ name }) => name));
  // Of one name and family: what else there is of these was taken of the same VDI.
  const kin = new Set(reused.map(({ name, family }) => `${name} ${family}`));
  for (const { name, family, ...disk } of selected) {
    if (as === undefined && disk.clusterId === clusterId) kin.add(`${name} ${family}`);
  }
  for (const record of records) {
    const { name, state, family } = record;
    if ((state !== 'ready' && state !== 'snapshot') || !names.has(name)) continue;
    if (reused.includes(record)) continue;
    const what = `'${exportName(record)}'`;
    const isReplaced = state === 'ready' && working.has(name);
    if (state === 'snapshot' && snapshots.has(exportName(record))) {
      taken.push(`there is another snapshot ${what}`);
    } else if (!replace && isReplaced) {
      taken.push(`there is a VDI ${what}`);
    } else if (!replace && !kin.has(`${name} ${family}`)) {
      taken.push(`${what}, which is there, has nothing to do with it`);
    } else if (isReplaced) {
      replaced.push(record);
      const clients = clientsOf(name);
      if (clients.length > 0) busy.push(`the VDI ${what} is used by ${clients.join(', ')}`);
    }
  }
  if (taken.length > 0) {
    const how =
      'delete what is in the way, replace VDIs (--replace), or load one VDI under another name ' +
      '(--vdi NAME --as NEW)';
    throw refused('ERR_EXISTS', taken, how);
  }
  if (busy.length > 0) throw refused('ERR_BUSY', busy, 'disconnect them there, then load again');
  return replaced;
}

function refused(
  code: 'ERR_EXISTS' | 'ERR_BUSY',
  conflicts: readonly string[],
  how: string,
): SheepError {
  const told = conflicts.slice(0, TOLD_MAX).join('; ');
  const more = conflicts.length > TOLD_MAX ? `; and ${conflicts.length - TOLD_MAX} more` : '';
  const message = `${told}${more}. Nothing was changed: ${how}`;
  return new SheepError(code, message, { conflicts: conflicts.length });
}
