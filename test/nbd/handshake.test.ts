import { describe, expect, test } from 'vitest';
import { Writer } from '../../src/base/bytes.ts';
import { SheepError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { EXPORT_FLAG, INFO, OPT, REP } from '../../src/nbd/constants.ts';
import { infoData, metaData, type OptionReply, optionBytes } from './client.ts';
import { Served } from './served.ts';

const types = (replies: readonly OptionReply[]) => replies.map(({ type }) => type);
const text = (reply: OptionReply | undefined) => new TextDecoder().decode(reply?.data);
const infos = (replies: readonly OptionReply[]) =>
  new Map(
    replies
      .filter(({ type }) => type === REP.INFO)
      .map(({ data }) => [new DataView(data.buffer).getUint16(0), data.subarray(2)]),
  );
const u16 = (bytes: Uint8Array | undefined, at: number) =>
  new DataView((bytes ?? new Uint8Array(0)).slice().buffer).getUint16(at);
const u32 = (bytes: Uint8Array | undefined, at: number) =>
  new DataView((bytes ?? new Uint8Array(0)).slice().buffer).getUint32(at);

const WRITABLE =
  EXPORT_FLAG.HAS_FLAGS |
  EXPORT_FLAG.SEND_FLUSH |
  EXPORT_FLAG.SEND_FUA |
  EXPORT_FLAG.SEND_TRIM |
  EXPORT_FLAG.SEND_WRITE_ZEROES |
  EXPORT_FLAG.SEND_FAST_ZERO |
  EXPORT_FLAG.SEND_CACHE |
  EXPORT_FLAG.CAN_MULTI_CONN;

describe('doc/proto.md, "Newstyle negotiation"', () => {
  test('the greeting is both magics and the flags of fixed newstyle and no zeroes', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    const bytes = await client.take(18);
    expect(Buffer.from(bytes).toString('latin1')).toBe('NBDMAGICIHAVEOPT\x00\x03');
  });

  test('unknown client flags end the connection', async () => {
    await using served = await Served.start();
    for (const flags of [4, 7, 0x8000_0003]) {
      const client = await served.connect();
      await client.greet(flags);
      expect(await client.rest()).toHaveLength(0);
    }
    expect(served.named('nbd.handshake-refused')).toHaveLength(3);
  });

  test('an option with another magic ends the connection', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    client.send(optionBytes(OPT.LIST).fill(0, 3, 4));
    expect(await client.rest()).toHaveLength(0);
  });

  test('a client without fixed newstyle may only name an export', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet(0);
    client.send(optionBytes(OPT.LIST));
    expect(await client.rest()).toHaveLength(0);
    const old = await served.connect();
    await old.greet(0);
    old.send(optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode('disk')));
    expect(await old.take(134)).toHaveLength(134);
  });
});

describe('doc/proto.md, "NBD_OPT_EXPORT_NAME"', () => {
  const enter = async (served: Served, flags: number, name = 'disk') => {
    const client = await served.connect();
    await client.greet(flags);
    client.send(optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode(name)));
    return client;
  };

  test('size, flags and 124 zeroes, then transmission with simple replies', async () => {
    await using served = await Served.start();
    const client = await enter(served, 1);
    const reply = await client.take(134);
    expect(reply.subarray(0, 8)).toEqual(new Writer().u64(1 * MiB).done());
    expect(u16(reply, 8)).toBe(WRITABLE);
    expect(reply.subarray(10).every((byte) => byte === 0)).toBe(true);
    const answer = await client.request({ type: 0, offset: 0, length: 512, cookie: 5n });
    expect(answer).toMatchObject({ structured: false, errno: 0, cookie: 5n });
  });

  test('no zeroes if both sides agreed to leave them out', async () => {
    await using served = await Served.start();
    const client = await enter(served, 3);
    await client.take(10);
    expect(await client.request({ type: 0, length: 4, cookie: 1n })).toMatchObject({ errno: 0 });
  });

  test('structured replies that were agreed before hold', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet(3);
    await client.option(OPT.STRUCTURED_REPLY);
    client.send(optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode('disk')));
    expect(u16(await client.take(10), 8)).toBe(WRITABLE | EXPORT_FLAG.SEND_DF);
    expect(await client.request({ type: 0, length: 4 })).toMatchObject({ structured: true });
  });

  test('an unknown export, a long, broken or NUL name: closed, for there is no error reply', async () => {
    await using served = await Served.start();
    for (const name of ['other', 'x'.repeat(4097), 'a\0b']) {
      const client = await enter(served, 3, name);
      expect(await client.rest()).toHaveLength(0);
    }
    const client = await served.connect();
    await client.greet();
    client.send(optionBytes(OPT.EXPORT_NAME, Uint8Array.of(0xff, 0xfe)));
    expect(await client.rest()).toHaveLength(0);
    expect(served.opened).toBe(0);
  });
});

