import { describe, expect, test } from 'vitest';
import { AssertionFailure } from '../../src/base/assert.ts';
import { type FaultCode, SheepError } from '../../src/base/errors.ts';
import { GiB, KiB, MiB } from '../../src/base/units.ts';
import { CHUNK, CMD, CMD_FLAG, ERRNO } from '../../src/nbd/constants.ts';
import { requestBytes } from './client.ts';
import type { DeviceCall } from './file-device.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO } = CMD_FLAG;

describe.for([
  ['simple', false],
  ['structured', true],
] as const)('with %s replies', ([, structured]) => {
  test('doc/proto.md, "NBD_CMD_READ": data is what was written', async () => {
    await using served = await Served.start();
    const client = await served.client({ structured });
    const bytes = pattern(10_000);
    const written = await client.request({ type: WRITE, offset: 777, payload: bytes, cookie: 1n });
    expect(written).toMatchObject({ errno: 0, cookie: 1n });
    const reply = await client.request({ type: READ, offset: 777, length: 10_000, cookie: 2n });
    expect(reply).toMatchObject({ errno: 0, cookie: 2n, structured });
    expect(reply.data).toEqual(bytes);
  });

  test('doc/proto.md, "Error values": a READ that fails sends no data', async () => {
    await using served = await Served.start({
      before: ({ name }) => {
        if (name === 'read') throw new SheepError('ERR_CORRUPT', 'block 7 of /secret/path');
      },
    });
    const client = await served.client({ structured });
    const reply = await client.request({ type: READ, length: 4096, cookie: 3n });
    expect(reply).toMatchObject({ errno: ERRNO.EIO, cookie: 3n, structured });
    expect(reply.text).toBe(structured ? 'stored data is damaged' : '');
    expect(served.named('nbd.request-failed')).toMatchObject([
      { command: 'READ', errno: 5, cause: 'block 7 of /secret/path' },
    ]);
    expect(await client.request({ type: FLUSH })).toMatchObject({ errno: 0 });
  });

  test('cookies come back as they were, all 64 bits', async () => {
    await using served = await Served.start();
    const client = await served.client({ structured });
    for (const cookie of [0n, 2n ** 64n - 1n, 2n ** 63n, 0x8000_0000n, 0x0123_4567_89ab_cdefn]) {
      expect((await client.request({ type: READ, length: 1, cookie })).cookie).toBe(cookie);
      expect((await client.request({ type: FLUSH, cookie })).cookie).toBe(cookie);
      expect((await client.request({ type: 99, cookie })).cookie).toBe(cookie);
    }
  });
});

describe('doc/proto.md, "NBD_CMD_FLAG_FUA"', () => {
  const durable = async (fields: Parameters<typeof requestBytes>[0]) => {
    await using served = await Served.start();
    const client = await served.client();
    expect(await client.request(fields)).toMatchObject({ errno: 0 });
    return served.calls.filter(({ name }) => name !== 'read');
  };

  test('a write in one piece is durable by itself', async () => {
    const payload = pattern(4096);
    expect(await durable({ type: WRITE, flags: FUA, payload })).toEqual([
      { name: 'write', at: 0, length: 4096, durable: true },
    ]);
    expect(await durable({ type: WRITE, payload })).toMatchObject([{ durable: false }]);
  });

  test('a write in pieces is followed by a flush of its range, before the reply', async () => {
    const calls = await durable({
      type: WRITE,
      flags: FUA,
      offset: 512,
      payload: pattern(300_000),
    });
    expect(calls.length).toBeGreaterThan(2);
    expect(calls.at(-1)).toEqual({ name: 'flush', at: 512, length: 300_000 });
    expect(calls.slice(0, -1).every((call) => call.durable === false)).toBe(true);
  });

  test('the flush of a write in pieces comes after the pieces have settled, the reply after it', async () => {
    const [piece, flush] = [new Gate(), new Gate()];
    await using served = await Served.start({
      before: ({ name }) => (name === 'flush' ? flush.wait() : piece.wait()),
    });
    const client = await served.client();
    const reply = client.request({ type: WRITE, flags: FUA, payload: pattern(300_000) });
    await served.settle();
    expect(served.calls.some(({ name }) => name === 'flush')).toBe(false);
    piece.open();
    await served.settle();
    expect(served.calls.at(-1)?.name).toBe('flush');
    expect(served.server.connections()[0]?.inFlight).toBe(1);
    flush.open();
    expect(await reply).toMatchObject({ errno: 0 });
  });

  test('a flush that fails fails the write', async () => {
    await using served = await Served.start({
      before: ({ name }) => {
        if (name === 'flush') throw new SheepError('ERR_LOST', 'gone');
      },
    });
    const client = await served.client();
    const reply = await client.request({ type: WRITE, flags: FUA, payload: pattern(300_000) });
    expect(reply).toMatchObject({ errno: ERRNO.EIO, text: 'stored data is lost' });
  });

  test('reaches trim and zeroes, and is accepted on every command', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    for (const type of [READ, TRIM, WRITE_ZEROES, FLUSH, CACHE, BLOCK_STATUS]) {
      const length = type === FLUSH ? 0 : 4096;
      expect(await client.request({ type, flags: FUA, length }), `${type}`).toMatchObject({
        errno: 0,
      });
    }
    const changes = served.calls.filter(({ name }) => name === 'trim' || name === 'writeZeroes');
    expect(changes.map((call) => call.durable)).toEqual([true, true]);
  });
});

