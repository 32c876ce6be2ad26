import fc from 'fast-check';
import { expect, test } from 'vitest';
import { releaseHeld } from '../../src/app/cluster-snapshots/held.ts';
import { deleteSnapshot } from '../../src/app/cluster-snapshots/removal.ts';
import { checkStore } from '../../src/farm/snapshots/check.ts';
import { beginWriting } from '../../src/farm/snapshots/writer.ts';
import { all } from '../farm/snapshots/backups.ts';
import { KINDS, Life, type Step, stepsOf } from '../vdi/family-life.ts';
import type { FamilyModel } from '../vdi/family-model.ts';
import { leaks } from '../vdi/family-world.ts';
import { differences, saveNow } from './cluster-saves.ts';
import { type ClusterWorld, openCluster } from './cluster-world.ts';

/** A life of a family that is saved now and then, with saves that are broken off. */
class SavedLife extends Life<ClusterWorld> {
  /** What was there at each save, by its tag. */
  readonly #saved = new Map<string, FamilyModel>();
  #tags = 0;

  constructor() {
    super(async (disk) => {
      const world = await openCluster(disk);
      await releaseHeld(world.parts); // as at a start
      return world;
    });
  }

  protected override async other({ kind, a }: Step): Promise<void> {
    const { parts, volumes } = this.world;
    if (kind === 'save') {
      this.#tags += 1;
      const tag = `t${this.#tags}`;
      this.#saved.set(tag, this.model.copy());
      // What nobody has open may be taken as it was.
      if (a % 2 === 0) await this.world.leaveAll();
      const { snap } = await saveNow(this.world, tag);
      expect(await differences(parts.store, snap, this.model)).toEqual([]);
    }
    if (kind === 'broken save') (await volumes.freezeAll(parts.clock))[Symbol.dispose]();
    if (kind === 'forget') {
      const tag = [...this.#saved.keys()][a % this.#saved.size];
      if (tag === undefined) return;
      this.#saved.delete(tag);
      await using writer = await beginWriting(parts.store);
      await deleteSnapshot({ ...parts, writer }, tag, {}, () => undefined);
      await releaseHeld(parts);
    }
    if (a % 3 === 0) await this.world.settle();
    expect(await leaksNow(this)).toEqual([]);
  }

  /** Whatever was done since, each shows what it was saved with. */
  protected override async atEnd(): Promise<void> {
    const { store } = this.world.parts;
    const snaps = store.snaps();
    expect(snaps.map(({ tag }) => tag).sort()).toEqual([...this.#saved.keys()].sort());
    for (const { name, tag } of snaps) {
      const model = this.#saved.get(tag)!;
      expect(await differences(store, await store.readSnap(name), model)).toEqual([]);
    }
    expect(await all(checkStore(store))).toEqual([]);
  }
}

/** Objects that are needed and not there; others may still have to be removed. */
async function leaksNow({ disk, world }: SavedLife): Promise<string[]> {
  return (await leaks(disk, world)).filter((leak) => leak.endsWith('not there'));
}

const SAVES = ['save', 'save', 'save', 'broken save', 'forget'];

test('whatever a family lives through, each snapshot of the cluster shows what was', async () => {
  await fc.assert(
    fc.asyncProperty(stepsOf([...KINDS, ...SAVES, ...SAVES]), (life) => new SavedLife().run(life)),
    { numRuns: 25 },
  );
}, 300_000);
