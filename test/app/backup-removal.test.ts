import { randomBytes } from 'node:crypto';
import { open, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { nodeDisk } from '../../src/host/node-disk.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { TransferWorld } from '../app-unit/transfer-world.ts';

interface Listed {
  readonly id: string;
  readonly tag: string;
  readonly source: string;
}
interface Removed {
  readonly removed: string[];
  readonly freedBytes: number;
  readonly backups: (Listed & { readonly keptBy: string[] })[];
}

let world: TransferWorld;
beforeAll(async () => {
  world = await TransferWorld.open();
});
afterAll(() => world[Symbol.asyncDispose]());

const path = (store: string) => `${world.path}/${store}`;
const create = async (source: string, store: string): Promise<string> =>
  (await world.json('backup', 'create', source, '--to', path(store)))['id'] as string;
const list = async (store: string) =>
  (await world.json('backup', 'list', path(store)))['backups'] as Listed[];
const prune = async (store: string, ...how: string[]) =>
  (await world.json('backup', 'prune', path(store), ...how)) as unknown as Removed;

/** Bytes that are nowhere else and do not compress. */
async function writeNoise(vdi: string, at: number, length: number): Promise<void> {
  await using device = await connectNbd(await openNodeNet(), world.nbd, vdi);
  await device.write(at, randomBytes(length), { durable: false });
}

/** Sum of the packs' sizes. */
async function packBytes(store: string): Promise<number> {
  const folder = `${path(store)}/packs`;
  const sizes = (await readdir(folder)).map(async (name) => (await stat(`${folder}/${name}`)).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

async function packsByAge(store: string) {
  const folder = `${path(store)}/packs`;
  const packs = (await readdir(folder)).map(async (name) => {
    const { size, mtimeMs } = await stat(`${folder}/${name}`);
    return { name, size, mtimeMs };
  });
  return (await Promise.all(packs)).sort((a, b) => a.mtimeMs - b.mtimeMs);
}

/** A VDI with so many snapshots, each with 256 KiB of noise of its own, all backed up. */
async function filled(vdi: string, store: string, count: number): Promise<string[]> {
  await world.json('vdi', 'create', vdi, '4M');
  const ids: string[] = [];
  for (let nth = 0; nth < count; nth += 1) {
    await writeNoise(vdi, nth * 256 * KiB, 256 * KiB);
    await world.json('vdi', 'snapshot', '-s', `s${nth}`, vdi);
    ids.push(await create(`${vdi}@s${nth}`, store));
  }
  return ids;
}

describe('collie backup prune and delete', () => {
  test('what the rules keep stays, byte for byte; a dry run tells the same and does nothing', async () => {
    const ids = await filled('pruned', 'pruning', 5);
    await filled('other', 'pruning', 1);
    const files = await readdir(`${path('pruning')}/packs`);
    const rules = ['--keep-last', '2', '--keep-weekly', '1', '--grace', '0s'];
    const planned = await prune('pruning', ...rules, '--dry-run');
    expect(await readdir(`${path('pruning')}/packs`)).toEqual(files);
    expect(await list('pruning')).toHaveLength(6);
    const before = await packBytes('pruning');
    const done = await prune('pruning', ...rules);
    expect(done).toEqual({ ...planned, dryRun: false });
    expect(done.removed.toSorted()).toEqual(ids.slice(0, 3).toSorted());
    expect(done.backups.map(({ source, keptBy }) => [source, ...keptBy])).toEqual([
      ['pruned@s4', 'last', 'weekly'],
      ['pruned@s3', 'last'],
      ['pruned@s2'],
      ['pruned@s1'],
      ['pruned@s0'],
      ['other@s0', 'last', 'weekly'],
    ]);
    expect((await list('pruning')).map(({ source }) => source)).toEqual([
      ...['pruned@s3', 'pruned@s4', 'other@s0'],
    ]);
    // All noise is still needed by the later backups: trees and snaps of the earlier ones go.
    expect(before - (await packBytes('pruning'))).toBe(done.freedBytes);
    expect(await world.json('backup', 'verify', path('pruning'))).toMatchObject({ findings: [] });
    await world.json('backup', 'restore', path('pruning'), ids[3] as string, 'pruned-again');
    await world.expectSame('pruned-again', await world.bytesOf('pruned@s3'));
  });

  test('what only a deleted backup needed is freed', async () => {
    const [first, second] = await filled('single', 'deleting', 2);
    await writeNoise('single', 2 * MiB, MiB);
    await world.json('vdi', 'snapshot', '-s', 'big', 'single');
    const big = await create('single@big', 'deleting');
    const before = await packBytes('deleting');
    const asked = ['backup', 'delete', path('deleting'), big.slice(0, 8)];
    const planned = await world.run(...asked, '--grace', '0s', '--dry-run');
    expect(planned.out).toMatch(/^1 of 3 backups would be removed, 1 MiB would be freed; /);
    // Young files are left alone, whoever they are of.
    expect((await world.run(...asked)).out).toMatch(/^1 of 3 backups removed, 0 B freed; /);
    expect(await packBytes('deleting')).toBe(before);
    await prune('deleting', '--keep-last', '9', '--grace', '0s');
    expect(await packBytes('deleting')).toBeLessThan(before - MiB);
    expect((await list('deleting')).map(({ id }) => id)).toEqual([first, second]);
    expect(await world.json('backup', 'verify', path('deleting'))).toMatchObject({ findings: [] });
    // And the next one is built on what is there.
    expect(await create('single@big', 'deleting')).not.toBe(big);
    expect(await world.json('backup', 'verify', path('deleting'))).toMatchObject({ findings: [] });
  });

  test('while somebody writes to the store nobody else does, and is told who it is', async () => {
    await filled('locked', 'locking', 1);
    await world.json('vdi', 'create', 'late', '1M');
    await world.json('vdi', 'snapshot', '-s', 's', 'late');
    {
      await using _held = await nodeDisk().lock(`${path('locking')}/lock`);
      const text = { host: 'tower', pid: 77, bootId: 'b', nonce: 'n', refreshedMs: 0 };
      await writeFile(`${path('locking')}/lock`, JSON.stringify(text));
      for (const words of [
        ['create', 'late@s', '--to', path('locking')],
        ['prune', path('locking'), '--keep-last', '1'],
        ['delete', path('locking'), 's'],
      ]) {
        expect(await world.run('backup', ...words)).toMatchObject({
          ...{ status: 1, err: expect.stringMatching(/lock is held by tower, process 77; wait/) },
        });
      }
      // Reading needs no lock.
      expect(await list('locking')).toHaveLength(1);
      await prune('locking', '--keep-last', '1', '--dry-run');
    }
    // Whoever held it is gone without a word: it was on another machine, and long ago.
    const said = await world.run('backup', 'create', 'late@s', '--to', path('locking'));
    expect(said).toMatchObject({ status: 0, err: expect.stringMatching(/lock-taken-over.*tower/) });
  });
});

describe('damage to a store of backups', () => {
  test('verify names the backup, the disk and the bytes that a damaged pack takes away', async () => {
    const [first, second] = await filled('hurt', 'hurting', 2);
    const folder = `${path('hurting')}/packs`;
    // The largest pack of the second backup's noise.
    const packs = await packsByAge('hurting');
    const [, pack] = packs.filter(({ size }) => size > 256 * KiB);
    await using file = await open(`${folder}/${pack?.name}`, 'r+');
    await file.write(Buffer.of(1, 2, 3), 0, 3, 100_000);
    const said = await world.run('backup', 'verify', path('hurting'));
    expect(said.status).toBe(1);
    const short = second?.slice(0, 8);
    expect(said.out).toMatch(
      new RegExp(`^backup ${short}: bytes \\d+ to \\d+ of hurt@s1 are lost: object [0-9a-f]{64} `),
    );
    expect(said.out).toMatch(/\n2 backups verified: not sound, 1 flaw \(/);
    const sound = await world.run('backup', 'verify', path('hurting'), first as string);
    expect(sound).toMatchObject({ status: 0, err: '' });
    // What was restored up to there is deleted again, and nothing looks like the whole.
    const names = await world.names();
    const restored = await world.run(
      'backup',
      'restore',
      path('hurting'),
      second as string,
      'half',
    );
    expect(restored).toMatchObject({
      ...{ status: 1, out: '' },
      err: expect.stringMatching(/bytes \d+ to \d+ of the disk are lost: .*'half', which was made/),
    });
    expect(await world.names()).toEqual(names);
    // Whoever relies on what is there has the same damage; whoever proves it heals all that share it.
    await world.json('vdi', 'clone', '-s', 's1', 'hurt', 'twin');
    await world.json('vdi', 'snapshot', '-s', 's', 'twin');
    await create('twin@s', 'hurting');
    const both = await world.run('backup', 'verify', path('hurting'));
    expect(both.out).toMatch(/not sound, 2 flaws/);
    const healing = ['backup', 'create', 'twin@s', '--to', path('hurting'), '--prove'];
    expect(await world.json(...healing)).toMatchObject({ base: null, newBytes: 64 * KiB });
    expect(await world.json('backup', 'verify', path('hurting'))).toMatchObject({ findings: [] });
    await prune('hurting', '--keep-last', '9', '--grace', '0s');
    expect(await world.json('backup', 'verify', path('hurting'))).toMatchObject({ findings: [] });
    await world.json('backup', 'restore', path('hurting'), second as string, 'whole');
    await world.expectSame('whole', await world.bytesOf('hurt@s1'));
  });

  test('a backup is not built on damaged trees, and says what to do instead', async () => {
    const [first] = await filled('stump', 'felled', 1);
    const [tree] = (await packsByAge('felled')).filter(({ size }) => size < 64 * KiB);
    {
      // Behind the headers of the pack and of its first object.
      await using file = await open(`${path('felled')}/packs/${tree?.name}`, 'r+');
      await file.write(Buffer.of(0xff, 0xff, 0xff), 0, 3, 64 + 56 + 9);
    }
    await writeNoise('stump', MiB, 4 * KiB);
    await world.json('vdi', 'snapshot', '-s', 'next', 'stump');
    const creating = ['backup', 'create', 'stump@next', '--to', path('felled')];
    expect(await world.run(...creating)).toMatchObject({
      ...{ status: 1, err: expect.stringMatching(/object [0-9a-f]+ .* is damaged: .* --prove/) },
    });
    expect((await list('felled')).map(({ id }) => id)).toEqual([first]);
    await world.json(...creating, '--prove');
    // The tree of the other snapshot is another one; that of the same is healed.
    expect(await world.run('backup', 'verify', path('felled'))).toMatchObject({ status: 1 });
    await world.json('backup', 'create', 'stump@s0', '--to', path('felled'), '--prove');
    expect(await world.json('backup', 'verify', path('felled'))).toMatchObject({ findings: [] });
  });

  test('a backup of which nothing can be read is listed as lost, and can be deleted', async () => {
    const [first, second] = await filled('gone', 'losing', 2);
    const folder = `${path('losing')}/packs`;
    const packs = await packsByAge('losing');
    // The trees of the first backup.
    const [tree] = packs.filter(({ size }) => size < 64 * KiB);
    await rm(`${folder}/${tree?.name}`);
    const listed = await world.run('backup', 'list', path('losing'));
    expect(listed.status).toBe(1);
    expect(listed.out).toMatch(new RegExp(`\n${first?.slice(0, 8)} [\\d: -]+ is lost: object `));
    const refused = await world.run('backup', 'restore', path('losing'), first as string, 'x');
    expect(refused.err).toMatch(/is lost: object [0-9a-f]+ \(snap\) is not there/);
    expect(await world.run('backup', 'verify', path('losing'))).toMatchObject({ status: 1 });
    // Nobody knows what it needs, so nothing is freed while it is there.
    const files = await readdir(folder);
    const pruned = await world.run('backup', 'prune', path('losing'), '--keep-last', '1');
    expect(pruned).toMatchObject({
      status: 1,
      err: expect.stringMatching(/is not there; .* delete removes a backup/),
    });
    expect(await readdir(folder)).toEqual(files);
    await world.json('backup', 'delete', path('losing'), first as string);
    expect((await list('losing')).map(({ id }) => id)).toEqual([second]);
    expect(await world.json('backup', 'verify', path('losing'))).toMatchObject({ findings: [] });
  });
});