describe('commands without data', () => {
  test('doc/proto.md, "NBD_CMD_WRITE_ZEROES": reads back as zero; flags reach the device', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    await client.request({ type: WRITE, payload: pattern(32_768) });
    await client.request({ type: WRITE_ZEROES, offset: 4096, length: 8192 });
    expect((await client.read(4096, 8192)).every((byte) => byte === 0)).toBe(true);
    const holes = await client.request({ type: BLOCK_STATUS, length: 16_384 });
    expect(holes.status).toEqual([1, 4096, 0, 8192, 3, 4096, 0]);
    await client.request({ type: WRITE_ZEROES, flags: NO_HOLE, offset: 4096, length: 8192 });
    const kept = await client.request({ type: BLOCK_STATUS, length: 16_384 });
    expect(kept.status).toEqual([1, 16_384, 0]);
  });

  test('doc/proto.md, "NBD_CMD_FLAG_FAST_ZERO": done, or ENOTSUP and nothing changed', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const bytes = pattern(8192);
    await client.request({ type: WRITE, payload: bytes });
    const slow = { type: WRITE_ZEROES, flags: FAST_ZERO, offset: 100, length: 200 };
    expect(await client.request(slow)).toMatchObject({ errno: ERRNO.ENOTSUP });
    expect(await client.read(0, 8192)).toEqual(bytes);
    const fast = { type: WRITE_ZEROES, flags: FAST_ZERO | NO_HOLE, offset: 4096, length: 4096 };
    expect(await client.request(fast)).toMatchObject({ errno: 0 });
    expect((await client.read(4096, 4096)).every((byte) => byte === 0)).toBe(true);
  });

  test('doc/proto.md, "NBD_CMD_TRIM": whole blocks are gone, parts of blocks stay', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const bytes = pattern(16_384);
    await client.request({ type: WRITE, payload: bytes });
    expect(await client.request({ type: TRIM, offset: 1, length: 12_000 })).toMatchObject({
      errno: 0,
    });
    expect(await client.read(0, 16_384)).toEqual(bytes.fill(0, 4096, 8192));
  });

  test('doc/proto.md, "NBD_CMD_CACHE": a hint to the device', async () => {
    await using served = await Served.start();
    const client = await served.client();
    expect(await client.request({ type: CACHE, offset: 5, length: 9 })).toMatchObject({ errno: 0 });
    expect(served.calls).toEqual([{ name: 'prefetch', at: 5, length: 9 }]);
  });

  test('doc/proto.md, "NBD_CMD_BLOCK_STATUS": extents from the offset on, one with REQ_ONE', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    await client.request({ type: WRITE, offset: 8192, payload: pattern(4096) });
    const whole = await client.request({ type: BLOCK_STATUS, length: MiB });
    expect(whole.status).toEqual([1, 8192, 3, 4096, 0, MiB - 12_288, 3]);
    const one = { type: BLOCK_STATUS, flags: REQ_ONE, offset: 4096, length: 5000 };
    expect((await client.request(one)).status).toEqual([1, 4096, 3]);
    const tail = { type: BLOCK_STATUS, flags: REQ_ONE, offset: 8193, length: 2 };
    expect((await client.request(tail)).status).toEqual([1, 2, 0]);
  });

  test('extents that wait, or fail, are answered as well', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      before: ({ name }) => (name === 'extents' ? gate.wait() : undefined),
    });
    const client = await served.client({ meta: true });
    const first = client.request({ type: BLOCK_STATUS, length: 4096 });
    await served.settle();
    gate.fail(new SheepError('ERR_IO', 'broken'));
    expect(await first).toMatchObject({ errno: ERRNO.EIO });
  });

  test('a list of extents is cut at a bound; the client asks on', async () => {
    await using served = await Served.start({ limits: { extentsMax: 4 } });
    const client = await served.client({ meta: true });
    for (let block = 0; block < 20; block += 2) {
      await client.request({ type: WRITE, offset: block * 4096, payload: pattern(4096) });
    }
    const { status } = await client.request({ type: BLOCK_STATUS, length: MiB });
    expect(status).toEqual([1, 4096, 0, 4096, 3, 4096, 0, 4096, 3]);
  });
});

