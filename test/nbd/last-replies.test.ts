import { describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import type { TestClient } from './client.ts';
import { pattern, Served } from './served.ts';

const { READ, WRITE, DISC } = CMD;
const { lingerMs, unreadMs } = NBD_LIMITS;
const data = pattern(MiB);

/** A client with a MiB of replies under way, of which it takes none yet. */
async function behind(): Promise<{ served: Served; client: TestClient }> {
  const served = await Served.start({ windowBytes: 64 * KiB });
  const client = await served.client();
  await client.request({ type: WRITE, payload: data });
  client.stream.pause();
  client.ask({ type: READ, length: data.length });
  await served.settle();
  return { served, client };
}

describe('the last replies', () => {
  test.for<[string, (served: Served, client: TestClient) => void]>([
    ['DISC', (_, client) => client.ask({ type: DISC })],
    ['the end of what it sends', (_, client) => client.stream.end()],
    ['the stop of the server', (served) => void served.server.drain(10 * unreadMs)],
  ])('reach a slow client, also after %s', async ([, end]) => {
    const { served, client } = await behind();
    await using _ = served;
    end(served, client);
    await served.clock.pass(2 * lingerMs);
    client.stream.resume();
    const { errno, data: bytes } = await client.reply();
    expect([errno, Buffer.compare(bytes, data)]).toEqual([0, 0]);
    await client.gone;
  });

  test('are waited for as long as any: a minute without one taken', async () => {
    const { served, client } = await behind();
    await using _ = served;
    client.ask({ type: DISC });
    await served.clock.pass(unreadMs - 2_000);
    expect(served.closed).toBe(0);
    await served.clock.pass(4_000);
    expect(served.closed).toBe(1);
    expect(served.named('nbd.replies-unread')).toHaveLength(1);
  });

  test('have left: a client that does not close is closed', async () => {
    await using served = await Served.start();
    const client = await served.client();
    client.ask({ type: DISC });
    await served.settle();
    client.stream.pause(); // it does not see the end
    await served.clock.pass(2 * lingerMs);
    expect(served.closed).toBe(1);
  });
});
