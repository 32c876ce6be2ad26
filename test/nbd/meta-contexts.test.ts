import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Writer } from '../../src/base/bytes.ts';
import { SheepError } from '../../src/base/errors.ts';
import { KiB, MiB } from '../../src/base/units.ts';
import { CMD, CMD_FLAG, ERRNO, OPT, REP } from '../../src/nbd/constants.ts';
import { infoData, metaData, type OptionReply, type TestClient } from './client.ts';
import { Gate, pattern, Served, type ServedOptions } from './served.ts';

const DEPTH = 'qemu:allocation-depth';
const MONDAY = 'qemu:dirty-bitmap:monday';
const TUESDAY = 'qemu:dirty-bitmap:tue:s';
const BASE = 'base:allocation';
const ALL = [BASE, DEPTH, MONDAY, TUESDAY];

/** Depth 1 in the first two blocks, then 2; dirty on Monday in every other block; all on Tuesday. */
const contexts = {
  [DEPTH]: (block: number) => (block < 2 ? 1 : 2),
  [MONDAY]: (block: number) => block % 2,
  [TUESDAY]: () => 1,
};

async function negotiated(served: Served): Promise<TestClient> {
  const client = await served.connect();
  await client.greet();
  await client.option(OPT.STRUCTURED_REPLY);
  return client;
}

/** The names and ids that a client is told. */
function told(replies: readonly OptionReply[]): { id: number; name: string }[] {
  expect(replies.at(-1)?.type).toBe(REP.ACK);
  return replies.slice(0, -1).map(({ type, data }) => {
    expect(type).toBe(REP.META_CONTEXT);
    const id = new DataView(data.buffer, data.byteOffset).getUint32(0);
    return { id, name: new TextDecoder().decode(data.subarray(4)) };
  });
}

describe('doc/proto.md, "NBD_OPT_LIST_META_CONTEXT": an export with four contexts lists', () => {
  test.for([
    ['all of them without a query', [], ALL],
    ['all of a namespace', ['qemu:'], [DEPTH, MONDAY, TUESDAY]],
    ['the namespace of the protocol', ['base:'], [BASE]],
    ['all bitmaps', ['qemu:dirty-bitmap:'], [MONDAY, TUESDAY]],
    ['whole names', [MONDAY, BASE], [BASE, MONDAY]],
    ['each once, however often it is meant', [MONDAY, 'qemu:', DEPTH, MONDAY], ALL.slice(1)],
    ['nothing for what it does not have', ['qemu:dirty-bitmap:sunday', 'x:', 'qemu'], []],
    ['nothing for the begin of a name', ['qemu:alloc', 'qemu:dirty-bitmap:tue:', 'q', ''], []],
  ] as const)('%s', async ([, queries, names]) => {
    await using served = await Served.start({ contexts });
    const client = await negotiated(served);
    const replies = await client.option(OPT.LIST_META_CONTEXT, metaData('disk', ...queries));
    expect(told(replies)).toEqual(names.map((name) => ({ id: 0, name })));
  });
});

