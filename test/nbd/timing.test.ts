import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { KiB } from '../../src/base/units.ts';
import { CMD, CMD_FLAG, ERRNO } from '../../src/nbd/constants.ts';
import type { CommandStats } from '../../src/nbd/meter.ts';
import { requestBytes, statusPayload, type TestClient } from './client.ts';
import { Gate, pattern, Served, type ServedOptions } from './served.ts';

const { READ, WRITE, DISC, FLUSH, TRIM } = CMD;

/** A server whose device waits at a gate for what `gated` names. */
async function waiting(gated: string, options: ServedOptions = {}) {
  const gate = new Gate();
  const before: ServedOptions['before'] = ({ name }) => (name === gated ? gate.wait() : undefined);
  return { gate, served: await Served.start({ ...options, before }) };
}

/** What was counted of the export `disk`. */
function counted(served: Served): readonly CommandStats[] {
  return (
    served.server.stats().exports.find(({ exportName }) => exportName === 'disk')?.commands ?? []
  );
}
const of = (served: Served, command: string) =>
  counted(served).find((stats) => stats.command === command);

/** Sends requests as one chunk, and takes their replies. */
async function together(client: TestClient, ...types: number[]): Promise<void> {
  const payload = pattern(4096);
  const parts = types.map((type) =>
    requestBytes({
      type,
      ...(type === WRITE ? { payload } : { length: type === READ ? 4096 : 0 }),
    }),
  );
  client.send(Buffer.concat(parts));
  for (const type of types) await client.take(type === READ ? 16 + 4096 : 16);
}

