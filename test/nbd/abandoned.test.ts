import { describe, expect, test } from 'vitest';
import { KiB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Call } from '../../src/contracts/call.ts';
import { CMD, CMD_FLAG, ERRNO } from '../../src/nbd/constants.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import type { RequestFields, TestClient } from './client.ts';
import { Served } from './served.ts';

const { TRIM, WRITE_ZEROES, BLOCK_STATUS, CACHE } = CMD;
const { goneMs } = NBD_LIMITS;

/** A disk on which these take for ever, step after step, unless they are told to stop. */
class Endless {
  /** Signals of the calls that are under way. */
  readonly under = new Set<AbortSignal>();
  steps = 0;

  readonly #work = async ({ signal }: Call = {}): Promise<never> => {
    if (signal === undefined) throw new Error('nothing would ever stop this');
    this.under.add(signal);
    try {
      for (;;) {
        signal.throwIfAborted();
        this.steps += 1;
        await new Promise(setImmediate);
      }
    } finally {
      this.under.delete(signal);
    }
  };

  over(device: BlockDevice): BlockDevice {
    const work = this.#work;
    return Object.assign(device, {
      trim: (_at: number, _length: number, call: Call) => work(call),
      writeZeroes: (_at: number, _length: number, call: Call) => work(call),
      extents: (_at: number, _length: number, _max: number, call?: Call) => work(call),
      describe: (_what: string, _at: number, _length: number, _max: number, call?: Call) =>
        work(call),
      prefetch: (_at: number, _length: number, call?: Call) => work(call),
    });
  }
}

const contexts = { 'test:written': () => 0 };

async function under(request: RequestFields): Promise<{
  served: Served;
  client: TestClient;
  endless: Endless;
}> {
  const endless = new Endless();
  const served = await Served.start({
    contexts,
    exports: (_, share) => ({ open: async () => endless.over(share()) }),
  });
  const client = await served.client({ meta: ['base:allocation', 'test:written'] });
  client.ask(request);
  await served.until(() => endless.steps > 3);
  return { served, client, endless };
}

const LONG: readonly (readonly [string, RequestFields])[] = [
  ['a zero that keeps its space', { type: WRITE_ZEROES, flags: CMD_FLAG.NO_HOLE }],
  ['a zero', { type: WRITE_ZEROES }],
  ['a trim', { type: TRIM }],
  ['a question what is where', { type: BLOCK_STATUS }],
  ['a prefetch', { type: CACHE }],
];
const whole = (request: RequestFields) => ({ ...request, offset: 0, length: 512 * KiB });

describe('what goes on in steps', () => {
  test.for(LONG)('%s: ends with its connection, and that is no error', async ([, request]) => {
    const { served, client, endless } = await under(whole(request));
    await using _ = served;
    client.stream.destroy();
    await served.until(() => served.closed === 1);
    expect(endless.under.size).toBe(0);
    expect(served.named('nbd.request-abandoned')).toHaveLength(1);
    expect(served.log.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([]);
    const [stats] = served.server.stats().exports;
    expect(stats?.commands.flatMap(({ errors }) => [...errors])).toEqual([]);
  });

  test.for(LONG)(
    '%s: is not given up at once for a client that ended its side alone, but in the end, and it is told',
    async ([, request]) => {
      const { served, client, endless } = await under(whole(request));
      await using _ = served;
      client.stream.end();
      await served.clock.pass(goneMs - 2_000);
      const { steps } = endless;
      await served.until(() => endless.steps > steps);
      await served.clock.pass(4_000);
      expect((await client.reply()).errno).toBe(ERRNO.EIO);
      await client.gone;
      await served.until(() => served.closed === 1);
      expect(endless.under.size).toBe(0);
    },
  );

  test('goes on as long as its client is there, however long that is', async () => {
    const { served, endless } = await under(whole({ type: WRITE_ZEROES }));
    await using _ = served;
    await served.clock.pass(10 * goneMs);
    const { steps } = endless;
    await served.until(() => endless.steps > steps);
    expect(endless.under.size).toBe(1);
  });

  test('of a drain that is cut short ends too', async () => {
    const { served, endless } = await under(whole({ type: WRITE_ZEROES }));
    await using _ = served;
    const drained = served.server.drain(1_000);
    await served.settle();
    await served.clock.pass(1_000);
    await drained;
    await served.until(() => endless.under.size === 0);
  });
});