describe('doc/proto.md, "NBD_OPT_SET_META_CONTEXT": of an export with four contexts', () => {
  test.for([
    ['none without a query', [], []],
    ['none by a wildcard', ['qemu:', 'base:', 'qemu:dirty-bitmap:'], []],
    ['those that exist, in the order of the queries', [TUESDAY, 'x:y', BASE], [TUESDAY, BASE]],
    ['each once', [MONDAY, DEPTH, MONDAY], [MONDAY, DEPTH]],
    ['all', ALL, ALL],
  ] as const)('a client selects %s', async ([, queries, names]) => {
    await using served = await Served.start({ contexts });
    const client = await negotiated(served);
    const selected = told(await client.option(OPT.SET_META_CONTEXT, metaData('disk', ...queries)));
    expect(selected.map(({ name }) => name)).toEqual(names);
    expect(new Set(selected.map(({ id }) => id)).size).toBe(names.length);
    await client.option(OPT.GO, infoData('disk'));
    const reply = await client.request({ type: CMD.BLOCK_STATUS, length: 4096 });
    expect(reply.errno).toBe(names.length > 0 ? 0 : ERRNO.EINVAL);
    expect(reply.statuses.map(([id]) => id)).toEqual(selected.map(({ id }) => id));
  });

  test('the last selection counts, and only for the export that it named', async () => {
    await using served = await Served.start({
      contexts,
      exports: (device) => ({ info: async () => device.info }),
    });
    for (const [selections, count] of [
      [[metaData('disk', ...ALL), metaData('disk', DEPTH)], 1],
      [[metaData('disk', DEPTH), metaData('other', ...ALL)], 0],
      [[metaData('other', DEPTH), metaData('disk', MONDAY, BASE)], 2],
    ] as const) {
      const client = await negotiated(served);
      for (const data of selections) told(await client.option(OPT.SET_META_CONTEXT, data));
      await client.option(OPT.GO, infoData('disk'));
      const { statuses } = await client.request({ type: CMD.BLOCK_STATUS, length: 4096 });
      expect(statuses).toHaveLength(count);
    }
  });

  test('more than a connection may have is refused, and nothing is selected', async () => {
    await using served = await Served.start({ contexts, limits: { contextsMax: 3 } });
    const client = await negotiated(served);
    await client.option(OPT.SET_META_CONTEXT, metaData('disk', DEPTH));
    const replies = await client.option(OPT.SET_META_CONTEXT, metaData('disk', ...ALL));
    expect(replies.map(({ type }) => type)).toEqual([REP.ERR_TOO_BIG]);
    await client.option(OPT.GO, infoData('disk'));
    const refused = await client.request({ type: CMD.BLOCK_STATUS, length: 4096 });
    expect(refused.errno).toBe(ERRNO.EINVAL);
    const other = await negotiated(served);
    const three = await other.option(OPT.SET_META_CONTEXT, metaData('disk', ...ALL.slice(1)));
    expect(told(three)).toHaveLength(3);
  });
});

