import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { hasNewerQemu, newerQemu } from '../../scripts/newer-qemu.ts';
import { GiB, MiB, PiB } from '../../src/base/units.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { Daemon } from '../app/daemon.ts';
import { scratch } from '../cluster/scratch.ts';
import { ForeignServer } from './servers.ts';
import { Tap } from './tap.ts';

const run = promisify(execFile);
const MIDDLE = PiB / 2;

/** A daemon with VDIs `large`, of 1 PiB, and `small`, and a tap before it. */
async function world() {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const server = join(path, 'nbd');
  const vdis = ['--vdi', `large:${PiB}`, '--vdi', `small:${64 * MiB}`];
  const admin = `unix:${path}/admin`;
  owned.use(
    await Daemon.start([`${path}/store`, '-n', `unix:${server}`, '--admin', admin, ...vdis]),
  );
  const tap = owned.use(await Tap.between(join(path, 'tap'), server));
  return {
    path,
    tap,
    uri: (name: string) => `nbd+unix:///${name}?socket=${tap.socket}`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Every request and every reply that passed had the long header. */
function expectExtended({ seen }: Tap): void {
  expect(seen).toMatchObject({ compactRequests: 0, simpleReplies: 0, structuredReplies: 0 });
  expect(seen.extendedRequests).toBeGreaterThan(0);
  expect(seen.extendedReplies).toBeGreaterThan(0);
}

describe.skipIf(!hasNewerQemu())('QEMU with extended headers', () => {
  const qemu = (tool: 'qemu-img' | 'qemu-io', ...args: string[]) =>
    run(join(newerQemu(), tool), args).then(({ stdout }) => stdout);

  test('zeroes a disk of 1 PiB in one request, reads and writes it', async () => {
    await using at = await world();
    const io = (...commands: string[]) =>
      qemu('qemu-io', '-f', 'raw', at.uri('large'), ...commands.flatMap((one) => ['-c', one]));
    await io('write -P 0x5a 512T 1M', `write -P 0x3c ${PiB - 65_536} 64k`);
    const before = at.tap.seen.extendedRequests;
    expect(await io('write -z -n -u 0 1P')).toContain(`wrote ${PiB}/${PiB} bytes`);
    // The request itself, a flush or two around it, and the end.
    expect(at.tap.seen.extendedRequests - before).toBeLessThan(8);
    await io('read -P 0 512T 1M', `read -P 0 ${PiB - 65_536} 64k`);
    await io('write -P 0x77 512T 1M', 'write -z -n -u 4k 500T', 'read -P 0x77 512T 1M');
    expectExtended(at.tap);
  });

  test('maps it, with extents longer than 32 bits can say', async () => {
    await using at = await world();
    await qemu('qemu-io', '-f', 'raw', at.uri('large'), '-c', 'write -P 0x11 512T 1M');
    const map = JSON.parse(await qemu('qemu-img', 'map', '--output=json', at.uri('large')));
    expect(map).toMatchObject([
      { start: 0, length: MIDDLE, zero: true, data: false },
      { start: MIDDLE, length: MiB, zero: false, data: true },
      { start: MIDDLE + MiB, length: PiB - MIDDLE - MiB, zero: true, data: false },
    ]);
    expectExtended(at.tap);
  });

  test('copies an image in and out again, the same', async () => {
    await using at = await world();
    const image = join(at.path, 'image');
    const bytes = new Uint8Array(64 * MiB);
    for (let place = 0; place < 20 * MiB; place += 1) bytes[place] = (place >> 7) & 0x7f;
    await writeFile(image, bytes);
    const raw = ['-f', 'raw', '-O', 'raw'];
    await qemu('qemu-img', 'convert', '-n', ...raw, image, at.uri('small'));
    const compared = await qemu(
      'qemu-img',
      'compare',
      '-f',
      'raw',
      '-F',
      'raw',
      image,
      at.uri('small'),
    );
    expect(compared).toContain('Images are identical');
    await qemu('qemu-img', 'convert', ...raw, at.uri('small'), `${image}.back`);
    await run('cmp', [image, `${image}.back`]);
    expectExtended(at.tap);
  });

  test('serves our own client, which then asks for a whole disk at once', async () => {
    await using at = await scratch();
    const [file, socket] = [join(at.path, 'disk'), join(at.path, 'nbd')];
    const [size, place] = [8 * GiB, 6 * GiB];
    await qemu('qemu-img', 'create', '-f', 'raw', file, String(size));
    const raw = ['-t', '-k', socket, '-f', 'raw', file];
    await using _ = await ForeignServer.start(join(newerQemu(), 'qemu-nbd'), raw, socket);
    await using tap = await Tap.between(join(at.path, 'tap'), socket);
    await using client = await connectNbd(await openNodeNet(), `unix:${tap.socket}`, '');
    const bytes = new Uint8Array(100_000).fill(7);
    await client.write(place, bytes, { durable: true });
    const back = new Uint8Array(bytes.length);
    await client.read(place, back);
    expect(back).toEqual(bytes);
    // The first block of a raw image is never a hole.
    const [hole, data] = await client.extents(MiB, size - MiB, 10);
    expect(hole).toEqual({ length: place - MiB, hole: true, zero: true });
    expect(data).toMatchObject({ hole: false, zero: false });
    const zero = { durable: false, keepAllocated: false, fastOnly: false };
    await client.writeZeroes(0, place + MiB, zero);
    await client.read(place, back);
    expect(back).toEqual(new Uint8Array(bytes.length));
    expectExtended(tap);
  });
});

test('our own client and our own server agree on them', async () => {
  await using at = await world();
  const client = await connectNbd(await openNodeNet(), `unix:${at.tap.socket}`, 'large');
  await using _ = client;
  expect(await client.extents(0, PiB, 10)).toEqual([{ length: PiB, hole: true, zero: true }]);
  await client.trim(0, PiB, { durable: true });
  expectExtended(at.tap);
});
