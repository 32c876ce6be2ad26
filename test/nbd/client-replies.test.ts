import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KiB } from '../../src/base/units.ts';
import { Coverage } from '../../src/nbd/client/coverage.ts';
import {
  chunkBytes,
  dataPayload,
  errorPayload,
  extendedChunk,
  extendedStatusPayload,
  FLAGS,
  greetingBytes,
  holePayload,
  type ScriptedOptions,
  ScriptedServer,
  simpleReply,
  statusPayload,
} from './scripted-server.ts';
import { pattern } from './served.ts';

const [NONE, DATA, HOLE, STATUS, ERROR, ERROR_OFFSET] = [0, 1, 2, 5, 0x8001, 0x8002];
const DONE = 1;
const AT = 8 * KiB;
const LENGTH = 4 * KiB;
const bytes = pattern(LENGTH);
const PLAIN = { durable: false };

/** A READ of 4 KiB at 8 KiB, and what the server says to it. */
async function read(reply: (cookie: bigint) => Uint8Array[], options: ScriptedOptions = {}) {
  await using server = await ScriptedServer.attached(options);
  const into = new Uint8Array(LENGTH).fill(0xa5);
  const reading = server.client.read(AT, into) as Promise<void>;
  reading.catch(() => undefined);
  server.send(...inForm(options.form, reply((await server.request()).cookie)));
  await reading;
  return into;
}
const FORMS = ['structured', 'extended'] as const;
/** Chunks as they are in the form that was agreed; their request was at 8 KiB. */
function inForm(form: ScriptedOptions['form'], frames: readonly Uint8Array[]): Uint8Array[] {
  return frames.map((frame) => {
    const chunk = frame[0] === 0x66 && form === 'extended';
    return chunk ? extendedChunk(frame.slice(), AT) : frame;
  });
}