describe('doc/proto.md, "NBD_REPLY_TYPE_BLOCK_STATUS": one chunk for each selected context', () => {
  const attached = async (options: ServedOptions, selected: readonly string[] = ALL) => {
    const served = await Served.start({ contexts, ...options });
    return { served, client: await served.client({ meta: selected }) };
  };

  test('with its own extents, in the order of selection', async () => {
    const { served, client } = await attached({}, [MONDAY, BASE, DEPTH]);
    await using _ = served;
    await client.request({ type: CMD.WRITE, offset: 4096, payload: pattern(8192) });
    const reply = await client.request({ type: CMD.BLOCK_STATUS, length: 16 * KiB });
    expect(reply.statuses).toEqual([
      [3, 4096, 0, 4096, 1, 4096, 0, 4096, 1],
      [1, 4096, 3, 8192, 0, 4096, 3],
      [2, 8192, 1, 8192, 2],
    ]);
  });

  test('with one extent where the client asks for one, not longer than asked', async () => {
    const { served, client } = await attached({});
    await using _ = served;
    const status = { type: CMD.BLOCK_STATUS, flags: CMD_FLAG.REQ_ONE, offset: 100 };
    expect((await client.request({ ...status, length: 5000 })).statuses).toEqual([
      [1, 5000, 3],
      [2, 5000, 1],
      [3, 3996, 0],
      [4, 5000, 1],
    ]);
  });

  test('alone without base:allocation: the device is not asked for that', async () => {
    const { served, client } = await attached({}, [DEPTH]);
    await using _ = served;
    const { statuses } = await client.request({ type: CMD.BLOCK_STATUS, length: MiB });
    expect(statuses).toEqual([[2, 8192, 1, MiB - 8192, 2]]);
    expect(served.calls.map(({ name }) => name)).toEqual(['describe']);
  });

  test('with fewer extents each, the more contexts there are', async () => {
    const { served, client } = await attached({ limits: { extentsMax: 64, contextsMax: 64 } });
    await using _ = served;
    const { statuses } = await client.request({ type: CMD.BLOCK_STATUS, length: MiB });
    expect(statuses.map((numbers) => (numbers.length - 1) / 2)).toEqual([1, 2, 16, 1]);
  });

  test('a context that the device no longer knows fails the request, as extents would', async () => {
    for (const failing of [BASE, MONDAY]) {
      const { served, client } = await attached({
        before: ({ name, context }) => {
          if (name !== 'describe' && name !== 'extents') return;
          if ((context ?? BASE) === failing) throw new SheepError('ERR_CORRUPT', 'a secret path');
        },
      });
      await using _ = served;
      const reply = await client.request({ type: CMD.BLOCK_STATUS, length: MiB });
      expect(reply).toMatchObject({ errno: ERRNO.EIO, text: 'stored data is damaged' });
      expect(reply.statuses).toEqual([]);
      expect(await client.read(0, 10)).toEqual(new Uint8Array(10));
    }
  });

  test('a device that names contexts but cannot describe refuses, and the connection goes on', async () => {
    await using served = await Served.start({
      contexts,
      exports: (_, share) => ({
        open: async () => {
          const { describe: _, ...device } = share();
          return device;
        },
      }),
    });
    const client = await served.client({ meta: ALL });
    const reply = await client.request({ type: CMD.BLOCK_STATUS, length: MiB });
    expect(reply).toMatchObject({ errno: ERRNO.EINVAL, text: 'the server cannot do this here' });
    expect(await client.read(0, 10)).toEqual(new Uint8Array(10));
  });

  test('the device stays in use until all contexts are settled, also when one has failed', async () => {
    const gate = new Gate();
    const { served, client } = await attached({
      before: ({ name }) => {
        if (name === 'extents') throw new SheepError('ERR_IO', 'no');
        return name === 'describe' ? gate.wait() : undefined;
      },
    });
    await using _ = served;
    client.ask({ type: CMD.BLOCK_STATUS, length: MiB });
    client.ask({ type: CMD.DISC });
    await served.settle();
    expect(served.closed).toBe(0);
    gate.open();
    expect(await client.reply()).toMatchObject({ errno: ERRNO.EIO });
    await client.gone;
    await served.until(() => served.closed === 1);
  });

  test('a device that tells more than was asked is a broken belief, never a reply', async () => {
    for (const extents of [[], [{ length: 2 * MiB, flags: 0 }], [{ length: 0, flags: 0 }]]) {
      await using served = await Served.start({
        contexts,
        exports: (_, share) => ({
          open: async () => ({ ...share(), describe: async () => extents }),
        }),
      });
      const client = await served.client({ meta: [DEPTH] });
      await client.request({ type: CMD.BLOCK_STATUS, length: MiB });
      expect(served.fatal).toHaveLength(1);
    }
  });

  test('too many that wait for the device hold up what follows, until one is answered', async () => {
    const gates = Array.from({ length: 5 }, () => new Gate());
    let begun = 0;
    const { served, client } = await attached(
      {
        limits: { statusesMax: 4 },
        before: ({ name }) => (name === 'describe' ? gates[begun++]?.wait() : undefined),
      },
      [DEPTH],
    );
    await using _ = served;
    for (let cookie = 0n; cookie < 5n; cookie += 1n) {
      client.ask({ type: CMD.BLOCK_STATUS, cookie, length: 4096 });
    }
    client.ask({ type: CMD.READ, cookie: 9n, length: 16 });
    await served.settle();
    expect(begun).toBe(4);
    gates[2]?.open();
    expect(await client.reply()).toMatchObject({ cookie: 2n, errno: 0 });
    await served.settle();
    expect(begun).toBe(5);
    for (const gate of gates) gate.open();
    const answered = new Set<bigint>();
    for (let left = 5; left > 0; left -= 1) answered.add((await client.reply()).cookie);
    expect(answered).toEqual(new Set([0n, 1n, 3n, 4n, 9n]));
  });
});

