import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import { formatVid, VID_MAX, type Vid } from '../base/ids.ts';
import type { Coordinator, Entry, Swap } from '../contracts/coordinator.ts';
import type { Clock } from '../contracts/seams.ts';
import { checkObjectCount, parseVdiName } from './names.ts';
import { decodeRecord, encodeRecord, type VolumeRecord, type VolumeState } from './record.ts';

/** The keys of the directory in the coordinator; FORMATS.md. */
const KEYS = {
  /** The vid that the next VDI gets, in decimal. */
  nextVid: 'vdi/next-vid',
  /** One for each name in use: the vid in 8 hex digits. */
  names: 'vdi/names/',
  /** One for each VDI, also while it is being made or deleted: its record. */
  records: 'vdi/records/',
} as const;

const ATTACH_EPOCH_MAX = 2 ** 32 - 1;

/** What is asked for in `create`. */
export interface NewVolume {
  readonly name: string;
  /** Whole blocks: see `parseVdiSize`. */
  readonly sizeBytes: number;
  readonly objectBytes: number;
}

/**
 * Which VDIs there are: names to vids to records, in the coordinator. Every change is one
 * compare-and-set, so that several sheep may change the directory at once and a power cut leaves
 * none of it half done. A vid is never given twice.
 */
export class VdiDirectory {
  readonly #coordinator: Coordinator;
  readonly #clock: Clock;

  constructor(coordinator: Coordinator, clock: Clock) {
    this.#coordinator = coordinator;
    this.#clock = clock;
  }

