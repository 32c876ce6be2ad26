import { describeError, SheepError } from '../base/errors.ts';
import { KeyedGates } from '../base/keyed-gates.ts';
import type { Log } from '../base/log.ts';
import type { BlockDevice, DeviceInfo } from '../contracts/block-device.ts';
import type { Client, ExportEntry, Exports } from '../contracts/exports.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import type { NewVolume, VdiDirectory } from '../vdi/directory.ts';
import { countObjects, makeVolume, openVolume } from '../vdi/open-volume.ts';
import { deviceInfo, type VolumeRecord } from '../vdi/record.ts';
import type { Volume } from '../vdi/volume.ts';

interface Attached {
  readonly volume: Volume;
  readonly clients: Set<Client>;
}

/**
 * The VDIs as NBD exports. A VDI is opened once, at its first client, and shared by all of them, so
 * that a flush of one covers the writes of the others (multi-conn); it is flushed and closed after
 * the last.
 */
export class Volumes implements Exports, AsyncDisposable {
  readonly #directory: VdiDirectory;
  readonly #store: ObjectStore;
  readonly #log: Log;
  readonly #attached = new Map<string, Attached>();
  /** Attaching, detaching and deleting one VDI happen one after the other. */
  readonly #gates = new KeyedGates<string>();

  constructor(directory: VdiDirectory, store: ObjectStore, log: Log) {
    this.#directory = directory;
    this.#store = store;
    this.#log = log;
  }

  async list(): Promise<ExportEntry[]> {
    const records = await this.#directory.list();
    return records.map((record) => ({
      name: record.name,
      description: deviceInfo(record).description,
    }));
  }

  async info(name: string): Promise<DeviceInfo | undefined> {
    const record = await this.#directory.find(name);
    return record && deviceInfo(record);
  }

  open(name: string, client: Client): Promise<BlockDevice | undefined> {
    return this.#gates.pass(name, true, async () => {
      const attached = this.#attached.get(name) ?? (await this.#attach(name));
      if (attached === undefined) return undefined;
      // An object of its own for each connection: one client's name may be that of another.
      const use = { ...client };
      attached.clients.add(use);
      return lent(attached.volume, () => this.#release(name, attached, use));
    });
  }

  /** Who uses a VDI now. */
  clients(name: string): Client[] {
    return [...(this.#attached.get(name)?.clients ?? [])];
  }

  /** @throws SheepError as `VdiDirectory.create` */
  create(wanted: NewVolume): Promise<VolumeRecord> {
    return this.#directory.create(wanted, (record) => makeVolume({ store: this.#store, record }));
  }

  /**
   * Takes the name away; the objects are the caller's to remove.
   * @param dryRun  only tells whether it could be
   * @throws SheepError `ERR_BUSY` with the clients that use it, `ERR_NOT_FOUND`
   */
  delete(name: string, dryRun: boolean): Promise<VolumeRecord> {
    return this.#gates.pass(name, true, async () => {
      const record = await this.#directory.info(name);
      const clients = this.clients(name).map((client) => client.name);
      if (clients.length > 0) {
        throw new SheepError(
          'ERR_BUSY',
          `the VDI '${name}' is used by ${clients.join(', ')}; disconnect it there, then delete it`,
          { name, clients: clients.join(', ') },
        );
      }
      return dryRun ? record : this.#directory.delete(name);
    });
  }

  /** How many objects of its own a VDI has. @throws SheepError `ERR_NOT_FOUND` */
  countObjects(name: string): Promise<number> {
    return this.#gates.pass(name, true, async () => {
      const record = await this.#directory.info(name);
      const attached = this.#attached.get(name);
      if (attached !== undefined) return attached.volume.allocatedObjects();
      return countObjects({ store: this.#store, record });
    });
  }

  /** Flushes and closes what connections that had to be cut off have left open. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const [name, attached] of this.#attached) {
      await this.#gates.pass(name, true, () => this.#detach(name, attached));
    }
  }

  async #attach(name: string): Promise<Attached | undefined> {
    if ((await this.#directory.find(name)) === undefined) return undefined;
    const record = await this.#directory.attach(name);
    const volume = await openVolume({ store: this.#store, record });
    const attached = { volume, clients: new Set<Client>() };
    this.#attached.set(name, attached);
    this.#log.event('info', 'vdi.attached', { vdi: name, attachEpoch: record.attachEpoch });
    return attached;
  }

  #release(name: string, attached: Attached, client: Client): Promise<void> {
    return this.#gates.pass(name, true, async () => {
      attached.clients.delete(client);
      if (attached.clients.size === 0) await this.#detach(name, attached);
    });
  }

  async #detach(name: string, { volume }: Attached): Promise<void> {
    if (!this.#attached.delete(name)) return;
    try {
      await volume[Symbol.asyncDispose](); // which flushes
    } catch (error) {
      // Nobody is left to be told: a client that wanted certainty has flushed before it left.
      this.#log.event('error', 'vdi.last-flush-failed', {
        vdi: name,
        cause: describeError(error),
      });
    }
    this.#log.event('info', 'vdi.detached', { vdi: name });
  }
}

/** The volume as one connection has it: disposing ends that use, not the volume. */
function lent(volume: Volume, release: () => Promise<void>): BlockDevice {
  let released: Promise<void> | undefined;
  return {
    info: volume.info,
    read: (at, into, call) => volume.read(at, into, call),
    write: (at, from, call) => volume.write(at, from, call),
    flush: (call) => volume.flush(call),
    trim: (at, length, call) => volume.trim(at, length, call),
    writeZeroes: (at, length, call) => volume.writeZeroes(at, length, call),
    extents: (at, length, countMax) => volume.extents(at, length, countMax),
    zeroNow: (at, length) => volume.zeroNow(at, length),
    prefetch: (at, length) => volume.prefetch(at, length),
    [Symbol.asyncDispose]: () => {
      released ??= release();
      return released;
    },
  };
}
