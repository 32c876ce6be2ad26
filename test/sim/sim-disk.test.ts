import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { World } from '../../src/sim/world.ts';
import { diskContract } from '../contracts/disk.ts';
import { filled, holding, readAll, withFile } from './disk-stories.ts';

const nothingToDo = () => Promise.resolve();

diskContract('the simulated disk', async () => ({
  disk: new SimDisk({ directories: ['/store'] }),
  root: '/store',
  [Symbol.asyncDispose]: nothingToDo,
}));

diskContract('the simulated disk with relative names', async () => ({
  disk: new SimDisk({ directories: ['./data/store'] }),
  root: 'data/store',
  [Symbol.asyncDispose]: nothingToDo,
}));

diskContract('the simulated disk, never cached,', async () => ({
  disk: new SimDisk({ directories: ['/store'], cached: () => false }),
  root: '/store',
  [Symbol.asyncDispose]: nothingToDo,
}));

diskContract('the simulated disk, recorded,', async () => {
  const disk = new SimDisk({ directories: ['/store'] });
  return {
    disk: new RecordingDisk(disk, disk.kill()),
    root: '/store',
    [Symbol.asyncDispose]: nothingToDo,
  };
});

describe('what a test can do to a simulated disk', () => {
  test('it can be small: then it is full, and keeps what fits', async () => {
    const { disk, file } = await withFile({ totalBytes: 40 * KiB });
    file.writeNow(0, filled(16 * KiB, 1));
    const tooMuch = expect.objectContaining({ code: 'ERR_NO_SPACE' });
    expect(() => file.writeNow(16 * KiB, filled(32 * KiB, 2))).toThrow(tooMuch);
    await expect(file.zero(MiB, 4 * KiB)).rejects.toEqual(tooMuch);
    expect(await file.size()).toBe(40 * KiB);
    expect(await disk.space('/store')).toEqual({ totalBytes: 40 * KiB, freeBytes: 0 });
    file.writeNow(0, filled(40 * KiB, 3)); // in place
    expect(await readAll(disk)).toEqual(filled(40 * KiB, 3));
  });

  test.for([
    [
      'punching',
      16 * KiB,
      async (disk: SimDisk) => (await disk.open('/store/a')).punch(0, 16 * KiB),
    ],
    [
      'cutting off',
      20 * KiB,
      async (disk: SimDisk) => (await disk.open('/store/a')).truncate(4095),
    ],
    ['removing', 24 * KiB, (disk: SimDisk) => disk.remove('/store/a')],
    ['replacing', 24 * KiB, (disk: SimDisk) => disk.rename('/store/b', '/store/a')],
  ] as const)('%s gives space back', async ([, freedBytes, free]) => {
    const { disk, file } = await withFile({ totalBytes: MiB });
    file.writeNow(0, filled(24 * KiB, 1));
    await using _other = await disk.open('/store/b', { create: true });
    file.closeNow();
    await free(disk);
    expect((await disk.space('/')).freeBytes).toBe(MiB - 24 * KiB + freedBytes);
  });

  test('a file that is renamed to its own name keeps its space', async () => {
    const { disk, file } = await withFile({ totalBytes: MiB });
    file.writeNow(0, filled(24 * KiB, 1));
    file.closeNow();
    await disk.rename('/store/a', '/store/a');
    expect((await disk.space('/')).freeBytes).toBe(MiB - 24 * KiB);
  });

  test('a removed file keeps its space until its last handle is closed', async () => {
    const { disk, file } = await withFile({ totalBytes: MiB });
    file.writeNow(0, filled(24 * KiB, 1));
    await disk.remove('/store/a');
    expect((await disk.space('/')).freeBytes).toBe(MiB - 24 * KiB);
    file.closeNow();
    expect((await disk.space('/')).freeBytes).toBe(MiB);
  });

  test('bits turn over on it, for good', async () => {
    const { disk, file } = await withFile();
    file.writeNow(0, filled(8 * KiB, 1));
    await file.sync();
    file.writeNow(0, filled(4 * KiB, 2));
    disk.flipBit('/store/a', 100, 7);
    disk.flipBit('/store/a', 5000, 0);
    for (const [survival, first] of [
      ['nothing', 1],
      ['everything', 2],
    ] as const) {
      const expected = filled(8 * KiB, 1).fill(first, 0, 4 * KiB);
      expected[100]! ^= 128;
      expected[5000]! ^= 1;
      expect(await readAll(disk.powerCut(survival))).toEqual(expected);
    }
  });

  test('the next operation of a kind can fail, once', async () => {
    const { disk, file } = await withFile();
    disk.failNext('write', 'ERR_NO_SPACE');
    disk.failNext('write', 'ERR_IO');
    disk.failNext('rename', 'ERR_IO');
    const failure = (code: string) => expect.objectContaining({ code });
    await expect(file.write(0, filled(10, 1))).rejects.toEqual(failure('ERR_NO_SPACE'));
    expect(() => file.writeNow(0, filled(10, 1))).toThrow(failure('ERR_IO'));
    await expect(disk.rename('/store/a', '/store/b')).rejects.toEqual(failure('ERR_IO'));
    file.writeNow(0, filled(10, 2));
    await disk.rename('/store/a', '/store/b');
    expect(await readAll(disk, '/store/b')).toEqual(filled(10, 2));
  });

  test('a test may decide for each operation whether it fails', async () => {
    const { disk, file } = await withFile();
    const asked: string[] = [];
    disk.injectFaults((operation, path) => {
      asked.push(`${operation} ${path}`);
      return operation === 'read' ? new SheepError('ERR_IO', 'a bad sector') : undefined;
    });
    expect(() => file.readNow(0, filled(1, 0))).toThrow('a bad sector');
    await expect(file.read(0, filled(1, 0))).rejects.toThrow('a bad sector');
    await file.sync();
    await disk.list('/store');
    expect(asked).toEqual(['read /store/a', 'read /store/a', 'sync /store/a', 'list /store']);
  });

  test('the page cache can be empty', async () => {
    const { disk, file } = await withFile({ cached: (path) => path !== '/store/a' });
    await using other = await disk.open('/store/b', { create: true });
    file.writeNow(0, filled(10, 1));
    other.writeNow(0, filled(10, 2));
    const into = new Uint8Array(10);
    expect(file.readNow(0, into)).toBe(-1);
    expect(other.readNow(0, into)).toBe(10);
  });

  test('what may wait takes the time it is given, and overtakes', async () => {
    const world = new World(1);
    const slow = new Set(['write']);
    const disk = new SimDisk({
      directories: ['/store'],
      delay: (operation) => world.clock.sleep(slow.has(operation) ? 10 : 1),
    });
    await world.run('story', async () => {
      await using file = await disk.open('/store/a', { create: true });
      expect(world.nowMs).toBe(1);
      const settled: string[] = [];
      const write = file.write(0, filled(10, 1)).then(() => settled.push('write'));
      const sync = file.sync().then(() => settled.push('sync'));
      await Promise.all([write, sync]);
      expect(settled).toEqual(['sync', 'write']);
      expect(world.nowMs).toBe(11);
    });
  });

  test('a buffer that is altered while it is lent is noticed', async () => {
    const { file } = await withFile();
    const buffer = filled(10, 1);
    const writing = file.write(0, buffer);
    buffer[3] = 2;
    await expect(writing).rejects.toThrow('lent bytes are not altered before a write settles');
  });

  test('a process that is gone does nothing more', async () => {
    const { disk, file } = await withFile();
    const underWay = file.write(0, filled(10, 1));
    disk.halt();
    await expect(underWay).rejects.toThrow('the process is gone');
    expect(() => file.writeNow(0, filled(10, 2))).toThrow('the process is gone');
    await expect(file.sync()).rejects.toThrow('the process is gone');
    await expect(disk.open('/store/b', { create: true })).rejects.toThrow('the process is gone');
    file.closeNow();
    expect(await readAll(disk.kill())).toEqual(filled(10, 1));
    expect(await readAll(disk.kill('nothing'))).toEqual(filled(0, 0));
  });
});

