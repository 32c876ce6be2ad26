import { getEventListeners, once } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { Facts } from '../../src/base/errors.ts';
import { GiB, KiB, MiB, TiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { CMD, CMD_FLAG, EXPORT_FLAG } from '../../src/nbd/constants.ts';
import {
  chunkBytes,
  dataPayload,
  FLAGS,
  type ScriptedOptions,
  ScriptedServer,
  type SeenRequest,
  simpleReply,
  statusPayload,
} from './scripted-server.ts';
import { Gate, pattern, Served } from './served.ts';

const PLAIN = { durable: false };
const DURABLE = { durable: true };
const ZERO = { durable: false, keepAllocated: false, fastOnly: false };
const { FUA, NO_HOLE, FAST_ZERO } = CMD_FLAG;

/** What a server is asked by an operation that it answers with success. */
async function asked(
  operation: (device: BlockDevice) => unknown,
  options: ScriptedOptions = {},
): Promise<Omit<SeenRequest, 'cookie' | 'payload'>[]> {
  await using server = await ScriptedServer.attached(options);
  const serving = server.serve();
  await operation(server.client);
  await server.client[Symbol.asyncDispose]();
  const seen = await serving;
  return seen.map(({ type, flags, at, length }) => ({ type, flags, at, length }));
}
const without = (...names: (keyof typeof EXPORT_FLAG)[]): number =>
  names.reduce<number>((flags, name) => flags & ~EXPORT_FLAG[name], FLAGS.all);
const ranges = (seen: readonly { at: number; length: number }[]) =>
  seen.map(({ at, length }) => [at, length]).toSorted((a, b) => (a[0] ?? 0) - (b[0] ?? 0));

describe('each operation is the command of its name', () => {
  test.for([
    ['a write', (d: BlockDevice) => d.write(5, pattern(7), PLAIN), CMD.WRITE, 0, 5, 7],
    ['a durable write', (d: BlockDevice) => d.write(5, pattern(7), DURABLE), CMD.WRITE, FUA, 5, 7],
    ['a read', (d: BlockDevice) => d.read(9, new Uint8Array(3)), CMD.READ, 0, 9, 3],
    ['a flush', (d: BlockDevice) => d.flush(), CMD.FLUSH, 0, 0, 0],
    ['a zero', (d: BlockDevice) => d.writeZeroes(1, 2, ZERO), CMD.WRITE_ZEROES, 0, 1, 2],
    [
      'one of every kind',
      (d: BlockDevice) =>
        d.writeZeroes(1, 2, { durable: true, keepAllocated: true, fastOnly: true }),
      CMD.WRITE_ZEROES,
      FUA | NO_HOLE | FAST_ZERO,
      1,
      2,
    ],
    ['a prefetch', (d: BlockDevice) => d.prefetch(4096, 8192), CMD.CACHE, 0, 4096, 8192],
  ] as const)('%s', async ([, operation, type, flags, at, length]) => {
    const options = { flags: FLAGS.all | EXPORT_FLAG.SEND_FAST_ZERO };
    expect(await asked(operation, options)).toEqual([{ type, flags, at, length }]);
  });

  test('but a trim: its whole blocks are zeroed and may become a hole', async () => {
    const trim = { type: CMD.WRITE_ZEROES, flags: FUA, at: 4096, length: 8192 };
    expect(await asked((d) => d.trim(1, 13_000, DURABLE))).toEqual([trim]);
    expect(await asked((d) => d.trim(1, 8190, PLAIN))).toEqual([]);
    const end = await asked((d) => d.trim(MiB - 5000, 5100, PLAIN), { sizeBytes: MiB + 100 });
    expect(ranges(end)).toEqual([[MiB - 4096, 4196]]);
  });

  test('nothing is asked for no bytes', async () => {
    const nothing = async (device: BlockDevice) => {
      await device.write(0, new Uint8Array(0), PLAIN);
      await device.read(0, new Uint8Array(0));
      await device.writeZeroes(0, 0, ZERO);
    };
    expect(await asked(nothing)).toEqual([]);
  });
});

describe('what a server lacks', () => {
  test('FUA is a flush after it', async () => {
    const flags = without('SEND_FUA');
    for (const operation of [
      (d: BlockDevice) => d.write(0, pattern(16), DURABLE),
      (d: BlockDevice) => d.writeZeroes(0, 16, { ...ZERO, durable: true }),
    ]) {
      const seen = await asked(operation, { flags });
      expect(seen.map(({ type }) => type).at(-1)).toBe(CMD.FLUSH);
      expect(seen).toHaveLength(2);
      expect(seen.every((one) => one.flags === 0)).toBe(true);
    }
  });

  test('a flush is refused: nothing would be promised; a read-only export needs none', async () => {
    await using server = await ScriptedServer.attached({
      flags: without('SEND_FLUSH', 'SEND_FUA'),
    });
    void server.serve();
    const refused = { code: 'ERR_UNSUPPORTED' };
    await expect(server.client.flush()).rejects.toMatchObject(refused);
    await expect(server.client.write(0, pattern(1), DURABLE)).rejects.toMatchObject(refused);
    await server.client.write(0, pattern(1), PLAIN);
    expect(await asked((d) => d.flush(), { flags: EXPORT_FLAG.READ_ONLY })).toEqual([]);
  });

  test('zeroing is written, never in more than small pieces; it is not fast', async () => {
    const flags = without('SEND_WRITE_ZEROES');
    const seen = await asked((d) => d.writeZeroes(100, 600 * KiB, { ...ZERO, durable: true }), {
      flags,
    });
    expect(seen.every((one) => one.type === CMD.WRITE && one.flags === FUA)).toBe(true);
    expect(seen.reduce((sum, { length }) => sum + length, 0)).toBe(600 * KiB);
    expect(Math.max(...seen.map(({ length }) => length))).toBeLessThanOrEqual(256 * KiB);
    await using server = await ScriptedServer.attached({ flags: without('SEND_FAST_ZERO') });
    const fast = server.client.writeZeroes(0, 4096, { ...ZERO, fastOnly: true });
    await expect(fast).rejects.toMatchObject({ code: 'ERR_NOT_FAST' });
  });

  test('a prefetch is left out', async () => {
    const flags = without('SEND_CACHE');
    expect(await asked((d) => d.prefetch(0, 4096), { flags })).toEqual([]);
  });

  test('contexts: everything is data, and nothing else is described', async () => {
    for (const options of [{ form: 'simple' } as const, { contexts: [] }]) {
      await using server = await ScriptedServer.attached(options, { contexts: ['qemu:x'] });
      const { client } = server;
      expect(client.info.contexts).toEqual([]);
      const data = [{ length: 999, hole: false, zero: false }];
      expect(await client.extents(1, 999, 5)).toEqual(data);
      const described = client.describe('qemu:x', 0, 4096, 1);
      await expect(described).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
    }
  });

  test('writing: a read-only export is asked for no change', async () => {
    await using server = await ScriptedServer.attached({ flags: FLAGS.readOnly });
    const { client } = server;
    expect(client.info.readOnly).toBe(true);
    const refused = { code: 'ERR_READ_ONLY' };
    await expect(client.write(0, pattern(1), PLAIN)).rejects.toMatchObject(refused);
    await expect(client.trim(0, 4096, PLAIN)).rejects.toMatchObject(refused);
    await expect(client.writeZeroes(0, 4096, ZERO)).rejects.toMatchObject(refused);
  });
});

describe('sizes', () => {
  test('a long range is several requests, cut at borders of 4 KiB and below the maximum', async () => {
    for (const [blocks, step] of [
      [undefined, 4 * MiB],
      [[1, 65_536, 64 * MiB], 4 * MiB],
      [[1, 4096, MiB + 5000], MiB + 4096],
      [[1, 512, 100_000], 98_304],
      [[512, 512, 2048], 2048],
      [[1, 4 * MiB, 32 * MiB], 4 * MiB],
      [[1, 16 * MiB, 32 * MiB], 4 * MiB],
    ] as const) {
      const sizeBytes = 16 * MiB;
      const into = new Uint8Array(3 * step + 1024);
      const sizes = blocks === undefined ? {} : { blocks };
      for (const operation of [
        (d: BlockDevice) => d.read(512, into),
        (d: BlockDevice) => d.write(512, into, PLAIN),
      ]) {
        const seen = ranges(await asked(operation, { sizeBytes, ...sizes }));
        expect(seen).toEqual([
          [512, step - 512],
          [step, step],
          [2 * step, step],
          [3 * step, 1536],
        ]);
      }
    }
  });

  test('effects without data go up to 4 GiB at once, and on', async () => {
    const seen = await asked((d) => d.writeZeroes(MiB, TiB, ZERO), { sizeBytes: 2 * TiB });
    expect(seen.length).toBeLessThan(270);
    let at = MiB;
    for (const [from = 0, length = 0] of ranges(seen)) {
      expect(from).toBe(at);
      expect(length).toBeLessThan(4 * GiB);
      at += length;
    }
    expect(at).toBe(TiB + MiB);
  });

  test('the status of more than 4 GiB is that of its begin', async () => {
    await using server = await ScriptedServer.attached({ sizeBytes: TiB });
    const asking = server.client.extents(GiB, 100 * GiB, 10);
    const { at, length, cookie } = await server.request();
    expect([at, length]).toEqual([GiB, 4 * GiB - 64 * MiB]);
    server.send(chunkBytes(cookie, 1, 5, statusPayload(1, 0xffff_fe00, 3)));
    expect(await asking).toEqual([{ length: 4 * GiB - 64 * MiB, hole: true, zero: true }]);
  });

  test('with blocks of 4 KiB nothing else is asked for, whatever range is', async () => {
    const blocks = [4096, 4096, MiB] as const;
    await using served = await Served.start({ limits: { blockMinBytes: 4096 } });
    await using client = await connect(served);
    expect(client.blocks.minimumBytes).toBe(4096);
    const model = new Uint8Array(MiB);
    for (const [at, length] of [
      [0, 4096],
      [1, 2],
      [4095, 2],
      [5000, 20_000],
      [8192, 100_001],
      [MiB - 3, 3],
    ] as const) {
      const bytes = pattern(length, at + 1);
      await client.write(at, bytes, PLAIN);
      model.set(bytes, at);
      await client.writeZeroes(at + 1, Math.max(1, length - 2), ZERO);
      model.fill(0, at + 1, at + 1 + Math.max(1, length - 2));
      const into = new Uint8Array(length);
      await client.read(at, into);
      expect(into).toEqual(model.slice(at, at + length));
    }
    for (const call of served.calls) expect([call.at % 4096, call.length % 4096]).toEqual([0, 0]);
    const shown = new Uint8Array(MiB);
    await client.read(0, shown);
    expect(Buffer.compare(shown, model)).toBe(0);
    const fast = client.writeZeroes(1, 8192, { ...ZERO, fastOnly: true });
    await expect(fast).rejects.toMatchObject({ code: 'ERR_NOT_FAST' });
    const odd = await asked((d) => d.prefetch(1, 4096), { blocks });
    expect(ranges(odd)).toEqual([[0, 8192]]);
  });

  test('extents of odd ranges are clipped, and those smaller than a block refused', async () => {
    const [depth = ''] = ['qemu:allocation-depth'];
    const contexts = ['base:allocation', depth];
    const blocks = [4096, 4096, MiB] as const;
    await using server = await ScriptedServer.attached({ blocks, contexts }, { contexts });
    const reply = async (id: number, ...numbers: number[]) => {
      const { at, length, cookie } = await server.request();
      expect([at, length]).toEqual([4096, 12_288]);
      const both = [statusPayload(id, ...numbers), statusPayload(3 - id, 4096, 0)];
      server.send(chunkBytes(cookie, 0, 5, both[0]), chunkBytes(cookie, 1, 5, both[1]));
    };
    const described = server.client.describe(depth, 5000, 10_000, 9);
    await reply(2, 4096, 1, 8192, 2);
    expect(await described).toEqual([
      { length: 8192 - 5000, flags: 1 },
      { length: 15_000 - 8192, flags: 2 },
    ]);
    const extents = server.client.extents(5000, 10_000, 9);
    await reply(1, 12_288, 3);
    expect(await extents).toEqual([{ length: 10_000, hole: true, zero: true }]);
    const small = server.client.extents(5000, 10_000, 1) as Promise<unknown>;
    small.catch(() => undefined);
    await reply(1, 512, 0);
    await expect(small).rejects.toMatchObject({ code: 'ERR_BAD_FRAME' });
  });
});

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((done) => setImmediate(done));
}

