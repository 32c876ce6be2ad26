import { copyFile, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { Attached } from '../app/bad-luck-store.ts';
import { TransferWorld } from './transfer-world.ts';

const B = BLOCK_BYTES;
let world: TransferWorld;
beforeAll(async () => {
  world = await TransferWorld.open();
});
afterAll(() => world[Symbol.asyncDispose]());

describe('collie vdi import and export', () => {
  test('an existing VDI becomes what the file is: old data goes, and its end is zero', async () => {
    const file = await world.makeFile('replacing', 10 * MiB, [[MiB, 64 * KiB, 3]]);
    await world.json('vdi', 'create', 'existing', '20M');
    await world.write('existing', 0, 20 * MiB, 7);
    const imported = await world.json('vdi', 'import', file, 'existing');
    expect(imported).toEqual({
      ...{ name: 'existing', sizeBytes: 20 * MiB, dataBytes: 64 * KiB, created: false },
    });
    const longer = `${world.path}/longer`;
    await copyFile(file, longer);
    await truncate(longer, 20 * MiB);
    await world.expectSame('existing', await readFile(longer));
    const { objects } = await world.json('vdi', 'info', 'existing');
    expect(objects).toBe(1);
  });

  test('a file of an odd length is a disk of whole blocks, zero behind it', async () => {
    const file = await world.makeFile('odd', 3 * MiB + 5, [[0, 3 * MiB + 5, 0x61]]);
    const imported = await world.json('vdi', 'import', file, 'odd');
    expect(imported).toMatchObject({ sizeBytes: 3 * MiB + B, created: true });
    await truncate(file, 3 * MiB + B);
    await world.expectSame('odd', await readFile(file));
  });

  test('--size makes the VDI larger than the file', async () => {
    const file = await world.makeFile('short', MiB, [[0, 10, 1]]);
    expect(await world.json('vdi', 'import', file, 'roomy', '--size', '5M')).toMatchObject({
      ...{ sizeBytes: 5 * MiB, dataBytes: B },
    });
    await truncate(file, 5 * MiB);
    await world.expectSame('roomy', await readFile(file));
  });

  test('an export is as sparse as the disk, also where that was written with zeroes', async () => {
    await world.json('vdi', 'create', 'sparse', '1G');
    await world.write('sparse', 0, MiB, 1);
    await world.write('sparse', 512 * MiB, MiB, 0);
    const file = `${world.path}/sparse.raw`;
    expect(await world.json('vdi', 'export', 'sparse', file)).toMatchObject({ dataBytes: MiB });
    const { size, blocks } = await stat(file);
    expect(size).toBe(2 ** 30);
    expect(blocks * 512).toBeLessThanOrEqual(MiB + 64 * KiB);
  });

  test('people are told in a line', async () => {
    const file = await world.makeFile('said', 8 * MiB, [[0, MiB, 1]]);
    expect(await world.run('vdi', 'import', file, 'said')).toMatchObject({
      ...{ status: 0, out: 'said 8 MiB imported, 1 MiB of it data\n' },
    });
    expect(await world.run('vdi', 'export', 'said', `${world.path}/said.raw`)).toMatchObject({
      ...{ status: 0, out: `${world.path}/said.raw 8 MiB, 1 MiB of it data\n` },
    });
  });

  test('a disk in use is neither changed nor copied while it changes; its snapshot is', async () => {
    const file = await world.makeFile('busy', 4 * MiB, [[0, 4 * MiB, 5]]);
    await world.json('vdi', 'import', file, 'busy');
    await using client = await Attached.to(world.nbd, 'busy');
    expect(await world.run('vdi', 'import', file, 'busy')).toMatchObject({
      ...{ status: 1, out: '', err: expect.stringMatching(/'busy' is in use by unix:.*detach/) },
    });
    expect(await world.run('vdi', 'export', 'busy', `${world.path}/busy.raw`)).toMatchObject({
      ...{
        status: 1,
        out: '',
        err: expect.stringMatching(/in use by .*export a snapshot: collie/),
      },
    });
    await world.json('vdi', 'snapshot', '-s', 'monday', 'busy');
    expect(await client.write(0, MiB, 9)).toBe(0);
    await world.expectSame('busy@monday', await readFile(file));
  });

  test('--raw takes the bytes as they are', async () => {
    const file = await world.makeFile('inner', MiB, []);
    await using handle = await open(file, 'r+');
    await handle.write('QFI\xfb\0\0\0\x03', 0, 'latin1');
    expect(await world.run('vdi', 'import', file, 'inner')).toMatchObject({ status: 2 });
    await world.json('vdi', 'import', file, 'inner', '--raw');
    await world.expectSame('inner', await readFile(file));
  });

  test('what cannot be is refused before anything changes, with what to do', async () => {
    const image = await world.makeFile('image', 8 * MiB, [[0, B, 1]]);
    const vhdx = await world.makeFile('vhdx', MiB, []);
    await writeFile(vhdx, 'vhdxfile', { flag: 'r+' });
    await world.makeFile('empty', 0, []);
    await world.json('vdi', 'create', 'small', '1M');
    const before = await world.names();
    const files = await readdir(world.path);
    const cases: [string, number, RegExp][] = [
      [`import ${vhdx} new`, 2, /is a VHDX file .* qemu-img convert -f vhdx -O raw \S+\/vhdx /],
      [`import ${world.path}/empty new`, 2, /empty is empty/],
      [`import ${world.path}/none new`, 1, /cannot open \S+\/none: ENOENT/],
      [`import ${world.path} new`, 2, /is a directory; give a file/],
      [`import ${image} new --size 1M`, 2, /has 8388608 bytes, more than --size 1M/],
      [`import ${image} new --size many`, 2, /"many" is not a size/],
      [`import ${image} small`, 2, /'small' only 1048576; .*: collie vdi resize small 8388608/],
      [`import ${image} small --size 8M`, 2, /'small' exists; to change it: collie vdi resize/],
      [`import ${image} a@b`, 2, /contains '@'/],
      [`import ${image} new --nbd nowhere`, 2, /"nowhere" is no address/],
      [`export none ${world.path}/out`, 1, /no VDI 'none'/],
      [`export small@none ${world.path}/out`, 1, /none/],
      [`export small ${world.path}`, 2, /is a directory; give a file in it/],
      [`export small ${world.path}/nowhere/out`, 1, /cannot open \S+nowhere\/out.draft: ENOENT/],
      [`export small ${world.path}/out --from none`, 1, /none/],
      ['diff small small', 2, /which snapshot\?/],
      ['map none', 1, /no VDI 'none'/],
    ];
    for (const [line, status, message] of cases) {
      const said = await world.run('vdi', ...line.split(' '));
      expect(said, line).toMatchObject({ status, out: '', err: expect.stringMatching(message) });
    }
    expect(await world.names()).toEqual(before);
    expect(await readdir(world.path)).toEqual(files);
  });
});