describe('doc/proto.md, "NBD_OPT_ABORT"', () => {
  test('is acknowledged, with any data, and ends the connection', async () => {
    await using served = await Served.start();
    for (const data of [new Uint8Array(0), new Uint8Array(100)]) {
      const client = await served.connect();
      await client.greet();
      expect(types(await client.option(OPT.ABORT, data))).toEqual([REP.ACK]);
      expect(await client.rest()).toHaveLength(0);
    }
  });

  test('a client that does not wait for the answer is no error', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    await client.sent(optionBytes(OPT.ABORT));
    client.stream.destroy();
    await served.settle();
    expect(served.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });
});

describe('doc/proto.md, "NBD_OPT_LIST"', () => {
  test('one NBD_REP_SERVER for each export, with its description, then NBD_REP_ACK', async () => {
    await using served = await Served.start({
      exports: () => ({
        list: async () => [
          { name: 'dü', description: 'first' },
          { name: '', description: '' },
        ],
      }),
    });
    const client = await served.connect();
    await client.greet();
    const replies = await client.option(OPT.LIST);
    expect(types(replies)).toEqual([REP.SERVER, REP.SERVER, REP.ACK]);
    expect(replies[0]?.data).toEqual(new Writer().u32(3).text('düfirst').done());
    expect(replies[1]?.data).toEqual(new Writer().u32(0).done());
  });

  test('with data it is refused, and the next option is understood', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    expect(types(await client.option(OPT.LIST, new Uint8Array(5)))).toEqual([REP.ERR_INVALID]);
    expect(types(await client.option(OPT.LIST))).toEqual([REP.SERVER, REP.ACK]);
  });

  test('who asks is told to the exports', async () => {
    const asked: unknown[] = [];
    await using served = await Served.start({
      exports: () => ({
        list: async (client) => {
          asked.push(client);
          return [];
        },
      }),
    });
    const client = await served.connect();
    await client.greet();
    await client.option(OPT.LIST);
    expect(asked).toMatchObject([{ name: expect.stringMatching(/^memory:/), transport: 'tcp' }]);
  });
});