describe('doc/proto.md, "Structured replies"', () => {
  test('a READ that is known to be a hole is sent as one', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const reply = await client.request({ type: READ, offset: 65_536, length: 65_536 });
    expect(reply.chunks).toMatchObject([
      { type: CHUNK.OFFSET_HOLE, offset: 65_536, length: 65_536 },
    ]);
    expect(reply.data.every((byte) => byte === 0)).toBe(true);
    expect(served.calls).toEqual([]);
  });

  test('not with DF, not if it is small, not if any of it is data', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const data = [expect.objectContaining({ type: CHUNK.OFFSET_DATA })];
    const ask = (flags: number, length: number) => client.request({ type: READ, flags, length });
    expect((await ask(DF, 65_536)).chunks).toEqual(data);
    expect((await ask(0, 4096)).chunks).toEqual(data);
    await client.request({ type: WRITE, offset: 65_535, payload: Uint8Array.of(1) });
    expect((await ask(0, 65_536)).chunks).toEqual(data);
  });

  test('a large READ comes in chunks that cover it once, without overlap', async () => {
    await using served = await Served.start({ sizeBytes: 4 * MiB });
    const client = await served.client();
    const bytes = pattern(3_000_001);
    await client.request({ type: WRITE, offset: 999, payload: bytes });
    const reply = await client.request({ type: READ, offset: 999, length: bytes.length });
    expect(Buffer.compare(reply.data, bytes)).toBe(0);
    expect(reply.chunks.length).toBeGreaterThan(10);
    let next = 999;
    for (const { offset, length } of [...reply.chunks].sort((a, b) => a.offset - b.offset)) {
      expect(offset).toBe(next);
      next = offset + length;
    }
    expect(next).toBe(999 + bytes.length);
  });

  test('chunks of several large READs may interleave; each reply is whole', async () => {
    const gates: Gate[] = [];
    await using served = await Served.start({
      sizeBytes: 4 * MiB,
      before: ({ name }) => {
        if (name !== 'read') return undefined;
        gates.push(new Gate());
        return gates.at(-1)?.wait();
      },
    });
    const client = await served.client();
    const bytes = pattern(2 * MiB);
    await client.request({ type: WRITE, payload: bytes });
    client.ask({ type: READ, length: MiB, cookie: 1n });
    client.ask({ type: READ, offset: 2 * MiB - 5, length: 5, cookie: 2n });
    await served.settle();
    for (const gate of gates.reverse()) gate.open();
    const replies = [await client.reply(), await client.reply()];
    expect(replies.map(({ cookie }) => cookie).sort()).toEqual([1n, 2n]);
  }, 10_000);

  test('DF gives one chunk up to 2 MiB; above it is EOVERFLOW', async () => {
    await using served = await Served.start({ sizeBytes: 8 * MiB });
    const client = await served.client();
    const bytes = pattern(2 * MiB);
    await client.request({ type: WRITE, offset: 4096, payload: bytes });
    for (const length of [1, 65_536, 300_000, 2 * MiB]) {
      const reply = await client.request({ type: READ, flags: DF, offset: 4096, length });
      expect(reply.chunks).toMatchObject([{ type: CHUNK.OFFSET_DATA, length }]);
      expect(Buffer.compare(reply.data, bytes.subarray(0, length))).toBe(0);
    }
    const long = { type: READ, flags: DF, length: 2 * MiB + 1 };
    expect(await client.request(long)).toMatchObject({ errno: ERRNO.EOVERFLOW });
  });

  test('an error in a piece of a large READ is one error at the end, and the connection goes on', async () => {
    for (const later of [false, true]) {
      await using served = await Served.start({
        sizeBytes: 4 * MiB,
        before: ({ name, at }) => {
          if (name !== 'read' || at !== 512 * KiB) return later ? Promise.resolve() : undefined;
          const error = new SheepError('ERR_IO', 'bad place');
          if (later) return Promise.reject(error);
          throw error;
        },
      });
      const client = await served.client();
      await client.request({ type: WRITE, payload: pattern(MiB) });
      for (const flags of [0, DF]) {
        const reply = await client.request({ type: READ, flags, length: MiB, cookie: 9n });
        expect(reply).toMatchObject({ errno: ERRNO.EIO, cookie: 9n, text: 'the store failed' });
      }
      expect(await client.request({ type: FLUSH })).toMatchObject({ errno: 0 });
    }
  });
});