  /**
   * A new VDI. It gets its name only once `make` has settled, so that a name always has a disk.
   * @param make  writes the empty disk; what it leaves unfinished is in `deletions` later
   * @throws SheepError `ERR_EXISTS` if the name is in use, `ERR_BAD_INPUT` if it can be none,
   *         `ERR_LIMIT` once every vid has been given; or what `make` throws
   */
  async create(
    wanted: NewVolume,
    make: (record: VolumeRecord) => Promise<void>,
  ): Promise<VolumeRecord> {
    const name = parseVdiName(wanted.name);
    checkObjectCount(wanted.sizeBytes, wanted.objectBytes);
    await this.#refuseTaken(name);
    const record = await this.#begin({ ...wanted, name });
    try {
      await make(record);
      const named = await this.#setState(record, 'ready', [
        { key: KEYS.names + name, revision: 0n, value: encodeText(formatVid(record.vid)) },
      ]);
      if (named !== undefined) return named;
      await this.#refuseTaken(name);
      throw new SheepError('ERR_BUSY', `the VDI '${name}' was made and deleted meanwhile`, {
        name,
      });
    } catch (error) {
      // If this fails too, the next start abandons it: the first error is the one to be told.
      await this.#setState(record, 'deleting').catch(() => undefined);
      throw error;
    }
  }

  /** Every VDI that has a name, in order of names. */
  async list(): Promise<VolumeRecord[]> {
    const ready = (await this.#records()).filter((record) => record.state === 'ready');
    return ready.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The VDI of this name; undefined if there is none. */
  async find(name: string): Promise<VolumeRecord | undefined> {
    return (await this.#find(name))?.record;
  }

  /** @throws SheepError `ERR_NOT_FOUND` */
  async info(name: string): Promise<VolumeRecord> {
    return (await this.#get(name)).record;
  }

  /**
   * Makes the caller its owner: the attach epoch grows by one, and whoever writes with the one
   * before is refused from then on.
   * @throws SheepError `ERR_NOT_FOUND`
   */
  async attach(name: string): Promise<VolumeRecord> {
    for (;;) {
      const { record, revision } = await this.#get(name);
      if (record.attachEpoch === ATTACH_EPOCH_MAX) {
        throw new SheepError('ERR_LIMIT', `the VDI '${name}' cannot be attached once more`, {
          attachEpoch: record.attachEpoch,
        });
      }
      const attached = { ...record, attachEpoch: record.attachEpoch + 1 };
      const value = encodeRecord(attached);
      if (await this.#coordinator.swap([{ key: recordKey(record.vid), revision, value }])) {
        return attached;
      }
    }
  }

  /**
   * Takes the name away. From here on the deletion can only be finished: remove the objects of the
   * vid, then call `forget`. What a crash left in between stands in `deletions`.
   * @throws SheepError `ERR_NOT_FOUND`
   */
  async delete(name: string): Promise<VolumeRecord> {
    for (;;) {
      const { record, revision, nameRevision } = await this.#get(name);
      const deleting: VolumeRecord = { ...record, state: 'deleting' };
      const taken = await this.#coordinator.swap([
        { key: KEYS.names + name, revision: nameRevision },
        { key: recordKey(record.vid), revision, value: encodeRecord(deleting) },
      ]);
      if (taken) return deleting;
    }
  }

  /** VDIs whose name is gone and whose objects may not all be, oldest first. */
  async deletions(): Promise<VolumeRecord[]> {
    const deleting = (await this.#records()).filter((record) => record.state === 'deleting');
    return deleting.sort((a, b) => a.vid - b.vid);
  }

  /** Gives up what a crash left half made. Only while nobody calls `create`. */
  async abandonUnfinished(): Promise<void> {
    for (const record of await this.#records()) {
      if (record.state === 'making') await this.#setState(record, 'deleting');
    }
  }

  /** The end of a deletion: no object of this vid is left. Once more is no error. */
  async forget(vid: Vid): Promise<void> {
    const key = recordKey(vid);
    for (;;) {
      const entry = await this.#coordinator.get(key);
      if (entry === undefined) return;
      assert(decodeRecord(entry.value, key).state === 'deleting', 'only the deleted is forgotten');
      if (await this.#coordinator.swap([{ key, revision: entry.revision }])) return;
    }
  }

  /** A record with a vid of its own, and no name. */
  async #begin(wanted: NewVolume): Promise<VolumeRecord> {
    for (;;) {
      const counter = await this.#coordinator.get(KEYS.nextVid);
      const vid = counter === undefined ? 1 : decodeVid(counter, 10);
      if (vid > VID_MAX) {
        throw new SheepError('ERR_LIMIT', 'every volume id of this cluster was given once', {
          vid,
        });
      }
      const record: VolumeRecord = {
        name: wanted.name,
        vid,
        family: vid,
        sizeBytes: wanted.sizeBytes,
        objectBytes: wanted.objectBytes,
        attachEpoch: 0,
        createdMs: Math.floor(this.#clock.wallMs()),
        state: 'making',
      };
      const begun = await this.#coordinator.swap([
        { key: KEYS.nextVid, revision: counter?.revision ?? 0n, value: encodeText(`${vid + 1}`) },
        { key: recordKey(vid), revision: 0n, value: encodeRecord(record) },
      ]);
      if (begun) return record;
    }
  }

  /** Undefined if one of `others` is not at its revision; nobody else changes such a record. */
  async #setState(
    record: VolumeRecord,
    state: VolumeState,
    others: readonly Swap[] = [],
  ): Promise<VolumeRecord | undefined> {
    const key = recordKey(record.vid);
    const entry = await this.#coordinator.get(key);
    assert(entry !== undefined, 'a VDI that is being made keeps its record');
    const changed = { ...record, state };
    const value = encodeRecord(changed);
    const done = await this.#coordinator.swap([
      ...others,
      { key, revision: entry.revision, value },
    ]);
    return done ? changed : undefined;
  }

  async #refuseTaken(name: string): Promise<void> {
    if ((await this.#coordinator.get(KEYS.names + name)) === undefined) return;
    throw new SheepError(
      'ERR_EXISTS',
      `there is a VDI '${name}' already; choose another name, or delete that one first`,
      { name },
    );
  }

  async #records(): Promise<VolumeRecord[]> {
    const { entries } = await this.#coordinator.list(KEYS.records);
    return entries.map((entry) => decodeRecord(entry.value, entry.key));
  }

  async #get(name: string): Promise<Found> {
    const found = await this.#find(name);
    if (found !== undefined) return found;
    throw new SheepError(
      'ERR_NOT_FOUND',
      `there is no VDI '${name}'; 'collie vdi list' shows those that exist`,
      { name },
    );
  }

  async #find(name: string): Promise<Found | undefined> {
    for (;;) {
      const named = await this.#coordinator.get(KEYS.names + name);
      if (named === undefined) return undefined;
      const key = recordKey(decodeVid(named, 16));
      const entry = await this.#coordinator.get(key);
      const record = entry === undefined ? undefined : decodeRecord(entry.value, key);
      if (entry !== undefined && record?.state === 'ready' && record.name === name) {
        return { record, revision: entry.revision, nameRevision: named.revision };
      }
      // Either it was deleted between the two reads, or the directory is damaged: the name tells.
      const again = await this.#coordinator.get(KEYS.names + name);
      if (again?.revision === named.revision) {
        throw new SheepError('ERR_CORRUPT', `the VDI '${name}' has no record ${key}`, { key });
      }
    }
  }
}

interface Found {
  readonly record: VolumeRecord;
  /** Of the record. */
  readonly revision: bigint;
  readonly nameRevision: bigint;
}

function recordKey(vid: Vid): string {
  return KEYS.records + formatVid(vid);
}

function encodeText(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function decodeVid(entry: Entry, radix: 10 | 16): number {
  const text = new TextDecoder().decode(entry.value);
  const vid = Number.parseInt(text, radix);
  const written = radix === 10 ? String(vid) : formatVid(vid);
  if (written === text && vid >= 1 && vid <= VID_MAX + 1) return vid;
  throw new SheepError('ERR_CORRUPT', `the volume id under ${entry.key} is damaged`, {
    key: entry.key,
    value: text.slice(0, 40),
  });
}
