import { open, readdir, stat, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { canMount, smallDisk } from './bad-luck-small-disk.ts';
import { Attached } from './bad-luck-store.ts';
import { ended, feed, World } from './collie-world.ts';
import { COLLIE, succeed } from './daemon.ts';

/** A file system with some files, 64 MiB, and a block of noise: holes, small runs and large ones. */
async function makeImage(path: string): Promise<void> {
  const tree = new URL('../../src', import.meta.url).pathname;
  await succeed('mke2fs', ['-q', '-t', 'ext4', '-d', tree, path, '64M']);
  const noise = ['if=/dev/urandom', `of=${path}`, 'bs=1M', 'seek=40', 'count=3', 'conv=notrunc'];
  await succeed('dd', ['status=none', ...noise]);
  await succeed('fallocate', ['--dig-holes', path]);
}

const allocatedBytes = async (path: string) => (await stat(path)).blocks * 512;
const cmp = (a: string, b: string) => succeed('cmp', [a, b]);

/** Settles once the export `name` holds data. */
async function dataArrived(world: World, name: string): Promise<void> {
  const look = async () => (await world.it.collie('vdi', 'info', name, '--json')).out;
  await expect.poll(look, { timeout: 30_000, interval: 50 }).toMatch(/"objects": [1-9]/);
}

describe.skipIf(!hasTool('qemu-img'))('a disk in and out', () => {
  let world: World;
  let image: string;
  beforeAll(async () => {
    world = await World.open();
    image = `${world.path}/image`;
    await makeImage(image);
  });
  afterAll(async () => {
    expect(world.daemon.log.filter(({ level }) => level === 'error')).toEqual([]);
    await world[Symbol.asyncDispose]();
  });

  test('import makes the VDI, and export gives the same bytes and no more space', async () => {
    const imported = await world.json('vdi', 'import', image, 'first');
    expect(imported).toMatchObject({ name: 'first', sizeBytes: 64 * MiB, created: true });
    const { dataBytes } = imported as { dataBytes: number };
    expect(dataBytes).toBeGreaterThanOrEqual(3 * MiB);
    expect(dataBytes).toBeLessThanOrEqual(await allocatedBytes(image));
    await world.expectSame(image, 'first');
    const back = `${world.path}/back`;
    const exported = await world.json('vdi', 'export', 'first', back);
    expect(exported).toEqual({ export: 'first', file: back, sizeBytes: 64 * MiB, dataBytes });
    await cmp(image, back);
    expect(await allocatedBytes(back)).toBeLessThanOrEqual(dataBytes + 256 * KiB);
    // The VDI is sparse as well: every piece that is all hole has no object.
    const { objects } = (await world.json('vdi', 'info', 'first')) as { objects: number };
    expect(objects).toBeLessThan(16);
  });

  test('over pipes, and from files that the shell opened', async () => {
    const lines = [
      '$collie vdi import $PWD/image piped',
      '$collie vdi export piped - | $collie vdi import - other --size 64M',
      '$collie vdi import - redirected < image',
      'cat image | $collie vdi import - catted --size 64M',
      '$collie vdi export other - > other.raw',
      'cmp image other.raw',
      '$collie vdi import <(cat image) substituted --size 64M',
      'mkfifo fifo; cat fifo > from-fifo & $collie vdi export other fifo && wait && cmp image from-fifo',
      '$collie vdi export other /dev/null',
    ];
    for (const line of lines) expect(await world.shell(line), line).toMatchObject({ status: 0 });
    for (const name of ['other', 'redirected', 'catted', 'substituted']) {
      await world.expectSame(image, name);
    }
    const objectsOf = async (name: string) => (await world.json('vdi', 'info', name))['objects'];
    expect(await objectsOf('other')).toBe(await objectsOf('piped'));
  });

  test('a reader that goes away early is told as a failure', async () => {
    const said = await world.shell('$collie vdi export first - | head -c 1000 > /dev/null');
    expect(said).toMatchObject({ status: 1, err: expect.stringMatching(/standard output: EPIPE/) });
  });

  test('an export over an existing file replaces it only when it is whole', async () => {
    const target = `${world.path}/kept`;
    await writeFile(target, 'the last good copy');
    await world.json('vdi', 'create', 'large', '1T');
    {
      await using client = await Attached.to(world.it.nbdSocket, 'large');
      for (let at = 0; at < 64 * MiB; at += 16 * MiB) await client.write(at, 16 * MiB, 7);
    }
    const exporting = feed(world, 'vdi', 'export', 'large', target);
    await expect.poll(() => readdir(world.path), { timeout: 30_000 }).toContain('kept.draft');
    exporting.kill('SIGINT');
    const said = await ended(exporting);
    // A quick machine may be done before the signal: then it is whole.
    if (said.status === 0) expect((await stat(target)).size).toBe(2 ** 40);
    else {
      expect(said.err).toMatch(/stopped by SIGINT; \S+\/kept is as it was before/);
      await using file = await open(target);
      expect(await file.readFile('utf8')).toBe('the last good copy');
    }
    expect(await readdir(world.path)).not.toContain('kept.draft');
    await world.json('vdi', 'export', 'large', target);
    expect((await stat(target)).size).toBe(2 ** 40);
  });
});

describe('an import that breaks off', () => {
  test('by a signal leaves nothing of a VDI that it made', async () => {
    await using world = await World.open();
    const importing = feed(world, 'vdi', 'import', '-', 'half', '--size', '64M');
    importing.stdin?.write(new Uint8Array(16 * MiB).fill(1));
    await dataArrived(world, 'half');
    const said = ended(importing);
    importing.kill('SIGINT');
    expect(await said).toEqual({
      status: 1,
      out: '',
      err: "collie: stopped by SIGINT; 'half', which was made for it, is deleted again\n",
    });
    expect(await world.names()).toEqual([]);
  });

  test('by a signal says what is left of a VDI that was there', async () => {
    await using world = await World.open();
    await world.json('vdi', 'create', 'there', '64M');
    const importing = feed(world, 'vdi', 'import', '-', 'there');
    importing.stdin?.write(new Uint8Array(16 * MiB).fill(1));
    await dataArrived(world, 'there');
    const said = ended(importing);
    importing.kill('SIGTERM');
    expect(await said).toMatchObject({
      status: 1,
      err: expect.stringMatching(/stopped by SIGTERM; 'there' now holds a part of it: import it/),
    });
  });

  test('by the end of the daemon says so, and what to do', async () => {
    await using world = await World.open();
    const importing = feed(world, 'vdi', 'import', '-', 'half', '--size', '64M');
    importing.stdin?.write(new Uint8Array(16 * MiB).fill(1));
    await dataArrived(world, 'half');
    const said = ended(importing);
    await world.daemon.stop('SIGKILL');
    // Nothing more is written: it is told although its source is silent.
    expect(await said).toMatchObject({
      status: 1,
      out: '',
      err: expect.stringMatching(
        /^collie: .*closed the connection.*'half', which was made for it, holds only a part: collie vdi delete half\n$/,
      ),
    });
    world.daemon = await world.it.start();
    expect(await world.names()).toEqual(['half']);
    expect(await world.collie('vdi', 'delete', 'half')).toMatchObject({ status: 0 });
  });

  test('because there is more than the disk holds says so', async () => {
    await using world = await World.open();
    await world.json('vdi', 'create', 'small', '4M');
    const said = await world.shell('head -c 9M /dev/urandom | $collie vdi import - small');
    expect(said).toMatchObject({
      status: 2,
      err: expect.stringMatching(
        /more to import than the 4194304 bytes.*; 'small' now holds a part/,
      ),
    });
  });

  test('by the end of the daemon while it is exported leaves no file', async () => {
    await using world = await World.open();
    await world.shell('head -c 64M /dev/urandom > noise; $collie vdi import noise disk');
    await succeed('mkfifo', [`${world.path}/fifo`]);
    const exporting = feed(world, 'vdi', 'export', 'disk', `${world.path}/fifo`);
    const said = ended(exporting);
    await using fifo = await open(`${world.path}/fifo`, 'r');
    await fifo.read(new Uint8Array(1024), 0, 1024); // it has begun, and waits for us
    await world.daemon.stop('SIGKILL');
    for (let got = 1; got > 0; ) got = (await fifo.read(new Uint8Array(MiB), 0, MiB)).bytesRead;
    expect(await said).toMatchObject({
      status: 1,
      err: expect.stringMatching(/closed the connection/),
    });
  });
});

describe('a difference that breaks off in a pipe', () => {
  /** A VDI `from` with snapshots `one` and `two`, and `to`, which is `from@one` and has it too. */
  async function pair(): Promise<World> {
    const world = await World.open();
    // Twice is no harm, and a failure in here must not leave a daemon.
    onTestFinished(() => world[Symbol.asyncDispose]());
    const lines = [
      'head -c 16M /dev/urandom > one; $collie vdi import one from',
      '$collie vdi import one to',
      'for vdi in from to; do $collie vdi snapshot -s one $vdi; done',
      'cp one two; head -c 12M /dev/urandom | dd status=none of=two conv=notrunc',
      '$collie vdi import two from; $collie vdi snapshot -s two from',
    ];
    for (const line of lines)
      expect(await world.shell(`set -e; ${line}`)).toMatchObject({ status: 0 });
    return world;
  }
  const sent = '$collie vdi export from@two - --from one';

  test('is taken back, and goes through when it is sent again', async () => {
    await using world = await pair();
    const cut = await world.shell(`${sent} | head -c 6M | $collie vdi import - to`);
    expect(cut.status).toBe(1);
    expect(cut.err).toMatch(
      /damaged: it ends inside record \d+; 'to' is again as it was at snapshot/,
    );
    expect(await world.shell('$collie vdi export to - | cmp - one')).toMatchObject({ status: 0 });
    const whole = await world.shell(`${sent} | $collie vdi import - to`);
    expect(whole).toMatchObject({ status: 0, out: 'to@two is to@one with 12 MiB changed\n' });
    expect(await world.shell('$collie vdi export to@two - | cmp - two')).toMatchObject({
      status: 0,
    });
  });

  test('keeps a copy on another sheep, first whole and then by what changed', async () => {
    await using world = await pair();
    await using far = await World.open();
    const there = `${COLLIE} -a ${far.it.adminSocket}`;
    for (const line of [
      `$collie vdi export from@one - | ${there} vdi import - copy --size 16M`,
      `${there} vdi snapshot -s one copy`,
      `${sent} | ${there} vdi import - copy`,
      `${there} vdi export copy@two - | cmp - two`,
    ]) {
      expect(await world.shell(line), line).toMatchObject({ status: 0 });
    }
  });

  test('with the daemon says what to do, and until then nothing else goes on top', async () => {
    await using world = await pair();
    await world.shell(`${sent} > stream`);
    const importing = feed(world, 'vdi', 'import', '-', 'to');
    await using stream = await open(`${world.path}/stream`);
    const half = new Uint8Array(6 * MiB);
    await stream.read(half, 0, half.length);
    importing.stdin?.write(half);
    const changed = async () => (await world.json('vdi', 'diff', 'to@one', 'to'))['changedBytes'];
    await expect.poll(changed, { timeout: 30_000, interval: 50 }).toBeGreaterThan(0);
    const said = ended(importing);
    await world.daemon.stop('SIGKILL');
    expect(await said).toMatchObject({
      status: 1,
      err: expect.stringMatching(/'to' may hold a part of .*: collie vdi rollback -s one to\n$/),
    });
    world.daemon = await world.it.start();
    const again = await world.shell('$collie vdi import stream to');
    expect(again).toMatchObject({
      status: 2,
      err: expect.stringMatching(/'to' has changed since/),
    });
    expect(await world.shell('$collie vdi rollback -s one to')).toMatchObject({ status: 0 });
    expect(await world.shell('$collie vdi import stream to')).toMatchObject({ status: 0 });
    expect(await world.shell('$collie vdi export to - | cmp - two')).toMatchObject({ status: 0 });
  });
});

describe.skipIf(!canMount())('a block device', () => {
  test('is read and written in place, old data between the new goes, and one too small is refused', async () => {
    await using world = await World.open();
    const [image, behind] = [`${world.path}/image`, `${world.path}/behind`];
    await makeImage(image);
    await world.shell('head -c 65M /dev/urandom > behind; head -c 1M /dev/zero > little');
    const detach = async (device: string) => void (await succeed('losetup', ['-d', device]));
    const attach = async (file: string) =>
      (await succeed('losetup', ['-f', '--show', file])).trim();
    await using owned = new AsyncDisposableStack();
    const device = await attach(behind);
    owned.defer(() => detach(device));
    const little = await attach(`${world.path}/little`);
    owned.defer(() => detach(little));
    await world.json('vdi', 'import', image, 'disk');
    await world.json('vdi', 'export', 'disk', device);
    expect(await world.shell(`cmp -n 67108864 ${device} image`)).toMatchObject({ status: 0 });
    const imported = await world.json('vdi', 'import', device, 'again');
    expect(imported).toMatchObject({ sizeBytes: 65 * MiB });
    await world.expectSame(behind, 'again');
    const said = await world.collie('vdi', 'export', 'disk', little);
    expect(said).toMatchObject({
      status: 1,
      err: expect.stringMatching(/has 1048576 bytes, and the disk 67108864/),
    });
    expect(await world.shell(`cmp ${little} little`)).toMatchObject({ status: 0 });
  });
});

describe.skipIf(!canMount())('on a full disk', () => {
  test('an import says so and gives its space back; what else is there stays', async () => {
    await using world = await World.open(await smallDisk(128 * MiB));
    await world.json('vdi', 'create', 'keep', '4M');
    {
      await using client = await Attached.to(world.it.nbdSocket, 'keep');
      expect(await client.write(0, 4 * MiB, 7)).toBe(0);
    }
    const line = 'head -c 300M /dev/urandom | $collie vdi import - large --size 300M';
    const said = await world.shell(line);
    expect(said).toMatchObject({
      status: 1,
      err: expect.stringMatching(/; 'large', which was made for it, is deleted again\n$/),
    });
    expect(said.err).toMatch(/ENOSPC|full|no space/i);
    expect(await world.names()).toEqual(['keep']);
    // The space is there for another one.
    const again = 'head -c 16M /dev/urandom | $collie vdi import - fits --size 16M';
    expect(await world.shell(again)).toMatchObject({ status: 0 });
    await using client = await Attached.to(world.it.nbdSocket, 'keep');
    expect(await client.read(0, 4 * MiB)).toBe(7);
  });

  test('an export says so and leaves nothing', async () => {
    await using world = await World.open();
    await using target = await smallDisk(32 * MiB);
    await world.shell('head -c 64M /dev/urandom > noise; $collie vdi import noise disk');
    const said = await world.collie('vdi', 'export', 'disk', `${target.path}/copy`);
    expect(said).toMatchObject({
      status: 1,
      err: expect.stringMatching(/cannot write \S+copy.draft: ENOSPC.*copy is as it was before\n$/),
    });
    expect(await readdir(target.path)).toEqual([]);
  });
});
