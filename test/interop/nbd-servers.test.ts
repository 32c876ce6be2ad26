import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd, type NbdClientOptions } from '../../src/nbd/client/connect.ts';
import { blockDeviceContract, type DeviceWorld } from '../contracts/block-device.ts';
import { pattern } from '../nbd/served.ts';
import { ForeignServer } from './servers.ts';

/** Our client with servers that are not ours. */
const SIZE = 64 * BLOCK_BYTES;

/** A folder, and servers and clients that are gone before it. */
class Place implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'sheepdog-servers-'));
  readonly socket = join(this.folder, 'nbd.sock');
  readonly #stack = new AsyncDisposableStack();

  constructor() {
    this.#stack.defer(() => rmSync(this.folder, { recursive: true }));
  }
  use<T extends AsyncDisposable>(one: T): T {
    return this.#stack.use(one);
  }
  async connect(exportName = '', options?: NbdClientOptions) {
    const net = await openNodeNet();
    return this.use(await connectNbd(net, `unix:${this.socket}`, exportName, options));
  }
  raw(sizeBytes = SIZE): string {
    const path = join(this.folder, 'disk.raw');
    writeFileSync(path, '');
    truncateSync(path, sizeBytes);
    return path;
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

type Start = (place: Place, image: string) => Promise<ForeignServer>;

async function world(start: Start, exportName: string): Promise<DeviceWorld> {
  await using opening = new AsyncDisposableStack();
  const place = opening.use(new Place());
  place.use(await start(place, place.raw()));
  const open = (): Promise<BlockDevice> => place.connect(exportName);
  const device = await open();
  const owned = opening.move();
  return { device, reopen: open, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const nbdkit =
  (...more: readonly string[]): Start =>
  (place, image) =>
    ForeignServer.nbdkit(place.socket, ...more, 'file', image);
const qemuNbd =
  (...more: readonly string[]): Start =>
  (place, image) =>
    ForeignServer.qemuNbd(place.socket, ...more, '-f', 'raw', image);

const DURABLE = { durable: true };
const ZERO = { durable: false, keepAllocated: false, fastOnly: false };

/** Data that crosses every border, read back by the client and by `image` itself. */
async function roundTrip(device: BlockDevice): Promise<void> {
  const { sizeBytes } = device.info;
  const model = pattern(sizeBytes, 7);
  await device.write(0, model, { durable: false });
  for (const [at, length] of [
    [1, 3],
    [BLOCK_BYTES - 1, 2],
    [5000, 70_000],
    [sizeBytes - 1, 1],
  ] as const) {
    const bytes = pattern(length, at);
    model.set(bytes, at);
    await device.write(at, bytes, DURABLE);
  }
  await device.writeZeroes(100_001, 50_000, ZERO);
  model.fill(0, 100_001, 150_001);
  await device.trim(200_000, 20_000, DURABLE);
  model.fill(0, 200_704, 217_088);
  const parts = Array.from({ length: 40 }, (_, index) => index * 6000);
  await Promise.all(parts.map((at) => device.write(at, model.subarray(at, at + 6000), ZERO)));
  expect(await shown(device)).toEqual(Buffer.from(model));
  const odd = new Uint8Array(99_999);
  await device.read(12_345, odd);
  expect(Buffer.from(odd)).toEqual(Buffer.from(model.subarray(12_345, 12_345 + 99_999)));
}

async function shown(device: BlockDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.info.sizeBytes, 0xa5);
  await device.read(0, bytes);
  return bytes;
}

describe.runIf(hasTool('nbdkit'))('nbdkit', () => {
  blockDeviceContract('a file of nbdkit', () => world(nbdkit(), ''), { readOnly: false });

  const lacking = (...filters: readonly string[]) => filters.map((name) => `--filter=${name}`);
  const policy = ['--filter=blocksize-policy', 'blocksize-error-policy=error'];
  test.for([
    ['simple replies only', ['--no-sr']],
    ['no zeroing, no extents, no FUA', lacking('nozero', 'noextents', 'fua')],
    ['requests of whole blocks of 4 KiB only', [...policy, 'blocksize-minimum=4096']],
    ['blocks of 64 KiB', [...policy, 'blocksize-minimum=64K', 'blocksize-preferred=64K']],
    ['a small maximum', [...policy, 'blocksize-maximum=64K', 'blocksize-preferred=512']],
    ['answers out of order', ['--filter=delay', 'rdelay=1ms', 'wdelay=1ms']],
  ] as const)('a server with %s', async ([, options]) => {
    await using place = new Place();
    // nbdkit takes a filter's settings after the plugin.
    const filters = options.filter((one) => one.startsWith('--'));
    const settings = options.filter((one) => !one.startsWith('--'));
    const image = place.raw();
    place.use(await ForeignServer.nbdkit(place.socket, ...filters, 'file', image, ...settings));
    const device = await place.connect();
    await roundTrip(device);
    await device.flush();
    expect(Buffer.compare(readFileSync(image), await shown(device))).toBe(0);
  });

  test('with blocks of 64 KiB parts of one block, written at once, do not undo each other', async () => {
    await using place = new Place();
    const settings = ['blocksize-minimum=64K', 'blocksize-preferred=64K'];
    const filter = '--filter=blocksize-policy';
    const strict = 'blocksize-error-policy=error';
    const file = ['file', place.raw(), ...settings, strict];
    place.use(await ForeignServer.nbdkit(place.socket, filter, ...file));
    const device = await place.connect();
    expect(device.blocks.minimumBytes).toBe(64 * KiB);
    const model = pattern(SIZE, 3);
    const parts = Array.from({ length: SIZE / 1024 }, (_, index) => index * 1024);
    await Promise.all(
      parts.map((at) => device.write(at, model.subarray(at, at + 1024), { durable: false })),
    );
    expect(await shown(device)).toEqual(Buffer.from(model));
  });

  test('a server that fails is heard, and asked again', async () => {
    await using place = new Place();
    const failing = [
      'error-pread=ENOSPC',
      'error-pread-rate=100%',
      `error-pread-file=${place.folder}/on`,
    ];
    const file = ['file', place.raw(), ...failing];
    place.use(await ForeignServer.nbdkit(place.socket, '--filter=error', ...file));
    const device = await place.connect();
    writeFileSync(join(place.folder, 'on'), '');
    const failed = device.read(4096, new Uint8Array(512));
    await expect(failed).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    await expect(failed).rejects.toThrow(/READ of 512 bytes at 4096: .*ENOSPC/);
    rmSync(join(place.folder, 'on'));
    await device.read(4096, new Uint8Array(512));
  });

  test('a server that is killed fails everything in flight, and what is asked later', async () => {
    await using place = new Place();
    const file = ['file', place.raw(), 'rdelay=60'];
    const server = place.use(await ForeignServer.nbdkit(place.socket, '--filter=delay', ...file));
    const device = await place.connect();
    const reads = Array.from({ length: 300 }, () => device.read(0, new Uint8Array(4096)));
    const outcomes = Promise.allSettled(reads);
    await server.kill();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_IO' } });
    }
    await expect(device.flush()).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  test('disks beyond 2^32 and large transfers', { timeout: 60_000 }, async () => {
    await using place = new Place();
    place.use(await ForeignServer.nbdkit(place.socket, 'memory', '8T'));
    const device = await place.connect();
    const bytes = pattern(48 * MiB);
    const at = 7 * 2 ** 40 + 123_457;
    await device.write(at, bytes, DURABLE);
    const into = new Uint8Array(bytes.length);
    await device.read(at, into);
    expect(Buffer.compare(into, bytes)).toBe(0);
    await device.writeZeroes(0, device.info.sizeBytes, ZERO);
    await device.read(at, into);
    expect(into.every((byte) => byte === 0)).toBe(true);
  });
});

describe.runIf(hasTool('qemu-nbd') && hasTool('qemu-img'))('qemu-nbd', () => {
  blockDeviceContract('a raw image of qemu-nbd', () => world(qemuNbd('--discard=unmap'), 'disk'), {
    readOnly: false,
  });

  test('its contexts are described as it tells them, beside the extents', async () => {
    await using place = new Place();
    const run = (tool: string, ...args: string[]) =>
      execFileSync(tool, args, { cwd: place.folder });
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', String(8 * MiB));
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 1M', 'base.qcow2');
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
    run('qemu-img', 'bitmap', '--add', 'top.qcow2', 'x');
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 64k 128k', 'top.qcow2');
    const options = ['-r', '-A', '-B', 'x', '-f', 'qcow2', join(place.folder, 'top.qcow2')];
    place.use(await ForeignServer.qemuNbd(place.socket, ...options));
    const [depth, bitmap] = ['qemu:allocation-depth', 'qemu:dirty-bitmap:x'];
    const device = await place.connect('disk', { contexts: [depth, bitmap, 'qemu:none'] });
    expect(device.info).toMatchObject({ readOnly: true, contexts: [depth, bitmap] });
    expect(await device.describe(depth, 0, 8 * MiB, 100)).toEqual([
      { length: 64 * KiB, flags: 2 },
      { length: 128 * KiB, flags: 1 },
      { length: MiB - 192 * KiB, flags: 2 },
      { length: 7 * MiB, flags: 0 },
    ]);
    expect(await device.describe(bitmap, 100_000, MiB, 100)).toEqual([
      { length: 192 * KiB - 100_000, flags: 1 },
      { length: MiB + 100_000 - 192 * KiB, flags: 0 },
    ]);
    expect(await device.extents(0, 8 * MiB, 100)).toEqual([
      { length: MiB, hole: false, zero: false },
      { length: 7 * MiB, hole: true, zero: true },
    ]);
    const unknown = device.describe('qemu:none', 0, 4096, 1);
    await expect(unknown).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });

  test('an image with a sector of 4 KiB', async () => {
    await using place = new Place();
    const debug = 'driver=blkdebug,align=4096,image.driver=file,image.filename=';
    const image = `${debug}${place.raw()}`;
    place.use(await ForeignServer.qemuNbd(place.socket, '--image-opts', image));
    const device = await place.connect('disk');
    expect(device.blocks.minimumBytes).toBe(4096);
    await roundTrip(device);
  });

  test('its words stand in the error', async () => {
    await using place = new Place();
    const inject = 'inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=5';
    const image = `driver=blkdebug,${inject},image.driver=file,image.filename=${place.raw()}`;
    place.use(await ForeignServer.qemuNbd(place.socket, '--image-opts', image));
    const device = await place.connect('disk');
    const failed = device.write(512, pattern(4096), DURABLE);
    await expect(failed).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(failed).rejects.toThrow(
      'WRITE of 4096 bytes at 512: writing to file failed (EIO)',
    );
    await device.read(0, new Uint8Array(4096));
  });

  test('an export that it does not have is refused with its words', async () => {
    await using place = new Place();
    place.use(await qemuNbd()(place, place.raw()));
    const refused = place.connect('other');
    await expect(refused).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
    await expect(refused).rejects.toThrow(/export "other" cannot be opened: .*other.* not present/);
  });
});
