import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { silentLog } from '../../src/base/log.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { type NbdServer, serveNbd } from '../../src/nbd/server.ts';
import { FileDevice } from '../nbd/file-device.ts';
import { libnbdListing, libnbdStatuses, nbdinfo, nbdinfoMap, qemuImgDirty } from './nbd-clients.ts';
import { ForeignServer } from './servers.ts';

const SIZE = 8 * MiB;
const DEPTH = 'qemu:allocation-depth';
const BITMAP = 'qemu:dirty-bitmap:monday';
const OTHER = 'qemu:dirty-bitmap:tuesday';

/** The first MiB is in the snapshot, 64 KiB to 192 KiB of it was written since. */
const depth = (at: number) => (at >= MiB ? 0 : at >= 64 * KiB && at < 192 * KiB ? 1 : 2);
const dirty = (at: number) => (depth(at) === 1 ? 1 : 0);

const folder = mkdtempSync(join(tmpdir(), 'sheepdog-contexts-'));
const socket = join(folder, 'nbd.sock');
const uri = `nbd+unix:///disk?socket=${socket}`;
let server: NbdServer;

beforeAll(async () => {
  const open = () =>
    new FileDevice({
      path: join(folder, 'disk'),
      sizeBytes: SIZE,
      contexts: {
        [DEPTH]: (block) => depth(4096 * block),
        [BITMAP]: (block) => dirty(4096 * block),
        [OTHER]: () => 0,
      },
    });
  const { info } = open();
  server = await serveNbd({
    net: await openNodeNet(),
    clock: nodeClock(),
    log: silentLog,
    exports: {
      list: async () => [{ name: 'disk', description: '' }],
      info: async () => info,
      open: async () => open(),
    },
    addresses: [`unix:${socket}`],
    fatal: (error) => {
      throw error;
    },
  });
});

afterAll(async () => {
  await server.drain(1_000);
  rmSync(folder, { recursive: true });
});

describe.runIf(hasTool('nbdinfo'))('nbdinfo', () => {
  test('sees all contexts of an export', async () => {
    expect((await nbdinfo(uri)).contexts).toEqual(['base:allocation', DEPTH, BITMAP, OTHER]);
  });

  test('maps the depth of the snapshots below', async () => {
    expect(await nbdinfoMap(uri, DEPTH)).toMatchObject([
      { offset: 0, length: 64 * KiB, type: 2 },
      { offset: 64 * KiB, length: 128 * KiB, type: 1 },
      { offset: 192 * KiB, length: MiB - 192 * KiB, type: 2 },
      { offset: MiB, length: SIZE - MiB, type: 0 },
    ]);
  });

  test('maps what has changed since a snapshot', async () => {
    expect(await nbdinfoMap(uri, BITMAP)).toMatchObject([
      { offset: 0, length: 64 * KiB, type: 0 },
      { offset: 64 * KiB, length: 128 * KiB, type: 1 },
      { offset: 192 * KiB, length: SIZE - 192 * KiB, type: 0 },
    ]);
    expect(await nbdinfoMap(uri, OTHER)).toMatchObject([{ offset: 0, length: SIZE, type: 0 }]);
  });

  test('is refused a context that there is not', async () => {
    await expect(nbdinfoMap(uri, 'qemu:dirty-bitmap:sunday')).rejects.toThrow(
      /does not support metadata context/,
    );
  });
});

describe.runIf(hasTool('qemu-img'))('QEMU', () => {
  test('reads a bitmap as backup programs let it', async () => {
    expect(await qemuImgDirty(socket, 'disk', BITMAP)).toEqual([
      { offset: 64 * KiB, length: 128 * KiB },
    ]);
    expect(await qemuImgDirty(socket, 'disk', OTHER)).toEqual([]);
  });

  test('is refused a bitmap that there is not', async () => {
    const sunday = qemuImgDirty(socket, 'disk', 'qemu:dirty-bitmap:sunday');
    await expect(sunday).rejects.toThrow(/sunday/);
  });
});

describe.runIf(hasTool('nbdsh'))('libnbd', () => {
  test('gets the status of several contexts in the order in which it selected them', async () => {
    const contexts = [BITMAP, 'base:allocation', 'x:none', DEPTH];
    const all = await libnbdStatuses(uri, contexts, { offset: 4096, length: MiB });
    expect(all).toEqual([
      [BITMAP, [60 * KiB, 0, 128 * KiB, 1, MiB - 188 * KiB, 0]],
      ['base:allocation', [MiB, 3]],
      [DEPTH, [60 * KiB, 2, 128 * KiB, 1, 832 * KiB, 2, 4096, 0]],
    ]);
    const first = await libnbdStatuses(uri, contexts, { offset: 1, length: MiB, one: true });
    expect(first).toEqual([
      [BITMAP, [64 * KiB - 1, 0]],
      ['base:allocation', [MiB, 3]],
      [DEPTH, [64 * KiB - 1, 2]],
    ]);
  });
});

describe.runIf(hasTool('nbdsh') && hasTool('qemu-nbd'))('beside qemu-nbd', () => {
  /** The same layers and the same bitmap; qemu-nbd serves one bitmap. */
  const image = () => {
    const run = (tool: string, ...args: string[]) => execFileSync(tool, args, { cwd: folder });
    run('qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', String(SIZE));
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 1M', 'base.qcow2');
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2');
    run('qemu-img', 'bitmap', '--add', 'top.qcow2', 'monday');
    run('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 64k 128k', 'top.qcow2');
    return join(folder, 'top.qcow2');
  };

  test('listings and maps of the same disk are the same', async () => {
    const theirs = join(folder, 'qemu.sock');
    const options = ['-r', '-A', '-B', 'monday', '-f', 'qcow2', image()];
    await using _ = await ForeignServer.qemuNbd(theirs, ...options);
    const at = (path: string) => `nbd+unix:///disk?socket=${path}`;
    for (const queries of [
      [],
      ['base:'],
      ['qemu:'],
      ['qemu:dirty-bitmap:'],
      ['qemu:dirty-bitmap:monday'],
      ['qemu:allocation-depth', 'base:allocation'],
      ['qemu:dirty-bitmap:mon', 'qemu:allocation', 'qemu', 'base', 'x:'],
    ]) {
      const ours = (await libnbdListing(at(socket), queries)).filter((name) => name !== OTHER);
      expect(ours, queries.join(' ')).toEqual(await libnbdListing(at(theirs), queries));
    }
    for (const context of [DEPTH, BITMAP]) {
      expect(await nbdinfoMap(at(socket), context)).toEqual(await nbdinfoMap(at(theirs), context));
    }
  });
});
