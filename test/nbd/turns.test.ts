import { describe, expect, test } from 'vitest';
import { CMD } from '../../src/nbd/constants.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import { requestBytes, type TestClient } from './client.ts';
import type { DeviceCall } from './file-device.ts';
import { Served } from './served.ts';

const { READ, TRIM, BLOCK_STATUS } = CMD;
const COUNT = 200;

/** A server whose device holds the loop for a millisecond in each call that `takes` time. */
async function slow(takes: DeviceCall['name'], at: 'once' | 'in a microtask' = 'once') {
  const served: Served = await Served.start({
    before: ({ name }) => {
      if (name !== takes) return undefined;
      if (at === 'once') return served.clock.work(1);
      return (async () => {
        await undefined;
        served.clock.work(1);
      })();
    },
  });
  return served;
}

/** Sends requests as one chunk. @returns the most calls of the device in one turn of the loop */
async function mostInATurn(served: Served, client: TestClient, type: number): Promise<number> {
  const request = (cookie: bigint) => requestBytes({ type, length: 4096, cookie });
  client.send(Buffer.concat(Array.from({ length: COUNT }, (_, at) => request(BigInt(at)))));
  let most = 0;
  for (let before = 0; before < COUNT; ) {
    await served.turns(1);
    const calls = served.calls.length;
    most = Math.max(most, calls - before);
    before = calls;
  }
  return most;
}

describe('requests that keep the loop busy', () => {
  test('stop after some milliseconds, and go on when others have had their turn', async () => {
    await using served = await slow('trim');
    const client = await served.client({ form: 'simple' });
    expect(await mostInATurn(served, client, TRIM)).toBeLessThanOrEqual(NBD_LIMITS.turnMs);
    const replies = new DataView((await client.take(COUNT * 16)).buffer);
    for (let at = 0; at < COUNT; at += 1) {
      expect([replies.getUint32(at * 16 + 4), replies.getUint32(at * 16 + 12)]).toEqual([0, at]);
    }
  });

  test('also where they go on in microtasks, which nobody else comes between', async () => {
    await using served = await slow('extents', 'in a microtask');
    const client = await served.client({ meta: true });
    const most = await mostInATurn(served, client, BLOCK_STATUS);
    expect(most).toBeLessThanOrEqual(NBD_LIMITS.statusesMax + NBD_LIMITS.turnMs);
  });

  test('are looked at now and then where each is served at once', async () => {
    await using served = await slow('read');
    const client = await served.client({ form: 'simple' });
    expect(await mostInATurn(served, client, READ)).toBeLessThanOrEqual(64);
  });

  test('are all answered though their client has ended meanwhile', async () => {
    await using served = await slow('trim');
    const client = await served.client({ form: 'simple' });
    const all = Array.from({ length: COUNT }, () => requestBytes({ type: TRIM, length: 1 }));
    client.send(Buffer.concat(all));
    client.stream.end();
    expect(await client.rest()).toHaveLength(COUNT * 16);
    expect(served.calls).toHaveLength(COUNT);
  });

  test('end where their connection is gone', async () => {
    await using served = await slow('trim');
    const client = await served.client({ form: 'simple' });
    client.ask(...Array.from({ length: COUNT }, () => ({ type: TRIM, length: 1 })));
    await served.until(() => served.calls.length > 0);
    client.stream.destroy();
    await served.until(() => served.closed === 1);
    expect(served.calls.length).toBeLessThan(COUNT);
  });
});