/** Our client at the tests' server. */
function connect(served: Served, options: Parameters<typeof connectNbd>[3] = {}) {
  return connectNbd(served.net, served.server.addresses[0] ?? '', 'disk', options);
}

describe('many requests in flight', () => {
  test('no more than 128 are on their way; the others follow as replies come', async () => {
    await using server = await ScriptedServer.attached();
    const { client } = server;
    const all = Promise.all(
      Array.from({ length: 300 }, (_, index) => client.write(index * 16, pattern(16), PLAIN)),
    );
    const first: SeenRequest[] = [];
    for (let count = 0; count < 128; count += 1) first.push(await server.request());
    let more = 0;
    const next = server.request().then(() => (more += 1));
    await turns(30);
    expect(more).toBe(0);
    // The last one first: order is the server's business.
    for (const { cookie } of first.toReversed()) server.send(simpleReply(cookie));
    await next;
    void server.serve();
    expect(new Set(first.map(({ cookie }) => cookie)).size).toBe(128);
    server.send(simpleReply(128n));
    await all;
  });

  test('of one long operation only a few', async () => {
    await using server = await ScriptedServer.attached({ sizeBytes: GiB });
    void Promise.allSettled([server.client.read(0, new Uint8Array(64 * MiB))]);
    let asking = 0;
    const count = async () => {
      for (;;) {
        await server.request();
        asking += 1;
      }
    };
    count().catch(() => undefined);
    await turns(30);
    expect(asking).toBe(8);
  });

  test('those of one turn leave in one write', async () => {
    await using server = await ScriptedServer.attached();
    let writes = 0;
    const { stream } = server;
    const counted = Object.getPrototypeOf(stream);
    const original = counted.write;
    counted.write = function write(...args: unknown[]) {
      if (this !== stream) writes += 1;
      return original.apply(this, args);
    };
    try {
      const all = Array.from({ length: 50 }, (_, at) => server.client.write(at, pattern(1), PLAIN));
      await server.request();
      expect(writes).toBe(1);
      void server.serve();
      server.send(simpleReply(0n));
      await Promise.all(all);
    } finally {
      counted.write = original;
    }
  });

  test.for(['answered', 'aborted'] as const)(
    'a buffer is lent until the stream is done with it, also when it is %s before',
    async (how) => {
      await using server = await ScriptedServer.attached();
      const controller = new AbortController();
      server.stream.pause();
      void Promise.allSettled([server.client.write(0, pattern(MiB), PLAIN)]); // fills the window
      const large = pattern(100 * KiB);
      const copy = large.slice();
      let settled = false;
      const call = { durable: false, signal: controller.signal };
      const over = () => {
        settled = true;
        large.fill(0);
      };
      const writing = (server.client.write(0, large, call) as Promise<void>).then(over, over);
      await turns(5);
      if (how === 'answered') server.send(simpleReply(1n));
      else controller.abort();
      await turns(20);
      expect(settled).toBe(false);
      server.stream.resume();
      await server.request();
      const { payload } = await server.request();
      await writing;
      expect(Buffer.compare(payload, copy)).toBe(0);
    },
  );
});

