import { chmod, open, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { ImageFile, ImageStream, openImage } from '../../src/host/image-file.ts';
import { ImageOutput, openImageOutput, StreamOutput } from '../../src/host/image-output.ts';
import { succeed } from '../app/daemon.ts';
import { scratch } from '../cluster/scratch.ts';

const MiB = 2 ** 20;

async function sparseFile(path: string): Promise<void> {
  await using file = await open(path, 'wx');
  await file.truncate(8 * MiB);
  await file.write(new Uint8Array(64 * 1024).fill(7), 0, 64 * 1024, 2 * MiB);
  await file.write(Uint8Array.of(9), 0, 1, 8 * MiB - 1);
}

async function image(path: string): Promise<ImageFile> {
  const opened = await openImage(path);
  if (opened instanceof ImageFile) return opened;
  throw new Error(`${path} cannot be sought in`);
}

async function output(path: string): Promise<ImageOutput> {
  const opened = await openImageOutput(path);
  if (opened instanceof ImageOutput) return opened;
  throw new Error(`${path} cannot be sought in`);
}

test('a sparse file tells its holes and its data', async () => {
  await using directory = await scratch();
  const path = `${directory.path}/sparse`;
  await sparseFile(path);
  await using file = await image(path);
  expect(file.sizeBytes).toBe(8 * MiB);
  const runs: [number, boolean][] = [];
  for (let at = 0; at < file.sizeBytes; ) {
    for (const { length, zero } of await file.runs(at, file.sizeBytes - at)) {
      runs.push([length, zero]);
      at += length;
    }
  }
  expect(runs).toEqual([
    [2 * MiB, true],
    [64 * 1024, false],
    [6 * MiB - 64 * 1024 - 4096, true],
    [4096, false],
  ]);
  // What is asked about ends where the question ends.
  expect(await file.runs(2 * MiB + 5, 10)).toEqual([{ length: 10, zero: false }]);
  expect(await file.runs(0, 100)).toEqual([{ length: 100, zero: true }]);
  const bytes = new Uint8Array(3);
  await file.read(2 * MiB - 1, bytes);
  expect([...bytes]).toEqual([0, 7, 7]);
});

test('a file that becomes shorter while it is read is a failure, not zeroes', async () => {
  await using directory = await scratch();
  const path = `${directory.path}/shrinking`;
  await sparseFile(path);
  await using file = await image(path);
  await (
    await open(path, 'r+').then(async (other) => {
      await other.truncate(MiB);
      return other;
    })
  ).close();
  await expect(file.read(MiB - 10, new Uint8Array(20))).rejects.toThrow(/has become shorter/);
});

test('what cannot be read says so by its path', async () => {
  await using directory = await scratch();
  const { path } = directory;
  await expect(openImage(`${path}/none`)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  await expect(openImage(path)).rejects.toThrow(/is a directory; give a file/);
  await expect(openImageOutput(path)).rejects.toThrow(/is a directory; give a file in it/);
  const nowhere = openImageOutput(`${path}/none/file`);
  await expect(nowhere).rejects.toThrow(/cannot open .*none\/file.draft: ENOENT/);
});

test('a fifo is read as a stream, and what is no file is written as one', async () => {
  await using directory = await scratch();
  const path = `${directory.path}/fifo`;
  await succeed('mkfifo', [path]);
  const writing = openImageOutput(path);
  await using input = await openImage(path);
  expect(input).toBeInstanceOf(ImageStream);
  const sink = await writing;
  if (!(sink instanceof StreamOutput)) throw new Error('a fifo cannot be sought in');
  const appended = sink.append(new Uint8Array(100_000).fill(3)); // more than a pipe holds
  const closed = appended.then(() => sink[Symbol.asyncDispose]());
  let [length, all] = [0, true];
  for await (const chunk of input.chunks()) {
    length += chunk.length;
    all &&= chunk.every((byte) => byte === 3);
  }
  await closed;
  expect([length, all]).toEqual([100_000, true]);
});

test('a file has its name and its bytes only when it is complete', async () => {
  await using directory = await scratch();
  const path = `${directory.path}/disk`;
  await writeFile(path, 'before');
  await chmod(path, 0o640);
  {
    await using unfinished = await output(path);
    await unfinished.begin(MiB);
    await unfinished.write(0, new Uint8Array(100).fill(1));
    expect(await readFile(path, 'utf8')).toBe('before');
  }
  expect(await readdir(directory.path)).toEqual(['disk']);
  {
    await using file = await output(path);
    await file.begin(8 * MiB);
    await file.write(4 * MiB, new Uint8Array(10).fill(1));
    await file.zero(0, MiB);
    await file.complete();
  }
  const { size, blocks, mode } = await stat(path);
  expect({ size, mode: mode & 0o777 }).toEqual({ size: 8 * MiB, mode: 0o640 });
  expect(blocks * 512).toBeLessThan(MiB);
  expect(await readdir(directory.path)).toEqual(['disk']);
});

test('a new file is its owner’s alone, and a link leads to the file behind it', async () => {
  await using directory = await scratch();
  const [real, link] = [`${directory.path}/real`, `${directory.path}/link`];
  await writeFile(real, 'before');
  await symlink(real, link);
  for (const path of [link, `${directory.path}/new`]) {
    await using file = await output(path);
    await file.begin(5);
    await file.complete();
  }
  expect((await readFile(real)).length).toBe(5);
  expect((await readdir(directory.path)).toSorted()).toEqual(['link', 'new', 'real']);
  expect((await stat(`${directory.path}/new`)).mode & 0o777).toBe(0o600);
});

test('two exports to one file do not mix', async () => {
  await using directory = await scratch();
  const path = `${directory.path}/disk`;
  await using first = await output(path);
  await expect(openImageOutput(path)).rejects.toMatchObject({ code: 'ERR_BUSY' });
  await first.begin(10);
  await first.complete();
  expect((await readFile(path)).length).toBe(10);
});
