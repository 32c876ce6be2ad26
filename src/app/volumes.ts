import { describeError, isFault, SheepError } from '../base/errors.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { Log } from '../base/log.ts';
import type { BlockDevice, DeviceInfo } from '../contracts/block-device.ts';
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
import { countObjects, makeVolume, openSnapshot, openVolume } from '../vdi/open-volume.ts';
import { exportName, type VolumeRecord } from '../vdi/record.ts';
import type { Volume } from '../vdi/volume.ts';
import { lent } from './lent.ts';

/** What a change of a VDI waits while a snapshot of it is about to be taken. */
const PACE_MS = 5;

/** What clients have open: the working VDI of a name, or a snapshot. */
interface Attached {
  readonly device: BlockDevice;
  /** Only of a working VDI. */
  readonly volume?: Volume;
  /** As it was when it was opened. */
  readonly record: VolumeRecord;
  readonly clients: Set<Client>;
}

/**
 * The VDIs and snapshots as NBD exports, and what changes them while they may be in use. Each is
 * opened once, at its first client, and shared by all of them, so that a flush of one covers the
 * writes of the others (multi-conn); it is flushed and closed after the last.
 *
 * A key stands for each: `NAME` for the working VDI, `NAME@ID` for a snapshot.
 */
export class Volumes implements Exports, AsyncDisposable {
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #log: Log;
  readonly #replaced: (record: VolumeRecord) => void;
  readonly #clock: Clock | undefined;
  readonly #attached = new Map<string, Attached>();
  /** Attaching, detaching and changing what stands behind one key happen one after the other. */
  readonly #gates = new KeyedGates<string>();

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
    this.#log = log;
    this.#replaced = replaced;
    this.#clock = clock;
  }

  async list(): Promise<ExportEntry[]> {
    const records = [...(await this.#directory.list()), ...(await this.#directory.snapshots())];
    return records.map((record) => ({
      name: exportName(record),
      description: deviceInfo(record, []).description,
    }));
  }

  async info(name: string): Promise<DeviceInfo | undefined> {
    const record = await this.#find(name);
    return record && deviceInfo(record, await this.#directory.ancestors(record));
  }

  async open(name: string, client: Client): Promise<BlockDevice | undefined> {
    const found = await this.#find(name);
    if (found === undefined) return undefined;
    const key = keyOf(found);
    return this.#gates.pass(key, true, async () => {
      const attached = this.#attached.get(key) ?? (await this.#attach(key));
      if (attached === undefined) return undefined;
      // An object of its own for each connection: one client's name may be that of another.
      const use = { ...client };
      attached.clients.add(use);
      const record = attached.volume?.record ?? attached.record;
      const info = deviceInfo(record, await this.#directory.ancestors(record));
      return lent(attached.device, info, () => this.#release(key, attached, use));
    });
  }

  /** Who uses a VDI or snapshot now; `NAME@TAG` and `NAME@ID` are the same. */
  clients(name: string): Client[] {
    const attached =
      this.#attached.get(name) ??
      [...this.#attached.values()].find(({ record }) => exportName(record) === name);
    return [...(attached?.clients ?? [])];
  }

  /** @throws SheepError as `VdiDirectory.create` */
  create(wanted: NewVolume): Promise<VolumeRecord> {
    return this.#gates.pass(wanted.name, true, () =>
      this.#directory.create(wanted, (record) => makeVolume({ store: this.#store, record })),
    );
  }

  /**
   * Freezes what a VDI holds under a tag, also while clients use it: every write that was answered
   * before this call is in it, none that is sent after its answer.
   * @returns the snapshot's record
   * @throws SheepError as `VdiDirectory.snapshot`, or what the store throws: then there is none
   */
  snapshot(name: string, tag: string): Promise<VolumeRecord> {
    return this.#gates.pass(name, true, () =>
      this.#directory.snapshot(name, tag, async (child, commit) => {
        const attached = this.#attached.get(name)?.volume;
        const volume = attached ?? (await this.#openOwned(name));
        const prepare = (root: Entries) => makeVolume({ store: this.#store, record: child }, root);
        await volume.freeze(prepare, commit, async () => this.#clock?.sleep(PACE_MS));
      }),
    );
  }

  /**
   * A new VDI that begins as the snapshot is; nothing is copied.
   * @throws SheepError as `VdiDirectory.clone`
   */
  async clone(source: SnapshotRef, target: string): Promise<VolumeRecord> {
    parseVdiName(target);
    const { name, vid } = await this.#directory.snapshotInfo(source);
    const byId = { name, snapshot: String(vid) };
    return this.#gates.passAll([snapshotKey(byId), target], () =>
      this.#directory.clone(byId, target, this.#copyRoot),
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
    return this.#gates.passAll([name, snapshotKey({ name, snapshot: id })], async () => {
      this.#refuseUsed(name, `the VDI '${name}'`, 'roll it back');
      if (dryRun) return source;
      const { record, replaced } = await this.#directory.rollback(name, id, this.#copyRoot);
      if (replaced !== undefined) this.#replaced(replaced);
      return record;
    });
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
    return this.#gates.pass(name, true, async () => {
      const before = await this.#directory.info(name);
      checkVdiSize(sizeBytes);
      checkObjectCount(sizeBytes, before.objectBytes);
      const shrinks = sizeBytes < before.sizeBytes;
      if (shrinks) this.#refuseUsed(name, `the VDI '${name}'`, 'shrink it');
      if (dryRun) return { ...before, sizeBytes };
      if (before.shrunkFromBytes > 0) await this.#openOwned(name);
      const resized = await this.#directory.resize(name, sizeBytes);
      if (shrinks) return (await this.#openOwned(name)).record;
      this.#attached.get(name)?.volume?.resized(resized);
      return resized;
    });
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
    return this.#gates.pass(key, true, async () => {
      const byId = { name, snapshot: String(found.vid) };
      const record =
        snapshot === undefined
          ? await this.#directory.info(name)
          : await this.#directory.snapshotInfo(byId);
      const what = snapshot === undefined ? `VDI '${name}'` : `snapshot '${exportName(record)}'`;
      this.#refuseUsed(key, `the ${what}`, 'delete it');
      if (dryRun) return record;
      return snapshot === undefined
        ? this.#directory.delete(name)
        : this.#directory.deleteSnapshot(byId);
    });
  }

  /**
   * How many objects of its own a VDI or snapshot has, and how many it reads, its own among them.
   * @param name  `NAME`, `NAME@TAG` or `NAME@ID`
   * @throws SheepError `ERR_NOT_FOUND`, `ERR_BAD_INPUT`
   */
  async countObjects(name: string): Promise<{ own: number; all: number }> {
    const { name: vdi, snapshot } = parseExportName(name);
    const record =
      snapshot === undefined
        ? await this.#directory.info(vdi)
        : await this.#directory.snapshotInfo({ name: vdi, snapshot });
    return this.#gates.pass(keyOf(record), true, () => {
      const volume = this.#attached.get(keyOf(record))?.volume;
      return volume?.allocatedObjects() ?? countObjects({ store: this.#store, record });
    });
  }

  /** Flushes and closes what connections that had to be cut off have left open. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const [key, attached] of this.#attached) {
      await this.#gates.pass(key, true, () => this.#detach(key, attached));
    }
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

  /** A VDI that no client uses, as its owner: for one step, after which it is dropped. */
  async #openOwned(name: string): Promise<Volume> {
    const record = await this.#directory.attach(name);
    const volume = await openVolume({ store: this.#store, record, ancestry: this.#directory });
    if (record.shrunkFromBytes > 0) volume.resized(await this.#directory.endCleared(name));
    return volume;
  }

  async #attach(key: string): Promise<Attached | undefined> {
    const found = await this.#find(key);
    if (found === undefined) return undefined;
    const clients = new Set<Client>();
    const attached = await this.#opened(found, clients);
    this.#attached.set(key, attached);
    const { attachEpoch } = attached.record;
    this.#log.event('info', 'vdi.attached', { vdi: exportName(found), attachEpoch });
    return attached;
  }

  async #opened(found: VolumeRecord, clients: Set<Client>): Promise<Attached> {
    if (found.state === 'snapshot') {
      const device = await openSnapshot({
        store: this.#store,
        record: found,
        ancestry: this.#directory,
      });
      return { device, record: found, clients };
    }
    const volume = await this.#openOwned(found.name);
    return { device: volume, volume, record: volume.record, clients };
  }

  #release(key: string, attached: Attached, client: Client): Promise<void> {
    return this.#gates.pass(key, true, async () => {
      attached.clients.delete(client);
      if (attached.clients.size === 0) await this.#detach(key, attached);
    });
  }

  async #detach(key: string, { device, record }: Attached): Promise<void> {
    if (!this.#attached.delete(key)) return;
    const vdi = exportName(record);
    try {
      await device[Symbol.asyncDispose](); // which flushes
    } catch (error) {
      // Nobody is left to be told: a client that wanted certainty has flushed before it left.
      const cause = describeError(error);
      this.#log.event('error', 'vdi.last-flush-failed', { vdi, cause });
    }
    this.#log.event('info', 'vdi.detached', { vdi });
  }

  #refuseUsed(key: string, what: string, then: string): void {
    const names = this.clients(key).map((client) => client.name);
    if (names.length === 0) return;
    const clients = names.join(', ');
    throw new SheepError(
      'ERR_BUSY',
      `${what} is used by ${clients}; disconnect it there, then ${then}`,
      { name: key, clients },
    );
  }
}

function keyOf({ name, state, vid }: VolumeRecord): string {
  return state === 'snapshot' ? snapshotKey({ name, snapshot: String(vid) }) : name;
}
/** By its ID: a tag may be another snapshot's later. */
function snapshotKey({ name, snapshot }: SnapshotRef): string {
  return `${name}@${snapshot}`;
}
