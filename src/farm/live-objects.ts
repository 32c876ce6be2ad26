import { isFault } from '../base/errors.ts';
import { formatOid, type ObjectName, objectKey } from '../base/ids.ts';
import type { Log } from '../base/log.ts';
import type { Disk } from '../contracts/disk.ts';
import type { ObjectWriteCall } from '../contracts/object-store.ts';
import type { Random } from '../contracts/seams.ts';
import type { ActivityLog } from './activity-log.ts';
import type { BlockSums } from './checksums.ts';
import type { Flusher } from './flusher.ts';
import { createObject, loadObject, loadObjectNow, missing } from './load.ts';
import { objectPath } from './object-format.ts';
import type { OpenObject } from './open-object.ts';
import type { OpenSet } from './open-set.ts';
import type { Origins } from './origins.ts';
import type { Suspect } from './rebuild.ts';

export interface ObjectParts {
  readonly disk: Disk;
  readonly directory: string;
  readonly random: Random;
  readonly log: Log;
  readonly sums: BlockSums;
  readonly open: OpenSet;
  readonly activity: ActivityLog;
  readonly flusher: Flusher;
}

/** Opens objects and makes them; whoever asks holds the gate of the object. */
export class LiveObjects {
  readonly #parts: ObjectParts;
  readonly #loading = new Map<number | string, Promise<OpenObject>>();

  constructor(parts: ObjectParts) {
    this.#parts = parts;
  }

  /**
   * For a reader who holds no gate: opens what is not open, if that can be done at once and nobody is
   * at the gate. Undefined says nothing.
   */
  loadNow(name: ObjectName, key: number | string): OpenObject | undefined {
    const { disk, directory, sums, activity, open } = this.#parts;
    const { suspect = false, leaving = false } = activity.find(key) ?? {};
    if (open.hasGate(key) || suspect || leaving) return undefined;
    const object = loadObjectNow(disk, directory, name, sums);
    if (object !== undefined) open.add(object);
    return object;
  }

  /** Readers may ask together: it is opened once. @throws SheepError `ERR_MISSING`, `ERR_CORRUPT` */
  load(name: ObjectName, key: number | string): OpenObject | Promise<OpenObject> {
    const open = this.#parts.open.find(key);
    if (open !== undefined) return open;
    const loading = this.#loading.get(key);
    if (loading !== undefined) return loading;
    const load = this.#open(name, key).finally(() => this.#loading.delete(key));
    this.#loading.set(key, load);
    return load;
  }

  async #open(name: ObjectName, key: number | string): Promise<OpenObject> {
    const { disk, directory, sums, activity, open, flusher, log } = this.#parts;
    const before = activity.find(key);
    if (before?.leaving === true) throw missing(name);
    const suspect = before?.suspect === true ? before : undefined;
    const { object, adopted } = await loadObject(disk, directory, name, sums, suspect);
    const listed = activity.find(key); // it may have been listed anew meanwhile
    if (listed !== undefined && suspect !== undefined) {
      listed.suspect = false;
      object.changedRound = activity.round;
      flusher.changedMeta(object);
      if (adopted > 0) log.event('info', 'farm.adopted', { oid: formatOid(name), adopted });
    }
    open.add(object);
    return object;
  }

  /** An object of zeroes, or of what it inherits, listed and open; what its name held is gone. */
  async create(
    name: ObjectName,
    key: number | string,
    { stamp, unowned }: ObjectWriteCall,
    objectBytes: number,
    origins: Origins | undefined,
  ): Promise<OpenObject> {
    const { open, activity, flusher, random } = this.#parts;
    const life = new DataView(random.bytes(8).buffer).getBigUint64(0);
    const made = { name, stamp, objectBytes, life };
    const orphan = open.find(key);
    if (orphan !== undefined) flusher.end(orphan);
    await activity.create(made, unowned === true, origins);
    if (orphan !== undefined) {
      while (orphan.homing !== undefined) await orphan.homing;
      flusher.forget(orphan);
      open.drop(orphan);
    }
    const object = await this.#make(made, origins);
    object.listedUnder = stamp;
    object.changedRound = activity.round;
    object.unfold(); // it is made in order to be written
    open.add(object);
    flusher.changedMeta(object);
    return object;
  }

  /** If it cannot be made it is not there, or goes: the journal owes it but the name's absence. */
  async #make(made: Suspect, origins: Origins | undefined): Promise<OpenObject> {
    const { disk, directory, sums, activity } = this.#parts;
    try {
      return await createObject(disk, directory, made, sums, origins);
    } catch (error) {
      const isThere = await disk.exists(objectPath(directory, made.name)).catch(() => true);
      if (isThere) activity.abandoned(made.name);
      else activity.unlinked(made.name);
      throw error;
    }
  }
}

/**
 * The file of an object goes whose removal is stable; for whoever is alone at its gate. If that fails
 * the journal is owed until it is done (maintenance.ts).
 */
export async function unlinkObject(
  {
    disk,
    directory,
    open,
    activity,
    flusher,
  }: Pick<ObjectParts, 'disk' | 'directory' | 'open' | 'activity' | 'flusher'>,
  name: ObjectName,
): Promise<void> {
  const object = open.find(objectKey(name.kind, name.vid, name.index));
  if (object !== undefined) {
    while (object.homing !== undefined) await object.homing;
    flusher.forget(object);
    open.drop(object);
  }
  await disk.remove(objectPath(directory, name)).catch((error: unknown) => {
    if (!isFault(error, 'ERR_NOT_FOUND')) throw error;
  });
  activity.unlinked(name);
}