describe('doc/proto.md, "NBD_OPT_INFO" and "NBD_OPT_GO"', () => {
  test('size, flags and block sizes are told even unasked, name and description if asked', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const plain = infos(await client.option(OPT.INFO, infoData('disk')));
    expect([...plain.keys()]).toEqual([INFO.EXPORT, INFO.BLOCK_SIZE]);
    expect(u16(plain.get(INFO.EXPORT), 8)).toBe(WRITABLE);
    const sizes = plain.get(INFO.BLOCK_SIZE);
    expect([u32(sizes, 0), u32(sizes, 4), u32(sizes, 8)]).toEqual([1, 65_536, 64 * MiB]);
    const asked = infos(await client.option(OPT.INFO, infoData('disk', 1, 2, 3)));
    expect(new TextDecoder().decode(asked.get(INFO.NAME))).toBe('disk');
    expect(new TextDecoder().decode(asked.get(INFO.DESCRIPTION))).toBe('a disk');
  });

  test('unknown and repeated information requests are ignored', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const replies = await client.option(OPT.INFO, infoData('disk', 77, 3, 3, 0, 0xffff, 1, 1));
    expect(types(replies)).toEqual([REP.INFO, REP.INFO, REP.INFO, REP.ACK]);
  });

  test('GO after INFO with the same data tells the same', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const info = infos(await client.option(OPT.INFO, infoData('disk', 3, 1)));
    expect(infos(await client.option(OPT.GO, infoData('disk', 3, 1)))).toEqual(info);
  });

  test('INFO opens nothing, GO opens once', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    await client.option(OPT.INFO, infoData('disk'));
    expect(served.opened).toBe(0);
    await client.option(OPT.GO, infoData('disk'));
    expect(served.opened).toBe(1);
  });

  test('after GO come requests at once, never zeroes', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet(1);
    client.send(optionBytes(OPT.GO, infoData('disk')));
    client.ask({ type: 0, length: 3 });
    expect(types(await client.optionReplies()).at(-1)).toBe(REP.ACK);
    expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('an unknown export is refused by name, cut to eighty characters, and options go on', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    for (const option of [OPT.INFO, OPT.GO]) {
      const [reply] = await client.option(option, infoData('é'.repeat(2000)));
      expect(reply?.type).toBe(REP.ERR_UNKNOWN);
      expect(text(reply)).toBe(`no export is named '${'é'.repeat(80)}'`);
    }
    expect(types(await client.option(OPT.GO, infoData('disk'))).at(-1)).toBe(REP.ACK);
  });

  test('a read-only export says so and offers nothing that writes', async () => {
    await using served = await Served.start({ readOnly: true });
    const client = await served.connect();
    await client.greet();
    const flags = u16(infos(await client.option(OPT.INFO, infoData('disk'))).get(INFO.EXPORT), 8);
    expect(flags).toBe(
      EXPORT_FLAG.HAS_FLAGS |
        EXPORT_FLAG.READ_ONLY |
        EXPORT_FLAG.SEND_FLUSH |
        EXPORT_FLAG.SEND_FUA |
        EXPORT_FLAG.SEND_CACHE |
        EXPORT_FLAG.CAN_MULTI_CONN,
    );
  });

  test.for([
    ['no data', new Uint8Array(0), REP.ERR_INVALID],
    [
      'a name longer than the data',
      new Writer().u32(50).text('disk').u16(0).done(),
      REP.ERR_INVALID,
    ],
    ['a name length of 2^32 - 1', new Writer().u32(0xffff_ffff).done(), REP.ERR_TOO_BIG],
    ['a name above 4096 bytes', infoData('x'.repeat(4097)), REP.ERR_TOO_BIG],
    ['fewer requests than announced', new Writer().u32(0).u16(3).u16(0).done(), REP.ERR_INVALID],
    ['bytes after the requests', new Writer().u32(0).u16(0).u8(0).done(), REP.ERR_INVALID],
    ['a name with NUL', infoData('di\0sk'), REP.ERR_INVALID],
    ['a name that is not UTF-8', new Writer().u32(2).u16(0xfffe).u16(0).done(), REP.ERR_INVALID],
  ] as const)('%s: refused, and the next option is understood', async ([, data, refusal]) => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    for (const option of [OPT.INFO, OPT.GO]) {
      expect(types(await client.option(option, data))).toEqual([refusal]);
    }
    expect(types(await client.option(OPT.INFO, infoData('disk'))).at(-1)).toBe(REP.ACK);
  });

  test.for([
    ['ERR_BUSY', REP.ERR_POLICY, 'host b has it'],
    ['ERR_FORBIDDEN', REP.ERR_POLICY, 'host b has it'],
    ['ERR_SHUTDOWN', REP.ERR_SHUTDOWN, 'the server is stopping'],
    ['ERR_CORRUPT', REP.ERR_UNKNOWN, 'stored data is damaged'],
  ] as const)('an export that fails to open with %s', async ([code, refusal, sentence]) => {
    await using served = await Served.start({
      exports: () => ({
        open: async () => {
          throw new SheepError(code, 'host b has it');
        },
      }),
    });
    const client = await served.connect();
    await client.greet();
    const [reply] = await client.option(OPT.GO, infoData('disk'));
    expect([reply?.type, text(reply)]).toEqual([refusal, sentence]);
    expect(types(await client.option(OPT.INFO, infoData('disk'))).at(-1)).toBe(REP.ACK);
  });
});

describe('doc/proto.md, "NBD_OPT_STRUCTURED_REPLY"', () => {
  test('is acknowledged once, and offers DF', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    expect(types(await client.option(OPT.STRUCTURED_REPLY, new Uint8Array(1)))).toEqual([
      REP.ERR_INVALID,
    ]);
    expect(types(await client.option(OPT.STRUCTURED_REPLY))).toEqual([REP.ACK]);
    expect(types(await client.option(OPT.STRUCTURED_REPLY))).toEqual([REP.ERR_INVALID]);
    const info = infos(await client.option(OPT.INFO, infoData('disk'))).get(INFO.EXPORT);
    expect(u16(info, 8)).toBe(WRITABLE | EXPORT_FLAG.SEND_DF);
  });
});

