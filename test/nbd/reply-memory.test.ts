import { describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { CMD, CMD_FLAG } from '../../src/nbd/constants.ts';
import type { TestClient } from './client.ts';
import { Gate, pattern, Served, type ServedOptions } from './served.ts';

const { READ, WRITE, BLOCK_STATUS } = CMD;
const PIECE = 256 * KiB;
const TOTAL = 20;
const CLIENTS = 12;
const limits = { slabsSharedMax: TOTAL, slabsTotalMax: TOTAL };
const data = pattern(4 * MiB);

/** A disk of 4 MiB without a hole. */
async function full(options: ServedOptions = {}): Promise<Served> {
  const served = await Served.start({
    ...{ sizeBytes: data.length, windowBytes: 64 * KiB, limits },
    ...options,
  });
  const client = await served.client();
  await client.request({ type: WRITE, payload: data });
  client.stream.destroy();
  served.calls.length = 0;
  return served;
}

/** Clients that ask for much more than there is memory for, and take nothing of it. */
async function greedy(served: Served): Promise<TestClient[]> {
  const clients: TestClient[] = [];
  for (let count = 0; count < CLIENTS; count += 1) {
    const client = await served.client({ form: count % 2 === 0 ? 'simple' : 'structured' });
    client.stream.pause();
    for (let asked = 0; asked < 4; asked += 1) client.ask({ type: READ, length: 2 * MiB });
    clients.push(client);
  }
  await served.turns(100);
  return clients;
}

const readBytes = (served: Served) =>
  served.calls.reduce((sum, { name, length }) => sum + (name === 'read' ? length : 0), 0);

describe('reply memory', () => {
  test('has a total, however many take none of it; above, each has one slab', async () => {
    await using served = await full();
    const clients = await greedy(served);
    expect(readBytes(served)).toBeGreaterThanOrEqual(TOTAL * PIECE);
    // One piece has left on each connection.
    const leftBytes = CLIENTS * PIECE;
    expect(readBytes(served)).toBeLessThanOrEqual((TOTAL + CLIENTS) * PIECE + leftBytes);
    for (const client of clients) client.stream.resume();
    for (const client of clients) {
      for (let asked = 0; asked < 4; asked += 1) {
        const reply = await client.reply();
        expect(Buffer.compare(reply.data, data.subarray(0, 2 * MiB))).toBe(0);
      }
    }
  });

  test.for([
    ['simple', { form: 'simple' }, 0],
    ['structured', { form: 'structured' }, 0],
    ['in one chunk', { form: 'structured' }, CMD_FLAG.DF],
    ['extended', { form: 'extended' }, 0],
  ] as const)('others hold all of it: a large read is answered, %s', async ([, form, flags]) => {
    await using served = await full();
    const clients = await greedy(served);
    const client = await served.client(form);
    client.ask({ type: READ, flags, offset: 5, length: 2 * MiB - 5, cookie: 1n });
    client.ask({ type: READ, flags, offset: 9, length: 7, cookie: 2n });
    for (const [cookie, from, to] of [
      [1n, 5, 2 * MiB],
      [2n, 9, 16],
    ] as const) {
      const reply = await client.reply();
      expect(reply).toMatchObject({ cookie, errno: 0 });
      expect(Buffer.compare(reply.data, data.subarray(from, to))).toBe(0);
    }
    for (const one of clients) one.stream.destroy();
  });

  test('no two large reads wait for what the other one has', async () => {
    const gate = new Gate();
    await using served = await full({
      before: ({ name }) => (name === 'read' ? gate.wait() : undefined),
    });
    const clients: TestClient[] = [];
    for (let count = 0; count < 5; count += 1) {
      const client = await served.client({ form: 'simple' });
      for (const length of [300 * KiB, 4 * MiB, 2 * MiB]) client.ask({ type: READ, length });
      clients.push(client);
    }
    await served.settle();
    gate.open();
    for (const client of clients) {
      for (const length of [300 * KiB, 4 * MiB, 2 * MiB]) {
        expect((await client.reply()).data.length).toBe(length);
      }
    }
  });

  test('is counted for answers to BLOCK_STATUS before they are there', async () => {
    const gate = new Gate();
    await using served = await full({
      limits: { ...limits, statusesMax: 8 },
      before: ({ name }) => (name === 'extents' ? gate.wait() : undefined),
    });
    const clients: TestClient[] = [];
    for (let count = 0; count < CLIENTS; count += 1) {
      const client = await served.client({ meta: true });
      for (let asked = 0; asked < 8; asked += 1) {
        client.ask({ type: BLOCK_STATUS, length: MiB });
      }
      clients.push(client);
    }
    await served.settle();
    expect(served.calls.length).toBeGreaterThanOrEqual(TOTAL);
    expect(served.calls.length).toBeLessThanOrEqual(TOTAL + CLIENTS);
    gate.open();
    for (const client of clients) {
      for (let asked = 0; asked < 8; asked += 1) {
        expect((await client.reply()).status).toEqual([1, MiB, 0]);
      }
    }
  });
});