describe('doc/proto.md, "Simple reply message"', () => {
  test('a large READ is one run of bytes', async () => {
    await using served = await Served.start({ sizeBytes: 16 * MiB });
    const client = await served.client({ structured: false });
    const bytes = pattern(9_000_001);
    await client.request({ type: WRITE, offset: 3, payload: bytes });
    for (const length of [300_000, 2 * MiB, 2 * MiB + 1, 9_000_001]) {
      const reply = await client.request({ type: READ, offset: 3, length, cookie: 4n });
      expect(reply).toMatchObject({ errno: 0, cookie: 4n });
      expect(Buffer.compare(reply.data, bytes.subarray(0, length))).toBe(0);
    }
  });

  test('nothing comes between the windows of a very large READ', async () => {
    await using served = await Served.start({
      sizeBytes: 16 * MiB,
      before: () => new Promise((done) => setImmediate(done)),
    });
    const client = await served.client({ structured: false });
    const bytes = pattern(5 * MiB);
    await client.request({ type: WRITE, payload: bytes });
    client.ask(
      { type: READ, offset: 1, length: 10, cookie: 1n },
      { type: READ, length: 5 * MiB, cookie: 2n },
      { type: READ, offset: 2, length: 10, cookie: 3n },
      { type: FLUSH, cookie: 4n },
    );
    expect(await client.reply()).toMatchObject({ cookie: 1n });
    const large = await client.reply();
    expect(large).toMatchObject({ cookie: 2n, errno: 0 });
    expect(Buffer.compare(large.data, bytes)).toBe(0);
    expect((await client.reply()).data).toEqual(bytes.subarray(2, 12));
    expect(await client.reply()).toMatchObject({ cookie: 4n });
  });

  test('a very large READ begins when nothing else is in flight', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      sizeBytes: 16 * MiB,
      before: ({ name, length }) => (name === 'read' && length === 10 ? gate.wait() : undefined),
    });
    const client = await served.client({ structured: false });
    client.ask({ type: READ, length: 10, cookie: 1n });
    client.ask({ type: READ, length: 5 * MiB, cookie: 2n });
    await served.settle();
    expect(served.calls).toHaveLength(1);
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 1n, errno: 0 });
    expect(await client.reply()).toMatchObject({ cookie: 2n, errno: 0 });
  });

  test('an error before the header is told, one after it ends the connection', async () => {
    let failAt = 0;
    await using served = await Served.start({
      sizeBytes: 16 * MiB,
      before: ({ name, at }) => {
        if (name === 'read' && at === failAt) throw new SheepError('ERR_IO', 'bad place');
      },
    });
    const client = await served.client({ structured: false });
    failAt = 1 * MiB;
    expect(await client.request({ type: READ, length: 2 * MiB })).toMatchObject({ errno: 5 });
    expect(await client.request({ type: READ, length: 5 * MiB })).toMatchObject({ errno: 5 });
    failAt = 4 * MiB;
    const last = client.request({ type: READ, length: 5 * MiB });
    await expect(last).rejects.toThrow('closed after');
    await client.gone;
    expect(served.named('nbd.protocol-violation')).toMatchObject([
      { why: 'an error in the middle of a reply' },
    ]);
  });
});

