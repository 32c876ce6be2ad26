import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findTool, hasTool } from '../../scripts/tools.ts';
import { scratch } from '../cluster/scratch.ts';
import { nbdinfo, nbdinfoList } from '../interop/nbd-clients.ts';
import { COLLIE, Daemon, run, succeed } from './daemon.ts';

/** A daemon with a VDI `test`, and the commands as a user types them. */
async function world(size = '1G') {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const store = join(path, 'store');
  const admin = `unix:${path}/admin`;
  const start = () =>
    Daemon.start([store, '-n', `unix:${path}/nbd`, '--admin', admin, '--vdi', `test:${size}`]);
  let daemon = owned.use(await start());
  const uri = (name: string) => `nbd+unix:///${name}?socket=${path}/nbd`;
  return {
    path,
    uri,
    collie: (...args: string[]) => run(COLLIE, ['-a', admin, ...args]),
    /** Standard output of a command that has to succeed. */
    told: (line: string) => succeed(COLLIE, ['-a', admin, ...line.split(' ')]),
    json: async (line: string) =>
      JSON.parse(await succeed(COLLIE, ['-a', admin, '--json', ...line.split(' ')])),
    /** qemu-io fails if what it reads is not the pattern that is named. */
    io: (name: string, ...commands: string[]) =>
      succeed('qemu-io', ['-f', 'raw', ...commands.flatMap((line) => ['-c', line]), uri(name)]),
    reads: (name: string, ...commands: string[]) =>
      succeed('qemu-io', ['-r', '-f', 'raw', ...commands.flatMap((c) => ['-c', c]), uri(name)]),
    same: async (one: string, other: string) =>
      (await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri(one), uri(other)]))
        .status === 0,
    objects: async () => {
      const names = await readdir(join(store, 'obj'), { recursive: true });
      return names.filter((name) => name.includes('/'));
    },
    restart: async (signal: NodeJS.Signals) => {
      await daemon.stop(signal);
      daemon = owned.use(await start());
    },
    daemon: () => daemon,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const NOTHING = { vdis: [], snapshots: [], deleting: [], kept: [] };

test.skipIf(!hasTool('qemu-io'))(
  'a VDI is snapshotted, cloned, changed, rolled back and deleted, as its manual says',
  async () => {
    await using it = await world();
    await it.io('test', 'write -P 1 0 8M', 'write -P 2 100M 64k', 'write -P 3 1023M 1M', 'flush');
    expect(await it.told('vdi snapshot -s snap test')).toBe('test@snap 1 GiB, ID 1\n');
    await it.io('test', 'write -P 9 1M 4k', 'write -z -u 100M 64k', 'flush');
    expect(await it.told('vdi clone -s snap test cloned_vm')).toBe('cloned_vm 1 GiB\n');

    const old = ['read -P 1 0 8M', 'read -P 2 100M 64k', 'read -P 3 1023M 1M', 'read -P 0 8M 92M'];
    for (const name of ['test@snap', 'test@1', 'cloned_vm']) await it.reads(name, ...old);
    await it.reads('test', 'read -P 9 1M 4k', 'read -P 1 1028k 7164k', 'read -P 0 100M 64k');
    expect(await it.same('test@snap', 'cloned_vm')).toBe(true);
    expect(await it.same('test@snap', 'test')).toBe(false);

    // A snapshot cannot be written, whoever tries; a clone can, and nobody else sees it.
    const refused = await run('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', it.uri('test@snap')]);
    expect(refused.status).not.toBe(0);
    expect(await nbdinfo(it.uri('test@snap'))).toMatchObject({
      ...{ is_read_only: true, 'export-size': 2 ** 30 },
      contexts: expect.arrayContaining(['base:allocation', 'qemu:allocation-depth']),
    });
    expect(await nbdinfoList(it.uri(''))).toEqual(['cloned_vm', 'test', 'test@snap']);
    await it.io('cloned_vm', 'write -P 7 4k 4k', 'write -P 8 512M 1M', 'flush');
    await it.reads('cloned_vm', 'read -P 1 0 4k', 'read -P 7 4k 4k', 'read -P 1 8k 8180k');
    await it.reads('test@snap', ...old, 'read -P 0 512M 1M');

    expect(await it.told('vdi rollback -s snap test')).toBe('test 1 GiB rolled back\n');
    expect(await it.same('test@snap', 'test')).toBe(true);
    const tree = (await it.told('vdi tree')).split('\n').map((line) => line.split(/ {2,}/)[0]);
    expect(tree).toEqual(['NAME', 'test@snap', '├─ cloned_vm', 'test', '']);

    // The same after everything was cut short.
    await it.restart('SIGKILL');
    await it.reads('test@snap', ...old);
    await it.reads('cloned_vm', 'read -P 7 4k 4k', 'read -P 8 512M 1M', 'read -P 3 1023M 1M');
    expect(await it.told('vdi check test@snap')).toMatch(
      /^test@snap is sound \(4 objects, 9.1 MiB read\)\n$/,
    );

    expect(await it.told('vdi delete test')).toBe('test 1 GiB deleted\n');
    expect(await it.told('vdi delete -s snap test')).toBe('test@snap 1 GiB deleted\n');
    await it.reads('cloned_vm', 'read -P 7 4k 4k', 'read -P 8 512M 1M', 'read -P 3 1023M 1M');
    expect(await it.told('vdi check cloned_vm')).toContain('cloned_vm is sound');
    expect(await it.told('vdi delete cloned_vm')).toBe('cloned_vm 1 GiB deleted\n');
    expect(await it.json('vdi list')).toEqual(NOTHING);
    expect(await it.objects()).toEqual([]);
    expect(await it.daemon().stop('SIGTERM')).toBe(0);
    expect(it.daemon().log.filter(({ level }) => level === 'error')).toEqual([]);
  },
  120_000,
);

