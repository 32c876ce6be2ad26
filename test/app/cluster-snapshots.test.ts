import type { ChildProcess } from 'node:child_process';
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ClusterSnapshotListView } from '../../src/app/admin-cluster-views.ts';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import { http } from '../app-unit/http.ts';
import { Attached, flipBit, logged } from './bad-luck-store.ts';
import { ended, feed, World } from './collie-world.ts';

let world: World;
beforeAll(async () => {
  world = await World.open();
  // What does not compress, so that a save takes a while; and a little in two VDIs.
  await shell('head -c 48M /dev/urandom > noise; $collie vdi import noise disk');
  await shell('for vdi in one two; do $collie vdi create $vdi 64M; done');
  await shell('$collie vdi snapshot -s golden disk');
});
afterAll(() => world[Symbol.asyncDispose]());

async function shell(line: string): Promise<void> {
  expect(await world.shell(`set -e; ${line}`), line).toMatchObject({ status: 0 });
}
const snapshot = (...words: string[]) => ['cluster', 'snapshot', ...words];
const json = (...words: string[]) => world.json(...snapshot(...words));
const list = async () => (await json('list')) as unknown as ClusterSnapshotListView;
const tags = async () => (await list()).snapshots.map(({ tag }) => tag);
const refused = (words: readonly string[], status: number, message: RegExp) =>
  expect(world.collie(...words)).resolves.toMatchObject({
    ...{ status, out: '' },
    err: expect.stringMatching(message),
  });