describe('doc/proto.md, "Structured reply types": a READ is complete', () => {
  const half = LENGTH / 2;
  const expected = new Uint8Array(bytes);
  expected.fill(0, half);
  test.for([
    ['in one chunk', (id: bigint) => [chunkBytes(id, DONE, DATA, dataPayload(AT, expected))]],
    [
      'in a chunk and an end',
      (id: bigint) => [
        chunkBytes(id, 0, DATA, dataPayload(AT, expected)),
        chunkBytes(id, DONE, NONE),
      ],
    ],
    [
      'in data and a hole',
      (id: bigint) => [
        chunkBytes(id, 0, DATA, dataPayload(AT, expected.subarray(0, half))),
        chunkBytes(id, DONE, HOLE, holePayload(AT + half, half)),
      ],
    ],
    [
      'in any order',
      (id: bigint) => [
        chunkBytes(id, 0, HOLE, holePayload(AT + half, half)),
        chunkBytes(id, 0, DATA, dataPayload(AT + 100, expected.subarray(100, half))),
        chunkBytes(id, DONE, DATA, dataPayload(AT, expected.subarray(0, 100))),
      ],
    ],
    [
      'with flags of the future',
      (id: bigint) => [chunkBytes(id, 0xffff, DATA, dataPayload(AT, expected))],
    ],
  ] as const)('%s', async ([, reply]) => {
    for (const form of FORMS) {
      for (const chunkSize of [1, 3, 20, 27, 100_000]) {
        expect(await read(reply, { form, chunkBytes: chunkSize })).toEqual(expected);
      }
    }
  });

  test('by a simple reply, where that is what was agreed', async () => {
    for (const size of [1, 17, 100_000]) {
      const options = { form: 'simple', chunkBytes: size } as const;
      expect(await read((id) => [simpleReply(id, 0, bytes)], options)).toEqual(bytes);
    }
  });

  test('however its chunks are cut, ordered and mixed with those of another', async () => {
    const reads = fc.array(fc.integer({ min: 1, max: LENGTH }), { maxLength: 8 });
    const orders = fc.array(fc.nat(), { minLength: 40, maxLength: 40 });
    const sizes = fc.constantFrom(1, 19, 333, 100_000);
    await fc.assert(
      fc.asyncProperty(reads, orders, sizes, async (cuts, order, size) => {
        await using server = await ScriptedServer.attached({ chunkBytes: size });
        const ranges = [
          [AT, LENGTH],
          [3, LENGTH + 5],
        ] as const;
        const places = ranges.map(([, length]) => new Uint8Array(length).fill(0xa5));
        const reading = ranges.map(([at], index) =>
          server.client.read(at, places[index] ?? new Uint8Array(0)),
        );
        const chunks: { id: bigint; type: number; payload: Uint8Array }[] = [];
        for (const [at, length] of ranges) {
          const { cookie } = await server.request();
          const ends = [...new Set([...cuts, length])].filter((end) => end <= length);
          let from = 0;
          for (const to of ends.toSorted((a, b) => a - b)) {
            const hole = to % 5 === 0;
            const data = pattern(length, at + 1).subarray(from, to);
            const payload = hole ? holePayload(at + from, to - from) : dataPayload(at + from, data);
            chunks.push({ id: cookie, type: hole ? HOLE : DATA, payload });
            from = to;
          }
        }
        const shuffled = chunks
          .map((chunk, index) => ({ ...chunk, rank: order[index] ?? 0 }))
          .toSorted((a, b) => a.rank - b.rank);
        for (const [index, { id, type, payload }] of shuffled.entries()) {
          const last = shuffled.findLastIndex((one) => one.id === id) === index;
          server.send(chunkBytes(id, last ? DONE : 0, type, payload.slice()));
        }
        await Promise.all(reading);
        for (const [index, [at, length]] of ranges.entries()) {
          const expected = pattern(length, at + 1);
          const ends = [...new Set([...cuts, length])].filter((end) => end <= length);
          let from = 0;
          for (const to of ends.toSorted((a, b) => a - b)) {
            if (to % 5 === 0) expected.fill(0, from, to);
            from = to;
          }
          expect(places[index]).toEqual(expected);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('doc/proto.md, "Error values": a refusal is told with the server’s words', () => {
  test.for([
    [1, 'ERR_FORBIDDEN', 'EPERM'],
    [5, 'ERR_IO', 'EIO'],
    [12, 'ERR_LIMIT', 'ENOMEM'],
    [22, 'ERR_BAD_INPUT', 'EINVAL'],
    [28, 'ERR_NO_SPACE', 'ENOSPC'],
    [75, 'ERR_BAD_INPUT', 'EOVERFLOW'],
    [95, 'ERR_NOT_FAST', 'ENOTSUP'],
    [108, 'ERR_SHUTDOWN', 'ESHUTDOWN'],
    [4711, 'ERR_IO', '0x1267'],
  ] as const)('%i is %s', async ([errno, code, name]) => {
    const text = errorPayload(errno, 'no\u001b[1m way');
    const refused = read((id) => [chunkBytes(id, DONE, ERROR, text)]);
    await expect(refused).rejects.toMatchObject({ code });
    await expect(refused).rejects.toThrow(`READ of 4096 bytes at 8192: no [1m way (${name})`);
    const simple = read((id) => [simpleReply(id, errno)], { form: 'simple' });
    await expect(simple).rejects.toMatchObject({ code });
    await expect(simple).rejects.toThrow(`READ of 4096 bytes at 8192: ${name}`);
  });

  test('the first of several, whatever data came before or comes after', async () => {
    const at = Buffer.concat([errorPayload(5, 'first'), new Uint8Array(8)]);
    const refused = read((id) => [
      chunkBytes(id, 0, DATA, dataPayload(AT, bytes.subarray(0, 100))),
      chunkBytes(id, 0, ERROR_OFFSET, at),
      chunkBytes(id, 0, 0x8fff, errorPayload(28, 'of the future')),
      chunkBytes(id, 0, DATA, dataPayload(AT + 200, bytes.subarray(200))),
      chunkBytes(id, DONE, NONE),
    ]);
    await expect(refused).rejects.toThrow('READ of 4096 bytes at 8192: first (EIO)');
  });

  test('and the connection goes on', async () => {
    await using server = await ScriptedServer.attached();
    const refused = server.client.write(0, bytes, PLAIN) as Promise<void>;
    refused.catch(() => undefined);
    server.send(simpleReply((await server.request()).cookie, 28));
    await expect(refused).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });
    const written = server.client.write(0, bytes, PLAIN);
    server.send(simpleReply((await server.request()).cookie));
    await written;
  });
});

describe.for(FORMS)('a reply that cannot be fails what is in flight and later, if %s: ', (form) => {
  const whole = (id: bigint, flags = DONE) => chunkBytes(id, flags, DATA, dataPayload(AT, bytes));
  const replies: readonly (readonly [string, (id: bigint) => Uint8Array[]])[] = [
    ['another magic', () => [new Uint8Array(16).fill(7)]],
    ['a cookie nobody uses', (id) => [simpleReply(id + 1000n)]],
    ['a cookie of 64 bits', () => [simpleReply(2n ** 64n - 1n)]],
    ['a second answer', (id) => [whole(id), whole(id)]],
    ['a simple success', (id) => [simpleReply(id, 0, bytes)]],
    ['success without data', (id) => [chunkBytes(id, DONE, NONE)]],
    ['too little data', (id) => [chunkBytes(id, DONE, DATA, dataPayload(AT, bytes.subarray(1)))]],
    ['too much', (id) => [chunkBytes(id, DONE, DATA, dataPayload(AT, pattern(LENGTH + 1)))]],
    ['data before the range', (id) => [chunkBytes(id, DONE, DATA, dataPayload(AT - 1, bytes))]],
    ['data at 2^64 - 1', (id) => [chunkBytes(id, DONE, DATA, dataPayload(2n ** 64n - 1n, bytes))]],
    ['the same data twice', (id) => [whole(id, 0), whole(id)]],
    ['a hole over data', (id) => [whole(id, 0), chunkBytes(id, DONE, HOLE, holePayload(AT, 1))]],
    ['a hole of nothing', (id) => [chunkBytes(id, 0, HOLE, holePayload(AT, 0))]],
    ['a hole beyond', (id) => [chunkBytes(id, DONE, HOLE, holePayload(AT, LENGTH + 1))]],
    ['half a hole', (id) => [chunkBytes(id, DONE, HOLE, new Uint8Array(8))]],
    ['a chunk of no data', (id) => [chunkBytes(id, DONE, DATA, new Uint8Array(8))]],
    ['an end with data', (id) => [chunkBytes(id, DONE, NONE, new Uint8Array(1))]],
    ['an end that is none', (id) => [chunkBytes(id, 0, NONE)]],
    ['the status of a READ', (id) => [chunkBytes(id, DONE, STATUS, statusPayload(1, LENGTH, 0))]],
    ['a type of the future', (id) => [chunkBytes(id, DONE, 77, bytes)]],
    ['a chunk of 4 GiB', (id) => [chunkBytes(id, 0, STATUS, bytes, 2 ** 32 - 1)]],
    ['an error of 1 MiB', (id) => [chunkBytes(id, 0, ERROR, bytes, 1 << 20)]],
    ['an error without a number', (id) => [chunkBytes(id, DONE, ERROR, errorPayload(0, 'x'))]],
    ['half an error', (id) => [chunkBytes(id, DONE, ERROR, new Uint8Array(5))]],
    [
      'a text longer than its chunk',
      (id) => [chunkBytes(id, DONE, ERROR, errorPayload(5, 'x', 99))],
    ],
    [
      'errors without end',
      (id) => Array.from({ length: 1100 }, () => chunkBytes(id, 0, ERROR, errorPayload(5))),
    ],
    ['a greeting', () => [greetingBytes()]],
  ];
  test.for(replies)('%s', async ([, reply]) => {
    await using server = await ScriptedServer.attached({ form });
    const { client } = server;
    const into = new Uint8Array(LENGTH);
    const operations = [client.read(AT, into), client.write(0, bytes, PLAIN), client.flush()];
    const outcomes = Promise.allSettled(operations);
    const { cookie } = await server.request();
    server.send(...inForm(form, reply(cookie)));
    const failures = (await outcomes).filter(({ status }) => status === 'rejected');
    expect(failures.length).toBeGreaterThanOrEqual(2); // the second answer comes after the first
    for (const failure of failures) {
      expect(failure).toMatchObject({ reason: { code: 'ERR_BAD_FRAME' } });
    }
    await expect(client.flush()).rejects.toMatchObject({ code: 'ERR_BAD_FRAME' });
    await server.left();
  });

  test('a structured one that was not agreed', async () => {
    const refused = read((id) => [whole(id)], { form: 'simple' });
    await expect(refused).rejects.toMatchObject({ code: 'ERR_BAD_FRAME' });
  });
  test('data for a WRITE', async () => {
    await using server = await ScriptedServer.attached();
    const refused = server.client.write(AT, bytes, PLAIN) as Promise<void>;
    refused.catch(() => undefined);
    server.send(whole((await server.request()).cookie));
    await expect(refused).rejects.toMatchObject({ code: 'ERR_BAD_FRAME' });
  });
});

describe('doc/proto.md, "NBD_REPLY_TYPE_BLOCK_STATUS"', () => {
  const contexts = ['base:allocation', 'qemu:allocation-depth'];
  async function status(
    reply: (cookie: bigint) => Uint8Array[],
    countMax: number,
    context = contexts[1] ?? '',
  ) {
    await using server = await ScriptedServer.attached({ contexts }, { contexts });
    const asking = server.client.describe(context, AT, LENGTH, countMax);
    asking.catch(() => undefined);
    const { cookie, flags } = await server.request();
    expect(flags).toBe(countMax === 1 ? 8 : 0);
    server.send(...reply(cookie));
    return await asking;
  }
  const other = (id: bigint) => chunkBytes(id, 0, STATUS, statusPayload(1, LENGTH, 3));
  const chunk = (id: bigint, ...numbers: number[]) =>
    chunkBytes(id, DONE, STATUS, statusPayload(2, ...numbers));

  test('each context has its own chunk; neighbours that say the same are one', async () => {
    const told = await status((id) => [other(id), chunk(id, 512, 1, 512, 1, 1024, 2)], 10);
    expect(told).toEqual([
      { length: 1024, flags: 1 },
      { length: 1024, flags: 2 },
    ]);
  });
  test('what reaches beyond the range is cut, what is more than was asked for is dropped', async () => {
    const long = await status((id) => [other(id), chunk(id, 512, 1, 1 << 20, 2)], 10);
    expect(long).toEqual([
      { length: 512, flags: 1 },
      { length: LENGTH - 512, flags: 2 },
    ]);
    const many = await status((id) => [other(id), chunk(id, 512, 1, 512, 2, 512, 1, 512, 0)], 2);
    expect(many).toEqual([
      { length: 512, flags: 1 },
      { length: 512, flags: 2 },
    ]);
  });
  test('the bits of base:allocation that nobody knows are passed over', async () => {
    await using server = await ScriptedServer.attached({ contexts }, { contexts });
    const asking = server.client.extents(AT, LENGTH, 10);
    const { cookie } = await server.request();
    const numbers = [512, 4, 512, 0, 512, 0xff03, 1024, 1];
    server.send(chunkBytes(cookie, DONE, STATUS, statusPayload(1, ...numbers)));
    expect(await asking).toEqual([
      { length: 1024, hole: false, zero: false },
      { length: 512, hole: true, zero: true },
      { length: 1024, hole: true, zero: false },
    ]);
  });
  test.for([
    ['no chunk', (id: bigint) => [chunkBytes(id, DONE, NONE)]],
    ['a simple reply', (id: bigint) => [simpleReply(id)]],
    ['no extent', (id: bigint) => [chunk(id)]],
    ['half an extent', (id: bigint) => [chunkBytes(id, DONE, STATUS, statusPayload(2, 512))]],
    ['an empty extent', (id: bigint) => [chunk(id, 0, 1)]],
    ['extents behind the end', (id: bigint) => [chunk(id, LENGTH, 1, 512, 2)]],
    [
      'a context that was not selected',
      (id: bigint) => [
        other(id),
        chunkBytes(id, 0, STATUS, statusPayload(9, 512, 0)),
        chunk(id, 512, 1),
      ],
    ],
    ['a context twice', (id: bigint) => [other(id), other(id)]],
    [
      'only another context',
      (id: bigint) => [chunkBytes(id, DONE, STATUS, statusPayload(1, 512, 0))],
    ],
    ['no context id', (id: bigint) => [chunkBytes(id, DONE, STATUS, new Uint8Array(3))]],
  ] as const)('is refused with %s', async ([, reply]) => {
    await expect(status(reply, 10)).rejects.toMatchObject({ code: 'ERR_BAD_FRAME' });
  });
});

describe('"Extended headers": a reply', () => {
  const whole = (id: bigint) => chunkBytes(id, DONE, DATA, dataPayload(AT, bytes));
  const extended = { form: 'extended' } as const;

  test.for([
    ['with the compact header', (id: bigint) => [whole(id)]],
    ['that repeats another offset', (id: bigint) => [extendedChunk(whole(id), AT + 1)]],
    [
      'of which only half the offset is right',
      (id: bigint) => [extendedChunk(whole(id), 2n ** 32n + BigInt(AT))],
    ],
    ['that is a simple refusal', (id: bigint) => [simpleReply(id, 5)]],
  ] as const)('%s cannot be', async ([, reply]) => {
    await using server = await ScriptedServer.attached(extended);
    const reading = server.client.read(AT, new Uint8Array(LENGTH)) as Promise<void>;
    reading.catch(() => undefined);
    server.send(...reply((await server.request()).cookie));
    // The half of a header that is awaited may never come.
    server.stream.end();
    await expect(reading).rejects.toMatchObject({ code: expect.stringMatching(/BAD_FRAME|IO/) });
  });

  test('a WRITE says that it carries its payload', async () => {
    await using server = await ScriptedServer.attached(extended);
    const writing = server.client.write(AT, bytes, { durable: true });
    const { cookie, flags, payload } = await server.request();
    expect([flags, payload]).toEqual([0x21, bytes]);
    server.send(extendedChunk(chunkBytes(cookie, DONE, NONE), AT));
    await writing;
  });

  test('to one request for zeroes and one for the status, however long', async () => {
    const sizeBytes = 2 ** 50;
    await using server = await ScriptedServer.attached({ ...extended, sizeBytes });
    const call = { durable: false, keepAllocated: false, fastOnly: false };
    const zeroing = server.client.writeZeroes(0, sizeBytes, call);
    const zeroes = await server.request();
    expect(zeroes).toMatchObject({ type: 6, at: 0, length: sizeBytes });
    server.send(extendedChunk(chunkBytes(zeroes.cookie, DONE, NONE), 0));
    await zeroing;
    const asking = server.client.extents(0, sizeBytes, 10);
    const { cookie, length } = await server.request();
    expect(length).toBe(sizeBytes);
    const told = extendedStatusPayload(1, 2 ** 40, 0, sizeBytes, 3);
    server.send(extendedChunk(chunkBytes(cookie, DONE, 6, told), 0));
    expect(await asking).toEqual([
      { length: 2 ** 40, hole: false, zero: false },
      { length: sizeBytes - 2 ** 40, hole: true, zero: true },
    ]);
  });

  test('of several contexts only the one that matters is asked for, where that can be', async () => {
    const contexts = ['base:allocation', 'qemu:allocation-depth'];
    for (const flags of [FLAGS.all | 0x1000, FLAGS.all]) {
      await using server = await ScriptedServer.attached(
        { ...extended, flags, contexts },
        { contexts },
      );
      const asking = server.client.describe(contexts[1] ?? '', AT, LENGTH, 9);
      const seen = await server.request();
      const one = new Uint8Array([0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 2]);
      if (flags === FLAGS.all) expect(seen).toMatchObject({ flags: 0, length: LENGTH });
      else expect(seen).toMatchObject({ flags: 0x20, length: 12, payload: one });
      const told = extendedStatusPayload(2, LENGTH, 7);
      server.send(extendedChunk(chunkBytes(seen.cookie, DONE, 6, told), AT));
      expect(await asking).toEqual([{ length: LENGTH, flags: 7 }]);
    }
  });

  test.for([
    ['a compact status', STATUS, statusPayload(1, LENGTH, 0)],
    ['another number of extents', 6, extendedStatusPayload(1, LENGTH, 0).fill(9, 4, 8)],
    ['no extent', 6, extendedStatusPayload(1)],
    ['an empty extent', 6, extendedStatusPayload(1, 0, 0)],
    ['half a number of extents', 6, extendedStatusPayload(1).subarray(0, 6)],
    ['extents behind the end', 6, extendedStatusPayload(1, 2n ** 64n - 1n, 0, 512, 0)],
  ] as const)('with %s cannot be', async ([, type, payload]) => {
    await using server = await ScriptedServer.attached(extended);
    const asking = server.client.extents(AT, LENGTH, 9) as Promise<unknown>;
    asking.catch(() => undefined);
    const { cookie } = await server.request();
    server.send(extendedChunk(chunkBytes(cookie, DONE, type, payload.slice()), AT));
    await expect(asking).rejects.toMatchObject({ code: 'ERR_BAD_FRAME' });
  });
});

test('whatever a server sends, everything settles, and nothing else is thrown', async () => {
  const frame = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .record({
        cookie: fc.bigInt({ min: 0n, max: 5n }),
        flags: fc.nat(1),
        type: fc.constantFrom(NONE, DATA, HOLE, STATUS, 6, ERROR, ERROR_OFFSET),
        payload: fc.oneof(
          fc.uint8Array({ maxLength: 40 }),
          fc.nat(9000).map((at) => dataPayload(at, bytes)),
          fc.nat(9000).map((at) => holePayload(at, LENGTH)),
          fc.nat(40).map((errno) => errorPayload(errno, 'why')),
          fc.nat(9000).map((length) => statusPayload(1, length, 3)),
          fc.nat(9000).map((length) => extendedStatusPayload(1, length, 3)),
        ),
      })
      .map(({ cookie, flags, type, payload }) => chunkBytes(cookie, flags, type, payload.slice()))
      .chain((chunk) =>
        fc.constantFrom(-1, 0, 4096).map((at) => (at < 0 ? chunk : extendedChunk(chunk, at))),
      ),
    fc
      .record({ cookie: fc.bigInt({ min: 0n, max: 5n }), errno: fc.nat(30) })
      .map(({ cookie, errno }) => simpleReply(cookie, errno)),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(frame, { maxLength: 20 }),
      fc.constantFrom('simple', ...FORMS),
      async (frames, form) => {
        await using server = await ScriptedServer.attached({ form });
        const { client } = server;
        const outcomes = Promise.allSettled([
          client.read(4096, new Uint8Array(LENGTH)),
          client.write(0, bytes, PLAIN),
          client.flush(),
          client.extents(0, LENGTH, 5),
          client.read(0, new Uint8Array(2 * LENGTH)),
        ]);
        await server.request();
        for (const one of frames) server.send(one.slice());
        server.stream.end();
        for (const outcome of await outcomes) {
          if (outcome.status === 'rejected') expect(outcome.reason).toBeInstanceOf(SheepError);
        }
      },
    ),
    { numRuns: 300 },
  );
});

describe('which bytes have come', () => {
  test('a set of numbers says the same', () => {
    const run = fc.record({ from: fc.nat(60), length: fc.integer({ min: 1, max: 12 }) });
    fc.assert(
      fc.property(fc.array(run, { maxLength: 30 }), (runs) => {
        const coverage = new Coverage();
        const model = new Set<number>();
        for (const { from, length } of runs) {
          const numbers = Array.from({ length }, (_, index) => from + index);
          const free = numbers.every((number) => !model.has(number));
          expect(coverage.add(from, from + length)).toBe(free);
          if (free) for (const number of numbers) model.add(number);
          expect(coverage.bytes).toBe(model.size);
        }
      }),
    );
  });
  test('more runs than a reply has are refused', () => {
    const coverage = new Coverage();
    for (let run = 0; run < 4096; run += 1) expect(coverage.add(2 * run, 2 * run + 1)).toBe(true);
    expect(coverage.add(9000, 9001)).toBe(false);
    expect(coverage.add(1, 2)).toBe(true);
    expect(coverage.add(9000, 9001)).toBe(true);
  });
});

test('flags of an export with nothing but its size are enough', async () => {
  await using server = await ScriptedServer.attached({ flags: FLAGS.withoutFlush });
  const into = new Uint8Array(16);
  const reading = server.client.read(0, into);
  const { cookie, at } = await server.request();
  server.send(chunkBytes(cookie, DONE, DATA, dataPayload(at, pattern(16))));
  await reading;
  expect(into).toEqual(pattern(16));
});
