import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { StalledWorld, World } from '../../src/sim/world.ts';
import { clockContract } from '../contracts/clock.ts';
import { filled } from './disk-stories.ts';

clockContract('the clock of a simulated world', async (story) => {
  const world = new World(1);
  await world.run('story', () => story(world.clock));
});

/** Writers that race for a disk whose times chance decides. */
async function race(seed: number): Promise<{ digest: string; order: string; endedMs: number }> {
  const world = new World(seed);
  const delay = () => world.clock.sleep(world.random.below(1000) / 10);
  const disk = new SimDisk({ directories: ['/store'], delay });
  const order: number[] = [];
  const writer = async (index: number) => {
    await using file = await disk.open(`/store/${index}`, { create: true });
    for (let round = 0; round < 20; round += 1) {
      await file.write(round * 100, filled(100, index));
      order.push(index);
    }
    await file.sync();
  };
  await world.run('race', async () => void (await Promise.all([0, 1, 2].map(writer))));
  return { digest: world.digest, order: order.join(''), endedMs: world.nowMs };
}

describe('a seed', () => {
  test('is a run: the same seed is the same run, another one is another', async () => {
    const [one, again, other] = [await race(7), await race(7), await race(8)];
    expect(again).toEqual(one);
    expect(other.digest).not.toBe(one.digest);
    expect(other.order).not.toBe(one.order);
  });

  test('differs from all its neighbours', async () => {
    const runs = await Promise.all(Array.from({ length: 20 }, (_, seed) => race(seed)));
    expect(new Set(runs.map(({ digest }) => digest)).size).toBe(20);
  });
});

describe('events', () => {
  test('come in the order of their times, and of their planning where those are equal', async () => {
    const world = new World(1);
    const seen: string[] = [];
    const delays = Array.from({ length: 500 }, () => world.random.below(50));
    for (const [index, delayMs] of delays.entries()) {
      world.plan('event', delayMs, () => seen.push(`${delayMs} ${index}`));
    }
    await world.run('story', () => world.clock.sleep(50));
    const expected = delays.map((delayMs, index) => ({ delayMs, index }));
    expected.sort((a, b) => a.delayMs - b.delayMs || a.index - b.index);
    expect(seen).toEqual(expected.map(({ delayMs, index }) => `${delayMs} ${index}`));
  });

  test('wait until all that the one before set going has settled', async () => {
    const world = new World(1);
    const seen: string[] = [];
    const chain = async () => {
      for (let link = 0; link < 100; link += 1) await Promise.resolve();
      seen.push('settled');
    };
    world.plan('one', 0, () => void chain());
    world.plan('two', 0, () => seen.push('next'));
    await world.run('story', () => world.clock.sleep(1));
    expect(seen).toEqual(['settled', 'next']);
  });

  test('can be called off, and leave no trace then', async () => {
    const digest = async (callOff: boolean) => {
      const world = new World(1);
      const off = callOff ? world.plan('event', 5, () => expect.unreachable()) : () => undefined;
      off();
      await world.run('story', () => world.clock.sleep(10));
      expect(world.nowMs).toBe(10);
      return world.digest;
    };
    expect(await digest(true)).toBe(await digest(false));
  });

  test('of an aborted sleep never come', async () => {
    const world = new World(1);
    const controller = new AbortController();
    const story = async () => {
      const sleeping = world.clock.sleep(1000, { signal: controller.signal });
      controller.abort(new Error('enough'));
      await expect(sleeping).rejects.toThrow('enough');
      await new Promise(() => undefined);
    };
    await expect(world.run('story', story)).rejects.toThrow(StalledWorld);
    expect(world.nowMs).toBe(0);
  });

  test('take no time of ours', async () => {
    const world = new World(1);
    const yearMs = 365 * 24 * 3_600_000;
    const wallMs = world.clock.wallMs();
    await world.run('story', () => world.clock.sleep(yearMs));
    expect(world.clock.monotonicMs()).toBe(yearMs);
    expect(world.clock.wallMs()).toBe(wallMs + yearMs);
  });

  test('of which notes are taken tell runs apart', () => {
    const [one, other] = [new World(1), new World(1)];
    expect(one.digest).toBe(other.digest);
    one.note('a');
    other.note('b');
    expect(one.digest).not.toBe(other.digest);
  });

  test('go on where the last run ended', async () => {
    const world = new World(1);
    const seen: number[] = [];
    world.plan('late', 10, () => seen.push(world.nowMs));
    expect(await world.run('first', async () => 'done')).toBe('done');
    expect(seen).toEqual([]);
    await world.run('second', () => world.clock.sleep(10));
    expect(seen).toEqual([10]);
  });
});

describe('a world that stands still', () => {
  test('says who waits', async () => {
    const world = new World(1);
    const never = () => new Promise<void>(() => undefined);
    world.start('the flusher', never);
    world.start('a client', () => world.clock.sleep(5));
    await expect(world.run('the story', never)).rejects.toMatchObject({
      name: 'StalledWorld',
      message: 'nothing is left to happen, and these still wait: the flusher, the story',
      waiting: ['the flusher', 'the story'],
    });
  });

  test('is not one in which nobody waits any more', async () => {
    const world = new World(1);
    await world.run('story', async () => undefined);
    expect(world.nowMs).toBe(0);
  });
});

describe('failures', () => {
  test('of the story are those of the run', async () => {
    const world = new World(1);
    const story = async () => {
      await world.clock.sleep(1);
      throw new Error('a violation');
    };
    await expect(world.run('story', story)).rejects.toThrow('a violation');
  });

  test('beside the story end the run as well', async () => {
    const world = new World(1);
    world.start('a client', async () => {
      await world.clock.sleep(1);
      throw new Error('a violation');
    });
    await expect(world.run('story', () => world.clock.sleep(1000))).rejects.toThrow('a violation');
    expect(world.nowMs).toBe(1);
  });
});

test('the clock on the wall can be set, which monotonic time does not notice', async () => {
  const { clock } = new World(1);
  const wallMs = clock.wallMs();
  clock.jumpWall(-3_600_000);
  expect(clock.wallMs()).toBe(wallMs - 3_600_000);
  expect(clock.monotonicMs()).toBe(0);
});
