import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { RecordingDisk } from '../../src/sim/recording-disk.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { diskContract } from '../contracts/disk.ts';
import type { DiskWorld } from '../contracts/disk-world.ts';

async function directoryIn(parent: string): Promise<DiskWorld> {
  const root = await mkdtemp(`${parent}/sheep-disk-`);
  return {
    disk: nodeDisk(),
    root,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true }),
  };
}

/** Whether files there tell what is in the page cache: not on tmpfs, nor on overlayfs. */
async function tellsCached(parent: string): Promise<boolean> {
  await using world = await directoryIn(parent);
  await using file = await world.disk.open(`${world.root}/a`, { create: true });
  file.writeNow(0, new Uint8Array(1));
  return file.readNow(0, new Uint8Array(1)) === 1;
}

async function firstThatTells(parents: readonly string[]): Promise<string | undefined> {
  for (const parent of parents) if (await tellsCached(parent)) return parent;
  return undefined;
}

const onDisk = await firstThatTells([tmpdir(), '/var/tmp', process.cwd()]);
const inMemory = '/dev/shm';

const onThisMachine = () => directoryIn(onDisk ?? tmpdir());

async function recorded(): Promise<DiskWorld> {
  const world = await onThisMachine();
  const start = new SimDisk({ directories: [world.root] });
  return { ...world, disk: new RecordingDisk(world.disk, start) };
}

diskContract('the disk of this machine', onThisMachine);
diskContract('the disk of this machine, recorded,', recorded);
diskContract('the disk of this machine, in memory,', () => directoryIn(inMemory));

test('what is opened to be read alone is not written to', async () => {
  await using world = await onThisMachine();
  const path = `${world.root}/a`;
  {
    await using file = await world.disk.open(path, { create: true });
    await file.write(0, Uint8Array.of(1, 2, 3));
  }
  await using file = await world.disk.open(path, { readOnly: true });
  const bytes = new Uint8Array(3);
  expect(await file.read(0, bytes)).toBe(3);
  expect([...bytes]).toEqual([1, 2, 3]);
  await expect(file.write(0, bytes)).rejects.toMatchObject({ code: 'ERR_IO' });
});

test('whose a file is, and who may do what with it, is told as it is', async () => {
  await using world = await onThisMachine();
  const path = `${world.root}/a`;
  await using _file = await world.disk.open(path, { create: true });
  await chmod(path, 0o4640);
  const uid = process.geteuid?.();
  expect(await world.disk.permissions(path)).toEqual({ mode: 0o4640, uid, own: true });
  const roots = await world.disk.permissions('/proc/version');
  expect(roots).toEqual({ mode: 0o444, uid: 0, own: uid === 0 });
});

/** GNU dd asks the kernel to drop the pages of the file, and nothing else. */
const dropPages = (path: string) =>
  promisify(execFile)('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0']);

describe.skipIf(onDisk === undefined && !process.env['CI'])('the page cache', () => {
  test('what is not in the page cache is not served at once, and is after it was read', async () => {
    await using world = await onThisMachine();
    await using file = await world.disk.open(`${world.root}/a`, { create: true });
    const into = new Uint8Array(4096);
    file.writeNow(0, new Uint8Array(8 * MiB).fill(7));
    expect(file.readNow(MiB, into)).toBe(4096);
    await file.sync();
    await dropPages(`${world.root}/a`);
    expect(file.readNow(5 * MiB, into)).toBe(-1);
    expect(await file.read(5 * MiB, into)).toBe(4096);
    expect(into).toEqual(new Uint8Array(4096).fill(7));
    expect(file.readNow(5 * MiB, into.fill(0))).toBe(4096);
    expect(into).toEqual(new Uint8Array(4096).fill(7));
  });

  test('what is partly in the page cache is not served by half', async () => {
    await using world = await onThisMachine();
    await using file = await world.disk.open(`${world.root}/a`, { create: true });
    await file.write(0, new Uint8Array(8 * MiB).fill(7));
    await file.sync();
    await dropPages(`${world.root}/a`);
    await file.write(0, new Uint8Array(4096).fill(8));
    const into = new Uint8Array(4 * MiB);
    expect(file.readNow(0, into)).toBe(-1);
    expect(file.readNow(0, into.subarray(0, 4096))).toBe(4096);
  });
});