describe('a WRITE whose payload arrives bit by bit', () => {
  test.for([1, 7, 4096, 5000, 100_000])(
    'in chunks of %i, each piece ends at a block border',
    async (chunkBytes) => {
      await using served = await Served.start({ chunkBytes });
      const client = await served.client();
      const bytes = pattern(chunkBytes < 10 ? 20_000 : 500_000);
      const offset = 1000;
      await client.request({ type: WRITE, offset, payload: bytes });
      let next = offset;
      for (const { name, at, length } of served.calls) {
        expect([name, at]).toEqual(['write', next]);
        next = at + length;
        expect(length).toBeLessThanOrEqual(128 * KiB);
        if (next !== offset + bytes.length) expect(next % 4096).toBe(0);
      }
      expect(next).toBe(offset + bytes.length);
      expect(Buffer.compare(await client.read(offset, bytes.length), bytes)).toBe(0);
    },
  );

  test('a connection that breaks leaves every block old or new', async () => {
    for (const sent of [1, 4095, 4096, 4097, 10_000, 200_000]) {
      await using served = await Served.start();
      const before = await served.client();
      await before.request({ type: WRITE, payload: new Uint8Array(MiB).fill(1) });
      const client = await served.client();
      const wire = requestBytes({
        type: WRITE,
        offset: 100,
        payload: new Uint8Array(300_000).fill(2),
      });
      await client.sent(wire.subarray(0, 28 + sent));
      await served.settle();
      client.stream.destroy();
      await client.gone;
      const shown = await before.read(0, MiB);
      for (let block = 0; block < MiB; block += 4096) {
        const part = shown.subarray(Math.max(block, 100), block + 4096);
        expect(new Set(part).size, `block at ${block} after ${sent} bytes`).toBe(1);
      }
    }
  });

  test('pieces that wait are answered once, when all have settled', async () => {
    const gates: Gate[] = [];
    await using served = await Served.start({
      before: ({ name }) => {
        if (name !== 'write') return undefined;
        gates.push(new Gate());
        return gates.at(-1)?.wait();
      },
    });
    const client = await served.client();
    const bytes = pattern(400_000);
    client.ask({ type: WRITE, payload: bytes, cookie: 8n });
    client.ask({ type: WRITE, offset: MiB - 1, payload: Uint8Array.of(5), cookie: 9n });
    await served.settle();
    expect(gates.length).toBeGreaterThan(4);
    for (const gate of gates) gate.open();
    const replies = [await client.reply(), await client.reply()];
    expect(replies.map(({ cookie }) => cookie).sort()).toEqual([8n, 9n]);
    expect(Buffer.compare(await client.read(0, bytes.length), bytes)).toBe(0);
  });

  test('an error in one piece is one error reply, and the rest is swallowed', async () => {
    for (const later of [false, true]) {
      await using served = await Served.start({
        before: ({ name, at }) => {
          if (name !== 'write' || at < 128 * KiB) return undefined;
          const error = new SheepError('ERR_NO_SPACE', 'full');
          if (later) return Promise.reject(error);
          throw error;
        },
      });
      const client = await served.client();
      const reply = await client.request({ type: WRITE, payload: pattern(600_000), cookie: 3n });
      expect(reply).toMatchObject({ errno: ERRNO.ENOSPC, cookie: 3n, text: 'the store is full' });
      expect(await client.request({ type: READ, length: 1 })).toMatchObject({ errno: 0 });
      const beyond = served.calls.filter(({ name, at }) => name === 'write' && at >= 128 * KiB);
      if (!later) expect(beyond).toHaveLength(1);
    }
  });

  test('memory of a received chunk stays as it is while writes from it wait', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      chunkBytes: 10_000,
      before: ({ name }) => (name === 'write' ? gate.wait() : undefined),
    });
    const client = await served.client();
    const bytes = pattern(64 * 4096);
    for (let index = 0; index < 64; index += 1) {
      const payload = bytes.subarray(index * 4096, (index + 1) * 4096);
      client.ask({ type: WRITE, offset: index * 4096, payload, cookie: BigInt(index) });
    }
    await served.settle();
    gate.open();
    for (let index = 0; index < 64; index += 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
    expect(Buffer.compare(await client.read(0, bytes.length), bytes)).toBe(0);
  });
});

