import { isFault } from '../base/errors.ts';
import { Gate } from '../base/gate.ts';
import type { Log } from '../base/log.ts';
import type { BlockDevice, DeviceInfo } from '../contracts/block-device.ts';
import type { Call } from '../contracts/call.ts';
import type { Client, ExportEntry, Exports } from '../contracts/exports.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import type { Clock } from '../contracts/seams.ts';
import { deviceInfo } from '../vdi/device-info.ts';
import type { MakeDisk, NewVolume, VdiDirectory } from '../vdi/directory.ts';
import { type Entries, readRoot } from '../vdi/inode-nodes.ts';
import {
  checkObjectCount,
  checkVdiSize,
  parseExportName,
  parseVdiName,
  type SnapshotRef,
} from '../vdi/names.ts';
import { countObjects, makeVolume } from '../vdi/open-volume.ts';
import { exportName, type VolumeRecord } from '../vdi/record.ts';
import { Attachments, keyOf, snapshotKey, type Use } from './attachments.ts';
import { type FrozenCluster, freezeAll } from './freeze-all.ts';
import { unneeded } from './held-states.ts';

/** What a change of a VDI waits while a snapshot of it is about to be taken. */
const PACE_MS = 5;
/** Who keeps snapshots from being deleted while the cluster is stored. */
const SAVING = "'collie cluster snapshot save'";

/** What a listing shows, and to whom. */
interface GuardedEntry extends ExportEntry {
  /** Access rules. */
  readonly allow: readonly string[];
}

/** The VDIs and snapshots as NBD exports, and what changes them while they may be in use. */
export class Volumes implements Exports, AsyncDisposable {
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #attachments: Attachments;
  readonly #replaced: (record: VolumeRecord) => void;
  readonly #clock: Clock | undefined;
  /** Whoever makes names or takes them away passes together; who needs all as they are, alone. */
  readonly #names = new Gate();
  /** Snapshots of the cluster that are being stored: while there are any, nothing held is released. */
  #storing = 0;

  /**
   * @param replaced  is told of what a rollback has put another one in the place of, to be removed
   * @param clock     paces the writers before a snapshot; without one they are not slowed down
   */
  constructor(
    directory: VdiDirectory,
    store: ObjectStore,
    log: Log,
    replaced: (record: VolumeRecord) => void = () => undefined,
    clock?: Clock,
  ) {
    this.#directory = directory;
    this.#store = store;
    this.#attachments = new Attachments(directory, store, log);
    this.#replaced = replaced;
    this.#clock = clock;
  }

