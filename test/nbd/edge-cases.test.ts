import { describe, expect, test } from 'vitest';
import { KiB, MiB, TiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { CHUNK, CMD, CMD_FLAG, ERRNO, OPT, REP } from '../../src/nbd/constants.ts';
import { FORMS, infoData, optionBytes, type RequestFields, requestBytes } from './client.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO } = CMD_FLAG;
const SIZE = 1 * MiB;

/**
 * Sends one request and then another, to see that the connection is still in step; with compact
 * headers and with extended ones, to see that the answer is the same.
 */
async function answered(served: Served, fields: RequestFields): Promise<number> {
  const told: number[] = [];
  for (const form of ['structured', 'extended'] as const) {
    const client = await served.client({ form, meta: true });
    told.push((await client.request({ cookie: 7n, ...fields })).errno);
    expect(await client.request({ type: READ, length: 16, cookie: 8n })).toMatchObject({
      errno: 0,
      cookie: 8n,
    });
    client.ask({ type: DISC });
  }
  expect(told[1]).toBe(told[0]);
  return told[0] ?? 0;
}

describe('options', () => {
  test('"Option haggling": an unknown option is refused, its data consumed', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const [reply] = await client.option(0x07654321, Uint8Array.of(1, 2, 3, 4));
    expect(reply).toMatchObject({ option: 0x07654321, type: REP.ERR_UNSUP });
    expect((await client.option(OPT.GO, infoData('disk'))).at(-1)?.type).toBe(REP.ACK);
  });

  test('"NBD_OPT_GO": after one that failed options go on', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    expect((await client.option(OPT.GO, infoData('none'))).at(-1)?.type).toBe(REP.ERR_UNKNOWN);
    expect((await client.option(OPT.STRUCTURED_REPLY)).at(-1)?.type).toBe(REP.ACK);
    expect((await client.option(OPT.GO, infoData('disk'))).at(-1)?.type).toBe(REP.ACK);
  });

  test('"NBD_OPT_GO": what follows one that succeeded is a request; an option there ends it', async () => {
    await using served = await Served.start();
    const client = await served.client();
    client.send(optionBytes(OPT.LIST, new Uint8Array(20)));
    expect(await client.rest()).toHaveLength(0);
    expect(served.named('nbd.protocol-violation')).toMatchObject([{ why: 'request magic' }]);
  });
});

