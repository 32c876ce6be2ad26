import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import { VID_MAX, type Vid } from '../base/ids.ts';
import type { Coordinator, Swap } from '../contracts/coordinator.ts';
import type { Clock } from '../contracts/seams.ts';
import {
  type Catalog,
  decodeVid,
  encodeVid,
  type Found,
  KEYS,
  nameKey,
  tagKey,
  written,
} from './catalog.ts';
import { exportName, type VolumeRecord } from './record.ts';

/** Of what a record is begun. */
type NewDisk = Pick<VolumeRecord, 'name' | 'sizeBytes' | 'objectBytes' | 'allow'>;
/** What else is known of one that comes from elsewhere. */
type KnownBefore = Pick<VolumeRecord, 'tag' | 'createdMs' | 'shrunkFromBytes' | 'origin'>;

/**
 * How a record comes to be: begun without a name, so that a stop leaves something that can be
 * given up; then ready, in one swap with its name.
 */
export class Newcomers {
  readonly #catalog: Catalog;
  readonly #coordinator: Coordinator;
  readonly #clock: Clock;

  constructor(catalog: Catalog, coordinator: Coordinator, clock: Clock) {
    this.#catalog = catalog;
    this.#coordinator = coordinator;
    this.#clock = clock;
  }

  /** A record with a vid of its own, and no name; its source is what it was and cannot go. */
  async begin(
    wanted: NewDisk,
    source?: Pick<Found, 'record'>,
    known?: KnownBefore,
  ): Promise<VolumeRecord> {
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
        family: source?.record.family ?? vid,
        parent: source?.record.vid ?? 0,
        tag: '',
        sizeBytes: wanted.sizeBytes,
        shrunkFromBytes: 0,
        objectBytes: wanted.objectBytes,
        attachEpoch: 0,
        createdMs: Math.floor(this.#clock.wallMs()),
        allow: wanted.allow,
        ...known,
        state: 'making',
      };
      const now = source && (await this.#catalog.read(source.record.vid));
      if (source && now?.record.state !== source.record.state) {
        const what = exportName(source.record);
        throw new SheepError('ERR_BUSY', `${what} was deleted or changed meanwhile`, { what });
      }
      const begun = await this.#coordinator.swap([
        {
          key: KEYS.nextVid,
          revision: counter?.revision ?? 0n,
          value: new TextEncoder().encode(`${vid + 1}`),
        },
        written(record, 0n),
        ...(now ? [written(now.record, now.revision)] : []),
      ]);
      if (begun) return record;
    }
  }

  /** What was begun and fails gets no name, unless it has it already. */
  async orAbandon<T>({ vid }: VolumeRecord, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      // If this fails too, the next start abandons it: the first error is the one to be told.
      await this.abandon(vid).catch(() => undefined);
      throw error;
    }
  }

  async abandon(vid: Vid): Promise<void> {
    for (;;) {
      const found = await this.#catalog.read(vid);
      if (found?.record.state !== 'making') return;
      const swap = written({ ...found.record, state: 'deleting' }, found.revision);
      if (await this.#coordinator.swap([swap])) return;
    }
  }

  async giveName(record: VolumeRecord): Promise<VolumeRecord> {
    const ready = await this.setReady(record, [this.naming(record, 0n)]);
    if (ready !== undefined) return ready;
    const { name } = record;
    await this.refuseTaken(name);
    throw new SheepError('ERR_BUSY', `the VDI '${name}' was made and deleted meanwhile`, { name });
  }

  naming({ name, vid }: VolumeRecord, revision: bigint): Swap {
    return { key: nameKey(name), revision, value: encodeVid(vid) };
  }

  /** Undefined if one of `others` is not at its revision; nobody else changes what is being made. */
  async setReady(record: VolumeRecord, others: readonly Swap[]): Promise<VolumeRecord | undefined> {
    const found = await this.#catalog.read(record.vid);
    assert(found?.record.state === 'making', 'what is being made keeps its record');
    const { parent } = found.record; // a parent that was deleted meanwhile may have been skipped
    const ready = { ...record, parent, state: 'ready' } as const;
    const done = await this.#coordinator.swap([...others, written(ready, found.revision)]);
    return done ? ready : undefined;
  }

  async refuseTag(name: string, tag: string): Promise<void> {
    if ((await this.#coordinator.get(tagKey(name, tag))) === undefined) return;
    throw new SheepError(
      'ERR_EXISTS',
      `the VDI '${name}' has a snapshot '${tag}' already; choose another tag, or delete that one ` +
        `with 'collie vdi delete -s ${tag} ${name}'`,
      { name, tag },
    );
  }

  /** A name is taken while a VDI has it, and while snapshots of a deleted one do. */
  async refuseTaken(name: string): Promise<void> {
    if ((await this.#coordinator.get(nameKey(name))) !== undefined) {
      throw new SheepError(
        'ERR_EXISTS',
        `there is a VDI '${name}' already; choose another name, or delete that one first`,
        { name },
      );
    }
    const { entries } = await this.#coordinator.list(tagKey(name, ''));
    const tags = entries.map(({ key }) => key.slice(tagKey(name, '').length));
    if (tags.length === 0) return;
    const shown = tags.slice(0, 3).join(', ') + (tags.length > 3 ? ', ...' : '');
    throw new SheepError(
      'ERR_EXISTS',
      `the VDI '${name}' was deleted, but has snapshots (${shown}); choose another name, delete ` +
        `them, or bring one back with 'collie vdi rollback -s ${tags[0]} ${name}'`,
      { name, snapshots: tags.length },
    );
  }
}
