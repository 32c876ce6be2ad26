import { createConnection, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/base/address.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { CMD, OPT } from '../../src/nbd/constants.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { infoData, metaData, optionBytes, requestBytes } from '../nbd/client.ts';
import {
  Attached,
  logged,
  openDescriptors,
  residentBytes,
  type TestStore,
  testStore,
} from './bad-luck-store.ts';
import type { Daemon } from './daemon.ts';

/** Replay: `SEED=3 npx vitest run --project app strangers`. */
const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/**
 * What memory may grow by: some buffers, and what the collector has not looked at yet. Without
 * bounds it would be the 1 GiB that a flood sends, or what a thousand connections could hold.
 */
const GROWTH_MAX = 96 * MiB;
const GROWTH_IN_FLOOD_MAX = 200 * MiB;
/** A stranger that gets no answer and is not let go would wait for ever. */
const PATIENCE_MS = 200;

function connect(address: string): Socket {
  const where = parseAddress(address);
  if ('fd' in where) throw new Error('no such address');
  const socket = createConnection(where);
  // Being thrown out is what is expected here.
  socket.on('error', () => undefined);
  return socket;
}

/** Sends, waits a little for what comes back, and leaves in one of three ways. */
async function knock(address: string, bytes: Uint8Array, random: Random): Promise<void> {
  const socket = connect(address);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  const pieces = 1 + random.below(3);
  const length = Math.ceil(bytes.length / pieces);
  for (let at = 0; at < bytes.length; at += length) socket.write(bytes.subarray(at, at + length));
  if (random.below(2) === 0) socket.end();
  await Promise.race([closed, sleep(random.below(PATIENCE_MS))]);
  // A reset, which unix sockets do not know, or a plain end.
  if (random.below(2) === 0 && !address.startsWith('unix:')) socket.resetAndDestroy();
  socket.destroy();
}

const text = (words: string) => new TextEncoder().encode(words);
const join = (...parts: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(parts));

/** The answer to the greeting, then whatever follows. */
const greeted = (...parts: readonly Uint8Array[]) => join(Uint8Array.of(0, 0, 0, 3), ...parts);
/** A client that is through with the handshake and then goes wrong. */
const attached = (...parts: readonly Uint8Array[]) =>
  greeted(optionBytes(OPT.STRUCTURED_REPLY), optionBytes(OPT.GO, infoData('demo')), ...parts);

/** Almost NBD: what breaks off, lies about a length, or comes at the wrong time. */
const NBD_GARBAGE: readonly ((random: Random) => Uint8Array)[] = [
  (random) => random.bytes(1 + random.below(64 * KiB)),
  (random) => greeted(random.bytes(1 + random.below(KiB))),
  () => Uint8Array.of(255, 255, 255, 255),
  () => greeted(optionBytes(OPT.GO, new Uint8Array(0), 0xffff_ffff)),
  () => greeted(optionBytes(OPT.EXPORT_NAME, new Uint8Array(0), 0xffff_ffff)),
  (random) => greeted(optionBytes(random.below(2 ** 32), random.bytes(random.below(64 * KiB)))),
  (random) => greeted(optionBytes(OPT.GO, random.bytes(random.below(200)))),
  (random) => greeted(optionBytes(OPT.SET_META_CONTEXT, random.bytes(random.below(200)))),
  (random) => greeted(optionBytes(OPT.EXPORT_NAME, random.bytes(1 + random.below(8 * KiB)))),
  () => greeted(...Array.from({ length: 500 }, () => optionBytes(OPT.LIST))),
  () => greeted(optionBytes(OPT.SET_META_CONTEXT, metaData('demo', 'x'.repeat(4096)))),
  (random) => attached(random.bytes(1 + random.below(64 * KiB))),
  () => attached(requestBytes({ type: CMD.WRITE, length: 0xffff_ffff })),
  () => attached(requestBytes({ type: CMD.WRITE, length: 32 * MiB, payload: new Uint8Array(9) })),
  () => attached(requestBytes({ type: CMD.READ, offset: 2n ** 63n, length: 4096 })),
  () => attached(requestBytes({ type: CMD.READ, length: 64 * MiB })),
  (random) => attached(requestBytes({ type: random.below(65_536), flags: random.below(65_536) })),
  () =>
    attached(...Array.from({ length: 64 }, () => requestBytes({ type: CMD.READ, length: MiB }))),
  () => text('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  (random) => join(Uint8Array.of(22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3), random.bytes(509)),
];

/** Almost HTTP, from who may use the unix socket or not. */
const HTTP_GARBAGE: readonly ((random: Random) => Uint8Array)[] = [
  (random) => random.bytes(1 + random.below(64 * KiB)),
  () => text('GET'),
  () => text('GET / HTTP/1.1\r\n'),
  () => text('GET /v1/info HTTP/1.1\r\n\r\n'),
  () => text('GET /v1/info HTTP/9.9\r\nHost: localhost\r\n\r\n'),
  () => text(`GET /${'a'.repeat(64 * KiB)} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  () => text(`GET / HTTP/1.1\r\nHost: localhost\r\n${'X-Y: z\r\n'.repeat(8000)}\r\n`),
  () => text(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'y'.repeat(MiB)}`),
  () => post('{"name":"x","size":"1G"'),
  () => post(`{"name":"${'x'.repeat(256 * KiB)}","size":1}`),
  () => post('[[[['.repeat(8000)),
  () => post('{"name":"x","size":-1}'),
  () => post('{"name":"\\ud800","size":"1G"}'),
  () => post('{"__proto__":{"name":"x"},"size":"1G"}'),
  () => text('POST /v1/vdis HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx'),
  () =>
    text(
      'POST /v1/vdis HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
        `Transfer-Encoding: chunked\r\n\r\n${`1000\r\n${' '.repeat(4096)}\r\n`.repeat(200)}`,
    ),
  () => text('DELETE /v1/vdis/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  () => text('DELETE /v1/vdis/demo?dryRun=perhaps HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  () => text('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  () => text('GET /v1/info HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n'),
  () => greeted(optionBytes(OPT.GO, infoData('demo'))),
];

function post(body: string): Uint8Array {
  const head = 'POST /v1/vdis HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';
  return text(`${head}Content-Length: ${body.length}\r\n\r\n${body}`);
}

interface Doors {
  readonly nbd: readonly string[];
  readonly admin: readonly string[];
}

async function doorsOf(it: TestStore, daemon: Daemon): Promise<Doors> {
  const tcp = /admin unix:\S+ (127\.0\.0\.1:\d+),/.exec(daemon.out)?.[1];
  expect(tcp).toBeDefined();
  return { nbd: [daemon.nbd, it.nbdSocket], admin: [it.adminSocket, tcp as string] };
}

/** A client that was there before the strangers: it writes and reads until told to stop. */
async function honest(client: Attached, stop: AbortSignal): Promise<number> {
  let rounds = 0;
  for (; !stop.aborted; rounds += 1) {
    const value = 1 + (rounds % 200);
    const at = 32 * MiB + (rounds % 100) * 64 * KiB;
    expect(await client.write(at, 64 * KiB, value)).toBe(0);
    expect(await client.flush()).toBe(0);
    expect(await client.read(at, 64 * KiB)).toBe(value);
  }
  return rounds;
}

test(`garbage at every port changes nothing for anybody (seed ${seed})`, async () => {
  const random = simRandom(seed);
  await using it = await testStore();
  await using daemon = await it.start('--vdi', 'demo:64M', '--admin', '127.0.0.1:0');
  const doors = await doorsOf(it, daemon);
  await using client = await Attached.to(daemon.nbd, 'demo');
  const stop = new AbortController();
  const working = honest(client, stop.signal);

  const all: (() => Promise<void>)[] = [];
  for (const address of doors.nbd) {
    for (const make of NBD_GARBAGE) all.push(() => knock(address, make(random), random));
  }
  for (const address of doors.admin) {
    for (const make of HTTP_GARBAGE) all.push(() => knock(address, make(random), random));
  }
  const round = () => Promise.all(all.map((one) => one()));
  await round();
  await round();
  const before = await residentBytes(daemon);
  for (let count = 0; count < 8; count += 1) await round();

  stop.abort();
  expect(await working).toBeGreaterThan(10);
  expect((await residentBytes(daemon)) - before).toBeLessThan(GROWTH_MAX);
  expect(daemon.child.exitCode).toBeNull();
  expect(logged(daemon, 'sheep.fatal')).toEqual([]);
  expect(logged(daemon, 'admin.failed')).toEqual([]);
  expect(await it.collie('vdi', 'list', '--json')).toMatchObject({ status: 0 });
  await using newcomer = await Attached.to(it.nbdSocket, 'demo');
  expect(await newcomer.write(0, MiB, 3)).toBe(0);
  expect(await newcomer.read(0, MiB)).toBe(3);
});

test('who is gone has left nothing open', async () => {
  const random = simRandom(seed);
  await using it = await testStore();
  await using daemon = await it.start('--vdi', 'demo:64M', '--admin', '127.0.0.1:0');
  const doors = await doorsOf(it, daemon);
  await Attached.to(daemon.nbd, 'demo').then((client) => client[Symbol.asyncDispose]());
  const before = await openDescriptors(daemon);
  for (const address of doors.nbd) {
    for (const make of NBD_GARBAGE) await knock(address, make(random), random);
  }
  for (const address of doors.admin) {
    for (const make of HTTP_GARBAGE) await knock(address, make(random), random);
  }
  // Objects that were opened meanwhile stay open: those of a VDI that is not full are few.
  await expect
    .poll(() => openDescriptors(daemon), { timeout: 5000 })
    .toBeLessThanOrEqual(before + 4);
  const clients = async () =>
    JSON.parse((await it.collie('vdi', 'list', '--json')).out).vdis[0].clients;
  await expect.poll(clients).toEqual([]);
  expect(await it.collie('vdi', 'delete', 'demo')).toMatchObject({ status: 0 });
});

test.concurrent('a flood of 256 MiB at any port is cut off, and takes no memory', async ({
  expect,
}) => {
  await using it = await testStore();
  await using daemon = await it.start('--vdi', 'demo:64M', '--admin', '127.0.0.1:0');
  const { nbd, admin } = await doorsOf(it, daemon);
  const before = await residentBytes(daemon);
  const option = greeted(optionBytes(77, new Uint8Array(0), 0xffff_fff0));
  const request = 'POST /v1/vdis HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4294967280\r\n\r\n';
  await Promise.all([
    ...nbd.map((address) => flood(address, option)),
    ...admin.map((address) => flood(address, text(request))),
  ]);
  expect((await residentBytes(daemon)) - before).toBeLessThan(GROWTH_IN_FLOOD_MAX);
  await using client = await Attached.to(daemon.nbd, 'demo');
  expect(await client.write(0, 4096, 1)).toBe(0);
});

/** Begins with something that announces more, then sends as much as it may until it is cut off. */
async function flood(address: string, begin: Uint8Array): Promise<void> {
  const socket = connect(address);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  socket.write(begin);
  const chunk = new Uint8Array(MiB).fill(0x61);
  for (let sent = 0; sent < 256 && !socket.destroyed; sent += 1) {
    if (socket.write(chunk)) continue;
    await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed]);
  }
  await closed;
}

describe.concurrent('a thousand connections that never finish the handshake', () => {
  const COUNT = 1000;

  test('let others in at once, take little memory, and are closed when their time is over', async ({
    expect,
  }) => {
    await using it = await testStore();
    await using daemon = await it.start('--vdi', 'demo:64M');
    await using early = await Attached.to(daemon.nbd, 'demo');
    const before = await residentBytes(daemon);
    const silent = await crowd(daemon.nbd, COUNT);
    try {
      const startedMs = performance.now();
      for (const address of [daemon.nbd, it.nbdSocket]) {
        await using late = await Attached.to(address, 'demo');
        expect(await late.write(0, MiB, 9)).toBe(0);
        expect(await late.read(0, MiB)).toBe(9);
      }
      expect(await early.write(MiB, MiB, 8)).toBe(0);
      expect(await early.read(0, MiB)).toBe(9);
      // Nothing of this waited for the crowd's time to be over.
      expect(performance.now() - startedMs).toBeLessThan(5000);
      expect((await residentBytes(daemon)) - before).toBeLessThan(GROWTH_MAX);
      // 10 s from the last of them on, and the second in which that is looked at.
      await expect.poll(() => silent.open, { timeout: 15_000 }).toBe(0);
      await expect.poll(() => logged(daemon, 'nbd.handshake-timeout').length).toBeGreaterThan(0);
      expect(await early.read(0, MiB)).toBe(9);
    } finally {
      silent.end();
    }
  }, 30_000);

  test('at the admin ports leave the unix socket to whoever administers', async ({ expect }) => {
    await using it = await testStore();
    await using daemon = await it.start('--vdi', 'demo:64M', '--admin', '127.0.0.1:0');
    const { admin } = await doorsOf(it, daemon);
    const before = await residentBytes(daemon);
    const silent = await crowd(admin[1] as string, COUNT);
    try {
      expect(await it.collie('vdi', 'list')).toMatchObject({ status: 0 });
      expect((await residentBytes(daemon)) - before).toBeLessThan(GROWTH_MAX);
      await using client = await Attached.to(daemon.nbd, 'demo');
      expect(await client.write(0, MiB, 9)).toBe(0);
    } finally {
      silent.end();
    }
  });
});

/** So many connections, of which some say a little and none says enough. */
async function crowd(address: string, count: number) {
  const sockets = Array.from({ length: count }, () => connect(address));
  let open = count;
  for (const [index, socket] of sockets.entries()) {
    socket.resume();
    socket.once('close', () => {
      open -= 1;
    });
    const said = [new Uint8Array(0), greeted(), greeted(optionBytes(OPT.GO).subarray(0, 9))];
    const bytes = said[index % said.length] as Uint8Array;
    if (bytes.length > 0) socket.write(bytes);
  }
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise<void>((resolve) => {
          socket.once('connect', resolve);
          socket.once('close', resolve);
        }),
    ),
  );
  return {
    get open() {
      return open;
    },
    end: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}