describe('"Request message"', () => {
  test('another magic ends the connection, and nothing of it is done', async () => {
    await using served = await Served.start();
    for (const magic of [0, 0x25609514, 0x12560953, 0x96744668, 0x21e41c71]) {
      const client = await served.client();
      client.send(requestBytes({ type: WRITE, magic, payload: pattern(4096) }));
      expect(await client.rest()).toHaveLength(0);
    }
    expect(served.calls).toEqual([]);
  });

  test('a length of zero succeeds and does nothing', async () => {
    await using served = await Served.start();
    for (const type of [READ, WRITE, TRIM, WRITE_ZEROES, CACHE]) {
      for (const offset of [0, 5, SIZE]) {
        expect(await answered(served, { type, offset, length: 0 })).toBe(0);
      }
    }
    expect(served.calls.every(({ name, length }) => name === 'read' && length === 16)).toBe(true);
    for (const form of FORMS) {
      const client = await served.client({ form });
      const reply = await client.request({ type: READ, length: 0, cookie: 2n ** 63n });
      const structured = form !== 'simple';
      expect(reply).toMatchObject({ errno: 0, structured, cookie: 2n ** 63n, chunks: [] });
    }
  });

  test('"NBD_CMD_BLOCK_STATUS": a length of zero is refused, an extent cannot be empty', async () => {
    await using served = await Served.start();
    expect(await answered(served, { type: BLOCK_STATUS, length: 0 })).toBe(ERRNO.EINVAL);
  });

  const beyond: readonly (readonly [bigint, number])[] = [
    [BigInt(SIZE), 1],
    [BigInt(SIZE - 1), 2],
    [0n, SIZE + 1],
    [1n, 0xffff_ffff],
    [2n ** 32n, 4096],
    [2n ** 53n - 1n, 4096],
    [2n ** 53n, 4096],
    [2n ** 63n - 1n, 1],
    [2n ** 63n, 4096],
    [2n ** 64n - 1n, 1],
    [2n ** 64n - 4096n, 4096],
  ];

  test('"NBD_CMD_READ": beyond the end is refused, however far', async () => {
    await using served = await Served.start();
    for (const type of [READ, TRIM, CACHE, BLOCK_STATUS]) {
      for (const [offset, length] of beyond) {
        expect(await answered(served, { type, offset, length })).toBe(ERRNO.EINVAL);
      }
    }
  });

  test('"NBD_CMD_WRITE": beyond the end is no space, and the payload is consumed', async () => {
    await using served = await Served.start();
    for (const [offset, length] of beyond) {
      const payload = new Uint8Array(Math.min(length, 2 * MiB));
      if (length <= payload.length) {
        expect(await answered(served, { type: WRITE, offset, payload })).toBe(ERRNO.ENOSPC);
      }
      expect(await answered(served, { type: WRITE_ZEROES, offset, length })).toBe(ERRNO.ENOSPC);
    }
    expect(served.calls.some(({ name }) => name !== 'read')).toBe(false);
  });

  test('"Transmission flags": nothing changes a read-only export, and payload is consumed', async () => {
    await using served = await Served.start({ readOnly: true });
    const payload = requestBytes({ type: READ, length: 1 }); // looks like a request, is data
    for (const flags of [0, FUA]) {
      expect(await answered(served, { type: WRITE, flags, payload })).toBe(ERRNO.EPERM);
      expect(await answered(served, { type: TRIM, flags, length: 4096 })).toBe(ERRNO.EPERM);
      expect(await answered(served, { type: WRITE_ZEROES, flags, length: 1 })).toBe(ERRNO.EPERM);
    }
    expect(await answered(served, { type: FLUSH })).toBe(0);
    expect(await answered(served, { type: BLOCK_STATUS, length: 4096 })).toBe(0);
    expect(served.calls.some(({ name }) => /write|trim/i.test(name))).toBe(false);
  });

  test('unknown commands and misplaced flags are refused, and payload is consumed', async () => {
    await using served = await Served.start();
    for (const type of [8, 9, 0x1234, 0xffff]) {
      expect(await answered(served, { type, length: 4096 })).toBe(ERRNO.EINVAL);
    }
    const payload = pattern(5000);
    for (const flags of [NO_HOLE, DF, REQ_ONE, FAST_ZERO, 1 << 6, 0x8000, 0xffff]) {
      expect(await answered(served, { type: WRITE, flags, payload })).toBe(ERRNO.EINVAL);
    }
    const misplaced = [
      [READ, NO_HOLE],
      [READ, REQ_ONE],
      [TRIM, NO_HOLE],
      [TRIM, FAST_ZERO],
      [FLUSH, DF],
      [CACHE, REQ_ONE],
      [WRITE_ZEROES, DF],
      [WRITE_ZEROES, REQ_ONE],
      [BLOCK_STATUS, NO_HOLE],
      [BLOCK_STATUS, 1 << 6],
    ] as const;
    for (const [type, flags] of misplaced) {
      expect(await answered(served, { type, flags, length: 4096 })).toBe(ERRNO.EINVAL);
    }
    const calls = served.calls.filter(({ length }) => length !== 16);
    expect(calls).toEqual([]);
  });

  test('"NBD_CMD_FLAG_DF": is refused where structured replies were not agreed', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'simple' });
    expect(await client.request({ type: READ, flags: DF, length: 16 })).toMatchObject({
      errno: ERRNO.EINVAL,
    });
    expect(await client.request({ type: READ, length: 16 })).toMatchObject({ errno: 0 });
  });
});

