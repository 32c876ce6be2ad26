import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { GiB, MiB, PiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import { CHUNK, CMD, CMD_FLAG, ERRNO, EXPORT_FLAG, OPT, REP } from '../../src/nbd/constants.ts';
import { infoData, metaData, optionBytes, requestBytes, statusPayload } from './client.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { FUA, DF, REQ_ONE, NO_HOLE, PAYLOAD_LEN } = CMD_FLAG;
const { EXTENDED_HEADERS, STRUCTURED_REPLY, SET_META_CONTEXT, INFO, GO } = OPT;
const DEPTH = 'qemu:allocation-depth';

/** Sections named in titles are those of doc/proto.md on the branch extension-ext-header. */
describe('"NBD_OPT_EXTENDED_HEADERS"', () => {
  const last = async (served: Served, ...options: readonly (readonly [number, Uint8Array?])[]) => {
    const client = await served.connect();
    await client.greet();
    const types: number[] = [];
    for (const [option, data] of options) {
      types.push((await client.option(option, data?.slice())).at(-1)?.type ?? 0);
    }
    return types;
  };

  test('is agreed once; a repetition and data are refused', async () => {
    await using served = await Served.start();
    expect(
      await last(
        served,
        [EXTENDED_HEADERS, Uint8Array.of(1)],
        [EXTENDED_HEADERS],
        [EXTENDED_HEADERS],
        [GO, infoData('disk')],
      ),
    ).toEqual([REP.ERR_INVALID, REP.ACK, REP.ERR_INVALID, REP.ACK]);
  });

  test('implies structured replies: they may come before, not after', async () => {
    await using served = await Served.start();
    expect(await last(served, [EXTENDED_HEADERS], [STRUCTURED_REPLY])).toEqual([
      REP.ACK,
      REP.ERR_EXT_HEADER_REQD,
    ]);
    expect(await last(served, [STRUCTURED_REPLY], [EXTENDED_HEADERS])).toEqual([REP.ACK, REP.ACK]);
    const meta = metaData('disk', 'base:allocation');
    expect(await last(served, [EXTENDED_HEADERS], [SET_META_CONTEXT, meta])).toEqual([
      REP.ACK,
      REP.ACK,
    ]);
  });

  test('agreed after structured replies, every reply has the long header', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    await client.option(STRUCTURED_REPLY);
    await client.option(EXTENDED_HEADERS);
    await client.option(GO, infoData('disk'));
    client.extended = true;
    expect(await client.request({ type: FLUSH, cookie: 1n })).toMatchObject({ errno: 0 });
  });

  test('"NBD_OPT_EXPORT_NAME" afterwards ends the connection, and opens nothing', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    await client.option(EXTENDED_HEADERS);
    client.send(optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode('disk')));
    expect(await client.rest()).toHaveLength(0);
    expect(served.opened).toBe(0);
  });

  test('"NBD_FLAG_BLOCK_STATUS_PAYLOAD" is told where it can be used, or may be', async () => {
    await using served = await Served.start();
    const told = async (option: number, ...before: readonly number[]) => {
      const client = await served.connect();
      await client.greet();
      for (const one of before) {
        const data = one === SET_META_CONTEXT ? metaData('disk', 'base:allocation') : undefined;
        await client.option(one, data);
      }
      const [info] = await client.option(option, infoData('disk'));
      const flags = Buffer.from(info?.data ?? []).readUInt16BE(10);
      return (flags & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) !== 0;
    };
    expect(await told(GO, EXTENDED_HEADERS, SET_META_CONTEXT)).toBe(true);
    expect(await told(GO, EXTENDED_HEADERS)).toBe(false);
    expect(await told(INFO, EXTENDED_HEADERS)).toBe(true);
    expect(await told(INFO, STRUCTURED_REPLY, SET_META_CONTEXT)).toBe(false);
    expect(await told(GO, STRUCTURED_REPLY, SET_META_CONTEXT)).toBe(false);
  });
});

