import { describeError, SheepError } from '../base/errors.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { Log } from '../base/log.ts';
import type { BlockDevice, DeviceInfo } from '../contracts/block-device.ts';
import type { Client } from '../contracts/exports.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import { deviceInfo } from '../vdi/device-info.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import type { SnapshotRef } from '../vdi/names.ts';
import { openSnapshot, openVolume } from '../vdi/open-volume.ts';
import { exportName, type VolumeRecord } from '../vdi/record.ts';
import type { Volume } from '../vdi/volume.ts';
import { lent } from './lent.ts';

/** What a client has open. */
export interface Use {
  readonly client: Client;
  /** `NAME` or `NAME@TAG`. */
  readonly exportName: string;
  /** Settles when the client has let go of it. */
  readonly released: Promise<void>;
}

/** What clients have open: the working VDI of a name, or a snapshot. */
interface Attached {
  readonly device: BlockDevice;
  /** Only of a working VDI. */
  readonly volume?: Volume;
  /** As it was when it was opened. */
  readonly record: VolumeRecord;
  readonly uses: Set<Use>;
}

/**
 * What clients have open. Each VDI and snapshot is opened once, at its first client, and shared by all
 * of them, so that a flush of one covers the writes of the others (multi-conn); it is flushed and
 * closed after the last.
 *
 * A key stands for each: `NAME` for the working VDI, `NAME@ID` for a snapshot.
 */
export class Attachments implements AsyncDisposable {
  /** Attaching, detaching and changing what stands behind one key happen one after the other. */
  readonly #gates = new KeyedGates<string>();
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #log: Log;
  readonly #attached = new Map<string, Attached>();
  /** Why a snapshot may not go, though no client has it open; by its key. */
  readonly #reserved = new Map<string, string>();
  /** Why nobody gets at what stands behind these keys any more. */
  readonly #closed = new Map<string, unknown>();

  constructor(directory: VdiDirectory, store: ObjectStore, log: Log) {
    this.#directory = directory;
    this.#store = store;
    this.#log = log;
  }

  /**
   * Runs `work` while nobody else attaches, detaches or changes what stands behind these keys.
   * @throws why one of them was closed
   */
  alone<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    return this.#gates.passAll(keys, () => {
      const closed = keys.find((key) => this.#closed.has(key));
      if (closed !== undefined) throw this.#closed.get(closed);
      return work();
    });
  }

  /**
   * From now on nobody gets at what stands behind these keys; who has it open may let go of it.
   * @throws why
   */
  close(keys: readonly string[], why: unknown): never {
    for (const key of keys) this.#closed.set(key, why);
    throw why;
  }

  /**
   * What a connection reads and writes; disposing it ends that use.
   * @param find  finds the record by its key: it may have gone, or changed, meanwhile
   */
  open(
    key: string,
    client: Client,
    find: (key: string) => Promise<VolumeRecord | undefined>,
  ): Promise<BlockDevice | undefined> {
    return this.alone([key], async () => {
      const attached = this.#attached.get(key) ?? (await this.#attach(key, await find(key)));
      if (attached === undefined) return undefined;
      const info = await this.#infoOf(attached).catch(async (error) => {
        if (attached.uses.size === 0) await this.#detach(key, attached);
        throw error;
      });
      const { promise: released, resolve } = Promise.withResolvers<void>();
      const use: Use = { client, exportName: exportName(attached.record), released };
      attached.uses.add(use);
      return lent(attached.device, info, () => this.#release(key, attached, use).finally(resolve));
    });
  }

  /** The working VDI of a name, if a client has it open. */
  volume(name: string): Volume | undefined {
    return this.#attached.get(name)?.volume;
  }

  /** A VDI that no client uses, as its owner: for one step, after which it is dropped. */
  async openOwned(name: string): Promise<Volume> {
    const record = await this.#directory.attach(name);
    const volume = await openVolume({ store: this.#store, record, ancestry: this.#directory });
    if (record.shrunkFromBytes > 0) volume.resized(await this.#directory.endCleared(name));
    return volume;
  }

  /** Who uses a VDI or snapshot now: by its key or its export's name. */
  clients(name: string): Client[] {
    const attached =
      this.#attached.get(name) ??
      [...this.#attached.values()].find(({ record }) => exportName(record) === name);
    return [...(attached?.uses ?? [])].map(({ client }) => client);
  }

  /** Who uses a VDI or any of its snapshots now. */
  uses(name: string): Use[] {
    const attached = [...this.#attached.values()].filter(({ record }) => record.name === name);
    return attached.flatMap(({ uses }) => [...uses]);
  }

  /** Until this is undone what stands behind these keys may not go. @param why  is told to who asks */
  reserve(keys: readonly string[], why: string): Disposable {
    for (const key of keys) this.#reserved.set(key, why);
    return {
      [Symbol.dispose]: () => {
        for (const key of keys) this.#reserved.delete(key);
      },
    };
  }

  /** @throws SheepError `ERR_BUSY` with the clients that use it, or why it may not go */
  refuseUsed(key: string, what: string, then: string): void {
    const why = this.#reserved.get(key);
    if (why !== undefined) {
      throw new SheepError(
        'ERR_BUSY',
        `${what} is used by ${why}; wait for its end, then ${then}`,
        {
          name: key,
          clients: why,
        },
      );
    }
    const names = this.clients(key).map((client) => client.name);
    if (names.length === 0) return;
    const clients = names.join(', ');
    throw new SheepError(
      'ERR_BUSY',
      `${what} is used by ${clients}; disconnect it there, then ${then}`,
      { name: key, clients },
    );
  }

  /** Flushes and closes what connections that had to be cut off have left open. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const [key, attached] of this.#attached) {
      await this.#gates.pass(key, true, () => this.#detach(key, attached));
    }
  }

  async #infoOf({ volume, record: opened }: Attached): Promise<DeviceInfo> {
    const record = volume?.record ?? opened;
    return deviceInfo(record, await this.#directory.ancestors(record));
  }

  async #attach(key: string, found: VolumeRecord | undefined): Promise<Attached | undefined> {
    if (found === undefined) return undefined;
    const attached = await this.#opened(found);
    this.#attached.set(key, attached);
    const { attachEpoch } = attached.record;
    this.#log.event('info', 'vdi.attached', { vdi: exportName(found), attachEpoch });
    return attached;
  }

  async #opened(found: VolumeRecord): Promise<Attached> {
    const uses = new Set<Use>();
    if (found.state === 'snapshot') {
      const device = await openSnapshot({
        store: this.#store,
        record: found,
        ancestry: this.#directory,
      });
      return { device, record: found, uses };
    }
    const volume = await this.openOwned(found.name);
    return { device: volume, volume, record: volume.record, uses };
  }

  #release(key: string, attached: Attached, use: Use): Promise<void> {
    return this.#gates.pass(key, true, async () => {
      attached.uses.delete(use);
      if (attached.uses.size === 0) await this.#detach(key, attached);
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
}

export function keyOf({ name, state, vid }: VolumeRecord): string {
  return state === 'snapshot' ? snapshotKey({ name, snapshot: String(vid) }) : name;
}

/** By its ID: a tag may be another snapshot's later. */
export function snapshotKey({ name, snapshot }: SnapshotRef): string {
  return `${name}@${snapshot}`;
}