describe('requests that wait', () => {
  test('replies come in the order in which the device finishes', async () => {
    const gates = new Map<number, Gate>();
    await using served = await Served.start({
      before: ({ name, at }) => {
        if (name !== 'read' || at === 0) return undefined;
        gates.set(at, new Gate());
        return gates.get(at)?.wait();
      },
    });
    const client = await served.client();
    client.ask({ type: READ, offset: 4096, length: 8, cookie: 1n });
    client.ask({ type: CACHE, length: 8, cookie: 2n });
    expect(await client.reply()).toMatchObject({ cookie: 2n });
    gates.get(4096)?.open();
    expect(await client.reply()).toMatchObject({ cookie: 1n });
  });

  test('the device is called in the order in which requests arrived', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client({ meta: true });
    const order = [READ, WRITE_ZEROES, TRIM, FLUSH, CACHE, BLOCK_STATUS, READ];
    for (const [index, type] of order.entries()) {
      client.ask({ type, length: type === FLUSH ? 0 : 4096, cookie: BigInt(index) });
    }
    await served.settle();
    const names = ['read', 'writeZeroes', 'trim', 'flush', 'prefetch', 'extents', 'read'];
    expect(served.calls.map(({ name }) => name)).toEqual(names);
    gate.open();
    for (let left = order.length; left > 0; left -= 1) {
      expect(await client.reply()).toMatchObject({ errno: 0 });
    }
  });

  test('a client may have 1024 in flight; then it is read no further', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client();
    const one = { type: CACHE, length: 1 };
    for (let count = 0; count < 3000; count += 1) client.ask(one);
    await served.settle();
    expect(served.calls).toHaveLength(1024);
    expect(served.server.connections()).toMatchObject([{ inFlight: 1024 }]);
    gate.open();
    for (let count = 0; count < 3000; count += 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('small READs that wait share reply memory, also when each came by itself', async () => {
    const gate = new Gate();
    await using served = await Served.start({ chunkBytes: 28, before: () => gate.wait() });
    const client = await served.client();
    for (let index = 0; index < 200; index += 1) {
      client.ask({ type: READ, offset: index, length: 4096, cookie: BigInt(index) });
    }
    await served.settle();
    expect(served.calls).toHaveLength(200);
    gate.open();
    for (let left = 200; left > 0; left -= 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('reply memory is bounded however much is asked for', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      sizeBytes: 64 * MiB,
      before: ({ name }) => (name === 'read' ? gate.wait() : undefined),
    });
    const client = await served.client();
    const all = { type: READ, offset: 0, length: 64 * MiB };
    client.ask(all, all, all);
    await served.settle();
    const bytes = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThanOrEqual(33 * 256 * KiB);
    gate.open();
  });

  test('so it is where replies cannot be cut', async () => {
    const gate = new Gate();
    await using served = await Served.start({ sizeBytes: 4 * MiB, before: () => gate.wait() });
    const client = await served.client({ structured: false });
    for (let count = 0; count < 20; count += 1) client.ask({ type: READ, length: 2 * MiB });
    await served.settle();
    const bytes = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThanOrEqual(33 * 256 * KiB);
    gate.open();
    for (let left = 20; left > 0; left -= 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('a large READ whose client is gone is not read to its end', async () => {
    for (const structured of [false, true]) {
      const gate = new Gate();
      await using served = await Served.start({
        sizeBytes: 64 * MiB,
        before: ({ name }) => (name === 'read' ? gate.wait() : undefined),
      });
      const client = await served.client({ structured });
      client.ask({ type: READ, length: 64 * MiB });
      await served.settle();
      const begun = served.calls.length;
      client.stream.destroy();
      await served.settle();
      gate.open();
      await served.until(() => served.closed === 1);
      expect(served.calls).toHaveLength(begun);
    }
  });

  test('a client that reads nothing is read no further', async () => {
    await using served = await Served.start({ sizeBytes: 64 * MiB });
    const client = await served.client({ structured: false });
    client.stream.pause();
    for (let count = 0; count < 500; count += 1) client.ask({ type: READ, length: MiB });
    await served.settle();
    const bytes = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThan(16 * MiB);
    client.stream.destroy();
  });

  test('the error of one does not touch the others', async () => {
    await using served = await Served.start({
      before: ({ name, at }) =>
        name === 'read' && at === 4096 ? Promise.reject(new Error('odd')) : Promise.resolve(),
    });
    const client = await served.client();
    for (const at of [0, 4096, 8192]) {
      client.ask({ type: READ, offset: at, length: 4096, cookie: BigInt(at) });
    }
    const errors = new Map<bigint, number>();
    for (let count = 0; count < 3; count += 1) {
      const { cookie, errno } = await client.reply();
      errors.set(cookie, errno);
    }
    expect(errors).toEqual(
      new Map([
        [0n, 0],
        [4096n, ERRNO.EIO],
        [8192n, 0],
      ]),
    );
  });
});

describe('doc/proto.md, "Error values": how faults of the device are told', () => {
  const failing = async (code: FaultCode, fields: { type: number; flags?: number }) => {
    await using served = await Served.start({
      before: (_: DeviceCall) => {
        throw new SheepError(code, 'why');
      },
    });
    const client = await served.client();
    const reply = await client.request({ ...fields, length: 4096 });
    return reply.errno;
  };

  test.for([
    ['ERR_IO', ERRNO.EIO],
    ['ERR_MISSING', ERRNO.EIO],
    ['ERR_NO_SPACE', ERRNO.ENOSPC],
    ['ERR_READ_ONLY', ERRNO.EPERM],
    ['ERR_LIMIT', ERRNO.ENOMEM],
    ['ERR_SHUTDOWN', ERRNO.ESHUTDOWN],
    ['ERR_UNSUPPORTED', ERRNO.EINVAL],
  ] as const)('%s', async ([code, errno]) => {
    expect(await failing(code, { type: TRIM })).toBe(errno);
  });

  test('ENOTSUP answers nothing but FAST_ZERO', async () => {
    const fast = { type: WRITE_ZEROES, flags: FAST_ZERO };
    expect(await failing('ERR_NOT_FAST', fast)).toBe(ERRNO.ENOTSUP);
    expect(await failing('ERR_NOT_FAST', { type: WRITE_ZEROES })).toBe(ERRNO.EINVAL);
    expect(await failing('ERR_NOT_FAST', { type: TRIM })).toBe(ERRNO.EINVAL);
  });

  test('a failing device fills no log: one line for each command and number', async () => {
    await using served = await Served.start({
      before: () => {
        throw new SheepError('ERR_IO', 'why');
      },
    });
    const client = await served.client();
    for (let count = 0; count < 50; count += 1) {
      await client.request({ type: READ, length: 1 });
      await client.request({ type: TRIM, length: 1 });
    }
    expect(served.named('nbd.request-failed')).toHaveLength(2);
  });

  test('a broken belief is not swallowed', async () => {
    for (const later of [false, true]) {
      const broken = new AssertionFailure('two and two');
      await using served = await Served.start({
        before: () => {
          if (later) return Promise.reject(broken);
          throw broken;
        },
      });
      const client = await served.client({ meta: true });
      for (const type of [READ, TRIM, FLUSH, BLOCK_STATUS]) {
        client.ask({ type, length: type === FLUSH ? 0 : 8 });
      }
      client.ask({ type: WRITE, payload: Uint8Array.of(1) });
      await served.settle();
      expect(served.fatal).toEqual(Array(5).fill(broken));
    }
  });
});

test('doc/proto.md, "NBD_CMD_DISC": everything in flight is answered, then the connection ends', async () => {
  const gate = new Gate();
  await using served = await Served.start({ before: () => gate.wait() });
  const client = await served.client();
  for (let index = 0; index < 64; index += 1) {
    client.ask({ type: READ, offset: index, length: 100, cookie: BigInt(index) });
  }
  client.ask({ type: DISC, flags: 0xffff, offset: 2n ** 64n - 1n, length: GiB });
  client.ask({ type: READ, length: 1, cookie: 99n });
  await served.settle();
  expect(served.closed).toBe(0);
  gate.open();
  for (let index = 0; index < 64; index += 1) {
    expect(await client.reply()).toMatchObject({ cookie: BigInt(index), errno: 0 });
  }
  expect(await client.rest()).toHaveLength(0);
  await served.settle();
  expect([served.opened, served.closed]).toEqual([1, 1]);
});
