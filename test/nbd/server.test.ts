import { describe, expect, test } from 'vitest';
import type { Facts } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import type { ByteStream, Net } from '../../src/contracts/net.ts';
import { CMD, OPT, REP } from '../../src/nbd/constants.ts';
import { serveNbd } from '../../src/nbd/server.ts';
import { FORMS, infoData, optionBytes, requestBytes, TestClient } from './client.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryNet } from './memory-net.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, FLUSH } = CMD;

describe('time', () => {
  test('who is not through the handshake after ten seconds is closed, however busy', async () => {
    await using served = await Served.start();
    const silent = await served.connect();
    const slow = await served.connect();
    await slow.greet();
    const attached = await served.client();
    for (let second = 0; second < 9; second += 1) {
      await served.clock.pass(1_000);
      await slow.option(OPT.LIST);
    }
    await served.clock.pass(2_000);
    await Promise.all([silent.gone, slow.gone]);
    expect(served.named('nbd.handshake-timeout')).toHaveLength(2);
    expect(await attached.request({ type: FLUSH })).toMatchObject({ errno: 0 });
  });

  test('an attached client may be silent for days', async () => {
    await using served = await Served.start();
    const client = await served.client();
    await served.clock.pass(3 * 24 * 3_600_000, 3_600_000);
    expect(await client.request({ type: FLUSH })).toMatchObject({ errno: 0 });
  });

  test('a client that takes no replies for a minute is closed; a slow one is not', async () => {
    await using served = await Served.start({ sizeBytes: 16 * MiB, windowBytes: 10_000 });
    const [stuck, slow] = [await served.client(), await served.client()];
    for (const client of [stuck, slow]) {
      client.stream.pause();
      client.ask({ type: WRITE, payload: pattern(MiB) });
      for (let count = 0; count < 8; count += 1) client.ask({ type: READ, length: MiB });
    }
    await served.settle();
    for (let second = 0; second < 70; second += 2) {
      slow.stream.resume();
      await served.clock.yield();
      slow.stream.pause();
      await served.clock.pass(2_000);
    }
    await stuck.gone;
    expect(served.named('nbd.replies-unread')).toHaveLength(1);
    expect(served.server.connections()).toHaveLength(1);
  });

  test('a client that never closes its side is closed soon after the server’s end', async () => {
    await using served = await Served.start();
    const stream = await served.net.dial(served.server.addresses[0] ?? '');
    let closed = false;
    stream.start({
      received: () => undefined,
      ended: () => undefined,
      closed: () => (closed = true),
    });
    stream.write(Uint8Array.of(0, 0, 0, 1));
    stream.write(optionBytes(OPT.ABORT));
    await served.settle();
    expect(closed).toBe(false);
    await served.clock.pass(3_500);
    expect(closed).toBe(true);
  });
});

