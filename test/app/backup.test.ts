import type { ChildProcess } from 'node:child_process';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { canMount, smallDisk } from './bad-luck-small-disk.ts';
import { ended, feed, World } from './collie-world.ts';

interface Listed {
  readonly id: string;
  readonly source: string;
}

let world: World;
/** 40 MiB that do not compress: two packs. */
let noise: string;
beforeAll(async () => {
  world = await World.open();
  noise = `${world.path}/noise`;
  await shell('head -c 40M /dev/urandom > noise; $collie vdi import noise disk');
  await shell('$collie vdi snapshot -s one disk');
});
afterAll(async () => {
  expect(world.daemon.log.filter(({ level }) => level === 'error')).toEqual([]);
  await world[Symbol.asyncDispose]();
});

async function shell(line: string): Promise<void> {
  expect(await world.shell(`set -e; ${line}`), line).toMatchObject({ status: 0 });
}

/** For what will be so as soon as somebody else has got there. */
const SOON = { interval: 1, timeout: 30_000 };
const path = (store: string) => `${world.path}/${store}`;
const create = (source: string, store: string) => [
  ...['backup', 'create', source, '--to', path(store)],
];
const listed = async (store: string) =>
  (await world.json('backup', 'list', path(store)))['backups'] as Listed[];

/** Files among the packs whose name ends so; none while there is no folder. */
async function files(store: string, end: string): Promise<string[]> {
  const names = await readdir(`${path(store)}/packs`).catch(() => []);
  return names.filter((name) => name.endsWith(end));
}
const logBytes = async (store: string) =>
  (await stat(`${path(store)}/user_snap`).catch(() => ({ size: 0 }))).size;

/** What it said, killed as soon as `reached` says so; or else when it was done. */
async function killedWhen(child: ChildProcess, reached: () => Promise<boolean>) {
  const said = ended(child);
  const over = said.then(() => true);
  while (!(await reached()) && !(await Promise.race([over, sleep(1, false)])));
  child.kill('SIGKILL');
  return said;
}

/** All that is listed is sound, and the backup `id` is the file. */
async function expectRestores(store: string, id: string, file: string): Promise<void> {
  expect(await world.json('backup', 'verify', path(store))).toMatchObject({ findings: [] });
  await world.json('backup', 'restore', path(store), id, 'again');
  await world.expectSame(file, 'again');
  await world.json('vdi', 'delete', 'again');
}

describe('a backup that is killed', () => {
  const steps: [string, (store: string) => Promise<boolean>][] = [
    ['before there is a store', async () => true],
    ['in its first pack', async (store) => (await files(store, '.draft')).length > 0],
    ['after its first pack', async (store) => (await files(store, '.pack')).length > 0],
    ['when its trees are there', async (store) => (await files(store, '.pack')).length > 2],
    ['when its line is there', async (store) => (await logBytes(store)) > 0],
  ];

  test.each(steps)('%s is listed whole or not at all, and made again', async (step, reached) => {
    const store = `killed-${steps.findIndex(([name]) => name === step)}`;
    const killed = await killedWhen(feed(world, ...create('disk@one', store)), () =>
      reached(store),
    );
    if (await existsAt(`${path(store)}/farm.json`)) {
      const [first] = await listed(store);
      if (killed.status === 0) expect(first).toMatchObject({ source: 'disk@one' });
      expect(await world.json('backup', 'verify', path(store))).toMatchObject({ findings: [] });
    }
    // The lock of the dead holds up nobody.
    const again = await world.json(...create('disk@one', store));
    expect(await files(store, '.draft')).toEqual([]);
    await world.json('backup', 'prune', path(store), '--keep-last', '1', '--grace', '0s');
    await expectRestores(store, again['id'] as string, noise);
    // What was left lying is shared or gone: the noise is there once.
    const { out } = await world.shell(`du -sm --apparent-size ${path(store)} | cut -f1`);
    expect(Number(out)).toBeLessThanOrEqual(41);
    await rm(path(store), { recursive: true });
  });

  test('by a signal says so', async () => {
    const creating = feed(world, ...create('disk@one', 'stopped'));
    const said = ended(creating);
    await expect.poll(() => files('stopped', '.draft'), SOON).not.toEqual([]);
    creating.kill('SIGINT');
    expect(await said).toEqual({ status: 1, out: '', err: 'collie: stopped by SIGINT\n' });
    expect(await files('stopped', '.draft')).toEqual([]);
    expect(await listed('stopped')).toEqual([]);
    expect(await readFile(`${path('stopped')}/lock`, 'utf8')).toBe('');
  });

  test('together with its sheep says so, and is made when that is back', async () => {
    await using other = await World.open();
    expect(await other.shell(`$collie vdi import ${noise} disk`)).toMatchObject({ status: 0 });
    await other.json('vdi', 'snapshot', '-s', 'one', 'disk');
    const [, , source, , store] = create('disk@one', 'orphan');
    const creating = feed(other, 'backup', 'create', `${source}`, '--to', `${store}`);
    const said = ended(creating);
    await expect.poll(() => files('orphan', '.draft'), SOON).not.toEqual([]);
    await other.daemon.stop('SIGKILL');
    expect(await said).toMatchObject({
      ...{ status: 1, out: '', err: expect.stringMatching(/^collie: .*(connection|ended)/) },
    });
    expect(await listed('orphan')).toEqual([]);
    other.daemon = await other.it.start();
    const { id } = await other.json(...create('disk@one', 'orphan'));
    // And it comes back in another cluster, that of the first world.
    await expectRestores('orphan', id as string, noise);
  });
});

