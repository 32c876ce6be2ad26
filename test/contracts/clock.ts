import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/contracts/seams.ts';

/** What any Clock must do. `live` runs a story in which time passes. */
export function clockContract(
  name: string,
  live: (story: (clock: Clock) => Promise<void>) => Promise<void>,
): void {
  describe(`${name} is a Clock`, () => {
    test('monotonic time never runs back', () =>
      live(async (clock) => {
        let newest = clock.monotonicMs();
        for (let step = 0; step < 100; step += 1) {
          if (step % 10 === 0) await clock.yield();
          const now = clock.monotonicMs();
          expect(now).toBeGreaterThanOrEqual(newest);
          newest = now;
        }
      }));

    test('a sleep lasts as long as it was asked to', () =>
      live(async (clock) => {
        for (const delayMs of [0, 1, 20]) {
          const begun = clock.monotonicMs();
          await clock.sleep(delayMs);
          // Timers count whole milliseconds.
          expect(clock.monotonicMs() - begun).toBeGreaterThan(delayMs - 1);
        }
      }));

    test('sleepers wake in the order of their times', () =>
      live(async (clock) => {
        const woken: number[] = [];
        const sleeper = async (delayMs: number) => {
          await clock.sleep(delayMs);
          woken.push(delayMs);
        };
        await Promise.all([60, 5, 30].map(sleeper));
        expect(woken).toEqual([5, 30, 60]);
      }));

    test('a sleep that is aborted rejects with the reason', () =>
      live(async (clock) => {
        const controller = new AbortController();
        const sleeping = clock.sleep(1_000_000, { signal: controller.signal });
        const reason = new Error('enough');
        controller.abort(reason);
        await expect(sleeping).rejects.toBe(reason);
        await expect(clock.sleep(0, { signal: controller.signal })).rejects.toBe(reason);
      }));

    test('a sleep of many days is not cut short', () =>
      live(async (clock) => {
        const controller = new AbortController();
        const reason = new Error('enough');
        const sleeping = clock.sleep(2 ** 33, { signal: controller.signal });
        const first = await Promise.race([sleeping, clock.sleep(20).then(() => 'the short one')]);
        expect(first).toBe('the short one');
        controller.abort(reason);
        await expect(sleeping).rejects.toBe(reason);
      }));

    test('a sleep that has ended does not hear of an abort', () =>
      live(async (clock) => {
        const controller = new AbortController();
        await clock.sleep(1, { signal: controller.signal });
        controller.abort(new Error('too late'));
      }));

    test('those who yield take turns', () =>
      live(async (clock) => {
        const turns: string[] = [];
        const worker = async (worker: string) => {
          for (let turn = 0; turn < 3; turn += 1) {
            turns.push(worker);
            await clock.yield();
          }
        };
        await Promise.all([worker('a'), worker('b')]);
        expect(turns.join('')).toBe('ababab');
      }));

    test('a yield is longer than any chain of promises', () =>
      live(async (clock) => {
        let links = 0;
        const chain = (async () => {
          for (; links < 1000; links += 1) await Promise.resolve();
        })();
        await clock.yield();
        expect(links).toBe(1000);
        await chain;
      }));

    test('wall time is a date of our days', () =>
      live(async (clock) => {
        expect(new Date(clock.wallMs()).getUTCFullYear()).toBeGreaterThanOrEqual(2025);
      }));
  });
}
