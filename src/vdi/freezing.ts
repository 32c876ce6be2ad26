import { SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import { type Catalog, encodeVid, tagKey, written } from './catalog.ts';
import type { Newcomers } from './newcomers.ts';
import type { VolumeRecord } from './record.ts';

/** Who is who afterwards: what was the working VDI, and the child that is it now. */
export interface Frozen {
  readonly frozen: VolumeRecord;
  readonly working: VolumeRecord;
}

/** A child of a working VDI that is to take its place. */
export interface BegunFreeze {
  /** Of the working VDI. */
  readonly vid: Vid;
  /** Its disk is to be written before the commit. */
  readonly child: VolumeRecord;
}

/** What the working VDI becomes: a snapshot, or, without a tag, one that is held. */
export interface FreezeAs {
  readonly tag: string;
  /** The moment that it shows, wall time. */
  readonly frozenMs: number;
}

/** How a working VDI stays behind frozen, and a child of it takes its name: begun, then one swap. */
export class Freezing {
  readonly #catalog: Catalog;
  readonly #newcomers: Newcomers;

  constructor(catalog: Catalog, newcomers: Newcomers) {
    this.#catalog = catalog;
    this.#newcomers = newcomers;
  }

  /** @throws SheepError `ERR_NOT_FOUND` */
  async begin(name: string): Promise<BegunFreeze> {
    const before = await this.#catalog.getNamed(name);
    const { vid } = before.record;
    return { vid, child: await this.#newcomers.begin(before.record, before) };
  }

  /** Gives up what was begun and not committed. */
  abandon({ child }: BegunFreeze): Promise<void> {
    return this.#newcomers.abandon(child.vid);
  }

  /** @throws SheepError `ERR_EXISTS` if the tag is in use; `ERR_BUSY`, `ERR_NOT_FOUND` */
  async commit({ vid, child }: BegunFreeze, { tag, frozenMs }: FreezeAs): Promise<Frozen> {
    const { name } = child;
    for (;;) {
      const { record, revision, keyRevision } = await this.#catalog.getNamed(name);
      if (record.vid !== vid) {
        throw new SheepError('ERR_BUSY', `the VDI '${name}' was replaced meanwhile`, { name });
      }
      if (tag !== '') await this.#newcomers.refuseTag(name, tag);
      const state = tag === '' ? 'held' : 'snapshot';
      // People ask when a VDI was made, and when a snapshot was taken.
      const frozen = { ...record, state, tag, createdMs: frozenMs } as const;
      const { attachEpoch, createdMs, sizeBytes, allow } = record;
      const named = { key: tagKey(name, tag), revision: 0n, value: encodeVid(vid) };
      const working = await this.#newcomers.setReady(
        { ...child, attachEpoch, createdMs, sizeBytes, allow },
        [
          written(frozen, revision),
          this.#newcomers.naming(child, keyRevision),
          ...(tag === '' ? [] : [named]),
        ],
      );
      if (working !== undefined) return { frozen, working };
    }
  }
}