describe('what is counted', () => {
  test('requests by command, with their bytes, and none of those that are only said', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'simple' });
    await together(client, READ, READ, READ, WRITE, FLUSH);
    client.ask({ type: DISC });
    await client.gone;
    await served.until(() => served.server.connections().length === 0);
    expect(counted(served)).toMatchObject([
      { command: 'READ', bytes: 3 * 4096, errors: [], durations: { count: 3, sumMs: 0 } },
      { command: 'WRITE', bytes: 4096, errors: [], durations: { count: 1 } },
      { command: 'FLUSH', bytes: 0, errors: [], durations: { count: 1 } },
    ]);
  });

  test('requests that wait, by the time that each of them takes', async () => {
    const { gate, served } = await waiting('flush');
    await using _ = served;
    const client = await served.client({ form: 'simple' });
    client.send(
      Buffer.concat([requestBytes({ type: FLUSH }), requestBytes({ type: READ, length: 1 })]),
    );
    await client.take(17);
    expect(of(served, 'READ')?.durations).toMatchObject({ count: 1, sumMs: 0 });
    expect(of(served, 'FLUSH')).toBeUndefined();
    await served.clock.pass(250, 50);
    gate.open();
    await client.take(16);
    expect(of(served, 'FLUSH')?.durations).toMatchObject({ count: 1, sumMs: 250 });
  });

  test('a large read and a write in pieces, once each', async () => {
    await using served = await Served.start({ chunkBytes: 10_000 });
    const client = await served.client();
    await client.request({ type: WRITE, payload: pattern(600 * KiB) });
    await client.request({ type: WRITE, flags: CMD_FLAG.FUA, payload: pattern(300 * KiB) });
    await client.read(0, 600 * KiB);
    expect(of(served, 'READ')).toMatchObject({ bytes: 600 * KiB, durations: { count: 1 } });
    expect(of(served, 'WRITE')).toMatchObject({ bytes: 900 * KiB, durations: { count: 2 } });
  });

  test('errors by their number, of requests that were refused and of those that failed', async () => {
    await using served = await Served.start({
      before: ({ name }) => {
        if (name === 'trim') throw new SheepError('ERR_NO_SPACE', 'full');
      },
    });
    const client = await served.client();
    await client.request({ type: TRIM, length: 4096 });
    await client.request({ type: TRIM, offset: 2 ** 40, length: 4096 });
    await client.request({ type: TRIM, offset: 2 ** 40, length: 4096 });
    await client.request({ type: 77 });
    await client.request({ type: WRITE, offset: 2 ** 40, payload: pattern(100) });
    expect(of(served, 'TRIM')).toMatchObject({
      durations: { count: 3 },
      errors: [
        { errno: ERRNO.ENOSPC, count: 1 },
        { errno: ERRNO.EINVAL, count: 2 },
      ],
    });
    expect(of(served, 'OTHER')).toMatchObject({
      durations: { count: 1 },
      errors: [{ errno: ERRNO.EINVAL, count: 1 }],
    });
    expect(of(served, 'WRITE')).toMatchObject({
      durations: { count: 1 },
      errors: [{ errno: ERRNO.ENOSPC, count: 1 }],
    });
  });

  test('bytes only of requests that are served, whatever the others say', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'extended', meta: true });
    const length = 2n ** 64n - 1n;
    for (const type of [READ, TRIM, CMD.WRITE_ZEROES, CMD.BLOCK_STATUS, 77]) {
      await client.request({ type, length });
    }
    await client.request({ type: WRITE, offset: length, payload: pattern(5000) });
    await client.request({ type: TRIM, flags: CMD_FLAG.PAYLOAD_LEN, payload: pattern(5000) });
    await client.request({ type: FLUSH, offset: length, length });
    expect(counted(served).map(({ bytes }) => bytes)).toEqual(counted(served).map(() => 0));
    const payload = statusPayload(8192, 1);
    const flags = CMD_FLAG.PAYLOAD_LEN;
    await client.request({ type: CMD.BLOCK_STATUS, flags, payload });
    expect(of(served, 'BLOCK_STATUS')?.bytes).toBe(8192);
  });

  test('a WRITE whose payload breaks off is not', async () => {
    await using served = await Served.start();
    const client = await served.client();
    client.send(requestBytes({ type: WRITE, length: 9000 }), pattern(5000));
    await served.until(() => served.calls.some(({ name }) => name === 'write'));
    client.stream.destroy();
    await served.until(() => served.server.connections().length === 0);
    expect(of(served, 'WRITE')).toBeUndefined();
  });

  test('goes on when clients come again, and is forgotten once nobody wants the export', async () => {
    await using served = await Served.start();
    for (let count = 0; count < 2; count += 1) {
      const client = await served.client();
      await client.read(0, 1);
      client.stream.destroy();
      await served.until(() => served.server.connections().length === 0);
    }
    expect(of(served, 'READ')?.durations.count).toBe(2);
    served.server.retain((name) => name === 'disk');
    expect(counted(served)).toHaveLength(1);
    const client = await served.client();
    served.server.retain(() => false);
    expect(counted(served)).toHaveLength(1);
    client.stream.destroy();
    await served.until(() => served.server.connections().length === 0);
    served.server.retain(() => false);
    expect(served.server.stats().exports).toEqual([]);
  });

  test('is bounded: of exports that nobody has attached the oldest goes', async () => {
    await using served = await Served.start({
      limits: { metersMax: 3 },
      exports: (device, share) => ({ info: async () => device.info, open: async () => share() }),
    });
    for (const name of ['a', 'b', 'c', 'd', 'e']) {
      const client = await served.connect();
      await client.go(name);
      client.stream.destroy();
      await served.until(() => served.server.connections().length === 0);
    }
    const names = served.server.stats().exports.map(({ exportName }) => exportName);
    expect(names).toEqual(['c', 'd', 'e']);
  });

  test('who came, and who has not chosen an export', async () => {
    await using served = await Served.start({ limits: { connectionsMax: 3 } });
    const attached = [await served.client(), await served.client()];
    const evicted = await served.connect();
    const last = await served.connect();
    await evicted.gone;
    expect(served.server.stats()).toMatchObject({ accepted: 4, evicted: 1, handshakes: 1 });
    await last.go('disk');
    const refused = await served.connect();
    await refused.gone;
    expect(served.server.stats()).toMatchObject({ accepted: 4, refused: 1, handshakes: 0 });
    expect(served.server.connections()).toHaveLength(attached.length + 1);
  });
});

