import { copyFile, open, readdir, stat, truncate } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { Attached } from '../app/bad-luck-store.ts';
import { TransferWorld } from './transfer-world.ts';

const B = BLOCK_BYTES;
let world: TransferWorld;
/** What stood on `source` at its snapshots, and the difference between them. */
let one: Buffer;
let two: Buffer;
let difference: string;

/** `source` of 20 MiB with snapshots `one` and `two`, and the difference between these. */
beforeAll(async () => {
  world = await TransferWorld.open();
  const file = await world.makeFile('source', 20 * MiB, [
    [0, 6 * MiB, 1],
    [16 * MiB, MiB, 2],
  ]);
  await world.json('vdi', 'import', file, 'source');
  await world.json('vdi', 'snapshot', '-s', 'one', 'source');
  await world.write('source', MiB + B, 2 * B, 3);
  await world.trim('source', 4 * MiB, MiB);
  await world.write('source', 12 * MiB, 10, 4);
  await world.json('vdi', 'snapshot', '-s', 'two', 'source');
  one = await world.bytesOf('source@one');
  two = await world.bytesOf('source@two');
  difference = `${world.path}/difference`;
  const exported = await world.json('vdi', 'export', 'source@two', difference, '--from', 'one');
  expect(exported).toEqual({
    ...{ export: 'source@two', base: 'source@one', file: difference },
    ...{ records: 4, changedBytes: MiB + 3 * B },
  });
});
afterAll(() => world[Symbol.asyncDispose]());

/** A VDI that is what `source` was at `one`, and has a snapshot of that. */
async function replica(name: string): Promise<void> {
  await world.json('vdi', 'export', 'source@one', `${world.path}/${name}.raw`);
  await world.json('vdi', 'import', `${world.path}/${name}.raw`, name);
  await world.json('vdi', 'snapshot', '-s', 'one', name);
}

describe('a difference between snapshots', () => {
  test('is as small as what changed', async () => {
    expect((await stat(difference)).size).toBeLessThan(3 * B + 2 * KiB);
  });

  test('brings another VDI from the one state to the other, with its snapshot', async () => {
    await replica('copy');
    expect(await world.json('vdi', 'import', difference, 'copy')).toEqual({
      ...{ name: 'copy', base: 'one', snapshot: 'two', sizeBytes: 20 * MiB },
      ...{ records: 4, changedBytes: MiB + 3 * B },
    });
    await world.expectSame('copy', two);
    await world.expectSame('copy@two', two);
    await world.expectSame('copy@one', one);
    // And on from there, to the state of now, which has no tag; by IDs as well.
    await world.write('source', 19 * MiB, B, 9);
    const next = `${world.path}/next`;
    const { vid } = await world.json('vdi', 'info', 'source@two');
    await world.json('vdi', 'export', 'source', next, '--from', `${vid}`);
    const said = await world.run('vdi', 'import', next, 'copy');
    expect(said).toMatchObject({ status: 0, out: 'copy is copy@two with 4 KiB changed\n' });
    await world.expectSame('copy', await world.bytesOf('source'));
  });

  test('between a snapshot and a clone of it is one too', async () => {
    await world.json('vdi', 'clone', '-s', 'one', 'source', 'clone');
    await world.write('clone', 0, B, 5);
    const file = `${world.path}/of-clone`;
    const args = ['export', 'clone', file, '--from', 'source@one'];
    expect(await world.json('vdi', ...args)).toMatchObject({ changedBytes: B });
    await replica('of-a-clone');
    await world.json('vdi', 'import', file, 'of-a-clone');
    await world.expectSame('of-a-clone', await world.bytesOf('clone'));
  });

  test('of a disk that has grown and shrunk gives it its size', async () => {
    await replica('sized');
    await world.json('vdi', 'clone', '-s', 'one', 'source', 'sizes');
    await world.json('vdi', 'snapshot', '-s', 'one', 'sizes');
    for (const size of [30 * MiB, 2 * MiB]) {
      await world.json('vdi', 'resize', 'sizes', `${size}`);
      await world.write('sizes', size - B, B, 8);
      const [tag, file] = [`of${size}`, `${world.path}/of-${size}`];
      await world.json('vdi', 'snapshot', '-s', tag, 'sizes');
      const from = size === 30 * MiB ? 'one' : `of${30 * MiB}`;
      await world.json('vdi', 'export', `sizes@${tag}`, file, '--from', from);
      expect(await world.json('vdi', 'import', file, 'sized')).toMatchObject({ sizeBytes: size });
      await world.expectSame('sized', await world.bytesOf('sizes'));
    }
  });
});