/** Without a collie, which takes longer than some of what is asked about. */
const ask = (method: string, path: string, body?: object) =>
  http(world.it.adminSocket, method, `/v1/cluster/${path}`, {
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
const packs = () => readdir(`${world.it.store}/farm/packs`).catch((): string[] => []);

/** Whether a file is being written to the store. */
const storing = async () => (await packs()).some((name) => name.endsWith('.draft'));
async function untilStoring(child: ChildProcess): Promise<void> {
  while (!(await storing())) {
    if (child.exitCode !== null) throw new Error('it ended before anything was stored');
    await sleep(1);
  }
}
/** So many processes work for the daemon that get only what others leave of the processors. */
async function idleWorkers(): Promise<number> {
  const { pid } = world.daemon.child;
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const stats = children
    .trim()
    .split(' ')
    .map((child) => readFile(`/proc/${child}/stat`, 'utf8').catch(() => ') S'));
  // Field 41 of proc(5); behind the name in brackets stands field 3. 5 is SCHED_IDLE.
  const policy = (stat: string) => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[38]);
  return (await Promise.all(stats)).filter((stat) => policy(stat) === 5).length;
}

/**
 * Writes 1, 2, 3 … to the beginning of one VDI and, when that is answered, to the other.
 * @returns ends it, with what was answered last
 */
async function counting(first: string, second: string): Promise<() => Promise<number>> {
  const { nbdSocket } = world.it;
  const clients = [await Attached.to(nbdSocket, first), await Attached.to(nbdSocket, second)];
  let [count, over] = [0, false];
  const writing = (async () => {
    while (!over && count < 250) {
      count += 1;
      for (const client of clients) expect(await client.write(0, BLOCK_BYTES, count)).toBe(0);
      await sleep(2);
    }
  })();
  return async () => {
    over = true;
    await writing;
    for (const client of clients) await client[Symbol.asyncDispose]();
    return count;
  };
}
async function countIn(vdi: string): Promise<number> {
  await using client = await Attached.to(world.it.nbdSocket, vdi);
  return Number(await client.read(0, BLOCK_BYTES));
}

describe('a snapshot of the cluster', () => {
  test('is of one instant, under clients that write; a VDI that is lost comes back from it', async () => {
    const stop = await counting('one', 'two');
    await expect.poll(() => logged(world.daemon, 'vdi.attached').length).toBeGreaterThan(1);
    const saved = await json('save', 'monday');
    expect(saved).toMatchObject({
      tag: 'monday',
      vdis: 3,
      snapshots: 1,
      readBytes: expect.any(Number),
    });
    const last = await stop();
    await shell('$collie vdi delete one; $collie vdi delete two');
    const loaded = await json('load', 'monday', '--vdi', 'one');
    expect(loaded).toMatchObject({ made: [{ export: 'one' }], reused: [], replaced: [] });
    await json('load', 'monday', '--vdi', 'two', '--as', 'too');
    const [first, second] = [await countIn('one'), await countIn('too')];
    // The second VDI is written after the first one was answered.
    expect([first, first - 1]).toContain(second);
    expect(first).toBeLessThanOrEqual(last);
    await shell('$collie vdi delete -s golden disk; $collie vdi delete disk');
    expect(await json('load', 'monday', '--vdi', 'disk')).toMatchObject({
      made: [{ export: 'disk@golden' }, { export: 'disk', writtenBytes: 0 }],
    });
    await world.expectSame(`${world.path}/noise`, 'disk');
    await world.expectSame(`${world.path}/noise`, 'disk@golden');
    const { clients } = (await world.json('vdi', 'info', 'disk')) as { clients: unknown[] };
    expect(clients).toEqual([]);
  });

  test('is listed and shown with what it holds and shares', async () => {
    await json('save', 'tuesday');
    expect(await list()).toMatchObject({
      store: { hash: 'sha256', codec: 'zstd' },
      snapshots: [{ tag: 'monday' }, { tag: 'tuesday', vdis: 3, snapshots: 1 }],
      ...{ lost: [], running: [] },
    });
    const shown = (await json('show', 'monday')) as Record<string, unknown>;
    expect(shown).toMatchObject({
      nodes: [{ store: world.it.store }],
      disks: expect.arrayContaining([
        expect.objectContaining({ export: 'disk@golden', contentBytes: 48 * MiB }),
      ]),
    });
    // All of the noise is in both.
    expect(shown['neededBytes']).toBeGreaterThan(48 * MiB);
    expect(shown['exclusiveBytes']).toBeLessThan(MiB);
    const { out } = await world.collie(...snapshot('show', 'monday'));
    expect(out).toMatch(/^disk@golden +48 MiB +48 MiB +48/m);
    expect((await world.collie(...snapshot('list'))).out).toMatch(/^tuesday +20/m);
  });

  test('replaces what is there only if it is told to, and nobody uses it', async () => {
    const before = await world.names();
    await refused(
      snapshot('load', 'monday'),
      1,
      /there is a VDI '\w+'.*Nothing was changed.*--replace/,
    );
    const plan = await json('load', 'tuesday', '--replace', '--dry-run');
    expect(plan).toMatchObject({ dryRun: true, replaced: { length: 3 } });
    {
      await using _client = await Attached.to(world.it.nbdSocket, 'one');
      await refused(snapshot('load', 'tuesday', '--replace'), 1, /'one' is used by/);
    }
    await using writer = await Attached.to(world.it.nbdSocket, 'too');
    await writer.write(0, MiB, 0xee);
    await writer[Symbol.asyncDispose]();
    expect(await world.names()).toEqual(before);
    await expect
      .poll(() => world.collie(...snapshot('load', 'tuesday', '--replace')), { timeout: 10_000 })
      .toMatchObject({ status: 0 });
    expect(await world.names()).toEqual(before);
    expect(await countIn('too')).not.toBe(0xee);
    await world.expectSame(`${world.path}/noise`, 'disk');
  });

  test('one that was deleted is gone, as --dry-run had said, and the other one is whole', async () => {
    const plan = await json('delete', 'monday', '--dry-run');
    expect(await tags()).toEqual(['monday', 'tuesday']);
    expect(await json('delete', 'monday')).toEqual({ ...plan, dryRun: false });
    expect(await tags()).toEqual(['tuesday']);
    expect(await json('gc', '--dry-run')).toMatchObject({ dryRun: true });
    expect(await json('gc')).toMatchObject({ dryRun: false });
    const said = await world.collie('cluster', 'check');
    expect(said).toMatchObject({ status: 0, out: expect.stringMatching(/sound \(.* read\)$/m) });
    await expect
      .poll(() => logged(world.daemon, 'cluster.checked'))
      .toMatchObject([{ level: 'info' }]);
    const sampled = await world.json('cluster', 'check', '--sample', '10');
    expect(sampled).toMatchObject({ samplePercent: 10, flaws: [], snapshots: 1, exports: 4 });
  });
});

describe('operations on snapshots of the cluster', () => {
  /** A save that takes a while: the noise is new to the store. */
  async function longSave(tag: string): Promise<ChildProcess> {
    await shell('head -c 48M /dev/urandom > more; $collie vdi import more more');
    const child = feed(world, ...snapshot('save', tag));
    await untilStoring(child);
    return child;
  }
  const drop = () => shell('$collie vdi delete more');

  test('run one at a time, by processes that yield; what runs is named', async () => {
    const child = await longSave('long');
    const [idle, other, gc, listed] = await Promise.all([
      idleWorkers(),
      ask('POST', 'snapshots', { tag: 'other' }),
      ask('POST', 'gc', {}),
      ask('GET', 'snapshots'),
    ]);
    expect(idle).toBeGreaterThan(0);
    const message = "the cluster snapshot 'long' is being saved; try it again when that is done";
    expect(other).toMatchObject({ status: 409, body: { code: 'ERR_BUSY', message } });
    expect(gc).toMatchObject({ status: 409, body: { code: 'ERR_BUSY', message } });
    expect(listed.body).toMatchObject({ running: [{ operation: 'save', tag: 'long' }] });
    expect(await ended(child)).toMatchObject({ status: 0 });
    expect(await idleWorkers()).toBe(0);
    expect(await tags()).toEqual(['tuesday', 'long']);
    await json('delete', 'long');
    await drop();
  });

  test('end when collie does, and leave nothing', async () => {
    const child = await longSave('left');
    child.kill('SIGINT');
    await expect
      .poll(() => logged(world.daemon, 'cluster.snapshot-aborted'), { timeout: 10_000 })
      .toMatchObject([{ operation: 'save', tag: 'left' }]);
    await expect.poll(async () => (await list()).running).toEqual([]);
    expect(await tags()).toEqual(['tuesday']);
    expect(await idleWorkers()).toBe(0);
    await drop();
  });

  test('end when sheep stops, which says so', async () => {
    const child = await longSave('stopped');
    const said = ended(child);
    expect(await world.daemon.stop('SIGTERM')).toBe(0);
    expect(await said).toMatchObject({
      status: 1,
      err: expect.stringContaining('sheep is stopping'),
    });
    world.daemon = await world.it.start();
    expect(await tags()).toEqual(['tuesday']);
    await drop();
  });

  test('a save and a load in which sheep is killed can be done again', async () => {
    const saved = ended(await longSave('again'));
    await world.daemon.stop('SIGKILL');
    expect(await saved).toMatchObject({
      status: 1,
      err: expect.stringContaining('is the sheep still there'),
    });
    world.daemon = await world.it.start();
    expect(await tags()).toEqual(['tuesday']);
    expect(await json('save', 'again')).toMatchObject({ vdis: 4 });
    await drop();

    const before = await world.names();
    const loading = feed(world, ...snapshot('load', 'again', '--vdi', 'more', '--as', 'less'));
    const over = ended(loading);
    const isMaking = async () => {
      const { running } = (await ask('GET', 'snapshots'))
        .body as unknown as ClusterSnapshotListView;
      return running.some(({ operation }) => operation === 'load') || loading.exitCode !== null;
    };
    while (!(await isMaking()));
    await world.daemon.stop('SIGKILL');
    await over;
    world.daemon = await world.it.start();
    expect([before, [...before, 'less'].sort()]).toContainEqual(await world.names());
    await json('load', 'again', '--vdi', 'more', '--as', 'less', '--replace');
    await world.expectSame(`${world.path}/more`, 'less');
    expect(await world.json('cluster', 'check')).toMatchObject({ flaws: [] });
    await shell('$collie vdi delete less; $collie cluster snapshot delete again');
  });
});

describe('what cannot be', () => {
  const CASES: readonly [string[], number, RegExp][] = [
    [['save', 'a b'], 2, /contains a space/],
    [['save', ''], 2, /tag/],
    [['save', 'tuesday'], 1, /there is a snapshot 'tuesday'.* already/],
    [['load', 'nix'], 1, /no snapshot 'nix'.*list/],
    [['show', 'nix'], 1, /no snapshot 'nix'/],
    [['delete', 'nix'], 1, /no snapshot 'nix'/],
    [['load', 'tuesday', '--vdi', 'nix'], 1, /holds no VDI 'nix'/],
    [['load', 'tuesday', '--as', 'x'], 2, /say which/],
    [['load', 'tuesday', '--vdi', 'one', '--as', 'a/b'], 2, /a\/b/],
  ];

  test('tags and names are refused in a sentence, and nothing is changed', async () => {
    const before = [await world.names(), await tags()];
    for (const [words, status, message] of CASES) {
      await refused(snapshot(...words), status, message);
    }
    expect([await world.names(), await tags()]).toEqual(before);
  });

  test('a sample of nothing is refused', () =>
    refused(['cluster', 'check', '--sample', '0'], 2, /above 0 and up to 100/));
});

describe('a store of snapshots that is not what it was', () => {
  const farm = () => `${world.it.store}/farm`;

  test('damage is told with the object, the VDI and its bytes; what is whole can be loaded', async () => {
    const noise = (await packs()).filter((name) => name.endsWith('.pack'));
    const sizes = await Promise.all(
      noise.map(async (name) => ({
        name,
        size: (await readFile(`${farm()}/packs/${name}`)).length,
      })),
    );
    const { name = '' } = sizes.toSorted((a, b) => b.size - a.size)[0] ?? {};
    await flipBit(`${farm()}/packs/${name}`, MiB);
    const said = await world.collie('cluster', 'check');
    expect(said.status).toBe(1);
    expect(said.out).toMatch(/bytes \d+ to \d+ of disk\S* are lost: object [0-9a-f]{64} in/);
    expect(said.out).toMatch(/not sound/);
    await expect
      .poll(() => logged(world.daemon, 'cluster.checked').at(-1))
      .toMatchObject({ level: 'error' });
    const { flaws } = JSON.parse((await world.collie('--json', 'cluster', 'check')).out);
    expect(flaws[0]).toMatchObject({
      ...{ snapshot: expect.any(String), export: expect.stringMatching(/^disk/) },
      ...{ object: expect.any(String), at: expect.any(Number), length: expect.any(Number) },
    });
    const [{ snapshot: tag, object }] = flaws;
    await shell('$collie vdi delete -s golden disk; $collie vdi delete disk');
    const before = await world.names();
    const words = snapshot('load', tag, '--vdi', 'disk');
    await refused(words, 1, new RegExp(`'disk@golden' cannot be loaded.*${object}`));
    expect(await world.names()).toEqual(before);
    await json('load', tag, '--vdi', 'one', '--as', 'whole');
    expect(await countIn('whole')).toBe(await countIn('one'));
  });

  test('of another version, or in whose place something else lies, it is refused by name', async () => {
    const text = await readFile(`${farm()}/farm.json`, 'utf8');
    await writeFile(
      `${farm()}/farm.json`,
      text.replace(/"formatVersion": \d+/, '"formatVersion": 99'),
    );
    await refused(snapshot('list'), 1, /version 99.*knows version \d/);
    await refused(snapshot('save', 'x'), 1, /version 99/);
    await rename(farm(), `${world.path}/farm`);
    await shell('mkdir store/farm; touch store/farm/letter.txt');
    await refused(snapshot('save', 'x'), 2, /no store of snapshots.*letter\.txt/);
    await refused(snapshot('gc'), 2, /letter\.txt/);
    await shell('rm -r store/farm');
    await refused(snapshot('load', 'tuesday'), 1, /no snapshot of the cluster was saved yet/);
    expect(await list()).toEqual({ snapshots: [], lost: [], running: [] });
    expect(await json('gc')).toEqual({ dryRun: false, freedBytes: 0, liveBytes: 0, keptBytes: 0 });
  });
});