describe('"Block size constraints"', () => {
  test('a READ above the maximum payload is refused, and the connection goes on', async () => {
    await using served = await Served.start({ sizeBytes: 80 * MiB });
    expect(await answered(served, { type: READ, length: 64 * MiB + 1 })).toBe(ERRNO.EINVAL);
  });

  test('a READ and a WRITE of the maximum payload are served', async () => {
    await using served = await Served.start({ sizeBytes: 80 * MiB });
    const client = await served.client();
    const payload = pattern(64 * MiB);
    expect(await client.request({ type: WRITE, offset: 5, payload })).toMatchObject({ errno: 0 });
    for (const [offset, value] of [
      [5, payload[0]],
      [64 * MiB + 4, payload.at(-1)],
    ] as const) {
      expect((await client.read(offset, 1))[0]).toBe(value);
    }
    const reply = await client.request({ type: READ, offset: 5, length: 64 * MiB });
    expect(Buffer.compare(reply.data, payload)).toBe(0);
  }, 60_000);

  test('a WRITE above the maximum payload is swallowed and refused', async () => {
    const limits = { payloadMaxBytes: 32 * MiB, writeSkipMaxBytes: 33 * MiB };
    await using served = await Served.start({ sizeBytes: 80 * MiB, limits });
    const payload = new Uint8Array(32 * MiB + 1);
    expect(await answered(served, { type: WRITE, payload })).toBe(ERRNO.EINVAL);
    expect(served.calls.filter(({ name }) => name === 'write')).toEqual([]);
  }, 20_000);

  test('a refused WRITE of 4 GiB ends the connection instead of being swallowed', async () => {
    await using served = await Served.start();
    for (const length of [128 * MiB + 1, 0xffff_ffff]) {
      const client = await served.client();
      client.send(requestBytes({ type: WRITE, length }));
      expect(await client.rest()).toHaveLength(0);
    }
  });

  test('effects without payload have no maximum', async () => {
    const calls: [string, number][] = [];
    const note = (name: string, length: number) => void calls.push([name, length]);
    const huge: Partial<BlockDevice> = {
      info: { sizeBytes: 8 * TiB, readOnly: false, description: '' },
      trim: (_, length) => note('trim', length),
      writeZeroes: (_, length) => note('zero', length),
      extents: (_, length) => [{ length, hole: true, zero: true }],
      [Symbol.asyncDispose]: async () => undefined,
    };
    await using served = await Served.start({
      exports: () => ({
        open: async () => huge as BlockDevice,
        info: async () => huge.info,
      }),
    });
    const client = await served.client({ meta: true });
    const length = 0xffff_ffff;
    for (const type of [TRIM, WRITE_ZEROES]) {
      const reply = await client.request({ type, offset: 2n ** 42n, length });
      expect(reply).toMatchObject({ errno: 0 });
    }
    expect(calls).toEqual([
      ['trim', length],
      ['zero', length],
    ]);
    const status = await client.request({ type: BLOCK_STATUS, offset: 2n ** 42n, length });
    expect(status.status).toEqual([1, length, 3]);
  });

  test('the minimum is one byte: nothing is misaligned', async () => {
    await using served = await Served.start();
    const client = await served.client();
    await client.request({ type: WRITE, offset: 1, payload: Uint8Array.of(1, 2, 3) });
    expect(await client.read(0, 5)).toEqual(Uint8Array.of(0, 1, 2, 3, 0));
    await client.request({ type: WRITE_ZEROES, offset: 2, length: 1 });
    expect(await client.read(0, 5)).toEqual(Uint8Array.of(0, 1, 0, 3, 0));
  });
});

describe('durability', () => {
  test('"NBD_CMD_FLUSH": reserved fields that are not zero do not prevent it', async () => {
    await using served = await Served.start();
    expect(await answered(served, { type: FLUSH, offset: 2n ** 64n - 1n, length: 77 })).toBe(0);
    expect(served.calls[0]).toMatchObject({ name: 'flush', length: SIZE });
  });

  test('"NBD_CMD_FLUSH": is answered only when the device has flushed', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      before: ({ name }) => (name === 'flush' ? gate.wait() : undefined),
    });
    const client = await served.client();
    client.ask({ type: FLUSH, cookie: 1n }, { type: READ, length: 1, cookie: 2n });
    expect(await client.reply()).toMatchObject({ cookie: 2n });
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 1n, errno: 0 });
  });

  test('"NBD_CMD_FLAG_FUA": is answered only when the write is durable', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      before: ({ durable }) => (durable ? gate.wait() : undefined),
    });
    const client = await served.client();
    const payload = pattern(10);
    client.ask(
      { type: WRITE, flags: FUA, payload, cookie: 1n },
      { type: WRITE, payload, cookie: 2n },
    );
    expect(await client.reply()).toMatchObject({ cookie: 2n });
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 1n, errno: 0 });
  });

  test('"NBD_FLAG_CAN_MULTI_CONN": what one connection was answered another sees', async () => {
    await using served = await Served.start();
    const [one, other] = [await served.client(), await served.client()];
    for (let round = 1; round <= 20; round += 1) {
      await one.request({ type: WRITE, offset: round, payload: Uint8Array.of(round) });
      expect(await other.read(round, 1)).toEqual(Uint8Array.of(round));
      await other.request({ type: FLUSH });
      expect(await one.read(round, 1)).toEqual(Uint8Array.of(round));
    }
    expect(served.server.connections()).toHaveLength(2);
  });
});

