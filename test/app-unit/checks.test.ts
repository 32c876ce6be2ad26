import { open, readdir, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CheckLine } from '../../src/app/admin-views.ts';
import { Checks } from '../../src/app/checks.ts';
import type { Host } from '../../src/app/host.ts';
import type { Volumes } from '../../src/app/volumes.ts';
import { parseAddress } from '../../src/base/address.ts';
import { silentLog } from '../../src/base/log.ts';
import { MiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Call } from '../../src/contracts/call.ts';
import type { Clock } from '../../src/contracts/seams.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';
import { scratch } from '../cluster/scratch.ts';
import { collie, startTestSheep } from './test-sheep.ts';

/** A sheep with a VDI `demo` of 32 MiB, of which the first objects are written, full of `1`. */
async function world(objects = 2) {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  let stalled = false;
  const change = (host: Host): Host => {
    const { wallMs, monotonicMs, yield: turn, sleep } = host.clock;
    const slow = (ms: number) => (stalled && ms < 1000 ? 600_000 : ms);
    const clock = {
      wallMs,
      monotonicMs,
      yield: turn,
      sleep: (ms: number, call?: Call) => sleep(slow(ms), call),
    };
    return { ...host, clock };
  };
  const sheep = owned.use(await startTestSheep(path, {}, change));
  const run = (...args: string[]) => collie(['-a', sheep.socket, ...args]);
  const write = async (name: string, at: number, value: number, length = 4096) => {
    await using client = await connectNbd(await openNodeNet(), sheep.nbd[0]!, name);
    await client.write(at, new Uint8Array(length).fill(value), { durable: true });
  };
  await run('vdi', 'create', 'demo', '32M');
  await write('demo', 0, 1, objects * 4 * MiB);
  /** The file of an object, by its oid. */
  const fileOf = async (oid: string) => {
    const names = await readdir(join(path, 'obj'), { recursive: true });
    return join(path, 'obj', names.find((name) => name.endsWith(oid)) ?? '');
  };
  return {
    ...{ sheep, run, write, fileOf },
    clients: async () => JSON.parse((await run('--json', 'vdi', 'info', 'demo')).out).clients,
    /** From now on a check that rests does so for ever. */
    stall: () => {
      stalled = true;
    },
    /** Turns over a bit of a block, under the running daemon. */
    damage: async (oid: string, block: number) => {
      await using file = await open(await fileOf(oid), 'r+');
      const at = DATA_AT + block * 4096 + 9;
      const byte = Buffer.alloc(1);
      await file.read(byte, 0, 1, at);
      await file.write(Buffer.of((byte[0] as number) ^ 4), 0, 1, at);
    },
    check: async (name: string) => {
      const said = await run('--json', 'vdi', 'check', name);
      return { ...said, view: JSON.parse(said.out) };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
/** Header and table of an object of 4 MiB. */
const DATA_AT = 8192;
const oid = (vid: number, index: number) =>
  ((BigInt(vid) << 28n) | BigInt(index)).toString(16).padStart(16, '0');

describe('a check', () => {
  test('of what is sound says so, and how much it read', async () => {
    await using it = await world();
    expect(await it.run('vdi', 'check', 'demo')).toEqual({
      ...{ status: 0, err: '' },
      out: 'demo is sound (2 objects, 8 MiB read)\n',
    });
    expect((await it.check('demo')).view).toEqual({
      ...{ export: 'demo', objects: 2, readBytes: 8 * MiB, flawCount: 0, flaws: [] },
    });
    const checked = it.sheep.events.filter(({ name }) => name === 'vdi.checked');
    expect(checked.map(({ level }) => level)).toEqual(['info', 'info']);
  });

  test('finds a bit that turned over while the daemon runs, and ends with 1', async () => {
    await using it = await world();
    await it.damage(oid(1, 1), 5);
    const at = 4 * MiB + 5 * 4096;
    const { status, view } = await it.check('demo');
    expect(status).toBe(1);
    expect(view).toMatchObject({
      flawCount: 1,
      flaws: [{ kind: 'damaged', at, length: 4096, object: oid(1, 1) }],
    });
    const { out } = await it.run('vdi', 'check', 'demo');
    expect(out.split('\n')).toEqual([
      expect.stringMatching(
        `^damaged: bytes ${at} to ${at + 4095}: object ${oid(1, 1)} is damaged`,
      ),
      expect.stringMatching(
        /^demo is not sound \(2 objects, 8 MiB read, flaws: 1\); clients get I\/O/,
      ),
      '',
    ]);
    expect(it.sheep.events.find(({ name }) => name === 'vdi.checked')).toMatchObject({
      ...{ level: 'error', facts: { vdi: 'demo', flawCount: 1 } },
    });
  });

  test('of a clone finds what is wrong with the snapshot, and not what the clone has replaced', async () => {
    await using it = await world();
    await it.run('vdi', 'snapshot', '-s', 'old', 'demo');
    await it.run('vdi', 'clone', '-s', 'old', 'demo', 'copy');
    await it.write('copy', 0, 2);
    await it.damage(oid(1, 0), 0);
    expect((await it.check('copy')).view.flawCount).toBe(0);
    await it.damage(oid(1, 0), 7);
    await it.damage(oid(1, 0), 8);
    expect((await it.check('copy')).view.flaws).toMatchObject([
      { kind: 'damaged', at: 7 * 4096, length: 2 * 4096, object: oid(1, 0) },
    ]);
    expect((await it.check('demo@old')).view.flaws).toMatchObject([
      { at: 0, length: 4096, object: oid(1, 0) },
      { at: 7 * 4096, length: 2 * 4096, object: oid(1, 0) },
    ]);
  });

  test('finds an object that is gone', async () => {
    await using it = await world();
    await it.run('vdi', 'snapshot', '-s', 'old', 'demo');
    const path = await it.fileOf(oid(1, 1));
    await it.sheep[Symbol.asyncDispose]();
    await rm(path);
    await using again = await startTestSheep(join(path, '../../..'));
    const said = await collie(['-a', again.socket, '--json', 'vdi', 'check', 'demo@old']);
    expect(said.status).toBe(1);
    expect(JSON.parse(said.out).flaws).toMatchObject([
      { kind: 'missing', at: 4 * MiB, length: 4 * MiB, object: oid(1, 1) },
    ]);
  });

  test('of a disk whose inode is damaged says which bytes cannot be read', async () => {
    await using it = await world();
    await it.run('vdi', 'snapshot', '-s', 'old', 'demo');
    const leaf = '1000000010000001';
    const path = await it.fileOf(leaf);
    await it.sheep[Symbol.asyncDispose]();
    await it.damage(leaf, 0);
    await using again = await startTestSheep(join(path, '../../..'));
    const said = await collie(['-a', again.socket, '--json', 'vdi', 'check', 'demo@old']);
    expect(said.status).toBe(1);
    expect(JSON.parse(said.out).flaws).toMatchObject([
      { kind: 'damaged', at: 0, length: 32 * MiB, object: leaf },
    ]);
  });

  test('ends when whoever asked has gone', async () => {
    await using it = await world(8);
    it.stall();
    const where = parseAddress(it.sheep.socket);
    const asked = request({
      ...('path' in where && { socketPath: where.path }),
      ...{ method: 'POST', path: '/v1/vdis/demo/check' },
    }).on('error', () => undefined);
    asked.end();
    await new Promise((settle) => asked.once('response', settle));
    expect(await it.clients()).toHaveLength(1);
    asked.destroy();
    await expect.poll(it.clients).toEqual([]);
    expect(it.sheep.events.some(({ name }) => name === 'vdi.checked')).toBe(false);
  });

  test('keeps what it reads from being deleted, and ends with an error when the daemon stops', async () => {
    await using it = await world(8);
    it.stall();
    const checking = it.run('vdi', 'check', 'demo');
    await expect.poll(it.clients).toMatchObject([{ name: 'collie vdi check' }]);
    expect((await it.run('vdi', 'delete', 'demo')).err).toContain('used by collie vdi check');
    await it.sheep[Symbol.asyncDispose]();
    expect(await checking).toEqual({
      ...{ status: 1, out: '' },
      err: 'collie: sheep is stopping; check it again later\n',
    });
  });

  test('works half of the time at most, together with its likes, and rests in short pieces', async () => {
    const clock = new StepClock();
    const device = busyDevice(16 * MiB, () => clock.work(1));
    const checks = new Checks(device, clock, silentLog);
    const drain = async () => {
      let last: CheckLine | undefined;
      for await (const line of checks.run(RECORD)) last = line;
      return last;
    };
    expect(await drain()).toEqual({
      is: 'end',
      checked: { export: 'demo', objects: 4, readBytes: 16 * MiB, flawCount: 0 },
    });
    expect(clock.restedMs).toBeGreaterThanOrEqual(clock.workedMs * 0.9);
    expect(clock.longestRestMs).toBeLessThan(10);
    const alone = clock.restedMs;
    await Promise.all([drain(), drain()]);
    expect(clock.restedMs - alone).toBeGreaterThanOrEqual(2 * (2 * alone) * 0.9);
  });
});

const RECORD: VolumeRecord = {
  ...{
    name: 'demo',
    vid: 1,
    family: 1,
    parent: 0,
    tag: '',
    sizeBytes: 16 * MiB,
    shrunkFromBytes: 0,
  },
  ...{ objectBytes: 4 * MiB, attachEpoch: 1, createdMs: 0, allow: ['default'], state: 'ready' },
};

/** Time passes where somebody works or sleeps, and nowhere else. */
class StepClock implements Clock {
  #now = 0;
  workedMs = 0;
  restedMs = 0;
  longestRestMs = 0;
  wallMs = () => this.#now;
  monotonicMs = () => this.#now;
  yield = async () => undefined;
  work(ms: number): void {
    this.#now += ms;
    this.workedMs += ms;
  }
  async sleep(ms: number): Promise<void> {
    this.restedMs += ms;
    this.longestRestMs = Math.max(this.longestRestMs, ms);
    this.#now += ms;
  }
}

/** A VDI full of data whose every read takes time. */
function busyDevice(sizeBytes: number, work: () => void): Pick<Volumes, 'open' | 'countObjects'> {
  const device: Partial<BlockDevice> = {
    info: { sizeBytes, readOnly: false, description: '' },
    read: work,
    extents: (_at, length) => [{ length, hole: false, zero: false }],
    [Symbol.asyncDispose]: async () => undefined,
  };
  return {
    open: async () => device as BlockDevice,
    countObjects: async () => ({ own: 4, all: 4 }),
  };
}
