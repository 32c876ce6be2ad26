import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Vid } from '../../src/base/ids.ts';
import { isLeaving } from '../../src/vdi/record.ts';
import { Life, type Step, stepsOf } from './family-life.ts';
import { type FamilyWorld, leaks, openWorld } from './family-world.ts';

const KINDS: readonly string[] = [
  ...Array<'write'>(6).fill('write'),
  'zero',
  ...Array<'trim'>(2).fill('trim'),
  'trim-objects',
  ...Array<'snapshot'>(3).fill('snapshot'),
  ...Array<'clone'>(2).fill('clone'),
  ...Array<'hold'>(3).fill('hold'),
  ...Array<'release'>(3).fill('release'),
  ...Array<'delete-some'>(3).fill('delete-some'),
  'roll-back',
];
const CLOCK = { wallMs: () => 1 };

/** A life in which every deletion is finished at once, and must have left nothing of its own. */
class TidyLife extends Life<FamilyWorld> {
  readonly #finished = new Set<Vid>();

  protected override other(step: Step): Promise<void> {
    if (step.kind === 'hold') return this.#hold();
    return this.#expectTidy(step.c, () => this.#end(step));
  }

  /** Nobody finishes for itself what was held. */
  protected override atEnd(): Promise<void> {
    return this.#expectTidy(0, () => this.world.volumes.releaseHeld(() => false));
  }

  /** As at the begin of a snapshot of the cluster. */
  async #hold(): Promise<void> {
    using _frozen = await this.world.volumes.freezeAll(CLOCK);
  }

  async #end({ kind, a, b }: Step): Promise<void> {
    const { world, model } = this;
    await world.leaveAll();
    if (kind === 'release') return world.volumes.releaseHeld(({ vid }) => (vid + a) % 3 === 0);
    if (kind === 'roll-back') {
      const [name = '', tag = ''] = model.snapshots[a % model.snapshots.length]?.split('@') ?? [];
      if (name === '') return;
      await world.volumes.rollback(name, tag);
      return model.rollback(name, tag);
    }
    for (let count = 1 + (b % 3); count > 0; count -= 1) {
      const all = [...model.names, ...model.snapshots];
      const exported = all[(a + count) % all.length];
      if (exported === undefined || all.length === 1) return;
      const [name = '', snapshot] = exported.split('@');
      const what = { dryRun: false, ...(snapshot !== undefined && { snapshot }) };
      await world.volumes.delete(name, what);
      model.delete(exported);
    }
  }

  /** What was nobody's before, because a writer has let go of it, may be there still. */
  async #expectTidy(order: number, end: () => Promise<void>): Promise<void> {
    const { disk, world } = this;
    const before = new Set(await leaks(disk, world));
    await end();
    const records = await world.directory.all();
    const dead = records.filter((each) => isLeaving(each) && !this.#finished.has(each.vid));
    for (const { vid } of dead) this.#finished.add(vid);
    if (order % 2 === 0) dead.reverse();
    if (order % 3 === 0) await Promise.all(dead.map((record) => world.deletions.finish(record)));
    else for (const record of dead) await world.deletions.finish(record);
    const after = await leaks(disk, world);
    expect(after.filter((each) => !before.has(each))).toEqual([]);
  }
}

test('a deletion leaves nothing that only the deleted needed, whatever lies below it', async () => {
  await fc.assert(
    fc.asyncProperty(stepsOf(KINDS), (life) => new TidyLife((disk) => openWorld(disk)).run(life)),
    { numRuns: 100 },
  );
}, 300_000);