describe('the disk of this machine', () => {
  test('where the file system cannot tell what is cached, every read takes the pool', async () => {
    await using world = await directoryIn(inMemory);
    await using file = await world.disk.open(`${world.root}/a`, { create: true });
    file.writeNow(0, new Uint8Array(4096).fill(7));
    const into = new Uint8Array(4096);
    expect(file.readNow(0, into)).toBe(-1);
    expect(await file.read(0, into)).toBe(4096);
    expect(file.readNow(0, into)).toBe(-1);
  });

  test('punching gives space back, and zeroing reserves it', async () => {
    await using world = await onThisMachine();
    await using file = await world.disk.open(`${world.root}/a`, { create: true });
    const allocated = async () => {
      await file.sync();
      return (await stat(`${world.root}/a`)).blocks * 512;
    };
    await file.write(0, new Uint8Array(MiB).fill(7));
    expect(await allocated()).toBeGreaterThanOrEqual(MiB);
    await file.punch(0, MiB);
    expect(await allocated()).toBeLessThan(MiB / 4);
    await file.zero(0, 2 * MiB);
    expect(await allocated()).toBeGreaterThanOrEqual(2 * MiB);
  });

  test('files and directories are for the user of the daemon alone', async () => {
    await using world = await onThisMachine();
    await world.disk.makeDirectory(`${world.root}/d`);
    await using _file = await world.disk.open(`${world.root}/a`, { create: true });
    await using _lock = await world.disk.lock(`${world.root}/c`);
    for (const [name, mode] of [
      ['d', 0o700],
      ['a', 0o600],
      ['c', 0o600],
    ] as const) {
      expect((await stat(`${world.root}/${name}`)).mode & 0o777, name).toBe(mode);
    }
  });

  test('a lock ends with the process that held it, even if that is killed', async () => {
    await using world = await onThisMachine();
    const path = `${world.root}/lock`;
    const module = new URL('../../src/host/node-disk.ts', import.meta.url);
    const script = `
      import { nodeDisk } from ${JSON.stringify(module.href)};
      const lock = await nodeDisk().lock(${JSON.stringify(path)});
      process.stdout.write('locked');
      setInterval(() => lock, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(holder, 'exit');
    try {
      await once(holder.stdout, 'data');
      await expect(world.disk.lock(path)).rejects.toMatchObject({ code: 'ERR_BUSY' });
    } finally {
      holder.kill('SIGKILL');
      await ended;
    }
    await using _mine = await world.disk.lock(path);
  });

  test('a refusal says what was asked, of which path, and what the system said', async () => {
    await using world = await onThisMachine();
    const path = `${world.root}/a`;
    await using file = await world.disk.open(path, { create: true });
    const error = await file.punch(-1, 10).catch((error) => error);
    expect(error).toMatchObject({
      code: 'ERR_IO',
      message: `cannot punch ${path}: EINVAL`,
      facts: { path, errno: 'EINVAL' },
    });
    await expect(world.disk.open(`${path}/b`)).rejects.toMatchObject({
      facts: { errno: 'ENOTDIR' },
    });
  });

  test('a full device is no space', async () => {
    await using file = await nodeDisk().open('/dev/full');
    const noSpace = { code: 'ERR_NO_SPACE', facts: { path: '/dev/full', errno: 'ENOSPC' } };
    await expect(file.write(0, new Uint8Array(1))).rejects.toMatchObject(noSpace);
    expect(() => file.writeNow(0, new Uint8Array(1))).toThrow(expect.objectContaining(noSpace));
  });

  test('after a sync that failed none of this handle succeeds', async () => {
    // Linux refuses to sync a pipe or a device that keeps nothing.
    await using file = await nodeDisk().open('/dev/full');
    const failure = await file.sync().catch((error) => error);
    expect(failure).toMatchObject({ code: 'ERR_IO', facts: { errno: 'EINVAL' } });
    await expect(file.sync()).rejects.toBe(failure);
  });
});