describe('a process that is killed', () => {
  test('loses nothing that it handed over, synced or not', async () => {
    const { disk, file } = await withFile();
    await file.write(0, filled(10 * KiB, 1));
    file.writeNow(5 * KiB, filled(KiB, 2));
    await disk.rename('/store/a', '/store/b');
    const next = disk.kill('nothing');
    expect(await readAll(next, '/store/b')).toEqual(filled(10 * KiB, 1).fill(2, 5 * KiB, 6 * KiB));
    expect(await next.list('/store')).toEqual(['b']);
  });

  test('leaves the boot as it was, and no lock', async () => {
    const { disk } = await withFile();
    await using _lock = await disk.lock('/store/lock');
    const next = disk.kill();
    expect(await next.bootId()).toBe(await disk.bootId());
    await using _again = await next.lock('/store/lock');
  });

  test('leaves any part of the blocks it was writing', async () => {
    const { delay, hold, letGo } = holding();
    const { disk, file } = await withFile({ delay });
    hold('write');
    const writing = file.write(0, filled(2 * 4 * KiB, 1));
    const random = simRandom(3);
    const left = new Set<string>();
    for (let cut = 0; cut < 100; cut += 1) {
      const bytes = await readAll(disk.kill(random));
      left.add(`${bytes.length / KiB} KiB: ${bytes[0]} ${bytes[4 * KiB]}`);
    }
    expect([...left].sort()).toEqual([
      '0 KiB: undefined undefined',
      '4 KiB: 1 undefined',
      '8 KiB: 0 1',
      '8 KiB: 1 1',
    ]);
    letGo();
    await writing;
  });

  test.for(['punch', 'zero'] as const)('leaves any part of a %s', async (change) => {
    const { delay, hold, letGo } = holding();
    const { disk, file } = await withFile({ delay });
    file.writeNow(0, filled(2 * 4 * KiB, 1));
    hold(change);
    const changing = file[change](0, 2 * 4 * KiB);
    const random = simRandom(3);
    const left = new Set<string>();
    for (let cut = 0; cut < 100; cut += 1) {
      const bytes = await readAll(disk.kill(random));
      left.add(`${bytes[0]} ${bytes[4 * KiB]}`);
    }
    expect([...left].sort()).toEqual(['0 0', '0 1', '1 0', '1 1']);
    letGo();
    await changing;
  });

  test('leaves out what would have been refused', async () => {
    const { delay, hold, letGo } = holding();
    const { disk, file } = await withFile({ delay, totalBytes: 4 * KiB });
    hold('remove', 'rename', 'write');
    const underWay = [
      disk.remove('/store/none'),
      disk.rename('/store/none', '/store/b'),
      file.write(4 * KiB, filled(8 * KiB, 1)),
    ];
    const next = disk.kill('everything');
    expect(await next.list('/store')).toEqual(['a']);
    expect(await readAll(next)).toEqual(new Uint8Array(8 * KiB).fill(1, 4 * KiB));
    letGo();
    const ends = await Promise.allSettled(underWay);
    const codes = ends.map((end) => end.status === 'rejected' && end.reason.code);
    expect(codes).toEqual(['ERR_NOT_FOUND', 'ERR_NOT_FOUND', 'ERR_NO_SPACE']);
  });

  test('leaves its space, and nothing open', async () => {
    const { delay, hold, letGo } = holding();
    const { disk, file } = await withFile({ delay, totalBytes: MiB });
    file.writeNow(0, filled(24 * KiB, 1));
    const removed = await disk.open('/store/b', { create: true });
    removed.writeNow(0, filled(4 * KiB, 1));
    await disk.remove('/store/b');
    hold('open');
    const opening = disk.open('/store/a');
    const next = disk.kill('everything');
    expect((await next.space('/')).freeBytes).toBe(MiB - 24 * KiB);
    await next.remove('/store/a');
    expect((await next.space('/')).freeBytes).toBe(MiB);
    letGo();
    await opening;
  });

  test('leaves bytes and names that the next one can sync', async () => {
    const { disk, file } = await withFile();
    for (const value of [1, 2, 3]) file.writeNow(0, filled(4 * KiB, value));
    await using _other = await disk.open('/store/b', { create: true });
    const next = disk.kill();
    await using again = await next.open('/store/a');
    await again.sync();
    await next.syncDirectory('/store');
    const cut = next.powerCut('nothing');
    expect(await readAll(cut)).toEqual(filled(4 * KiB, 3));
    expect(await cut.list('/store')).toEqual(['a', 'b']);
  });

  test('leaves what the power can still take', async () => {
    const { disk, file } = await withFile();
    file.writeNow(0, filled(4 * KiB, 1));
    await file.sync();
    file.writeNow(0, filled(4 * KiB, 2));
    const next = disk.kill();
    expect(await readAll(next)).toEqual(filled(4 * KiB, 2));
    expect(await readAll(next.powerCut('nothing'))).toEqual(filled(4 * KiB, 1));
  });

  test('is a disk of its own', async () => {
    const { disk, file } = await withFile();
    file.writeNow(0, filled(4 * KiB, 1));
    const [next, untouched] = [disk.kill(), disk.kill()];
    await using other = await next.open('/store/a');
    other.writeNow(0, filled(4 * KiB, 2));
    file.writeNow(0, filled(8 * KiB, 3));
    expect(await readAll(untouched)).toEqual(filled(4 * KiB, 1));
    await next.remove('/store/a');
    expect(await readAll(disk)).toEqual(filled(8 * KiB, 3));
    expect(await disk.list('/store')).toEqual(['a']);
  });
});