describe('numbers', () => {
  test('a thousand half-open connections cost the oldest their place, and nobody else’s', async () => {
    await using served = await Served.start({ limits: { handshakesMax: 100 } });
    const before = await served.client();
    const strangers: TestClient[] = [];
    for (let count = 0; count < 1000; count += 1) strangers.push(await served.connect());
    await Promise.all(strangers.slice(0, 900).map(({ gone }) => gone));
    expect(served.named('nbd.handshakes-full').length).toBeLessThanOrEqual(10);
    const after = await served.client();
    for (const client of [before, after]) {
      expect(await client.request({ type: READ, length: 10 })).toMatchObject({ errno: 0 });
    }
    expect(served.server.connections()).toHaveLength(2);
  });

  test('above the limit of clients a new one is closed at once, those attached stay', async () => {
    await using served = await Served.start({ limits: { connectionsMax: 3 } });
    const attached = [await served.client(), await served.client(), await served.client()];
    for (let count = 0; count < 5; count += 1) {
      const refused = await served.connect();
      expect(await refused.rest()).toHaveLength(0);
    }
    expect(served.named('nbd.connections-full')).toMatchObject(
      Array.from({ length: 5 }, () => ({ connectionsMax: 3, full: 'server' })),
    );
    for (const client of attached) {
      expect(await client.request({ type: FLUSH })).toMatchObject({ errno: 0 });
    }
    attached[0]?.stream.destroy();
    await served.settle();
    const next = await served.client();
    expect(await next.request({ type: FLUSH })).toMatchObject({ errno: 0 });
  });

  test('one socket has its share of the places, and no more', async () => {
    const limits = { connectionsMax: 8, hostShare: 0.5 };
    const base = options();
    const told: Facts[] = [];
    const log = {
      event: (_: string, name: string, facts: Facts = {}) => told.push({ name, ...facts }),
    };
    const server = await serveNbd({ ...base, log, addresses: ['unix:/a', 'unix:/b'], limits });
    const [first, ...others] = await Promise.all(
      ['a', 'a', 'a', 'a', 'a', 'b'].map((name) => TestClient.connect(base.net, `unix:/${name}`)),
    );
    await first?.gone;
    for (const client of others) await client.greet();
    expect(told).toMatchObject([
      { name: 'nbd.listening' },
      { name: 'nbd.listening' },
      { name: 'nbd.handshakes-full', client: 'unix:/a' },
    ]);
    await server.drain(0);
  });

  test('options that are large share their memory: above it they are refused, small ones are not', async () => {
    const limits = { optionsSharedBytes: MiB, optionBytesMax: MiB };
    await using served = await Served.start({ limits });
    const [boasting, holding, refused, honest] = [
      await served.connect(),
      await served.connect(),
      await served.connect(),
      await served.connect(),
    ];
    for (const client of [boasting, holding, refused, honest]) await client.greet();
    // What was announced counts for nothing, only what has come.
    boasting.send(optionBytes(OPT.GO, new Uint8Array(1), MiB));
    const most = new Uint8Array(599_999);
    holding.send(optionBytes(OPT.GO, most, 600_000));
    await served.settle();
    refused.send(optionBytes(OPT.GO, most, 600_000));
    expect(await refused.rest()).toHaveLength(0);
    expect(served.named('nbd.handshake-refused')).toMatchObject([
      { why: 'too much option data of all clients at once' },
    ]);
    expect((await honest.option(OPT.LIST)).at(-1)).toMatchObject({ type: REP.ACK });
    holding.stream.destroy();
    await served.settle();
    expect(await honest.option(OPT.GO, new Uint8Array(600_000))).toMatchObject([
      { type: REP.ERR_INVALID },
    ]);
    expect(await honest.option(OPT.GO, new Uint8Array(MiB))).toHaveLength(1);
  });

  test('listings that nobody reads share the same memory', async () => {
    const description = 'x'.repeat(1_000);
    const entries = Array.from({ length: 100 }, (_, at) => ({ name: `disk${at}`, description }));
    await using served = await Served.start({
      limits: { optionsSharedBytes: MiB, optionBytesMax: MiB },
      windowBytes: 10_000,
      exports: () => ({ list: async () => entries }),
    });
    const clients: TestClient[] = [];
    for (let count = 0; count < 20; count += 1) {
      const client = await served.connect();
      await client.greet();
      client.stream.pause();
      // The first fits the window between us, whatever its size.
      client.send(optionBytes(OPT.LIST), optionBytes(OPT.LIST));
      clients.push(client);
    }
    await served.settle();
    const refused = served.named('nbd.handshake-refused').length;
    expect(refused).toBeGreaterThanOrEqual(10);
    for (const client of clients) client.stream.destroy();
    await served.settle();
    const client = await served.connect();
    await client.greet();
    expect(await client.option(OPT.LIST)).toHaveLength(101);
  });

  test('strangers who break the protocol again and again do not fill the log', async () => {
    await using served = await Served.start();
    for (let count = 0; count < 100; count += 1) {
      const client = await served.connect();
      client.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
      await client.gone;
    }
    expect(served.named('nbd.handshake-refused')).toHaveLength(10);
    await served.clock.pass(61_000, 1_000);
    const client = await served.connect();
    client.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
    await client.gone;
    expect(served.named('nbd.handshake-refused').slice(10)).toMatchObject([{ unsaid: 90 }]);
  });

  test('who is attached to what is told, with counts', async () => {
    await using served = await Served.start();
    const client = await served.client();
    await served.connect();
    await client.request({ type: WRITE, payload: pattern(1000) });
    await client.read(0, 300);
    expect(served.server.connections()).toEqual([
      {
        client: expect.stringMatching(/^memory:/),
        transport: 'tcp',
        exportName: 'disk',
        readOnly: false,
        attachedAtMs: served.clock.wallMs(),
        requests: 2,
        readBytes: 300,
        writtenBytes: 1000,
        inFlight: 0,
        untakenBytes: 0,
      },
    ]);
  });

  test('a violation is logged once a connection', async () => {
    await using served = await Served.start();
    const client = await served.client();
    for (let count = 0; count < 20; count += 1) await client.request({ type: 77, length: 1 });
    expect(served.named('nbd.request-refused')).toHaveLength(1);
    expect(served.named('nbd.request-refused')[0]).toMatchObject({
      command: '0x4d',
      export: 'disk',
    });
  });

  test('a client that is wrong in a thousand ways is some lines, and no more', async () => {
    await using served = await Served.start();
    const client = await served.client();
    for (let type = 100; type < 1_100; type += 1) await client.request({ type, length: 1 });
    expect(served.named('nbd.request-refused')).toHaveLength(64);
  });

  test('who connects and goes without a word is no line in the log', async () => {
    await using served = await Served.start();
    for (let count = 0; count < 10; count += 1) (await served.connect()).stream.destroy();
    const polite = await served.connect();
    polite.stream.end();
    await polite.gone;
    await served.settle();
    expect(served.log.filter(({ name }) => name !== 'nbd.listening')).toEqual([]);
  });
});