describe('a restore that is killed', () => {
  test('leaves a disk that is not taken for the whole, and is run again', async () => {
    const { id } = await world.json(...create('disk@one', 'source'));
    const restoring = feed(world, 'backup', 'restore', path('source'), `${id}`, 'half');
    const arrived = async () => {
      const { objects } = JSON.parse(
        (await world.collie('vdi', 'info', 'half', '--json')).out || '{}',
      );
      return objects > 0;
    };
    await killedWhen(restoring, arrived);
    const refused = await world.collie('backup', 'restore', path('source'), `${id}`, 'half');
    expect(refused).toMatchObject({
      ...{ status: 1, err: expect.stringMatching(/there is a VDI 'half'.*--overwrite/) },
    });
    // The sheep may notice a little later that the killed one is gone.
    const overwriting = ['backup', 'restore', path('source'), `${id}`, 'half', '--overwrite'];
    await expect
      .poll(() => world.collie(...overwriting), SOON)
      .toMatchObject({ status: 0, err: '' });
    await world.expectSame(noise, 'half');
    await world.json('vdi', 'delete', 'half');
  });

  test('by a signal leaves nothing of a VDI that it made', async () => {
    const { id } = await world.json(...create('disk@one', 'source'));
    const before = await world.names();
    const restoring = feed(world, 'backup', 'restore', path('source'), `${id}`, 'half');
    const said = ended(restoring);
    await expect.poll(async () => (await world.names()).includes('half'), SOON).toBe(true);
    restoring.kill('SIGTERM');
    const { status, err } = await said;
    // A quick machine may be done before the signal, and then say nothing of it.
    if (status !== 0 && err !== '') {
      expect(err).toBe(
        "collie: stopped by SIGTERM; 'half', which was made for it, is deleted again\n",
      );
      expect(await world.names()).toEqual(before);
    } else {
      await world.json('vdi', 'delete', 'half');
    }
  });
});

