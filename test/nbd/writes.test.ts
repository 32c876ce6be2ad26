import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { CMD, CMD_FLAG, ERRNO } from '../../src/nbd/constants.ts';
import { requestBytes } from './client.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { FUA } = CMD_FLAG;

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
    for (const call of calls.slice(0, -1)) {
      expect(call).toMatchObject({ name: 'write', durable: false, flushFollows: true });
    }
    const plain = await durable({ type: WRITE, payload: pattern(300_000) });
    expect(plain.some(({ flushFollows }) => flushFollows === true)).toBe(false);
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
