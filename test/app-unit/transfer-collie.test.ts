import { copyFile, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { Attached } from '../app/bad-luck-store.ts';
import { scratch } from '../cluster/scratch.ts';
import { collie, type Said, startTestSheep, type TestSheep } from './test-sheep.ts';

const B = BLOCK_BYTES;
let owned: AsyncDisposableStack;
let sheep: TestSheep;
let path: string;
let nbd: string;
beforeAll(async () => {
  owned = new AsyncDisposableStack();
  path = owned.use(await scratch()).path;
  nbd = `unix:${path}/nbd.sock`;
  sheep = owned.use(await startTestSheep(`${path}/store`, { nbd: [nbd] }));
});
afterAll(() => owned.disposeAsync());

const run = (...words: readonly string[]): Promise<Said> => collie(['-a', sheep.socket, ...words]);

/** What a command that must succeed says with `--json`. */
async function json(...words: readonly string[]): Promise<Record<string, unknown>> {
  const said = await run('--json', ...words);
  expect(said).toMatchObject({ status: 0, err: '' });
  return JSON.parse(said.out);
}
async function names(): Promise<string[]> {
  type Listed = { export: string }[];
  const { vdis, snapshots } = (await json('vdi', 'list')) as { vdis: Listed; snapshots: Listed };
  return [...vdis, ...snapshots].map((vdi) => vdi.export).sort();
}

/** A file of `sizeBytes` with runs of bytes in it: place, length, value. */
async function makeFile(
  name: string,
  sizeBytes: number,
  runs: readonly (readonly [number, number, number])[],
): Promise<string> {
  await using file = await open(`${path}/${name}`, 'w');
  await file.truncate(sizeBytes);
  for (const [at, length, value] of runs) {
    await file.write(new Uint8Array(length).fill(value), 0, length, at);
  }
  return `${path}/${name}`;
}

/** All bytes of an export. */
async function bytesOf(name: string): Promise<Buffer> {
  const file = `${path}/bytes-of-${name}`;
  await json('vdi', 'export', name, file);
  return readFile(file);
}
async function expectSame(name: string, file: string): Promise<void> {
  expect(Buffer.compare(await bytesOf(name), await readFile(file))).toBe(0);
}
async function write(name: string, at: number, length: number, value: number): Promise<void> {
  await using client = await Attached.to(nbd, name);
  expect(await client.write(at, length, value)).toBe(0);
}

describe('collie vdi import and export', () => {
  test('an existing VDI becomes what the file is: old data goes, and its end is zero', async () => {
    const file = await makeFile('replacing', 10 * MiB, [[MiB, 64 * KiB, 3]]);
    await json('vdi', 'create', 'existing', '20M');
    await write('existing', 0, 20 * MiB, 7);
    const imported = await json('vdi', 'import', file, 'existing');
    expect(imported).toEqual({
      ...{ name: 'existing', sizeBytes: 20 * MiB, dataBytes: 64 * KiB, created: false },
    });
    const longer = `${path}/longer`;
    await copyFile(file, longer);
    await truncate(longer, 20 * MiB);
    await expectSame('existing', longer);
    const { objects } = await json('vdi', 'info', 'existing');
    expect(objects).toBe(1);
  });

  test('a file of an odd length is a disk of whole blocks, zero behind it', async () => {
    const file = await makeFile('odd', 3 * MiB + 5, [[0, 3 * MiB + 5, 0x61]]);
    const imported = await json('vdi', 'import', file, 'odd');
    expect(imported).toMatchObject({ sizeBytes: 3 * MiB + B, created: true });
    await truncate(file, 3 * MiB + B);
    await expectSame('odd', file);
  });

  test('--size makes the VDI larger than the file', async () => {
    const file = await makeFile('short', MiB, [[0, 10, 1]]);
    expect(await json('vdi', 'import', file, 'roomy', '--size', '5M')).toMatchObject({
      ...{ sizeBytes: 5 * MiB, dataBytes: B },
    });
    await truncate(file, 5 * MiB);
    await expectSame('roomy', file);
  });

  test('an export is as sparse as the disk, also where that was written with zeroes', async () => {
    await json('vdi', 'create', 'sparse', '1G');
    await write('sparse', 0, MiB, 1);
    await write('sparse', 512 * MiB, MiB, 0);
    const file = `${path}/sparse.raw`;
    expect(await json('vdi', 'export', 'sparse', file)).toMatchObject({ dataBytes: MiB });
    const { size, blocks } = await stat(file);
    expect(size).toBe(2 ** 30);
    expect(blocks * 512).toBeLessThanOrEqual(MiB + 64 * KiB);
  });

  test('people are told in a line', async () => {
    const file = await makeFile('said', 8 * MiB, [[0, MiB, 1]]);
    expect(await run('vdi', 'import', file, 'said')).toEqual({
      ...{ status: 0, out: 'said 8 MiB imported, 1 MiB of it data\n', err: '' },
    });
    expect(await run('vdi', 'export', 'said', `${path}/said.raw`)).toEqual({
      ...{ status: 0, out: `${path}/said.raw 8 MiB, 1 MiB of it data\n`, err: '' },
    });
  });

  test('a disk in use is neither changed nor copied while it changes; its snapshot is', async () => {
    const file = await makeFile('busy', 4 * MiB, [[0, 4 * MiB, 5]]);
    await json('vdi', 'import', file, 'busy');
    await using client = await Attached.to(nbd, 'busy');
    expect(await run('vdi', 'import', file, 'busy')).toMatchObject({
      ...{ status: 1, out: '', err: expect.stringMatching(/'busy' is in use by unix:.*detach/) },
    });
    expect(await run('vdi', 'export', 'busy', `${path}/busy.raw`)).toMatchObject({
      ...{
        status: 1,
        out: '',
        err: expect.stringMatching(/in use by .*export a snapshot: collie/),
      },
    });
    await json('vdi', 'snapshot', '-s', 'monday', 'busy');
    expect(await client.write(0, MiB, 9)).toBe(0);
    await expectSame('busy@monday', file);
  });

  test('--raw takes the bytes as they are', async () => {
    const file = await makeFile('inner', MiB, []);
    await using handle = await open(file, 'r+');
    await handle.write('QFI\xfb\0\0\0\x03', 0, 'latin1');
    expect(await run('vdi', 'import', file, 'inner')).toMatchObject({ status: 2 });
    await json('vdi', 'import', file, 'inner', '--raw');
    await expectSame('inner', file);
  });

  test('what cannot be is refused before anything changes, with what to do', async () => {
    const image = await makeFile('image', 8 * MiB, [[0, B, 1]]);
    const vhdx = await makeFile('vhdx', MiB, []);
    await writeFile(vhdx, 'vhdxfile', { flag: 'r+' });
    await makeFile('empty', 0, []);
    await json('vdi', 'create', 'small', '1M');
    const before = await names();
    const files = await readdir(path);
    const cases: [string, number, RegExp][] = [
      [`import ${vhdx} new`, 2, /is a VHDX file .* qemu-img convert -f vhdx -O raw \S+\/vhdx /],
      [`import ${path}/empty new`, 2, /empty is empty/],
      [`import ${path}/none new`, 1, /cannot open \S+\/none: ENOENT/],
      [`import ${path} new`, 2, /is a directory; give a file/],
      [`import ${image} new --size 1M`, 2, /has 8388608 bytes, more than --size 1M/],
      [`import ${image} new --size many`, 2, /"many" is not a size/],
      [`import ${image} small`, 2, /'small' only 1048576; .*: collie vdi resize small 8388608/],
      [`import ${image} small --size 8M`, 2, /'small' exists; to change it: collie vdi resize/],
      [`import ${image} a@b`, 2, /contains '@'/],
      [`import ${image} new --nbd nowhere`, 2, /"nowhere" is no address/],
      [`export none ${path}/out`, 1, /no VDI 'none'/],
      [`export small@none ${path}/out`, 1, /none/],
      [`export small ${path}`, 2, /is a directory; give a file in it/],
      [`export small ${path}/nowhere/out`, 1, /cannot open \S+nowhere\/out.draft: ENOENT/],
      [`export small ${path}/out --from none`, 1, /none/],
      ['diff small small', 2, /which snapshot\?/],
      ['map none', 1, /no VDI 'none'/],
    ];
    for (const [line, status, message] of cases) {
      const said = await run('vdi', ...line.split(' '));
      expect(said, line).toMatchObject({ status, out: '', err: expect.stringMatching(message) });
    }
    expect(await names()).toEqual(before);
    expect(await readdir(path)).toEqual(files);
  });
});