describe('doc/proto.md, "Metadata querying"', () => {
  const negotiated = async (served: Served) => {
    const client = await served.connect();
    await client.greet();
    await client.option(OPT.STRUCTURED_REPLY);
    return client;
  };
  const context = (id: number) => new Writer().u32(id).text('base:allocation').done();

  test.for([
    ['no query: all', [], 1],
    ['the namespace', ['base:'], 1],
    ['the name', ['x:y', 'base:allocation'], 1],
    ['others', ['qemu:allocation-depth', 'base:other', 'base'], 0],
  ] as const)('a listing: %s', async ([, queries, count]) => {
    await using served = await Served.start();
    const client = await negotiated(served);
    const replies = await client.option(OPT.LIST_META_CONTEXT, metaData('disk', ...queries));
    expect(types(replies)).toEqual([...Array(count).fill(REP.META_CONTEXT), REP.ACK]);
    if (count > 0) expect(replies[0]?.data).toEqual(context(0));
  });

  test.for([
    ['no query: none', [], 0],
    ['the namespace selects nothing', ['base:'], 0],
    ['the name', ['x:y', 'base:allocation', 'base:allocation'], 1],
    ['others', ['qemu:dirty-bitmap:a', 'base:allocation2'], 0],
  ] as const)('a selection: %s', async ([, queries, count]) => {
    await using served = await Served.start();
    const client = await negotiated(served);
    const replies = await client.option(OPT.SET_META_CONTEXT, metaData('disk', ...queries));
    expect(types(replies)).toEqual([...Array(count).fill(REP.META_CONTEXT), REP.ACK]);
    await client.option(OPT.GO, infoData('disk'));
    const status = await client.request({ type: 7, length: 4096 });
    expect(status.errno).toBe(count > 0 ? 0 : 22);
    if (count > 0) expect(status.status[0]).toBe(u32(replies[0]?.data, 0));
  });

  test('selecting needs structured replies, listing does not', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const data = metaData('disk', 'base:allocation');
    expect(types(await client.option(OPT.SET_META_CONTEXT, data))).toEqual([REP.ERR_INVALID]);
    expect(types(await client.option(OPT.LIST_META_CONTEXT, data)).at(-1)).toBe(REP.ACK);
  });

  test.for([
    ['an unknown export', OPT.SET_META_CONTEXT, metaData('none', 'base:allocation')],
    ['no data', OPT.SET_META_CONTEXT, new Uint8Array(0)],
    ['a cut-off query', OPT.SET_META_CONTEXT, metaData('disk', 'abc').slice(0, -1)],
    ['a long query', OPT.SET_META_CONTEXT, metaData('disk', 'x'.repeat(4097))],
    ['two million bytes', OPT.SET_META_CONTEXT, new Uint8Array(2_000_000)],
    ['another selection', OPT.SET_META_CONTEXT, metaData('disk')],
  ] as const)('the selection before is gone after one with %s', async ([, option, data]) => {
    await using served = await Served.start();
    const client = await negotiated(served);
    await client.option(OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation'));
    await client.option(option, data);
    await client.option(OPT.GO, infoData('disk'));
    expect(await client.request({ type: 7, length: 4096 })).toMatchObject({ errno: 22 });
  });

  test('a selection holds only for the export that it named', async () => {
    await using served = await Served.start({
      exports: (device) => ({ info: async () => device.info }),
    });
    const client = await negotiated(served);
    await client.option(OPT.SET_META_CONTEXT, metaData('other', 'base:allocation'));
    await client.option(OPT.GO, infoData('disk'));
    expect(await client.request({ type: 7, length: 4096 })).toMatchObject({ errno: 22 });
  });

  test('an unknown export is refused in a listing too', async () => {
    await using served = await Served.start();
    const client = await negotiated(served);
    const replies = await client.option(OPT.LIST_META_CONTEXT, metaData('none'));
    expect(types(replies)).toEqual([REP.ERR_UNKNOWN]);
  });
});

describe('doc/proto.md, "Option types": what we do not serve', () => {
  test('STARTTLS is forbidden by policy, and invalid with data', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    expect(types(await client.option(OPT.STARTTLS))).toEqual([REP.ERR_POLICY]);
    expect(types(await client.option(OPT.STARTTLS, new Uint8Array(2)))).toEqual([REP.ERR_INVALID]);
  });

  test.for([4, 12, 0x07654321, 0xffff_ffff, 0])(
    'option %i is unknown; its data is consumed',
    async (option) => {
      await using served = await Served.start();
      const client = await served.connect();
      await client.greet();
      expect(types(await client.option(option, new Uint8Array(4)))).toEqual([REP.ERR_UNSUP]);
      expect(types(await client.option(OPT.LIST)).at(-1)).toBe(REP.ACK);
    },
  );
});