describe('an operation that is aborted', () => {
  test('rejects with the reason; one not yet sent never is, and the connection goes on', async () => {
    await using server = await ScriptedServer.attached();
    const { client } = server;
    const controller = new AbortController();
    const { signal } = controller;
    const into = new Uint8Array(4096).fill(7);
    const reading = client.read(0, into, { signal }) as Promise<void>;
    const { cookie } = await server.request();
    const unsent = client.write(0, pattern(16), { durable: false, signal }) as Promise<void>;
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    await expect(unsent).rejects.toThrow('enough');
    const late = client.read(0, into, { signal });
    await expect(late).rejects.toThrow('enough');
    // Its answer comes all the same, and touches nothing.
    server.send(chunkBytes(cookie, 1, 1, dataPayload(0, pattern(4096))));
    const flushing = client.flush();
    const next = await server.request();
    expect(next.type).toBe(CMD.FLUSH);
    server.send(simpleReply(next.cookie));
    await flushing;
    expect(into.every((byte) => byte === 7)).toBe(true);
  });

  test('in the middle of its data gets no more of it', async () => {
    await using server = await ScriptedServer.attached({ chunkBytes: 100 });
    const controller = new AbortController();
    const into = new Uint8Array(4096).fill(7);
    const reading = server.client.read(0, into, { signal: controller.signal }) as Promise<void>;
    const { cookie } = await server.request();
    const reply = chunkBytes(cookie, 1, 1, dataPayload(0, new Uint8Array(4096)));
    server.send(reply.subarray(0, 1000));
    while (into[500] !== 0) await new Promise((done) => setImmediate(done));
    controller.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    const before = into.slice();
    server.send(reply.subarray(1000));
    const flushing = server.client.flush();
    server.send(simpleReply((await server.request()).cookie));
    await flushing;
    expect(into).toEqual(before);
    expect(into[4000]).toBe(7);
  });

  test('never undoes what others wrote to the same block after it', async () => {
    const gate = new Gate();
    let writes = 0;
    await using served = await Served.start({
      limits: { blockMinBytes: 4096 },
      before: ({ name }) => (name === 'write' && writes++ === 0 ? gate.wait() : undefined),
    });
    await using client = await connect(served);
    const controller = new AbortController();
    const call = { durable: false, signal: controller.signal };
    const aborted = client.write(0, pattern(10), call) as Promise<void>;
    await served.until(() => writes === 1);
    controller.abort(new Error('enough'));
    const other = client.write(100, pattern(10), PLAIN) as Promise<void>;
    await served.settle();
    gate.open();
    await Promise.allSettled([aborted, other]);
    const into = new Uint8Array(10);
    await client.read(100, into);
    expect(into).toEqual(pattern(10));
  });

  test('one signal for very many of them is no leak', async () => {
    const warnings: unknown[] = [];
    const warn = (warning: unknown) => warnings.push(warning);
    process.on('warning', warn);
    const { signal } = new AbortController();
    await asked((d) =>
      Promise.all(
        Array.from({ length: 200 }, (_, at) => d.read(at, new Uint8Array(1), { signal })),
      ),
    );
    await turns(1);
    process.off('warning', warn);
    expect(warnings).toEqual([]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('the end', () => {
  test('disposing says goodbye, and is no failure', async () => {
    const log: string[] = [];
    const options = { log: { event: (_: unknown, name: string) => void log.push(name) } };
    await using server = await ScriptedServer.attached({}, options);
    const ending = server.client[Symbol.asyncDispose]();
    expect((await server.request()).type).toBe(CMD.DISC);
    await ending;
    await server.left();
    expect(log).toEqual(['nbd.client-connected']);
    expect(server.client.lost.aborted).toBe(false);
    await server.client[Symbol.asyncDispose]();
    const late = server.client.read(0, new Uint8Array(1));
    await expect(late).rejects.toMatchObject({ code: 'ERR_SHUTDOWN' });
  });

  test('nothing follows the goodbye: what was not sent by then is not sent', async () => {
    await using server = await ScriptedServer.attached();
    const { client } = server;
    const reading = client.read(0, new Uint8Array(16)) as Promise<void>;
    const ending = client[Symbol.asyncDispose]();
    const late = client.flush() as Promise<void>;
    const outcomes = await Promise.allSettled([reading, late]);
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_SHUTDOWN' } });
    }
    expect((await server.request()).type).toBe(CMD.DISC);
    await ending;
    await expect(server.request()).rejects.toThrow('closed after 0 of 28 bytes');
  });

  test('disposing fails what is in flight, also with a server that says nothing', async () => {
    await using server = await ScriptedServer.attached();
    const { client } = server;
    const outcomes = Promise.allSettled([
      client.read(0, new Uint8Array(4096)),
      client.write(0, pattern(MiB), PLAIN),
      ...Array.from({ length: 200 }, () => client.flush()),
    ]);
    await server.request();
    await client[Symbol.asyncDispose]();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_SHUTDOWN' } });
    }
  });

  test.for(['destroy', 'end'] as const)('a server that goes (%s) fails everything', async (how) => {
    const log: { name: string; facts: Facts }[] = [];
    await using server = await ScriptedServer.attached(
      {},
      { log: { event: (_, name, facts = {}) => void log.push({ name, facts }) } },
    );
    const { client } = server;
    const outcomes = Promise.allSettled([
      client.read(0, new Uint8Array(4096)),
      client.write(0, pattern(MiB), PLAIN),
      ...Array.from({ length: 200 }, () => client.flush()),
    ]);
    await server.request();
    server.stream[how]();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_IO' } });
      expect(outcome).toMatchObject({
        reason: { message: expect.stringMatching(/closed the conn/) },
      });
    }
    await expect(client.flush()).rejects.toMatchObject({ code: 'ERR_IO' });
    expect(client.lost.reason).toMatchObject({ code: 'ERR_IO' });
    expect(log.map(({ name }) => name)).toEqual(['nbd.client-connected', 'nbd.client-failed']);
  });

  test('a server that fails at the very begin is told of, also while nothing is asked', async () => {
    await using server = await ScriptedServer.listen();
    const connecting = server.connect();
    await server.handshake();
    server.send(new Uint8Array(100)); // comes in one chunk with the last word of the handshake
    await using client = await connecting;
    if (!client.lost.aborted) await once(client.lost, 'abort');
    expect(client.lost.reason).toMatchObject({ code: 'ERR_BAD_FRAME' });
  });

  test('our own server, when it stops, ends the connection; what is in flight is answered', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      before: ({ name }) => (name === 'flush' ? gate.wait() : undefined),
    });
    await using client = await connect(served);
    const flushing = client.flush();
    await served.settle();
    const drained = served.server.drain(5_000);
    gate.open();
    await flushing;
    await drained;
    await expect(client.flush()).rejects.toMatchObject({ code: 'ERR_IO' });
  });
});

test('contexts of our own server are described, beside its extents', async () => {
  const DEPTH = 'qemu:allocation-depth';
  await using served = await Served.start({ contexts: { [DEPTH]: (block) => block >> 1 } });
  await using client = await connect(served, { contexts: [DEPTH, 'qemu:dirty-bitmap:none'] });
  expect(client.info.contexts).toEqual([DEPTH]);
  expect(client.multiConn).toBe(true);
  await client.write(4096, pattern(4096), PLAIN);
  expect(await client.describe(DEPTH, 4096, 16_384, 2)).toEqual([
    { length: 4096, flags: 0 },
    { length: 8192, flags: 1 },
  ]);
  expect(await client.extents(0, 16_384, 2)).toEqual([
    { length: 4096, hole: true, zero: true },
    { length: 4096, hole: false, zero: false },
  ]);
});
