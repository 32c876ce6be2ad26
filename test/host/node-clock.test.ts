import { expect, test, vi } from 'vitest';
import { nodeClock } from '../../src/host/node-clock.ts';
import { clockContract } from '../contracts/clock.ts';

clockContract('the clock of this machine', (story) => story(nodeClock()));

test('monotonic time that runs back is not believed', () => {
  const clock = nodeClock();
  using now = vi.spyOn(performance, 'now');
  now.mockReturnValueOnce(10).mockReturnValueOnce(10).mockReturnValueOnce(9.5);
  expect([clock.monotonicMs(), clock.monotonicMs()]).toEqual([10, 10]);
  expect(() => clock.monotonicMs()).toThrow('monotonic time does not run back');
});

test('an aborted sleep frees its timer', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const controller = new AbortController();
  const sleeping = nodeClock().sleep(1_000_000, { signal: controller.signal });
  expect(timers()).toBe(before + 1);
  controller.abort(new Error('enough'));
  await expect(sleeping).rejects.toThrow('enough');
  expect(timers()).toBe(before);
});
