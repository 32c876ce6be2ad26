import { describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/log.ts';
import type { Disk } from '../../../src/contracts/disk.ts';
import { lockStore } from '../../../src/farm/snapshots/store-lock.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import type { SimDisk } from '../../../src/sim/sim-disk.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';
import { content, DIRECTORY, emptyDisk, openStore, wallClock } from './store-world.ts';

const MINUTE = 60_000;
const there = { host: 'there', pid: 3 };

/** A clock whose sleepers are woken by the test. */
function wakingClock() {
  const clock = wallClock();
  const sleepers: (() => void)[] = [];
  return {
    ...clock,
    wallMs: () => clock.wall,
    set wall(ms: number) {
      clock.wall = ms;
    },
    get wall() {
      return clock.wall;
    },
    sleep: (_delayMs: number, call?: { readonly signal?: AbortSignal }) =>
      new Promise<void>((resolve, reject) => {
        sleepers.push(resolve);
        call?.signal?.addEventListener('abort', () => reject(call.signal?.reason));
      }),
    wake: () => {
      for (const wake of sleepers.splice(0)) wake();
    },
  };
}

function lock(disk: Disk, more: Partial<Parameters<typeof lockStore>[0]> = {}) {
  return lockStore({
    ...{ disk, directory: DIRECTORY, clock: wallClock(), random: simRandom(1), log: silentLog },
    holder: { host: 'here', pid: 17 },
    ...more,
  });
}

/** The disk as another machine sees it that shares it: no flock, another boot. */
function elsewhere(disk: SimDisk): Disk {
  const noLock = { [Symbol.asyncDispose]: async () => undefined };
  return new Proxy<Disk>(disk, {
    get: (target, name: keyof Disk) => {
      if (name === 'lock') {
        return async (path: string) => {
          await using _file = await target.open(path, { create: true });
          return noLock;
        };
      }
      if (name === 'bootId') return async () => 'another boot';
      return target[name].bind(target);
    },
  });
}

async function withStore(): Promise<SimDisk> {
  const disk = emptyDisk();
  await using _store = await openStore({ disk });
  return disk;
}

describe('the lock of a store', () => {
  test('a second writer is refused and told who the first is', async () => {
    const disk = await withStore();
    await using _held = await lock(disk);
    await expect(lock(disk)).rejects.toMatchObject({
      code: 'ERR_BUSY',
      message: expect.stringContaining('here, process 17'),
    });
    await using store = await openStore({ disk });
    await expect(beginWriting(store)).rejects.toMatchObject({ code: 'ERR_BUSY' });
  });

  test('is free again when it was given back, and reading needs none', async () => {
    const disk = await withStore();
    {
      await using store = await openStore({ disk });
      await using writer = await beginWriting(store);
      const name = await writer.put('data', content(1));
      await writer.barrier();
      await using reader = await openStore({ disk });
      expect(await reader.read(name, 'data')).toEqual(content(1));
    }
    await using _again = await lock(elsewhere(disk));
  });

  test('of a process that was killed is free at once on its machine', async () => {
    const disk = await withStore();
    await lock(disk);
    await using _taken = await lock(disk.kill());
  });

  test('of a machine that had a power cut is free when it has power again', async () => {
    const disk = await withStore();
    await lock(disk);
    await using _taken = await lock(disk.powerCut('everything'));
  });

  test('of another machine counts for as long as it was refreshed', async () => {
    const disk = await withStore();
    const clock = wakingClock();
    await using _held = await lock(disk, { clock });
    const other = wallClock();
    const refused = { code: 'ERR_BUSY', message: expect.stringContaining('here, process 17') };
    other.wall = clock.wall + 9 * MINUTE;
    await expect(lock(elsewhere(disk), { clock: other, holder: there })).rejects.toMatchObject(
      refused,
    );
    clock.wall += 9 * MINUTE;
    clock.wake();
    await expect.poll(async () => textOf(disk)).toContain(String(clock.wall));
    other.wall = clock.wall + 9 * MINUTE;
    await expect(lock(elsewhere(disk), { clock: other, holder: there })).rejects.toMatchObject(
      refused,
    );
    other.wall = clock.wall + 10 * MINUTE;
    const more = { clock: other, random: simRandom(2), holder: there };
    await using _taken = await lock(elsewhere(disk), more);
  });

  test('that was taken over stops its first holder before the next snap', async () => {
    const disk = await withStore();
    await using store = await openStore({ disk });
    const clock = wallClock();
    clock.wall += 11 * MINUTE;
    let taken: AsyncDisposable;
    {
      await using writer = await beginWriting(store);
      await writer.put('data', content(1));
      taken = await lock(elsewhere(disk), { clock, random: simRandom(2), holder: there });
      const snap = { epoch: 0, timeMs: 1, tag: 'late', nodes: [], disks: [] };
      await expect(writer.appendSnap('user', snap)).rejects.toMatchObject({
        code: 'ERR_BUSY',
        message: expect.stringContaining('taken over by there, process 3'),
      });
    }
    // And what the new one wrote there is left alone.
    expect(await textOf(disk)).toContain('another boot');
    await taken[Symbol.asyncDispose]();
    expect(await textOf(disk)).toBe('');
  });

  test('that a power cut left half written holds up nobody', async () => {
    const disk = await withStore();
    {
      await using file = await disk.open(`${DIRECTORY}/lock`);
      await file.write(0, new TextEncoder().encode('{"host":"there","pi'));
    }
    await using _held = await lock(disk);
  });
});

async function textOf(disk: Disk): Promise<string> {
  await using file = await disk.open(`${DIRECTORY}/lock`);
  const bytes = new Uint8Array(await file.size());
  await file.read(0, bytes);
  return new TextDecoder().decode(bytes);
}
