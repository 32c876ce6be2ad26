import { expect, test } from 'vitest';
import { allSettled, forEachAtMost } from '../../src/base/parallel.ts';
import { turn } from './turn.ts';

test('no more than so many are worked on at once, and all of them are', async () => {
  let inside = 0;
  let most = 0;
  const done: number[] = [];
  await forEachAtMost(3, [1, 2, 3, 4, 5, 6, 7], async (item) => {
    inside += 1;
    most = Math.max(most, inside);
    await turn();
    inside -= 1;
    done.push(item);
  });
  expect(most).toBe(3);
  expect(done.sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

test('the first failure is told once everything that began has ended', async () => {
  const ended: number[] = [];
  const working = forEachAtMost(2, [1, 2, 3, 4], async (item) => {
    await turn();
    if (item === 1) throw new Error('the first');
    ended.push(item);
  });
  await expect(working).rejects.toThrow('the first');
  expect(ended).toEqual([2, 3, 4]);
});

test('of settled promises the first failure is told, after all of them', async () => {
  const ended: string[] = [];
  const slow = turn().then(() => void ended.push('slow'));
  const failing = [slow, Promise.reject(new Error('one')), Promise.reject(new Error('two'))];
  await expect(allSettled(failing)).rejects.toThrow('one');
  expect(ended).toEqual(['slow']);
  await allSettled([]);
});