test('any selection, range and flags: each context tells what stands in each block', async () => {
  const flagsOf: Record<string, (block: number) => number> = { ...contexts, [BASE]: () => 3 };
  const selection = fc.shuffledSubarray(ALL, { minLength: 1 });
  const place = fc.oneof(
    fc.nat(MiB - 1),
    fc.nat(255).map((block) => block * 4096),
  );
  const length = fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: MiB }));
  await fc.assert(
    fc.asyncProperty(
      selection,
      fc.array(fc.tuple(place, length, fc.boolean()), { minLength: 1, maxLength: 6 }),
      fc.constantFrom(4, 64, 8192),
      fc.boolean(),
      async (selected, ranges, extentsMax, slow) => {
        await using served = await Served.start({
          contexts,
          chunkBytes: 1000,
          limits: { extentsMax, contextsMax: 4 },
          before: () => (slow ? served.turns(1) : undefined),
        });
        const client = await served.client({ meta: selected });
        for (const [offset, wanted, one] of ranges) {
          const asked = Math.min(wanted, MiB - offset);
          const flags = one ? CMD_FLAG.REQ_ONE : 0;
          const fields = { type: CMD.BLOCK_STATUS, flags, offset, length: asked };
          const { statuses } = await client.request(fields);
          expect(statuses.map(([id = 0]) => ALL[id - 1])).toEqual(selected);
          const count = one ? 1 : Math.floor(extentsMax / selected.length);
          for (const [index, [, ...numbers]] of statuses.entries()) {
            expect(numbers.length / 2).toBeLessThanOrEqual(count);
            let at = offset;
            for (let pair = 0; pair < numbers.length; pair += 2) {
              const [run = 0, told] = numbers.slice(pair, pair + 2);
              for (const byte of [at, at + run - 1]) {
                expect(flagsOf[selected[index] ?? '']?.(Math.floor(byte / 4096))).toBe(told);
              }
              at += run;
            }
            expect(at).toBeLessThanOrEqual(offset + asked);
            if (numbers.length / 2 < count) expect(at).toBe(offset + asked);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('a listing of thousands is told whole, however slowly it is taken', async () => {
  const many = Object.fromEntries(
    Array.from({ length: 3000 }, (_, number) => [`qemu:dirty-bitmap:${number}`, () => 0]),
  );
  await using served = await Served.start({ contexts: many, chunkBytes: 777, windowBytes: 1000 });
  const client = await negotiated(served);
  const replies = await client.option(OPT.LIST_META_CONTEXT, metaData('disk', 'qemu:'));
  expect(
    told(replies)
      .map(({ name }) => name)
      .toSorted(),
  ).toEqual(Object.keys(many).toSorted());
  expect((await client.option(OPT.GO, infoData('disk'))).at(-1)?.type).toBe(REP.ACK);
});

test('doc/proto.md, "Metadata contexts": a name is at most 4096 bytes, and is told whole', async () => {
  const long = `qemu:dirty-bitmap:${'ä'.repeat((4096 - 18) / 2)}`;
  await using served = await Served.start({ contexts: { [long]: () => 1 } });
  const client = await negotiated(served);
  const replies = await client.option(OPT.LIST_META_CONTEXT, metaData('disk', long));
  expect(replies[0]?.data).toEqual(new Writer().u32(0).text(long).done());
});

test('more queries than anybody has are refused, and the next option is answered', async () => {
  await using served = await Served.start({ contexts: { 'qemu:one': () => 1 } });
  const client = await negotiated(served);
  const many = Array.from({ length: 1025 }, (_, index) => `x${index}:`);
  const [refused] = await client.option(OPT.LIST_META_CONTEXT, metaData('disk', ...many));
  expect(refused?.type).toBe(REP.ERR_TOO_BIG);
  const replies = await client.option(OPT.LIST_META_CONTEXT, metaData('disk', ...many.slice(1)));
  expect(replies.at(-1)?.type).toBe(REP.ACK);
});
