import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { CHUNK, CMD, CMD_FLAG, ERRNO } from '../../src/nbd/constants.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, FLUSH } = CMD;
const { DF } = CMD_FLAG;

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
    const client = await served.client({ form: 'simple' });
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
    const client = await served.client({ form: 'simple' });
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
    const client = await served.client({ form: 'simple' });
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
    const client = await served.client({ form: 'simple' });
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