describe('a difference is refused', () => {
  /** Nothing of it was applied, and nothing was rolled back: the VDI is the very same one. */
  async function expectRefused(
    name: string,
    file: string,
    status: number,
    message: RegExp,
  ): Promise<void> {
    const [before, vid] = [await world.names(), (await world.json('vdi', 'info', name))['vid']];
    const bytes = await world.bytesOf(name);
    const said = await world.run('vdi', 'import', file, name);
    expect(said).toMatchObject({ status, out: '', err: expect.stringMatching(message) });
    expect(await world.names()).toEqual(before);
    expect(await world.json('vdi', 'info', name)).toMatchObject({ vid });
    await world.expectSame(name, bytes);
  }

  test('for a VDI that lacks the snapshot, that is not there, or that has the result', async () => {
    await world.json('vdi', 'create', 'strange', '20M');
    await expectRefused('strange', difference, 1, /starts from snapshot 'one', and 'strange' has/);
    await world.json('vdi', 'snapshot', '-s', 'one', 'strange');
    await expectRefused('source', difference, 1, /ends with snapshot 'two', and 'source' has that/);
    const missing = await world.run('vdi', 'import', difference, 'nowhere');
    expect(missing).toMatchObject({
      ...{
        status: 1,
        err: expect.stringMatching(/no VDI 'nowhere'; import that state first, then:/),
      },
    });
    const sized = await world.run('vdi', 'import', difference, 'strange', '--size', '1G');
    expect(sized).toMatchObject({ status: 2, err: expect.stringMatching(/leave --size out/) });
  });

  test('for a disk that holds something else, before anything of it changes', async () => {
    await replica('other');
    const elsewhere = await world.makeFile('elsewhere', 20 * MiB, [[0, 6 * MiB, 7]]);
    await world.json('vdi', 'import', elsewhere, 'elsewhere');
    await world.json('vdi', 'snapshot', '-s', 'one', 'elsewhere');
    await expectRefused(
      'elsewhere',
      difference,
      2,
      /at byte 1052672 the disk is not what the diff/,
    );
    await world.json('vdi', 'create', 'larger', '21M');
    await world.json('vdi', 'snapshot', '-s', 'one', 'larger');
    await expectRefused('larger', difference, 2, /of a disk of 20971520 bytes; 'larger@one' has/);
  });

  test('for a VDI that has changed since, with the way back', async () => {
    await replica('changed');
    await world.write('changed', 18 * MiB, B, 1);
    await expectRefused(
      ...(['changed', difference, 2] as const),
      /'changed' has changed since 'changed@one', at byte 18874368 .*rollback -s one changed/,
    );
    await world.json('vdi', 'rollback', '-s', 'one', 'changed');
    await world.json('vdi', 'import', difference, 'changed');
    await world.expectSame('changed', two);
  });

  test('for a VDI in use', async () => {
    await replica('used');
    await using client = await Attached.to(world.nbd, 'used');
    const said = await world.run('vdi', 'import', difference, 'used');
    expect(said).toMatchObject({ status: 1, err: expect.stringMatching(/'used' is in use by/) });
    expect(await client.read(MiB + B, B)).toBe(1);
  });

  test('when it is cut short or altered', async () => {
    await replica('base');
    const length = (await stat(difference)).size;
    const broken = `${world.path}/broken`;
    for (const end of [500, 1024, 1500, length - 1]) {
      await copyFile(difference, broken);
      await truncate(broken, end);
      await expectRefused('base', broken, 1, /the difference stream is damaged: it ends/);
    }
    for (const [at, message] of [
      [40, /its header is altered/],
      [1024 + 40 + 100, /the bytes of record 1 are altered/],
      [length - 20, /is altered, or does not belong there/],
    ] as const) {
      await copyFile(difference, broken);
      {
        await using file = await open(broken, 'r+');
        await file.write(Uint8Array.of(0xee), 0, 1, at);
      }
      await expectRefused('base', broken, 1, message);
    }
  });

  test('where nobody keeps what changed', async () => {
    await world.json('vdi', 'create', 'alone', '20M');
    await world.json('vdi', 'snapshot', '-s', 'one', 'alone');
    const file = `${world.path}/refused`;
    for (const args of [
      ['export', 'alone', file, '--from', 'source@one'],
      ['export', 'source@one', file, '--from', 'two'],
      ['diff', 'source@two', 'source@one'],
    ]) {
      const said = await world.run('vdi', ...args);
      const message = /is not known: the one was not made from the other/;
      expect(said).toMatchObject({ status: 2, out: '', err: expect.stringMatching(message) });
    }
    expect(await readdir(world.path)).not.toContain('refused');
  });
});