describe('replies', () => {
  test('the same cookie twice in flight is answered twice', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client();
    client.ask({ type: FLUSH, cookie: 5n }, { type: FLUSH, cookie: 5n });
    await served.settle();
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 5n });
    expect(await client.reply()).toMatchObject({ cookie: 5n });
  });

  test('a slow request does not hold up those after it', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      before: ({ at, name }) => (name === 'read' && at === 4096 ? gate.wait() : undefined),
    });
    const client = await served.client();
    client.ask({ type: READ, offset: 4096, length: 9, cookie: 1n });
    for (let count = 2; count < 100; count += 1) {
      const reply = await client.request({ type: READ, length: 4096, cookie: BigInt(count) });
      expect(reply.cookie).toBe(BigInt(count));
    }
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 1n });
  });

  test('a reply belongs to the connection that asked, also when another took its place', async () => {
    const gate = new Gate();
    let waiting = true;
    await using served = await Served.start({
      before: ({ name }) => (waiting && name === 'read' ? gate.wait() : undefined),
    });
    const old = await served.client();
    for (let count = 0; count < 50; count += 1) old.ask({ type: READ, length: 4096, cookie: 1n });
    await served.settle();
    old.stream.destroy();
    await old.gone;
    waiting = false;
    const client = await served.client();
    gate.open();
    await served.settle();
    const reply = await client.request({ type: READ, length: 8, cookie: 2n });
    expect(reply).toMatchObject({ cookie: 2n, errno: 0 });
    await served.settle();
    client.ask({ type: DISC });
    expect(await client.rest()).toHaveLength(0);
  });

  test('EOF without DISC drops what is pending, quietly, and closes the device after it', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client();
    for (let count = 0; count < 256; count += 1) client.ask({ type: READ, length: 4096 });
    client.ask({ type: WRITE, payload: pattern(300_000) });
    await served.settle();
    client.stream.destroy();
    await served.settle();
    expect(served.closed).toBe(0);
    gate.open();
    await served.settle();
    expect(served.closed).toBe(1);
    expect(served.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  test('a client that ends its side still gets its replies', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client();
    client.ask({ type: READ, length: 100, cookie: 6n });
    client.stream.end();
    await served.settle();
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 6n, errno: 0 });
    expect(await client.rest()).toHaveLength(0);
  });

  test('no error of a request ends the connection', async () => {
    await using served = await Served.start();
    const client = await served.client();
    for (let count = 0; count < 300; count += 1) {
      const type = count % 11;
      if (type === DISC) continue;
      const payload = type === WRITE ? pattern(3) : new Uint8Array(0);
      const flags = (count * 7) & 0x3f;
      const offset = BigInt(count) ** 7n;
      client.ask({ type, flags, offset, payload, length: type === WRITE ? 3 : count * 1000 });
      await client.reply();
    }
    expect(await client.request({ type: READ, length: 1 })).toMatchObject({ errno: 0 });
  });
});

