import { expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { COLLIE, Daemon, succeed } from '../app/daemon.ts';
import { scratch } from '../cluster/scratch.ts';
import { pattern } from '../nbd/served.ts';
import { nbdinfoMap, qemuImgDirty } from './nbd-clients.ts';

const SIZE = 32 * MiB;
const B = 4096;
const BLOCKS = SIZE / B;
const DEPTH = 'qemu:allocation-depth';
const bitmap = (tag: string) => `qemu:dirty-bitmap:${tag}`;
const PLAIN = { durable: false };

/** Who holds each block: 0 nobody, else the number of the snapshot (from 1) or of the disk itself. */
type Holders = Uint8Array;

/** Writes and trims at a few places of several objects, and notes them. */
async function change(device: BlockDevice, holders: Holders, self: number, seed: number) {
  for (let step = 0; step < 12; step += 1) {
    const random = pattern(4, seed * 100 + step);
    const [first = 0, second = 0, third = 0, kind = 0] = random;
    const block = ((first << 8) | second) % (BLOCKS - 80);
    const count = 1 + (third % 80);
    if (kind % 4 === 0) {
      await device.trim(block * B, count * B, PLAIN);
      holders.fill(0, block, block + count);
    } else {
      await device.write(block * B, pattern(count * B, step + 1), PLAIN);
      holders.fill(self, block, block + count);
    }
  }
}

/** Runs of equal values, in bytes. */
function runs(values: readonly number[]): { offset: number; length: number; type: number }[] {
  const found: { offset: number; length: number; type: number }[] = [];
  for (const [block, type] of values.entries()) {
    const last = found.at(-1);
    if (last?.type === type) last.length += B;
    else found.push({ offset: block * B, length: B, type });
  }
  return found;
}
const plain = (found: readonly { offset: number; length: number; type: number }[]) =>
  found.map(({ offset, length, type }) => ({ offset, length, type }));

test.skipIf(!hasTool('nbdinfo') || !hasTool('qemu-img'))(
  'real clients see who holds which block and what has changed since each snapshot',
  async () => {
    await using place = await scratch();
    const socket = `${place.path}/nbd`;
    const admin = `unix:${place.path}/admin`;
    const store = [`${place.path}/store`, '-n', `unix:${socket}`, '--admin', admin];
    await using daemon = await Daemon.start([...store, '--vdi', `disk:${SIZE}`]);
    const uri = (name: string) => `nbd+unix:///${name}?socket=${socket}`;
    const net = await openNodeNet();
    const holders = new Uint8Array(BLOCKS);
    const frozen: Holders[] = [];
    {
      await using device = await connectNbd(net, `unix:${socket}`, 'disk');
      for (const [index, tag] of ['a', 'b', 'c'].entries()) {
        await change(device, holders, index + 1, index);
        await succeed(COLLIE, ['-a', admin, 'vdi', 'snapshot', '-s', tag, 'disk']);
        frozen.push(holders.slice());
      }
      await change(device, holders, 4, 9);
      await device.flush();
    }

    /** What the chain of snapshots up to `self` says of each block. */
    const depths = (of: Holders, self: number) =>
      runs([...of].map((holder) => (holder === 0 ? 0 : self - holder + 1)));
    const changes = (of: Holders, since: Holders) =>
      runs([...of].map((holder, block) => (holder === since[block] ? 0 : 1)));
    const [a, b, c] = frozen as [Holders, Holders, Holders];

    expect(plain(await nbdinfoMap(uri('disk'), DEPTH))).toEqual(depths(holders, 4));
    expect(plain(await nbdinfoMap(uri('disk@b'), DEPTH))).toEqual(depths(b, 2));
    expect(plain(await nbdinfoMap(uri('disk'), bitmap('a')))).toEqual(changes(holders, a));
    expect(plain(await nbdinfoMap(uri('disk'), bitmap('c')))).toEqual(changes(holders, c));
    expect(plain(await nbdinfoMap(uri('disk@c'), bitmap('a')))).toEqual(changes(c, a));
    const dirty = changes(holders, b).filter(({ type }) => type === 1);
    expect(await qemuImgDirty(socket, 'disk', bitmap('b'))).toEqual(
      dirty.map(({ offset, length }) => ({ offset, length })),
    );

    // Our client, with all contexts at once.
    const contexts = [DEPTH, bitmap('c'), bitmap('b'), bitmap('a')];
    await using device = await connectNbd(net, `unix:${socket}`, 'disk', { contexts });
    expect(device.info.contexts?.toSorted()).toEqual(contexts.toSorted());
    for (const context of contexts) {
      const told: { offset: number; length: number; type: number }[] = [];
      for (let at = 0; at < SIZE; ) {
        for (const { length, flags } of await device.describe(context, at, SIZE - at, 10)) {
          const last = told.at(-1);
          if (last?.type === flags) last.length += length;
          else told.push({ offset: at, length, type: flags });
          at += length;
        }
      }
      expect(told).toEqual(plain(await nbdinfoMap(uri('disk'), context)));
    }
    await device[Symbol.asyncDispose]();

    // A snapshot that is gone is no context any more, and nothing that is left has changed.
    await succeed(COLLIE, ['-a', admin, 'vdi', 'delete', '-s', 'b', 'disk']);
    await expect(nbdinfoMap(uri('disk'), bitmap('b'))).rejects.toThrow(/does not support/);
    expect(plain(await nbdinfoMap(uri('disk'), bitmap('a')))).toEqual(changes(holders, a));
    expect(await daemon.stop('SIGTERM')).toBe(0);
    expect(daemon.log.filter(({ level }) => level === 'error')).toEqual([]);
  },
);