describe('limits of the handshake', () => {
  test('option data above 1 MiB is skipped and refused as too big', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const replies = await client.option(OPT.GO, new Uint8Array(1 * MiB + 1));
    expect(types(replies)).toEqual([REP.ERR_TOO_BIG]);
    expect(types(await client.option(OPT.LIST)).at(-1)).toBe(REP.ACK);
  });

  test('option data above 16 MiB ends the connection before any of it is read', async () => {
    await using served = await Served.start();
    for (const length of [16 * MiB + 1, 0xffff_ffff]) {
      const client = await served.connect();
      await client.greet();
      client.send(optionBytes(OPT.LIST, new Uint8Array(0), length));
      expect(await client.rest()).toHaveLength(0);
    }
  });

  test('the largest legal GO is understood', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    const wanted = Array.from({ length: 65_535 }, () => 3);
    const [reply] = await client.option(OPT.GO, infoData('x'.repeat(4096), ...wanted));
    expect(reply?.type).toBe(REP.ERR_UNKNOWN);
  });

  test('a client may ask 64 options, and four more for each export it was shown', async () => {
    const names = Array.from({ length: 20 }, (_, index) => ({ name: `${index}`, description: '' }));
    await using served = await Served.start({ exports: () => ({ list: async () => names }) });
    const client = await served.connect();
    await client.greet();
    for (let count = 0; count < 64 + 80; count += 1) {
      expect(types(await client.option(OPT.LIST)).at(-1)).toBe(REP.ACK);
    }
    client.send(optionBytes(OPT.LIST));
    expect(await client.rest()).toHaveLength(0);
    const stranger = await served.connect();
    await stranger.greet();
    for (let count = 0; count < 64; count += 1) await stranger.option(99);
    stranger.send(optionBytes(99));
    expect(await stranger.rest()).toHaveLength(0);
  });

  test('options that came early wait their turn', async () => {
    await using served = await Served.start();
    const client = await served.connect();
    await client.greet();
    client.send(optionBytes(OPT.LIST), optionBytes(99), optionBytes(OPT.GO, infoData('disk')));
    expect(types(await client.optionReplies())).toEqual([REP.SERVER, REP.ACK]);
    expect(types(await client.optionReplies())).toEqual([REP.ERR_UNSUP]);
    expect(types(await client.optionReplies()).at(-1)).toBe(REP.ACK);
  });

  test('a client that asks without reading is read no further', async () => {
    const long = { name: 'x'.repeat(4000), description: 'y'.repeat(4000) };
    let asked = 0;
    await using served = await Served.start({
      windowBytes: 10_000,
      exports: () => ({
        list: async () => {
          asked += 1;
          return Array.from({ length: 100 }, () => long);
        },
      }),
    });
    const client = await served.connect();
    await client.greet();
    client.stream.pause();
    for (let count = 0; count < 50; count += 1) client.send(optionBytes(OPT.LIST));
    await served.settle();
    expect(asked).toBeLessThan(3);
    client.stream.resume();
    for (let count = 0; count < 50; count += 1) await client.optionReplies();
    expect(asked).toBe(50);
  });
});

describe.for([1, 3, 28, 4096])('in chunks of %i', (chunkBytes) => {
  test('the same bytes give the same replies', async () => {
    await using served = await Served.start({ chunkBytes });
    const client = await served.connect();
    await client.greet();
    const go = optionBytes(OPT.GO, infoData('disk', 1, 2, 3));
    const query = optionBytes(OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation'));
    const requests = [
      { type: 1, cookie: 1n, payload: new Uint8Array(700).fill(9) },
      { type: 7, cookie: 2n, length: 8192 },
      { type: 0, cookie: 3n, offset: 699, length: 2 },
      { type: 2 },
    ];
    client.send(optionBytes(7777, new Uint8Array(33)), optionBytes(OPT.STRUCTURED_REPLY));
    client.send(query, go);
    client.ask(...requests);
    expect(types(await client.optionReplies())).toEqual([REP.ERR_UNSUP]);
    expect(types(await client.optionReplies())).toEqual([REP.ACK]);
    expect(types(await client.optionReplies())).toEqual([REP.META_CONTEXT, REP.ACK]);
    expect(types(await client.optionReplies())).toHaveLength(5);
    expect(await client.reply()).toMatchObject({ cookie: 1n, errno: 0 });
    expect(await client.reply()).toMatchObject({ cookie: 2n, status: [1, 4096, 0, 4096, 3] });
    expect((await client.reply()).data).toEqual(Uint8Array.of(9, 0));
    expect(await client.rest()).toHaveLength(0);
  });
});