describe('collie vdi diff', () => {
  test('shows the ranges that changed, for people and for programs', async () => {
    const said = await world.run('vdi', 'diff', 'source@one', 'source@two');
    const rows = said.out
      .trimEnd()
      .split('\n')
      .map((line) => line.trim().split(/ +/));
    expect(rows.slice(0, -1)).toEqual([
      ['OFFSET', 'LENGTH'],
      [`${MiB + B}`, `${2 * B}`],
      [`${4 * MiB}`, `${MiB}`],
      [`${12 * MiB}`, `${B}`],
    ]);
    expect(said.out).toMatch(/\n1 MiB of 20 MiB changed in source@two since source@one\n$/);
    expect(await world.json('vdi', 'diff', 'source@one', 'source@two')).toEqual({
      ...{ from: 'source@one', to: 'source@two', fromSizeBytes: 20 * MiB, sizeBytes: 20 * MiB },
      changedBytes: MiB + 3 * B,
      ranges: [
        { offset: MiB + B, length: 2 * B },
        { offset: 4 * MiB, length: MiB },
        { offset: 12 * MiB, length: B },
      ],
    });
  });

  test('of two equal states shows none', async () => {
    await world.json('vdi', 'clone', '-s', 'two', 'source', 'equal');
    const said = await world.run('vdi', 'diff', 'source@two', 'equal');
    expect(said.out).toBe('0 B of 20 MiB changed in equal since source@two\n');
  });
});

describe('collie vdi map', () => {
  test('shows what is held, and how many snapshots down', async () => {
    await world.json('vdi', 'clone', '-s', 'two', 'source', 'mapped');
    await world.write('mapped', 0, B, 6);
    type Row = { offset: number; length: number; content: string; depth: number };
    const { extents } = (await world.json('vdi', 'map', 'mapped')) as { extents: Row[] };
    const heldAt = (at: number) => {
      const row = extents.find(({ offset, length }) => offset <= at && at < offset + length);
      return [row?.content, row?.depth];
    };
    expect(heldAt(0)).toEqual(['data', 1]);
    expect(heldAt(B)).toEqual(['data', 3]);
    expect(heldAt(MiB + B)).toEqual(['data', 2]);
    expect(heldAt(4 * MiB)).toEqual(['hole', 0]);
    expect(heldAt(12 * MiB)).toEqual(['data', 2]);
    expect(heldAt(10 * MiB)).toEqual(['hole', 0]);
    let end = 0;
    for (const { offset, length } of extents) {
      expect(offset).toBe(end);
      end += length;
    }
    expect(end).toBe(20 * MiB);
    const said = await world.run('vdi', 'map', 'mapped');
    expect(said.out).toMatch(/^ *OFFSET +LENGTH +CONTENT +DEPTH\n +0 +4096 +data +1\n/);
    expect(said.out).toMatch(/4 KiB at depth 1, [\d.]+ KiB at depth 2, [\d.]+ MiB at depth 3\n$/);
  });

  test('of an empty disk says so', async () => {
    await world.json('vdi', 'create', 'void', '1T');
    const said = await world.run('vdi', 'map', 'void');
    expect(said.out).toMatch(/\n +0 +1099511627776 +hole +0\nall of it is a hole\n$/);
  });
});