describe('a prune that is killed', () => {
  /** Three backups; what they have in common lies in packs with what only one of them has. */
  async function filled(store: string): Promise<string[]> {
    const ids: string[] = [];
    await shell('$collie vdi clone -s one disk pruned');
    for (const [tag, at] of [
      ['a', 0],
      ['b', 1],
      ['c', 1],
    ] as const) {
      await shell(`head -c 8M /dev/urandom > part-${tag}; cp noise whole-${tag}`);
      await shell(`dd status=none if=part-${tag} of=whole-${tag} bs=8M seek=${at} conv=notrunc`);
      await shell(`$collie vdi import whole-${tag} pruned; $collie vdi snapshot -s ${tag} pruned`);
      ids.push(`${(await world.json(...create(`pruned@${tag}`, store)))['id']}`);
    }
    return ids;
  }

  const steps: [string, (store: string, before: readonly string[]) => Promise<boolean>][] = [
    ['while it copies', async (store) => (await files(store, '.draft')).length > 0],
    [
      'when the first pack is gone',
      async (store, before) => {
        const now = await files(store, '.pack');
        return before.some((name) => !now.includes(name));
      },
    ],
  ];

  let ids: string[];
  beforeAll(async () => {
    ids = await filled('pruning');
  });

  test.each(steps)(
    '%s loses nothing that stays, and the next one finishes',
    async (step, reached) => {
      const [gone, , kept] = ids;
      const store = `pruning-${steps.findIndex(([name]) => name === step)}`;
      await shell(`cp -r pruning ${store}`);
      const before = await files(store, '.pack');
      const keep = ['--keep-last', '1', '--grace', '0s'];
      const pruning = feed(world, 'backup', 'prune', path(store), ...keep);
      await killedWhen(pruning, () => reached(store, before));
      expect(await world.json('backup', 'verify', path(store))).toMatchObject({ findings: [] });
      const done = await world.json('backup', 'prune', path(store), ...keep);
      // Packs of which three quarters are needed stay as they are.
      const { keptBytes, liveBytes } = done as { keptBytes: number; liveBytes: number };
      expect(keptBytes).toBeLessThan(liveBytes / 3 + MiB);
      expect((await listed(store)).map(({ id }) => id)).toEqual([kept]);
      await expectRestores(store, `${kept}`, `${world.path}/whole-c`);
      const refused = await world.collie('backup', 'restore', path(store), `${gone}`, 'again');
      expect(refused).toMatchObject({
        status: 1,
        err: expect.stringMatching(/there is no backup/),
      });
      await rm(path(store), { recursive: true });
    },
  );
});

describe.skipIf(!canMount())('a store on a disk that is full', () => {
  test('says so, keeps what it has, and takes the next backup when there is room', async () => {
    await using small = await smallDisk(72 * MiB);
    const store = `${small.path}/store`;
    const first = await world.json('backup', 'create', 'disk@one', '--to', store);
    await shell('head -c 40M /dev/urandom > other; $collie vdi import other full');
    await shell('$collie vdi snapshot -s one full');
    const said = await world.collie('backup', 'create', 'full@one', '--to', store);
    expect(said).toMatchObject({
      ...{ status: 1, out: '', err: expect.stringMatching(/no space|full/i) },
    });
    expect(await readdir(`${store}/packs`)).not.toContainEqual(expect.stringMatching(/draft$/));
    const list = (await world.json('backup', 'list', store))['backups'] as Listed[];
    expect(list.map(({ id }) => id)).toEqual([first['id']]);
    expect(await world.json('backup', 'verify', store)).toMatchObject({ findings: [] });
    // The disk is as full as it can be, and still something can be removed.
    await writeFile(`${small.path}/filler`, Buffer.alloc(72 * MiB)).catch(() => undefined);
    const gone = ['backup', 'delete', store, `${first['id']}`, '--grace', '0s'];
    expect((await world.collie(...gone)).status).toBe(0);
    await rm(`${small.path}/filler`);
    const second = await world.json('backup', 'create', 'full@one', '--to', store);
    expect(await world.json('backup', 'verify', store)).toMatchObject({ findings: [] });
    await world.json('backup', 'restore', store, `${second['id']}`, 'full-again');
    await world.expectSame(`${world.path}/other`, 'full-again');
  });
});

describe('two at once', () => {
  test('the second is told who has the store, and what to do', async () => {
    const creating = feed(world, ...create('disk@one', 'shared'));
    const said = ended(creating);
    await expect.poll(() => files('shared', '.draft'), SOON).not.toEqual([]);
    const second = await world.collie(...create('disk@one', 'shared'));
    // On a quick machine the first may be done by now.
    if (second.status !== 0) {
      const holder = new RegExp(`/lock is held by \\S+, process ${creating.pid}; wait until`);
      expect(second).toMatchObject({ status: 1, out: '', err: expect.stringMatching(holder) });
    }
    expect(await said).toMatchObject({ status: 0 });
    expect(await listed('shared')).toHaveLength(1);
  });
});

async function existsAt(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