/** A server whose disk is larger than what 32 bits can say, and empty. */
async function large(sizeBytes = PiB) {
  const calls: { name: string; at: number; length: number }[] = [];
  const note = (name: string) => (at: number, length: number) => {
    calls.push({ name, at, length });
  };
  const served = await Served.start({
    exports: (disk) => ({
      open: async (): Promise<BlockDevice> => ({
        info: { ...disk.info, sizeBytes },
        read: (_, into) => void into.fill(7),
        write: (at, from) => note('write')(at, from.length),
        flush: () => undefined,
        trim: note('trim'),
        writeZeroes: note('writeZeroes'),
        prefetch: note('prefetch'),
        extents: (at, length) => {
          note('extents')(at, length);
          const rest = { length: length - 5 * GiB, hole: true, zero: true };
          return [{ length: 5 * GiB, hole: false, zero: false }, rest];
        },
        [Symbol.asyncDispose]: async () => undefined,
      }),
    }),
  });
  return { served, calls, client: await served.client({ form: 'extended', meta: true }) };
}

describe('effects of any length', () => {
  test('reach the device whole, for a disk of 1 PiB', async () => {
    const { served, calls, client } = await large();
    await using _ = served;
    for (const [type, name] of [
      [TRIM, 'trim'],
      [WRITE_ZEROES, 'writeZeroes'],
      [BLOCK_STATUS, 'extents'],
    ] as const) {
      expect(await client.request({ type, length: PiB })).toMatchObject({ errno: 0 });
      expect(calls.pop()).toEqual({ name, at: 0, length: PiB });
      const part = { type, offset: 4096, length: PiB - 4096 };
      expect(await client.request(part)).toMatchObject({ errno: 0 });
      expect(calls.pop()).toEqual({ name, at: 4096, length: PiB - 4096 });
    }
  });

  test('"NBD_REPLY_TYPE_BLOCK_STATUS_EXT": extents have 64 bits', async () => {
    const { served, client } = await large();
    await using _ = served;
    const { status } = await client.request({ type: BLOCK_STATUS, length: PiB });
    expect(status).toEqual([1, 5 * GiB, 0, PiB - 5 * GiB, 3]);
  });

  test('beyond the end are refused, however far, and the reply repeats the offset', async () => {
    const { served, calls, client } = await large();
    await using _ = served;
    const max = 2n ** 64n - 1n;
    const beyond: readonly (readonly [bigint, bigint])[] = [
      [0n, BigInt(PiB) + 1n],
      [1n, BigInt(PiB)],
      [BigInt(PiB), 1n],
      [0n, max],
      [max, max],
      [max, 1n],
      [1n, max],
      [2n ** 53n, 2n ** 53n],
      [2n ** 63n, 2n ** 63n],
    ];
    for (const [offset, length] of beyond) {
      for (const type of [READ, TRIM, CACHE, BLOCK_STATUS]) {
        expect(await client.request({ type, offset, length })).toMatchObject({ errno: 22 });
      }
      const zeroes = { type: WRITE_ZEROES, offset, length };
      expect(await client.request(zeroes)).toMatchObject({ errno: ERRNO.ENOSPC });
    }
    expect(calls).toEqual([]);
  });

  test('a READ of more than the maximum payload is refused, with all 64 bits of its length', async () => {
    const { served, client } = await large();
    await using _ = served;
    for (const length of [64 * MiB + 1, 2 ** 32, 2 ** 32 + 4096, 2 ** 33]) {
      const reply = await client.request({ type: READ, length });
      expect(reply).toMatchObject({ errno: ERRNO.EINVAL, text: 'more than the maximum payload' });
    }
    const whole = await client.request({ type: READ, flags: DF, length: 3 * MiB });
    expect(whole).toMatchObject({ errno: ERRNO.EOVERFLOW });
  });
});

