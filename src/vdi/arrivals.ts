import { assert } from '../base/assert.ts';
import { SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import type { Coordinator, Swap } from '../contracts/coordinator.ts';
import { canonicalRules } from './access-rules.ts';
import { type Catalog, encodeVid, encodeVids, KEYS, tagKey, written } from './catalog.ts';
import {
  checkObjectCount,
  checkVdiSize,
  parseObjectSize,
  parseTag,
  parseVdiName,
} from './names.ts';
import type { Newcomers } from './newcomers.ts';
import { isOrigin, type VolumeRecord } from './record.ts';

/** A VDI or snapshot that was made elsewhere, and is to be here as it was. */
export type Arriving = Pick<
  VolumeRecord,
  'name' | 'tag' | 'sizeBytes' | 'objectBytes' | 'createdMs' | 'allow' | 'origin'
>;

/** So many get their names in one swap, of three keys each at most: etcd takes 128. */
const AT_ONCE = 40;
/** And so many bytes together: rules may be long. */
const SWAP_BYTES = 512 * 1024;

/**
 * VDIs and snapshots that arrive together: all of them or none, however many. Each is begun and made
 * without a name. Then one swap, which names their vids, decides: from there on they get their names,
 * in as few swaps as it takes, and whoever finds that key goes on with it, so that a stop in between
 * is finished by the next start. Before it, all of them are given up as anything half made.
 *
 * From the decision until `finish` has settled nobody may attach or change what has any of their
 * names, or the snapshots among them: that is the caller's duty.
 */
export class Arrivals {
  readonly #catalog: Catalog;
  readonly #coordinator: Coordinator;
  readonly #newcomers: Newcomers;

  constructor(catalog: Catalog, coordinator: Coordinator, newcomers: Newcomers) {
    this.#catalog = catalog;
    this.#coordinator = coordinator;
    this.#newcomers = newcomers;
  }

  /**
   * @param parent  a snapshot, one that is held, or one that is arriving too and was made; 0: none
   * @throws SheepError `ERR_BAD_INPUT` if nothing can be as it is to be, `ERR_BUSY` if the parent is
   *         none any more
   */
  async begin(wanted: Arriving, parent: Vid | 0): Promise<VolumeRecord> {
    const { tag, sizeBytes, createdMs, origin } = wanted;
    checkArriving(wanted);
    const allow = canonicalRules(wanted.allow);
    const source = parent === 0 ? undefined : await this.#parent(parent);
    // What the parent holds behind the end of this one has to go.
    const parentBytes = source?.record.sizeBytes ?? 0;
    const shrunkFromBytes = parentBytes > sizeBytes ? parentBytes : 0;
    return this.#newcomers.begin({ ...wanted, allow }, source, {
      tag,
      createdMs,
      shrunkFromBytes,
      ...(origin !== undefined && { origin }),
    });
  }

  /**
   * All of them are to be there from now on, with what they hold: it is stable, and nothing is left
   * behind the end of any. `finish` names them.
   * @throws SheepError `ERR_EXISTS` for a tag in use, `ERR_BUSY`; `ERR_NO_SPACE`: then it is not
   *         decided. After any other error of the coordinator nobody knows
   */
  async decide(vids: readonly Vid[]): Promise<void> {
    if (vids.length === 0) return;
    for (const vid of vids) {
      const found = await this.#catalog.read(vid);
      assert(found?.record.state === 'making', 'what is arriving keeps its record');
      const { name, tag } = found.record;
      if (tag !== '') await this.#newcomers.refuseTag(name, tag);
    }
    const decision = { key: KEYS.arriving, revision: 0n, value: encodeVids(vids) };
    if (await this.#coordinator.swap([decision])) return;
    throw new SheepError('ERR_BUSY', 'others are arriving from a snapshot of the cluster', {});
  }

  /**
   * Goes on with what was decided until all have their names; a working VDI that has one of these is
   * deleted. What fails can be called again, also by another process: it goes on where it was.
   * @param replaced  is told what was deleted so, as soon as it is
   * @throws what the coordinator throws
   */
  async finish(
    replaced: (gone: readonly VolumeRecord[]) => Promise<void> = async () => undefined,
  ): Promise<void> {
    const decided = await this.#catalog.arriving();
    if (decided === undefined) return;
    const left = [...decided.vids];
    while (left.length > 0) {
      const { swaps, taken, gone } = await this.#naming(left);
      if (swaps.length > 0 && !(await this.#coordinator.swap(swaps))) continue;
      left.splice(0, taken);
      if (gone.length > 0) await replaced(gone);
    }
    await this.#coordinator.swap([{ key: KEYS.arriving, revision: decided.revision }]);
  }

  /**
   * The same for what an earlier process has left, before anybody is served. What it replaces is in
   * `deletions`. @throws SheepError that says so
   */
  async finishLeft(): Promise<void> {
    try {
      await this.finish();
    } catch (cause) {
      if (!(cause instanceof SheepError)) throw cause;
      const message =
        'what was loaded from a snapshot of the cluster before the last stop is whole, but cannot ' +
        `get its names: ${cause.message}. Nobody is served before it has them: see to the disk of ` +
        'the store, then start sheep again';
      throw new SheepError(cause.code, message, cause.facts, cause);
    }
  }

  /**
   * They are not to arrive: their records are given up, and what objects they have is nobody's.
   * Nothing happens once it is decided that they do.
   * @returns those that are to be removed
   */
  async abandon(vids: readonly Vid[]): Promise<VolumeRecord[]> {
    if ((await this.#catalog.arriving()) !== undefined) return [];
    const left: VolumeRecord[] = [];
    for (const vid of vids) {
      await this.#newcomers.abandon(vid);
      const record = (await this.#catalog.read(vid))?.record;
      if (record?.state === 'deleting') left.push(record);
    }
    return left;
  }

  /** What gives the first of them their names, of how many, and what goes for it. */
  async #naming(
    vids: readonly Vid[],
  ): Promise<{ swaps: Swap[]; taken: number; gone: VolumeRecord[] }> {
    const swaps: Swap[] = [];
    const gone: VolumeRecord[] = [];
    let [taken, bytes] = [0, 0];
    for (const vid of vids.slice(0, AT_ONCE)) {
      const found = await this.#catalog.read(vid);
      taken += 1;
      // It has its name already; or had it, and is deleted and forgotten.
      if (found?.record.state !== 'making') continue;
      const { record, revision } = found;
      const own = [written({ ...record, shrunkFromBytes: 0, state: stateOf(record) }, revision)];
      if (record.tag === '') {
        const old = await this.#catalog.findNamed(record.name);
        own.push(this.#newcomers.naming(record, old?.keyRevision ?? 0n));
        if (old !== undefined) {
          const replaced = { ...old.record, state: 'deleting' } as const;
          own.push(written(replaced, old.revision));
          gone.push(replaced);
        }
      } else {
        // Nobody could take it since it was decided: but an error is better than to try for ever.
        await this.#newcomers.refuseTag(record.name, record.tag);
        const key = tagKey(record.name, record.tag);
        own.push({ key, revision: 0n, value: encodeVid(vid) });
      }
      swaps.push(...own);
      bytes += own.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
      if (bytes > SWAP_BYTES) break;
    }
    return { swaps, taken, gone };
  }

  async #parent(vid: Vid) {
    const found = await this.#catalog.read(vid);
    const state = found?.record.state;
    const canBe = state === 'snapshot' || state === 'held' || state === 'making';
    if (found !== undefined && canBe) return found;
    throw new SheepError('ERR_BUSY', `a snapshot that is needed (${vid}) was deleted meanwhile`, {
      vid,
    });
  }
}

/** @throws SheepError `ERR_BAD_INPUT` if no VDI or snapshot can be so */
export function checkArriving(arriving: Arriving): void {
  const { name, tag, sizeBytes, objectBytes, allow, origin } = arriving;
  parseVdiName(name);
  if (tag !== '') parseTag(tag);
  checkVdiSize(sizeBytes);
  parseObjectSize(String(objectBytes));
  checkObjectCount(sizeBytes, objectBytes);
  canonicalRules(allow);
  if (origin !== undefined && !(tag !== '' && isOrigin(origin))) {
    throw new SheepError('ERR_BAD_INPUT', 'that is no snapshot of any cluster', { origin });
  }
}

function stateOf({ tag }: VolumeRecord): VolumeRecord['state'] {
  return tag === '' ? 'ready' : 'snapshot';
}