const options = () => ({
  net: new MemoryNet(),
  clock: new ManualClock(),
  log: { event: () => undefined },
  exports: { list: async () => [], info: async () => undefined, open: async () => undefined },
  fatal: () => undefined,
});

describe('addresses', () => {
  test('several are served at once, and told with their real ports', async () => {
    const base = options();
    const server = await serveNbd({ ...base, addresses: ['a:0', 'unix:/s', 'b:0'] });
    expect(server.addresses).toEqual(['a:1', 'unix:/s', 'b:2']);
    for (const address of server.addresses) {
      await (await TestClient.connect(base.net, address)).greet();
    }
    await server.drain(0);
  });

  test('all are served or none', async () => {
    const base = options();
    const listening = serveNbd({ ...base, addresses: ['a:5', 'nonsense'] });
    await expect(listening).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
    await expect(base.net.dial('a:5')).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  test('limits that contradict each other are refused at start', async () => {
    const limits = { slabBytes: 4096 };
    const starting = serveNbd({ ...options(), addresses: ['a:0'], limits });
    await expect(starting).rejects.toThrow('a piece fits a slab');
  });
});

describe('stopping', () => {
  test('nobody is accepted any more, and an idle client is closed at once', async () => {
    await using served = await Served.start();
    const client = await served.client();
    await served.server.drain(1_000);
    expect(await client.rest()).toHaveLength(0);
    await expect(served.connect()).rejects.toMatchObject({ code: 'ERR_IO' });
    expect([served.opened, served.closed]).toEqual([1, 1]);
  });

  test('a write whose payload is still arriving is finished', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const bytes = pattern(400_000);
    const wire = requestBytes({ type: WRITE, payload: bytes });
    await client.sent(wire.subarray(0, 200_000));
    await served.settle();
    const drained = served.server.drain(5_000);
    await served.settle();
    client.send(wire.subarray(200_000));
    expect(new DataView((await client.take(16)).buffer).getUint32(4)).toBe(0);
    expect(await client.rest()).toHaveLength(0);
    await drained;
    const into = new Uint8Array(bytes.length);
    await served.device.read(0, into);
    expect(Buffer.compare(into, bytes)).toBe(0);
  });

  test('options are answered with ERR_SHUTDOWN while others are being finished', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const busy = await served.client();
    const [choosing, agreeing] = [await served.connect(), await served.connect()];
    for (const client of [choosing, agreeing]) await client.greet();
    busy.ask({ type: FLUSH });
    await served.settle();
    const drained = served.server.drain(5_000);
    const [reply] = await choosing.option(OPT.GO, infoData('disk'));
    expect(reply?.type).toBe(REP.ERR_SHUTDOWN);
    expect(await choosing.rest()).toHaveLength(0);
    expect(await agreeing.option(OPT.STRUCTURED_REPLY)).toMatchObject([{ type: REP.ERR_SHUTDOWN }]);
    gate.open();
    await drained;
    expect(await busy.reply()).toMatchObject({ errno: 0 });
  });

  test('a GO that was opening its export is refused, and the device closed again', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      exports: (device) => ({
        open: async () => {
          await gate.wait();
          served.opened += 1;
          return Object.assign(Object.create(device), {
            info: device.info,
            [Symbol.asyncDispose]: async () => {
              served.closed += 1;
            },
          });
        },
      }),
    });
    const other = await served.connect();
    const client = await served.connect();
    await client.greet();
    client.send(optionBytes(OPT.GO, infoData('disk')));
    await served.settle();
    const drained = served.server.drain(5_000);
    await served.settle();
    gate.open();
    await Promise.all([drained, client.gone, other.gone]);
    await served.settle();
    expect([served.opened, served.closed]).toEqual([1, 1]);
  });

  test('an EXPORT_NAME that was opening its export gets it, and the end with it', async () => {
    const [opening, flushing] = [new Gate(), new Gate()];
    let slow = false;
    await using served = await Served.start({
      before: () => flushing.wait(),
      exports: (_, share) => ({
        open: async () => {
          if (slow) await opening.wait();
          return share();
        },
      }),
    });
    const busy = await served.client();
    busy.ask({ type: FLUSH });
    slow = true;
    const client = await served.connect();
    await client.greet();
    client.send(optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode('disk')));
    await served.settle();
    const drained = served.server.drain(5_000);
    await served.settle();
    opening.open();
    expect(await client.rest()).toHaveLength(10);
    flushing.open();
    expect(await busy.reply()).toMatchObject({ errno: 0 });
    await drained;
  });

  test('who was accepted in the last moment is closed', async () => {
    const accepting: ((stream: ByteStream) => void)[] = [];
    const net = new MemoryNet();
    const listening: Net = {
      dial: (address) => net.dial(address),
      listen: (address, accept) => {
        accepting.push(accept);
        return net.listen(address, accept);
      },
    };
    const server = await serveNbd({ ...options(), net: listening, addresses: ['a:0'] });
    await server.drain(1_000);
    const late = await net.listen('late:0', (stream) => accepting[0]?.(stream));
    const client = await TestClient.connect(net, late.address);
    expect(await client.rest()).toHaveLength(0);
  });

  test('what is not over at the deadline is cut off, and not waited for', async () => {
    const never = new Gate();
    await using served = await Served.start({ before: () => never.wait() });
    const client = await served.client();
    client.ask({ type: FLUSH });
    await served.settle();
    const drained = served.server.drain(2_000);
    await served.settle();
    await served.clock.pass(1_900);
    expect(served.server.connections()).toHaveLength(1);
    await served.clock.pass(200);
    await drained;
    expect(await client.rest()).toHaveLength(0);
    expect(served.named('nbd.drain-cut-short')).toEqual([{ connections: 1 }]);
    expect(served.closed).toBe(0);
    never.open();
    await served.until(() => served.closed === 1);
  });

  test('stopping twice, and with nobody there, is no error', async () => {
    await using served = await Served.start();
    await served.server.drain(1_000);
    await served.server.drain(1_000);
    await served.server[Symbol.asyncDispose]();
  });
});

