import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { MiB } from '../../src/base/units.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { type NbdServer, serveNbd } from '../../src/nbd/server.ts';
import { FileDevice } from '../nbd/file-device.ts';
import { pattern } from '../nbd/served.ts';
import {
  fioTrim,
  fioVerify,
  libnbdSuite,
  nbdClientList,
  nbdcopyRoundTrip,
  nbdinfo,
  nbdinfoList,
  nbdinfoMap,
  qemuImgBench,
  qemuImgRoundTrip,
  qemuIo,
} from './nbd-clients.ts';

const SIZE = 64 * MiB;
const folder = mkdtempSync(join(tmpdir(), 'sheepdog-interop-'));
const image = join(folder, 'image');
const socket = join(folder, 'nbd.sock');
let server: NbdServer;
let device: FileDevice;
const problems: string[] = [];

/** Holes, data, and an odd end in between. */
function makeImage(): void {
  const file = openSync(image, 'w');
  for (const [at, length] of [
    [0, 70_000],
    [5 * MiB + 512, 3 * MiB],
    [SIZE - 4096, 4096],
  ] as const) {
    writeSync(file, pattern(length, at + 1), 0, length, at);
  }
  ftruncateSync(file, SIZE);
  closeSync(file);
}

beforeAll(async () => {
  makeImage();
  device = new FileDevice({ path: join(folder, 'disk'), sizeBytes: SIZE });
  const shared = Object.assign(Object.create(device), {
    info: device.info,
    [Symbol.asyncDispose]: async () => undefined,
  });
  for (const name of [
    'read',
    'write',
    'flush',
    'trim',
    'writeZeroes',
    'extents',
    'zeroNow',
    'prefetch',
  ] as const) {
    shared[name] = device[name].bind(device);
  }
  server = await serveNbd({
    net: await openNodeNet(),
    clock: nodeClock(),
    log: {
      event: (level, name, facts) => {
        if (level === 'error') problems.push(`${name} ${JSON.stringify(facts)}`);
      },
    },
    exports: {
      list: async () => [{ name: 'disk', description: '' }],
      info: async (name) => (name === 'disk' ? device.info : undefined),
      open: async (name) => (name === 'disk' ? shared : undefined),
    },
    addresses: ['127.0.0.1:0', `unix:${socket}`],
    fatal: (error) => problems.push(String(error)),
  });
});

afterAll(async () => {
  await server.drain(1_000);
  await device[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
  expect(problems).toEqual([]);
});

test.skipIf(!hasTool('nbd-client'))('nbd-client lists', async () => {
  const [host = '', port] = (server.addresses[0] ?? '').split(':');
  expect(await nbdClientList(host, Number(port))).toEqual(['disk']);
});

describe.for(['tcp', 'unix'])('over %s', (transport) => {
  const uri = (name: string) =>
    transport === 'tcp'
      ? `nbd://${server.addresses[0]}/${name}`
      : `nbd+unix:///${name}?socket=${socket}`;

  test.skipIf(!hasTool('nbdinfo'))('nbdinfo sees the export and its abilities', async () => {
    expect(await nbdinfo(uri('disk'))).toMatchObject({
      'export-size': SIZE,
      block_size_minimum: 1,
      block_size_preferred: 65_536,
      block_size_maximum: 64 * MiB,
      contexts: ['base:allocation'],
      can_multi_conn: true,
      can_fua: true,
      can_flush: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_df: true,
      can_cache: true,
      is_read_only: false,
      is_rotational: false,
    });
    expect(await nbdinfoList(uri(''))).toEqual(['disk']);
    await expect(nbdinfo(uri('other'))).rejects.toThrow(
      'No such file or directory for export: other',
    );
  });

  test.skipIf(!hasTool('nbdcopy'))('nbdcopy there and back, in four ways', async () => {
    await nbdcopyRoundTrip(uri('disk'), image, folder);
    const map = await nbdinfoMap(uri('disk'));
    expect(map.reduce((sum, { length }) => sum + length, 0)).toBe(SIZE);
    expect(map.some(({ type }) => type === 3)).toBe(true);
  });

  test.skipIf(!hasTool('qemu-img'))('qemu-img convert, compare and bench', async () => {
    await qemuImgRoundTrip(uri('disk'), image, folder);
    await qemuImgBench(uri('disk'));
  });

  test.skipIf(!hasTool('qemu-io'))('qemu-io: every command, read back', async () => {
    await qemuIo(uri('disk'));
  });

  test.skipIf(!hasTool('fio'))('fio verifies what it wrote', async () => {
    await fioVerify(uri('disk'));
    await fioTrim(uri('disk'));
  });

  test.skipIf(!hasTool('nbdsh'))(
    'libnbd: what is legal, what is not, and many at once',
    async () => {
      await libnbdSuite(uri('disk'));
    },
  );
});
