import { expect, test } from 'vitest';
import { watchDeletion } from '../../src/cli/deletion-progress.ts';
import { Progress } from '../../src/cli/progress.ts';

/** A deletion of 1000 objects that is asked about every second. */
function world(answers: readonly unknown[]) {
  const asked: string[] = [];
  const written: string[] = [];
  const deletion = Promise.withResolvers<string>();
  let now = 0;
  const stream = {
    watched: true,
    columns: () => 80,
    write: (text: string) => void written.push(text),
  };
  const call = async (_method: string, path: string) => {
    const answer = answers[asked.push(path) - 1];
    if (answer === undefined) throw new Error('no answer');
    return answer as never;
  };
  const wait = async () => {
    if (asked.length === answers.length) deletion.resolve('deleted');
    now += 1000;
    // A turn later, so that what is settled is seen to be.
    await new Promise((settle) => setImmediate(settle));
  };
  const progress = (label: string, format?: (amount: number) => string) =>
    new Progress({ stream, nowMs: () => now, label, ...(format && { format }) });
  return { asked, written, deletion, collie: { call, progress }, wait };
}

const at = (done: number) => ({
  deleting: [
    { export: 'other', progress: { done: 1, total: 2 } },
    { export: 'demo@x', progress: { done, total: 1000 } },
  ],
});

test('a deletion that takes long shows how many objects are done', async () => {
  const it = world([{ deleting: [] }, at(0), undefined, at(600)]);
  expect(await watchDeletion(it.collie, 'demo@x', it.deletion.promise, it.wait)).toBe('deleted');
  expect(it.asked).toEqual(Array(4).fill('/v1/deletions'));
  expect(it.written.some((line) => line.includes('60 %  600 of 1000'))).toBe(true);
  expect(it.written.at(-1)).toMatch(/^removing the objects of demo@x: 1000 in \d s, \d+\/s\n$/);
});

test('a deletion that fails leaves an empty line for the error', async () => {
  const it = world([at(1), at(2)]);
  const refused = new Error('the disk is broken');
  const watching = watchDeletion(it.collie, 'demo@x', it.deletion.promise, async () => {
    await it.wait();
    if (it.asked.length === 1) it.deletion.reject(refused);
  });
  await expect(watching).rejects.toBe(refused);
  expect(it.written.at(-1) ?? '\r\u001b[K').toBe('\r\u001b[K');
});
