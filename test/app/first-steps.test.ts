import { join } from 'node:path';
import { expect, test } from 'vitest';
import { scratch } from '../cluster/scratch.ts';
import { Daemon, succeed } from './daemon.ts';

/** What README.md tells a new user to do, in that order, with a real file system in the image. */
test('an image copied into a VDI is there, also after kill -9 of the daemon', async () => {
  await using owned = new AsyncDisposableStack();
  const { path: directory } = owned.use(await scratch());
  const image = join(directory, 'image');
  // A file system of 256 MiB with some thousand files in it.
  const tree = join(import.meta.dirname, '../../node_modules/fastify');
  await succeed('mke2fs', ['-q', '-t', 'ext4', '-d', tree, image, '256M']);

  const store = join(directory, 'store');
  const start = () =>
    Daemon.start([
      store,
      '-n',
      '127.0.0.1:0',
      '--admin',
      `unix:${directory}/a`,
      '--vdi',
      'demo:8G',
    ]);
  const raw = ['-f', 'raw'];
  const first = owned.use(await start());
  const uri = `nbd://${first.nbd}/demo`;
  await succeed('qemu-img', [
    ...['convert', '-n', ...raw, '-O', 'raw', '-t', 'writethrough', image, uri],
  ]);
  const same = ['compare', ...raw, '-F', 'raw', image];
  expect(await succeed('qemu-img', [...same, uri])).toContain('Images are identical');
  await first.stop('SIGKILL');

  const second = owned.use(await start());
  const again = `nbd://${second.nbd}/demo`;
  expect(await succeed('qemu-img', [...same, again])).toContain('Images are identical');
  // And what stands in the VDI is a sound file system.
  const copy = join(directory, 'copy');
  await succeed('qemu-img', ['convert', ...raw, '-O', 'raw', again, copy]);
  await succeed('truncate', ['-s', '256M', copy]);
  await succeed('e2fsck', ['-f', '-n', copy]);
  expect(await second.stop('SIGTERM')).toBe(0);
}, 120_000);