describe('"Extended headers": replies', () => {
  test('repeat cookie and offset, all 64 bits; success without data is a chunk of its own', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'extended' });
    for (const offset of [0n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      const flush = { type: FLUSH, cookie: 2n ** 64n - 1n, offset };
      // The client compares the offset, and takes no simple reply.
      expect(await client.request(flush)).toMatchObject({ errno: 0, chunks: [], structured: true });
      expect(await client.request({ ...flush, type: 99 })).toMatchObject({ errno: 22 });
    }
  });

  test('to READs: data, holes, and large ones in chunks whose headers repeat the request', async () => {
    await using served = await Served.start({ sizeBytes: 4 * MiB });
    const client = await served.client({ form: 'extended' });
    const bytes = pattern(2_000_001);
    await client.request({ type: WRITE, flags: PAYLOAD_LEN, offset: 999, payload: bytes });
    const many = await client.request({ type: READ, offset: 999, length: bytes.length });
    expect(many.chunks.length).toBeGreaterThan(5);
    expect(Buffer.compare(many.data, bytes)).toBe(0);
    const one = await client.request({ type: READ, flags: DF, offset: 999, length: bytes.length });
    expect(one.chunks).toHaveLength(1);
    expect(Buffer.compare(one.data, bytes)).toBe(0);
    const hole = await client.request({ type: READ, offset: 3 * MiB, length: 512 * 1024 });
    expect(new Set(hole.chunks.map(({ type }) => type))).toEqual(new Set([CHUNK.OFFSET_HOLE]));
  });

  test.for([
    ['succeed', 0],
    ['fail', ERRNO.EIO],
  ] as const)('that wait and then %s repeat what their own request said', async ([, errno]) => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client({ form: 'extended', meta: true });
    const types = [READ, TRIM, WRITE_ZEROES, CACHE, FLUSH, BLOCK_STATUS, READ];
    for (const [index, type] of types.entries()) {
      client.ask({ type, cookie: BigInt(index), offset: index * 8192, length: 4096 });
    }
    client.ask({ type: WRITE, cookie: 20n, offset: 700, payload: pattern(300) });
    client.ask({ type: WRITE, cookie: 21n, offset: 65_536, payload: pattern(600_000) });
    await served.settle();
    if (errno === 0) gate.open();
    else gate.fail(new SheepError('ERR_IO', 'on purpose'));
    const answered = new Set<bigint>();
    for (let left = types.length + 2; left > 0; left -= 1) {
      const reply = await client.reply();
      expect(reply.errno).toBe(errno);
      answered.add(reply.cookie);
    }
    expect(answered.size).toBe(types.length + 2);
  });

  test('a list of extents has its bound in this form too', async () => {
    await using served = await Served.start({ limits: { extentsMax: 4, contextsMax: 4 } });
    const client = await served.client({ form: 'extended', meta: true });
    for (let block = 0; block < 20; block += 2) {
      await client.request({ type: WRITE, offset: block * 4096, payload: pattern(4096) });
    }
    const { status } = await client.request({ type: BLOCK_STATUS, length: MiB });
    expect(status).toEqual([1, 4096, 0, 4096, 3, 4096, 0, 4096, 3]);
  });
});

describe('"NBD_CMD_FLAG_PAYLOAD_LEN"', () => {
  test('a WRITE carries its payload with the flag and without', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'extended' });
    for (const [index, flags] of [0, PAYLOAD_LEN, FUA, FUA | PAYLOAD_LEN].entries()) {
      const bytes = pattern(5000, index + 1);
      const fields = { type: WRITE, flags, offset: index * 8192, payload: bytes };
      expect(await client.request(fields)).toMatchObject({ errno: 0 });
      expect(await client.read(index * 8192, 5000)).toEqual(bytes);
    }
    const empty = { type: WRITE, flags: PAYLOAD_LEN, length: 0 };
    expect(await client.request(empty)).toMatchObject({ errno: 0 });
  });

  test('payload that does not belong to a command is swallowed, and the command not done', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'extended', meta: true });
    const like = requestBytes({ type: WRITE, payload: pattern(40) }, true); // it is data, though
    for (const type of [READ, TRIM, CACHE, WRITE_ZEROES, FLUSH, 8, 99]) {
      for (const payload of [new Uint8Array(0), like, pattern(300_000)]) {
        const flags = PAYLOAD_LEN;
        expect(await client.request({ type, flags, payload })).toMatchObject({ errno: 22 });
      }
    }
    expect(served.calls).toEqual([]);
    expect(await client.request({ type: FLUSH })).toMatchObject({ errno: 0 });
    client.ask({ type: DISC, flags: PAYLOAD_LEN, length: 5 });
    expect(await client.rest()).toHaveLength(0);
  });

  test('payload is not waited for, beyond the maximum', async () => {
    await using served = await Served.start();
    for (const length of [64 * MiB + 1, 2 ** 32 + 1, 2n ** 64n - 1n]) {
      const client = await served.client({ form: 'extended' });
      client.ask({ type: READ, flags: PAYLOAD_LEN, length });
      expect(await client.rest()).toHaveLength(0);
    }
    const client = await served.client({ form: 'extended' });
    client.ask({ type: WRITE, length: 2n ** 32n + 4096n });
    expect(await client.rest()).toHaveLength(0);
    expect(served.named('nbd.protocol-violation')).toHaveLength(4);
  });

  test('with compact headers it is a flag that belongs to nothing', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    const write = { type: WRITE, flags: PAYLOAD_LEN, payload: pattern(50) };
    expect(await client.request(write)).toMatchObject({ errno: ERRNO.EINVAL });
    for (const type of [READ, BLOCK_STATUS, TRIM]) {
      const fields = { type, flags: PAYLOAD_LEN, length: 12 };
      expect(await client.request(fields)).toMatchObject({ errno: ERRNO.EINVAL });
    }
    expect(served.calls).toEqual([]);
  });
});

