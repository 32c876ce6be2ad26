import { readdir, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { TransferWorld } from '../app-unit/transfer-world.ts';
import { Attached } from './bad-luck-store.ts';

const B = BLOCK_BYTES;
const SLICE = 64 * KiB;

interface Created {
  readonly id: string;
  readonly base: string | null;
  readonly created: boolean;
  readonly readBytes: number;
  readonly newBytes: number;
  readonly sharedBytes: number;
}

let world: TransferWorld;
beforeAll(async () => {
  world = await TransferWorld.open();
});
afterAll(() => world[Symbol.asyncDispose]());

const store = (name: string) => `${world.path}/${name}`;
const create = async (source: string, to: string, ...more: string[]) =>
  (await world.json('backup', 'create', source, '--to', store(to), ...more)) as unknown as Created;
const restore = (from: string, id: string, name: string, ...more: string[]) =>
  world.json('backup', 'restore', store(from), id, name, ...more);
/** Once the sheep has noticed too that the client which read it is gone. */
const deleteSnapshot = (name: string, tag: string) =>
  expect
    .poll(() => world.run('vdi', 'delete', '-s', tag, name), { timeout: 5000 })
    .toMatchObject({ status: 0 });
const snapshot = (name: string, tag: string) => world.json('vdi', 'snapshot', '-s', tag, name);

describe('collie backup create and restore', () => {
  test('a snapshot goes into a new store and comes back as another VDI, holes as holes', async () => {
    await world.json('vdi', 'create', 'disk', '16M', '--object-size', '1M');
    await world.write('disk', 3 * MiB, 200 * KiB, 0x11);
    await world.write('disk', 10 * MiB + B, B, 0x22);
    await snapshot('disk', 'monday');
    const made = await create('disk@monday', 'first');
    expect(made).toMatchObject({ base: null, created: true });
    await world.write('disk', 3 * MiB, MiB, 0x33);
    await restore('first', made.id, 'again');
    await world.expectSame('again', await world.bytesOf('disk@monday'));
    const info = { sizeBytes: 16 * MiB, objectBytes: MiB, objects: 2 };
    expect(await world.json('vdi', 'info', 'again')).toMatchObject(info);
    expect(await world.json('vdi', 'map', 'again')).toMatchObject({
      extents: [
        { offset: 0, content: 'hole' },
        { offset: 3 * MiB, length: 200 * KiB, content: 'data' },
        { content: 'hole' },
        { offset: 10 * MiB + B, length: B, content: 'data' },
        { content: 'hole' },
      ],
    });
  });

  test('a disk of which nothing was ever written is backed up and comes back', async () => {
    await world.json('vdi', 'create', 'empty', '10M');
    await snapshot('empty', 's');
    const { id, readBytes } = await create('empty@s', 'emptiness');
    expect(readBytes).toBe(0);
    await restore('emptiness', id, 'empty-again');
    await world.expectSame('empty-again', new Uint8Array(10 * MiB));
  });

  test('a later backup reads what changed since the nearest state that was backed up', async () => {
    await world.json('vdi', 'create', 'grown', '8M', '--object-size', '1M');
    await world.write('grown', 0, 4 * MiB, 1);
    await snapshot('grown', 'a');
    const first = await create('grown@a', 'grown-store');
    await world.write('grown', MiB, B, 2);
    await snapshot('grown', 'between');
    await world.write('grown', 6 * MiB, SLICE, 3);
    await world.trim('grown', 2 * MiB, 2 * MiB);
    await snapshot('grown', 'b');
    const second = await create('grown@b', 'grown-store');
    expect(second).toMatchObject({ base: first.id, readBytes: 2 * SLICE, newBytes: 2 * SLICE });
    await world.json('vdi', 'resize', 'grown', '12M');
    await world.write('grown', 11 * MiB + 5, 10, 4);
    await snapshot('grown', 'c');
    const third = await create('grown@c', 'grown-store');
    expect(third).toMatchObject({ base: second.id, newBytes: SLICE });
    for (const { id, name } of [
      { ...first, name: 'a' },
      { ...second, name: 'b' },
      { ...third, name: 'c' },
    ]) {
      await restore('grown-store', id, `grown-${name}`);
      await world.expectSame(`grown-${name}`, await world.bytesOf(`grown@${name}`));
    }
  });

  test('snapshots between two backups may be gone, the earlier one may not', async () => {
    await world.json('vdi', 'create', 'rotated', '4M');
    await world.write('rotated', 0, MiB, 1);
    await snapshot('rotated', 'a');
    const first = await create('rotated@a', 'rotation');
    await world.write('rotated', 0, B, 2);
    await snapshot('rotated', 'gone');
    await world.write('rotated', 2 * MiB, B, 3);
    await snapshot('rotated', 'b');
    await deleteSnapshot('rotated', 'gone');
    const second = await create('rotated@b', 'rotation');
    expect(second).toMatchObject({ base: first.id, readBytes: 2 * SLICE });
    await world.json('vdi', 'diff', 'rotated@a', 'rotated@b');
    await deleteSnapshot('rotated', 'b');
    await world.write('rotated', 0, B, 4);
    await snapshot('rotated', 'c');
    const third = await create('rotated@c', 'rotation');
    expect(third).toMatchObject({ base: first.id });
    await deleteSnapshot('rotated', 'a');
    await world.write('rotated', 0, B, 5);
    await snapshot('rotated', 'd');
    await deleteSnapshot('rotated', 'c');
    // Everything is read, and only what is new is stored.
    const fourth = await create('rotated@d', 'rotation');
    expect(fourth).toMatchObject({ base: null, newBytes: SLICE });
    await restore('rotation', third.id, 'rotated-c');
    const expected = Buffer.alloc(4 * MiB)
      .fill(1, 0, MiB)
      .fill(4, 0, B)
      .fill(3, 2 * MiB, 2 * MiB + B);
    await world.expectSame('rotated-c', expected);
    await restore('rotation', fourth.id, 'rotated-d');
    await world.expectSame('rotated-d', expected.fill(5, 0, B));
  });

  test('a clone costs what it changed, beside the backup of what it was made from', async () => {
    await world.json('vdi', 'create', 'golden', '4M');
    await world.write('golden', 0, 3 * MiB, 9);
    await snapshot('golden', 'v1');
    const base = await create('golden@v1', 'family');
    await world.json('vdi', 'clone', '-s', 'v1', 'golden', 'web');
    await world.write('web', 2 * MiB, B, 7);
    await snapshot('web', 'now');
    const clone = await create('web@now', 'family');
    expect(clone).toMatchObject({ base: base.id, readBytes: SLICE, newBytes: SLICE });
    // 64 KiB of one value compress to nearly nothing; three trees name them.
    const shown = await world.json('backup', 'show', store('family'), clone.id);
    expect(shown).toMatchObject({ source: 'web@now', contentBytes: 2 * SLICE });
    const { neededBytes, exclusiveBytes } = shown as Record<string, number>;
    expect(exclusiveBytes).toBeGreaterThan(0);
    expect(exclusiveBytes).toBeLessThan(neededBytes as number);
    await restore('family', clone.id, 'web-again');
    await world.expectSame('web-again', await world.bytesOf('web@now'));
  });

  test('what a rollback left behind is no base, and what it went back to is one', async () => {
    await world.json('vdi', 'create', 'rolled', '8M');
    await world.write('rolled', 0, MiB, 1);
    await snapshot('rolled', 'a');
    const first = await create('rolled@a', 'rolls');
    await world.write('rolled', MiB, MiB, 2);
    await snapshot('rolled', 'b');
    await create('rolled@b', 'rolls');
    await world.json('vdi', 'rollback', '-s', 'a', 'rolled');
    await world.write('rolled', 2 * MiB, B, 3);
    await snapshot('rolled', 'c');
    const third = await create('rolled@c', 'rolls');
    expect(third).toMatchObject({ base: first.id, readBytes: SLICE });
    await restore('rolls', third.id, 'rolled-again');
    await world.expectSame('rolled-again', await world.bytesOf('rolled@c'));
  });

  test('the same snapshot again stores nothing; under a tag it is another backup of it', async () => {
    await world.json('vdi', 'create', 'twice', '8M');
    await world.write('twice', 0, MiB, 1);
    await snapshot('twice', 's');
    const first = await create('twice@s', 'twins');
    const files = await readdir(`${store('twins')}/packs`);
    expect(await create('twice@s', 'twins')).toMatchObject({ id: first.id, created: false });
    expect(await readdir(`${store('twins')}/packs`)).toEqual(files);
    const kept = await create('twice@s', 'twins', '--tag', 'keep-me');
    expect(kept).toMatchObject({ created: true, base: first.id, readBytes: 0, newBytes: 0 });
    await restore('twins', 'keep-me', 'twice-again');
    await world.expectSame('twice-again', await world.bytesOf('twice@s'));
  });

  test('a VDI that exists is written over when that is asked for, and zero behind its end', async () => {
    await world.json('vdi', 'create', 'small', '4M');
    await world.write('small', MiB, SLICE, 1);
    await snapshot('small', 's');
    const { id } = await create('small@s', 'over');
    await world.json('vdi', 'create', 'target', '8M');
    await world.write('target', 0, 8 * MiB, 7);
    const refused = ['backup', 'restore', store('over'), id, 'target'];
    expect(await world.run(...refused)).toMatchObject({
      ...{ status: 1, err: expect.stringMatching(/there is a VDI 'target'.* --overwrite to lose/) },
    });
    expect(await restore('over', id, 'target', '--overwrite')).toMatchObject({ created: false });
    const expected = Buffer.alloc(8 * MiB).fill(1, MiB, MiB + SLICE);
    await world.expectSame('target', expected);
    {
      await using _client = await Attached.to(world.nbd, 'target');
      expect(await world.run(...refused, '--overwrite')).toMatchObject({
        ...{ status: 1, err: expect.stringMatching(/'target' is in use by unix:.*detach/) },
      });
    }
    await world.json('vdi', 'create', 'tiny', '1M');
    expect(
      await world.run('backup', 'restore', store('over'), id, 'tiny', '--overwrite'),
    ).toMatchObject({
      ...{
        status: 2,
        err: expect.stringMatching(/'tiny' only 1048576; .* collie vdi resize tiny/),
      },
    });
  });

  test.each(['sha256 none', 'sha1 zlib'])('a store of %s', async (shape) => {
    const [hash = '', codec = ''] = shape.split(' ');
    const name = `shape-${hash}-${codec}`;
    await world.json('vdi', 'create', name, '8M');
    await world.write(name, 0, MiB, 1);
    await snapshot(name, 's');
    const { id } = await create(`${name}@s`, name, '--hash', hash, '--codec', codec);
    expect(id).toMatch(hash === 'sha1' ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/);
    await restore(name, id.slice(0, 6), `${name}-again`);
    await world.expectSame(`${name}-again`, await world.bytesOf(`${name}@s`));
    expect(await world.json('backup', 'list', store(name))).toMatchObject({ hash, codec });
    const other = ['backup', 'create', `${name}@s`, '--to', store(name), '--codec', 'zlib'];
    if (codec === 'zlib') await world.json(...other);
    else {
      expect(await world.run(...other)).toMatchObject({
        ...{ status: 2, err: expect.stringMatching(/made with --codec (none|zstd) and keeps it/) },
      });
    }
  });

  test('what cannot be is refused before anything changes, with what to do', async () => {
    await world.json('vdi', 'create', 'plain', '1M');
    await snapshot('plain', 's');
    const { id } = await create('plain@s', 'refusals');
    await writeFile(`${world.path}/file`, 'x');
    const names = await world.names();
    const files = await readdir(world.path);
    const [new_, there] = [store('new'), store('refusals')];
    const cases: [string, number, RegExp][] = [
      [`create plain --to ${new_}`, 2, /'plain' changes while .* collie vdi snapshot -s TAG plain/],
      [`create plain@none --to ${new_}`, 1, /none/],
      [`create none@s --to ${new_}`, 1, /'none' has no snapshot 's'/],
      ['create plain@s', 2, /required option '--to <directory>'/],
      [`create plain@s --to ${world.path}/store`, 2, /no store of snapshots .* it holds/],
      [`create plain@s --to ${world.path}/file`, 1, /ENOTDIR|EEXIST/],
      [`create plain@s --to ${new_} --hash md5`, 2, /Allowed choices are sha256, sha1/],
      [`create plain@s --to ${new_} --tag 17`, 2, /all digits/],
      [`list ${new_}`, 1, /new holds no store/],
      [`show ${there} 0123456789`, 1, /no backup '0123456789'; collie backup list shows/],
      [`restore ${there} ${id} a@b`, 2, /contains '@'/],
      [`restore ${there} nonsense fresh`, 1, /no backup 'nonsense'/],
      [`restore ${there} ${id} plain`, 1, /there is a VDI 'plain'/],
      [`verify ${there} --sample 0`, 2, /--sample takes how many of a hundred/],
      [`prune ${there}`, 2, /Without any of --keep-last/],
      [`prune ${there} --keep-last some`, 2, /--keep-last takes how many/],
      [`prune ${there} --keep-last 1 --grace soon`, 2, /--grace takes a number with s, m, h or d/],
      [`delete ${there} none`, 1, /no backup 'none'/],
    ];
    for (const [line, status, message] of cases) {
      const said = await world.run('backup', ...line.split(' '));
      expect(said, line).toMatchObject({ status, out: '', err: expect.stringMatching(message) });
    }
    const empty = await world.run('backup', 'create', 'plain@s', '--to', '');
    expect(empty).toMatchObject({ status: 2, err: expect.stringMatching(/which directory/) });
    expect(await world.names()).toEqual(names);
    expect(await readdir(world.path)).toEqual(files);
  });

  test('people are told in a few lines', async () => {
    await world.json('vdi', 'create', 'told', '8M');
    await world.write('told', 0, MiB, 1);
    await snapshot('told', 's');
    const made = await world.run('backup', 'create', 'told@s', '--to', store('telling'));
    expect(made.out).toMatch(/^[0-9a-f]{8} told@s 8 MiB: 1 MiB read, [\d.]+ (KiB|B) stored\n$/);
    const id = made.out.slice(0, 8);
    const again = await world.run('backup', 'create', 'told@s', '--to', store('telling'));
    expect(again.out).toBe(`told@s is there already: backup ${id}\n`);
    const { out: list } = await world.run('backup', 'list', store('telling'));
    expect(list).toMatch(
      new RegExp(
        `^ID +MADE +SNAPSHOT +TAKEN +SIZE +TAG\\n${id} +[\\d: -]+ told@s +[\\d: -]+ 8 MiB\\n$`,
      ),
    );
    const { out: shown } = await world.run('backup', 'show', store('telling'), id);
    expect(shown).toMatch(/^snapshot: +told@s, ID \d+, of cluster [0-9a-f-]{36}$/m);
    const restored = await world.run('backup', 'restore', store('telling'), id, 'told-again');
    expect(restored.out).toBe('told-again is told@s again, 1 MiB of 8 MiB written\n');
    const verified = await world.run('backup', 'verify', store('telling'));
    expect(verified.out).toMatch(/^1 backup verified: sound \([\d.]+ (KiB|B) read\)\n$/);
  });
});