  async list(): Promise<GuardedEntry[]> {
    return (await this.#directory.served()).map((record) => ({
      name: exportName(record),
      description: deviceInfo(record, []).description,
      allow: record.allow,
    }));
  }

  async info(name: string): Promise<DeviceInfo | undefined> {
    const record = await this.#find(name);
    return record && deviceInfo(record, await this.#directory.ancestors(record));
  }

  async open(name: string, client: Client): Promise<BlockDevice | undefined> {
    const found = await this.#find(name);
    if (found === undefined) return undefined;
    return this.#attachments.open(keyOf(found), client, (key) => this.#find(key));
  }

  /** Who uses a VDI or snapshot now; `NAME@TAG` and `NAME@ID` are the same. */
  clients(name: string): Client[] {
    return this.#attachments.clients(name);
  }

  /** Who uses a VDI or any of its snapshots now. */
  uses(name: string): Use[] {
    return this.#attachments.uses(name);
  }

  /** @throws SheepError as `VdiDirectory.create` */
  create(wanted: NewVolume): Promise<VolumeRecord> {
    const make = (record: VolumeRecord) => makeVolume({ store: this.#store, record });
    return this.changingNames(() =>
      this.#attachments.alone([wanted.name], () => this.#directory.create(wanted, make)),
    );
  }

  /**
   * Freezes what a VDI holds under a tag, also while clients use it: every write that was answered
   * before this call is in it, none that is sent after its answer.
   * @returns the snapshot's record
   * @throws SheepError as `VdiDirectory.snapshot`, or what the store throws: then there is none
   */
  snapshot(name: string, tag: string): Promise<VolumeRecord> {
    return this.changingNames(() =>
      this.#attachments.alone([name], () =>
        this.#directory.snapshot(name, tag, async (child, commit) => {
          const attached = this.#attachments.volume(name);
          const volume = attached ?? (await this.#attachments.openOwned(name));
          const prepare = (root: Entries) =>
            makeVolume({ store: this.#store, record: child }, root);
          await volume.freeze(prepare, commit, this.#pace);
        }),
      ),
    );
  }

  /**
   * What the whole cluster holds in one instant: every working VDI, frozen, and every snapshot. Until
   * it is disposed none of that goes.
   * @param clock  tells the instant
   * @throws SheepError as `freezeAll`
   */
  async freezeAll(
    clock: Pick<Clock, 'wallMs'>,
    call: Call = {},
  ): Promise<FrozenCluster & Disposable> {
    await this.#names.enter(true);
    try {
      const names = (await this.#directory.list()).map(({ name }) => name);
      const parts = { directory: this.#directory, store: this.#store, pace: this.#pace };
      const frozen = await this.#attachments.alone(names, () =>
        freezeAll({ ...parts, attachments: this.#attachments, clock }, call),
      );
      const reserved = this.#attachments.reserve(frozen.snapshots.map(keyOf), SAVING);
      this.#storing += 1;
      const end = () => {
        reserved[Symbol.dispose]();
        this.#storing -= 1;
      };
      return { ...frozen, [Symbol.dispose]: end };
    } finally {
      this.#names.leave(true);
    }
  }

  /** For whoever gives names to VDIs and snapshots, or takes them away, by other ways. */
  changingNames<T>(work: () => Promise<T>): Promise<T> {
    return this.#names.pass(false, work);
  }

  /**
   * Lets go of what is held and not needed, or of which no working VDI stems any more: it is removed,
   * as far as nobody reads it. Does nothing while a snapshot of the cluster is being stored.
   */
  releaseHeld(isNeeded: (held: VolumeRecord) => boolean): Promise<void> {
    return this.changingNames(() => this.#releaseHeld(isNeeded));
  }

  /** What nothing stems from any more. If this fails, the next start or save does it. */
  #releaseOrphans(): Promise<void> {
    return this.#releaseHeld(() => true).catch(() => undefined);
  }

  async #releaseHeld(isNeeded: (held: VolumeRecord) => boolean): Promise<void> {
    if (this.#storing > 0) return;
    for (const held of unneeded(await this.#directory.all(), isNeeded)) {
      const released = await this.#directory.release(held.vid);
      if (released !== undefined) this.#replaced(released);
    }
  }

  readonly #pace = async () => this.#clock?.sleep(PACE_MS);

  /**
   * A new VDI that begins as the snapshot is; nothing is copied.
   * @throws SheepError as `VdiDirectory.clone`
   */
  async clone(source: SnapshotRef, target: string): Promise<VolumeRecord> {
    parseVdiName(target);
    const { name, vid } = await this.#directory.snapshotInfo(source);
    const byId = { name, snapshot: String(vid) };
    return this.changingNames(() =>
      this.#attachments.alone([snapshotKey(byId), target], () =>
        this.#directory.clone(byId, target, this.#copyRoot),
      ),
    );
  }

  /**
   * The VDI is as the snapshot is; what was written since is gone. Also brings back a VDI that was
   * deleted and whose snapshots were not.
   * @param dryRun  only tells whether it could be, and answers with the snapshot's record
   * @throws SheepError `ERR_BUSY` with the clients that use it, `ERR_NOT_FOUND`
   */
  async rollback(
    name: string,
    snapshot: string,
    { dryRun }: { readonly dryRun: boolean } = { dryRun: false },
  ): Promise<VolumeRecord> {
    const source = await this.#directory.snapshotInfo({ name, snapshot });
    const id = String(source.vid);
    const roll = async () => {
      this.#attachments.refuseUsed(name, `the VDI '${name}'`, 'roll it back');
      if (dryRun) return source;
      const { record, replaced } = await this.#directory.rollback(name, id, this.#copyRoot);
      await this.#releaseOrphans();
      if (replaced !== undefined) this.#replaced(replaced);
      return record;
    };
    const keys = [name, snapshotKey({ name, snapshot: id })];
    return this.changingNames(() => this.#attachments.alone(keys, roll));
  }

  /**
   * Gives a VDI another size. It may grow while clients use it: they see it when they connect anew.
   * If it shrinks, what lay behind its new end is gone.
   * @param sizeBytes  whole blocks: see `parseVdiSize`
   * @param dryRun     only tells whether it could be, and how it would be
   * @throws SheepError `ERR_BUSY` with the clients that use what is to shrink, `ERR_NOT_FOUND`,
   *         `ERR_BAD_INPUT`
   */
  resize(
    name: string,
    sizeBytes: number,
    { dryRun }: { readonly dryRun: boolean },
  ): Promise<VolumeRecord> {
    return this.#attachments.alone([name], async () => {
      const before = await this.#directory.info(name);
      checkVdiSize(sizeBytes);
      checkObjectCount(sizeBytes, before.objectBytes);
      const shrinks = sizeBytes < before.sizeBytes;
      if (shrinks) this.#attachments.refuseUsed(name, `the VDI '${name}'`, 'shrink it');
      if (dryRun) return { ...before, sizeBytes };
      if (before.shrunkFromBytes > 0) await this.#attachments.openOwned(name);
      const resized = await this.#directory.resize(name, sizeBytes);
      if (shrinks) return (await this.#attachments.openOwned(name)).record;
      this.#attachments.volume(name)?.resized(resized);
      return resized;
    });
  }

  /**
   * VDIs and snapshots that were made elsewhere get their names while nobody attaches, detaches or
   * changes what has these keys.
   * @param decide  if it fails, nothing happens
   * @param name    names them; tells what they replace, which is removed. If it gives up, sheep is
   *                stopping: nobody gets at what has these keys before the next start has named them
   */
  arrive(
    keys: readonly string[],
    decide: () => Promise<void>,
    name: (replaced: (gone: readonly VolumeRecord[]) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const replaced = async (gone: readonly VolumeRecord[]) => {
      await this.#releaseOrphans();
      for (const record of gone) this.#replaced(record);
    };
    const arrive = async () => {
      await decide();
      await name(replaced).catch((error) => this.#attachments.close(keys, error));
    };
    return this.changingNames(() => this.#attachments.alone(keys, arrive));
  }

  /** Runs `work` while nobody attaches, detaches or changes the VDI of this name. */
  alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    return this.#attachments.alone([name], work);
  }

  /**
   * Takes the name away, or of a snapshot its tag; the objects are the caller's to remove.
   * @param snapshot  tag or ID: deletes this snapshot of the VDI, and not the VDI
   * @param dryRun    only tells whether it could be
   * @throws SheepError `ERR_BUSY` with the clients that use it, `ERR_NOT_FOUND`
   */
  async delete(
    name: string,
    { snapshot, dryRun }: { readonly snapshot?: string; readonly dryRun: boolean },
  ): Promise<VolumeRecord> {
    const found =
      snapshot === undefined
        ? await this.#directory.info(name)
        : await this.#directory.snapshotInfo({ name, snapshot });
    const key = keyOf(found);
    const remove = async () => {
      const byId = { name, snapshot: String(found.vid) };
      const record =
        snapshot === undefined
          ? await this.#directory.info(name)
          : await this.#directory.snapshotInfo(byId);
      const what = snapshot === undefined ? `VDI '${name}'` : `snapshot '${exportName(record)}'`;
      this.#attachments.refuseUsed(key, `the ${what}`, 'delete it');
      if (dryRun) return record;
      if (snapshot !== undefined) return this.#directory.deleteSnapshot(byId);
      const deleted = await this.#directory.delete(name);
      await this.#releaseOrphans();
      return deleted;
    };
    return this.changingNames(() => this.#attachments.alone([key], remove));
  }

  /**
   * How many objects of its own a VDI or snapshot has, and how many it reads, its own among them.
   * @param name  `NAME`, `NAME@TAG` or `NAME@ID`
   * @throws SheepError `ERR_NOT_FOUND`, `ERR_BAD_INPUT`
   */
  async countObjects(name: string): Promise<{ own: number; all: number }> {
    const { name: vdi, snapshot } = parseExportName(name);
    const find = () =>
      snapshot === undefined
        ? this.#directory.info(vdi)
        : this.#directory.snapshotInfo({ name: vdi, snapshot });
    const key = keyOf(await find());
    return this.#attachments.alone([key], async () => {
      const record = await find(); // it may have been deleted while this waited
      const volume = this.#attachments.volume(key);
      const parts = { store: this.#store, record, ancestry: this.#directory };
      return volume?.allocatedObjects() ?? countObjects(parts);
    });
  }

  /** Flushes and closes what connections that had to be cut off have left open. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#attachments[Symbol.asyncDispose]();
  }

  /** The record behind an export's name; undefined if there is none or it cannot be a name. */
  async #find(text: string): Promise<VolumeRecord | undefined> {
    try {
      const { name, snapshot } = parseExportName(text);
      if (snapshot === undefined) return await this.#directory.find(name);
      return await this.#directory.findSnapshot(name, snapshot);
    } catch (error) {
      if (isFault(error, 'ERR_BAD_INPUT')) return undefined;
      throw error;
    }
  }

  readonly #copyRoot: MakeDisk = async (record, source) => {
    const root = await readRoot(this.#store, source);
    await makeVolume({ store: this.#store, record }, root);
  };
}