describe('"NBD_CMD_BLOCK_STATUS" with a payload', () => {
  const contexts = { [DEPTH]: () => 2 };
  const start = async () => {
    const served = await Served.start({ contexts });
    const meta = ['base:allocation', DEPTH];
    return { served, client: await served.client({ form: 'extended', meta }) };
  };
  const ask = (payload: Uint8Array, flags = 0) => ({
    type: BLOCK_STATUS,
    flags: PAYLOAD_LEN | flags,
    offset: 4096,
    payload,
  });

  test('tells of the contexts that it names, in whatever order', async () => {
    const { served, client } = await start();
    await using _ = served;
    expect((await client.request(ask(statusPayload(8192, 2)))).statuses).toEqual([[2, 8192, 2]]);
    expect((await client.request(ask(statusPayload(8192, 1)))).statuses).toEqual([[1, 8192, 3]]);
    const both = await client.request(ask(statusPayload(8192, 2, 1), REQ_ONE));
    expect(both.statuses).toEqual([
      [1, 8192, 3],
      [2, 8192, 2],
    ]);
    expect(served.calls.filter(({ name }) => name === 'describe')).toHaveLength(2);
  });

  test('that arrives byte by byte is the same', async () => {
    await using served = await Served.start({ contexts, chunkBytes: 1 });
    const client = await served.client({ form: 'extended', meta: [DEPTH] });
    expect((await client.request(ask(statusPayload(4096, 2)))).statuses).toEqual([[2, 4096, 2]]);
  });

  test('is refused for what is no list of agreed contexts, each once; the range is looked at', async () => {
    const { served, client } = await start();
    await using _ = served;
    for (const payload of [
      new Uint8Array(0),
      new Uint8Array(7),
      statusPayload(4096),
      statusPayload(4096, 3),
      statusPayload(4096, 1, 1),
      statusPayload(4096, 1, 2, 3),
      statusPayload(4096, 1).subarray(0, 11),
      pattern(100_000),
      statusPayload(0, 1),
      statusPayload(MiB, 1),
      statusPayload(2n ** 64n - 1n, 1),
    ]) {
      expect(await client.request(ask(payload))).toMatchObject({ errno: ERRNO.EINVAL });
    }
    expect(await client.request(ask(statusPayload(4096, 1), NO_HOLE))).toMatchObject({ errno: 22 });
    expect(served.calls).toEqual([]);
    expect(await client.request(ask(statusPayload(MiB - 4096, 1)))).toMatchObject({ errno: 0 });
  });

  test('is refused where no context was agreed', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'extended' });
    expect(await client.request(ask(statusPayload(4096, 1)))).toMatchObject({ errno: 22 });
    expect(await client.request({ type: READ, length: 8 })).toMatchObject({ errno: 0 });
  });
});