describe('zeroes and holes', () => {
  test('"NBD_CMD_FLAG_NO_HOLE": the space stays reserved; without it it may be given back', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    await client.request({ type: WRITE, payload: pattern(64 * KiB) });
    await client.request({ type: WRITE_ZEROES, flags: NO_HOLE, length: 32 * KiB });
    await client.request({ type: WRITE_ZEROES, offset: 32 * KiB, length: 32 * KiB });
    const { status } = await client.request({ type: BLOCK_STATUS, length: 64 * KiB });
    expect(status).toEqual([1, 32 * KiB, 0, 32 * KiB, 3]);
    expect((await client.read(0, 64 * KiB)).every((byte) => byte === 0)).toBe(true);
  });

  test('"NBD_CMD_FLAG_FAST_ZERO": a refusal alters nothing', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const bytes = pattern(8192);
    await client.request({ type: WRITE, payload: bytes });
    const refused = { type: WRITE_ZEROES, flags: FAST_ZERO, offset: 1, length: 8000 };
    expect(await client.request(refused)).toMatchObject({ errno: ERRNO.ENOTSUP });
    expect(await client.read(0, 8192)).toEqual(bytes);
  });

  test('"NBD_CMD_TRIM": of all of a disk, also a never-written one, and twice', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    for (let time = 0; time < 2; time += 1) {
      expect(await client.request({ type: TRIM, length: SIZE })).toMatchObject({ errno: 0 });
      expect(await client.request({ type: WRITE_ZEROES, length: SIZE })).toMatchObject({
        errno: 0,
      });
    }
    const { status } = await client.request({ type: BLOCK_STATUS, length: SIZE });
    expect(status).toEqual([1, SIZE, 3]);
  });

  test('"NBD_CMD_BLOCK_STATUS": extents start at the offset and stay inside the request', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    for (let at = 0; at < SIZE; at += 64 * KiB) {
      await client.request({ type: WRITE, offset: at, payload: pattern(10_000) });
    }
    for (const [offset, length] of [
      [0, SIZE],
      [4097, 3],
      [8192, 70_000],
      [SIZE - 1, 1],
    ] as const) {
      for (const flags of [0, REQ_ONE]) {
        const { status } = await client.request({ type: BLOCK_STATUS, flags, offset, length });
        const lengths = status.slice(1).filter((_, index) => index % 2 === 0);
        const sum = lengths.reduce((total, one) => total + one, 0);
        expect(lengths.every((one) => one > 0)).toBe(true);
        expect(sum <= length && (flags === REQ_ONE ? lengths.length === 1 : sum === length)).toBe(
          true,
        );
      }
    }
  });

  test('"NBD_CMD_BLOCK_STATUS": needs a context that was agreed', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const reply = await client.request({ type: BLOCK_STATUS, length: 4096 });
    expect(reply).toMatchObject({ errno: ERRNO.EINVAL, text: 'no metadata context was agreed' });
  });

  test('"base:allocation": a hole is HOLE and ZERO, data neither', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    await client.request({ type: WRITE, offset: 4096, payload: pattern(4096) });
    const { status } = await client.request({ type: BLOCK_STATUS, length: 12_288 });
    expect(status).toEqual([1, 4096, 3, 4096, 0, 4096, 3]);
  });

  test('"NBD_REPLY_TYPE_OFFSET_HOLE": covers what a READ of holes asked for', async () => {
    await using served = await Served.start({ sizeBytes: 8 * MiB });
    const client = await served.client();
    await client.request({ type: WRITE, offset: 3 * MiB, payload: Uint8Array.of(1) });
    const reply = await client.request({ type: READ, offset: 1000, length: 6 * MiB });
    const sum = reply.chunks.reduce((total, { length }) => total + length, 0);
    expect(sum).toBe(6 * MiB);
    expect(reply.chunks.filter(({ type }) => type === CHUNK.OFFSET_DATA)).toHaveLength(1);
    expect(reply.data[3 * MiB - 1000]).toBe(1);
  });
});

test('a stopping server finishes what is in flight and closes; it fails nobody', async () => {
  const gate = new Gate();
  await using served = await Served.start({ before: () => gate.wait() });
  const client = await served.client();
  client.ask({ type: FLUSH, cookie: 1n });
  await served.settle();
  const drained = served.server.drain(5_000);
  client.ask({ type: FLUSH, cookie: 2n });
  await served.settle();
  gate.open();
  expect(await client.reply()).toMatchObject({ cookie: 1n, errno: 0 });
  expect(await client.rest()).toHaveLength(0);
  await drained;
});