describe('nbd.slow-request', () => {
  test('tells who waited for what, and where the time went', async () => {
    const { gate, served } = await waiting('read', { limits: { requestsMax: 1 } });
    await using _ = served;
    const client = await served.client({ form: 'simple' });
    const [first, second] = [4096, 8192].map((offset) =>
      requestBytes({ type: READ, offset, length: 10 }),
    );
    client.send(Buffer.concat([first!, second!]));
    await served.settle();
    await served.clock.pass(1_500);
    gate.open();
    await client.take(2 * 26);
    expect(served.named('nbd.slow-request')).toEqual([
      {
        client: expect.stringMatching(/^memory:/),
        ...{ export: 'disk', command: 'READ', offset: 4096, length: 10 },
        ...{ totalMs: 1500, waitedMs: 0, payloadMs: 0, deviceMs: 1500, replyMs: 0 },
        untakenBytes: expect.any(Number),
      },
      expect.objectContaining({ offset: 8192, totalMs: 1500, waitedMs: 1500, deviceMs: 0 }),
    ]);
  });

  test('a client who is slow to send his payload sees so', async () => {
    await using served = await Served.start();
    const client = await served.client({ form: 'simple' });
    client.send(requestBytes({ type: WRITE, length: 300 * KiB }), pattern(200 * KiB));
    await served.until(() => served.calls.length > 0);
    await served.settle();
    await served.clock.pass(2_000);
    client.send(pattern(100 * KiB));
    await client.take(16);
    expect(served.named('nbd.slow-request')).toMatchObject([
      { command: 'WRITE', totalMs: 2000, waitedMs: 0, payloadMs: 2000, deviceMs: 0 },
    ]);
  });

  test('a client who is slow to take his reply sees so', async () => {
    await using served = await Served.start({ windowBytes: 10_000 });
    const client = await served.client({ form: 'simple' });
    client.stream.pause();
    const reads = Array.from({ length: 8 }, () => requestBytes({ type: READ, length: 64 * KiB }));
    client.send(Buffer.concat(reads));
    await served.until(() => served.calls.length === 8);
    await served.settle();
    await served.clock.pass(3_000);
    client.stream.resume();
    await client.take(8 * (16 + 64 * KiB));
    await served.settle();
    const told = served.named('nbd.slow-request');
    expect(told).toMatchObject([{ command: 'READ', totalMs: 3000, deviceMs: 0, replyMs: 3000 }]);
    // Of what he takes later than it was ready, nothing is a fault of ours.
    expect(of(served, 'READ')?.durations.sumMs).toBe(0);
  });

  test('one that holds up the whole process is told as one of its chunk', async () => {
    await using served = await Served.start({
      before: ({ name, at }) => {
        if (name === 'read' && at === 4096) void served.clock.pass(1_200, 1_200);
      },
    });
    const client = await served.client({ form: 'simple' });
    const reads = [0, 4096, 8192].map((offset) => requestBytes({ type: READ, offset, length: 1 }));
    client.send(Buffer.concat(reads));
    await client.take(3 * 17);
    expect(served.named('nbd.slow-request')).toMatchObject([{ deviceMs: 1200, ofRequests: 3 }]);
  });

  test('of many in one second five are told, and the next says how many were not', async () => {
    const { gate, served } = await waiting('flush');
    await using _ = served;
    const client = await served.client({ form: 'simple' });
    const flushes = (count: number) =>
      client.send(
        Buffer.concat(Array.from({ length: count }, () => requestBytes({ type: FLUSH }))),
      );
    flushes(20);
    await served.settle();
    await served.clock.pass(1_000);
    gate.open();
    await client.take(20 * 16);
    expect(served.named('nbd.slow-request')).toHaveLength(5);
  });

  test('with 0 nothing is slow', async () => {
    const { gate, served } = await waiting('flush', { limits: { slowRequestMs: 0 } });
    await using _ = served;
    const client = await served.client({ form: 'simple' });
    client.ask({ type: FLUSH });
    await served.settle();
    await served.clock.pass(50_000);
    gate.open();
    await client.take(16);
    expect(served.named('nbd.slow-request')).toEqual([]);
  });
});
