import { expect, test } from 'vitest';
import { askedBefore } from '../../src/cli/collie-command.ts';

/** A sheep that numbers its answers and knows nothing of `/gone`. */
function world() {
  const asked: string[] = [];
  const call = async (method: string, path: string) => {
    const nth = asked.push(`${method} ${path}`);
    if (path === '/gone') throw new Error('it is gone');
    return nth as never;
  };
  return { asked, collie: { call } };
}

test('What is known to be needed is asked for at once, and only once', async () => {
  const { asked, collie } = world();
  const { call } = askedBefore(collie, ['/a', '/b']);
  expect(asked).toEqual(['GET /a', 'GET /b']);
  expect([await call('GET', '/b'), await call('GET', '/a')]).toEqual([2, 1]);
  expect(asked).toHaveLength(2);
});

test('Who asks again, or for something else, or changes something, asks the sheep', async () => {
  const { asked, collie } = world();
  const { call } = askedBefore(collie, ['/a']);
  expect(await call('POST', '/a')).toBe(2);
  expect(await call('GET', '/c')).toBe(3);
  expect(await call('GET', '/a')).toBe(1);
  expect(await call('GET', '/a')).toBe(4);
  expect(asked).toEqual(['GET /a', 'POST /a', 'GET /c', 'GET /a']);
});

test('A failure is of whoever asks, and of nobody if nobody does', async () => {
  const { collie } = world();
  askedBefore(collie, ['/gone']);
  const { call } = askedBefore(collie, ['/gone']);
  await new Promise((settle) => setImmediate(settle));
  await expect(call('GET', '/gone')).rejects.toThrow('it is gone');
});