describe('clients that go in the middle', () => {
  test('of anything leave nothing behind', async () => {
    await using served = await Served.start({
      sizeBytes: 4 * MiB,
      before: () => new Promise((done) => setImmediate(done)),
    });
    const wire = [
      requestBytes({ type: WRITE, payload: pattern(300_000) }),
      requestBytes({ type: READ, length: 3 * MiB }),
      requestBytes({ type: WRITE, payload: pattern(4096) }),
      requestBytes({ type: FLUSH }),
    ];
    const all = new Uint8Array(wire.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of wire) {
      all.set(part, at);
      at += part.length;
    }
    for (let cut = 1; cut < all.length; cut += 23_456) {
      for (const form of FORMS) {
        const client = await served.client({ form });
        await client.sent(all.subarray(0, cut));
        client.stream.destroy();
        await client.gone;
      }
    }
    await served.settle();
    await served.settle();
    expect(served.closed).toBe(served.opened);
    expect(served.server.connections()).toEqual([]);
    expect(served.fatal).toEqual([]);
  });

  test('before we are told that the reply to GO has left are let go as well', async () => {
    await using served = await Served.start({ doneTurns: 5 });
    const client = await served.client();
    for (let count = 0; count < 20; count += 1) {
      expect(await client.request({ type: CMD.READ, length: 512 })).toMatchObject({ errno: 0 });
    }
    client.stream.destroy();
    await served.settle();
    await served.settle();
    expect(served.closed).toBe(served.opened);
    expect(served.server.connections()).toEqual([]);
  });

  test('while their export is opened leave no device open', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      exports: (device) => ({
        open: async () => {
          await gate.wait();
          served.opened += 1;
          return Object.assign(Object.create(device), {
            info: device.info,
            [Symbol.asyncDispose]: async () => {
              served.closed += 1;
            },
          });
        },
      }),
    });
    const client = await served.connect();
    await client.greet();
    await client.sent(optionBytes(OPT.GO, infoData('disk')));
    await served.settle();
    client.stream.destroy();
    await served.settle();
    gate.open();
    await served.settle();
    expect([served.opened, served.closed]).toEqual([1, 1]);
    expect(served.named('nbd.attached')).toEqual([]);
  });

  test('and whose device cannot be closed are said in the log', async () => {
    await using served = await Served.start({
      exports: (device) => ({
        open: async () =>
          Object.assign(Object.create(device), {
            info: device.info,
            [Symbol.asyncDispose]: async () => {
              throw new Error('stuck');
            },
          }),
      }),
    });
    const client = await served.client();
    client.stream.destroy();
    await served.settle();
    expect(served.named('nbd.close-failed')).toMatchObject([{ export: 'disk', cause: 'stuck' }]);
  });
});
