import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { CMD, ERRNO } from '../../src/nbd/constants.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import { Gate, Served, type ServedOptions } from './served.ts';

const { CACHE } = CMD;
const { prefetchMaxBytes, prefetchStepBytes } = NBD_LIMITS;
const STEPS = prefetchMaxBytes / prefetchStepBytes;

/** A server whose device says when a prefetch goes on. */
const gated = (before: ServedOptions['before']) =>
  Served.start({ sizeBytes: 128 * MiB, ...(before && { before }) });

describe('CACHE', () => {
  test('is followed one at a time; what comes meanwhile is answered at once', async () => {
    const gate = new Gate();
    await using served = await gated(() => gate.wait());
    const client = await served.client();
    for (let cookie = 0n; cookie < 100n; cookie += 1n) {
      client.ask({ type: CACHE, cookie, length: 64 * MiB });
    }
    for (let cookie = 1n; cookie < 100n; cookie += 1n) {
      expect(await client.reply()).toMatchObject({ cookie, errno: 0 });
    }
    expect(served.calls).toHaveLength(1);
    expect(served.server.connections()).toMatchObject([{ inFlight: 1 }]);
    gate.open();
    expect(await client.reply()).toMatchObject({ cookie: 0n, errno: 0 });
    expect(await client.request({ type: CACHE, length: 4096 })).toMatchObject({ errno: 0 });
    expect(served.calls.at(-1)).toEqual({ name: 'prefetch', at: 0, length: 4096 });
    expect(served.calls).toHaveLength(STEPS + 1);
  });

  test('goes step by step to its limit, and a turn passes in between', async () => {
    await using served = await gated(() => undefined);
    const client = await served.client();
    client.ask({ type: CACHE, offset: 5, length: 100 * MiB });
    let most = 0;
    for (let before = 0; before < STEPS; before = served.calls.length) {
      await served.turns(1);
      most = Math.max(most, served.calls.length - before);
    }
    expect(most).toBe(1);
    expect(await client.reply()).toMatchObject({ errno: 0 });
    expect(served.calls).toEqual(
      Array.from({ length: STEPS }, (_, step) => ({
        name: 'prefetch',
        at: 5 + step * prefetchStepBytes,
        length: prefetchStepBytes,
      })),
    );
  });

  test('that fails is told, and the next one is followed', async () => {
    let failures = 1;
    await using served = await gated(() => {
      if (failures-- > 0) throw new SheepError('ERR_IO', 'no');
    });
    const client = await served.client();
    const reply = await client.request({ type: CACHE, length: 64 * MiB });
    expect(reply).toMatchObject({ errno: ERRNO.EIO });
    expect(await client.request({ type: CACHE, length: 1 })).toMatchObject({ errno: 0 });
    expect(served.calls).toHaveLength(2);
  });

  test('ends with the connection', async () => {
    const gate = new Gate();
    await using served = await gated(() => gate.wait());
    const client = await served.client();
    client.ask({ type: CACHE, length: 64 * MiB });
    await served.until(() => served.calls.length === 1);
    client.stream.destroy();
    await served.settle();
    expect(served.closed).toBe(0);
    gate.open();
    await served.until(() => served.closed === 1);
    expect(served.calls).toHaveLength(1);
  });
});