test.skipIf(!hasTool('fio') || !hasTool('nbdcopy'))(
  'snapshots under a writing client stay as they are, also after kill -9',
  async () => {
    await using it = await world('64M');
    const copy = async (name: string, round: number) => {
      const path = join(it.path, `${name}-${round}`);
      await succeed('nbdcopy', [it.uri(name), path]);
      return path;
    };
    const job = ['--rw=randwrite', '--bs=4k', '--iodepth=8', '--size=64M', '--fsync=64'];
    const load = [
      '--thread',
      '--runtime=60',
      '--time_based',
      '--randrepeat=0',
      '--refill_buffers=1',
    ];
    await using stack = new AsyncDisposableStack();
    const arguments_ = ['--name=x', '--ioengine=nbd', `--uri=${it.uri('test')}`, ...job, ...load];
    const writing = spawn(findTool('fio') ?? 'fio', arguments_, { stdio: 'ignore' });
    const ended = once(writing, 'close');
    stack.defer(async () => {
      writing.kill('SIGKILL');
      await ended;
    });
    const objects = async () => (await it.json('vdi info test')).objects;
    await expect.poll(objects, { timeout: 20_000, interval: 100 }).toBeGreaterThan(0);
    const names = ['test@a', 'test@b', 'test@c'];
    const first: string[] = [];
    for (const name of names) {
      await it.told(`vdi snapshot ${name}`);
      first.push(await copy(name, 1));
    }
    expect(writing.exitCode).toBe(null);
    await it.restart('SIGKILL');
    for (const [place, name] of names.entries()) {
      await succeed('cmp', [await copy(name, 2), first[place] ?? '']);
      expect(await it.told(`vdi check ${name}`)).toContain(`${name} is sound`);
    }
    expect((await run('cmp', ['-s', first[0] ?? '', first[2] ?? ''])).status).toBe(1);
    // Backwards in time, and forwards again.
    await it.told('vdi rollback test@a');
    expect(await it.same('test', 'test@a')).toBe(true);
    await it.told('vdi rollback test@c');
    expect(await it.same('test', 'test@c')).toBe(true);
    for (const name of [...names.toReversed(), 'test']) await it.told(`vdi delete ${name}`);
    expect(await it.objects()).toEqual([]);
  },
  120_000,
);
