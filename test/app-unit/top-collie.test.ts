import { describe, expect, test } from 'vitest';
import { scratch } from '../cluster/scratch.ts';
import { collie, startTestSheep } from './test-sheep.ts';

describe('collie top', () => {
  test('prints as many samples as it is told to, for people and for programs', async () => {
    await using directory = await scratch();
    await using sheep = await startTestSheep(directory.path, { vdis: ['demo:64M'] });
    const people = await collie(['-a', sheep.socket, 'top', '--count', '2']);
    expect(people).toMatchObject({ status: 0, err: '' });
    expect(people.out.match(/^sheep up /gm)).toHaveLength(2);
    const program = await collie(['-a', sheep.socket, '--json', 'top', '--count', '3']);
    const samples = program.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(samples).toHaveLength(3);
    expect(samples[0]).toMatchObject({ exports: [], clients: [], openObjects: expect.any(Number) });
  });

  test('refuses an interval or a count that cannot be', async () => {
    for (const wrong of [
      ['--interval', '0'],
      ['--interval', 'x'],
      ['--count', '0'],
      ['--count', '1.5'],
    ]) {
      expect(await collie(['top', ...wrong])).toMatchObject({ status: 2 });
    }
  });

  test('ends with a sentence when the sheep goes', async () => {
    await using directory = await scratch();
    const sheep = await startTestSheep(directory.path);
    let stopping: PromiseLike<void> | undefined;
    const { status, err } = await collie(['-a', sheep.socket, 'top'], {}, () => {
      stopping ??= sheep[Symbol.asyncDispose]();
    });
    await stopping;
    expect(status).toBe(1);
    expect(err).toMatch(
      /^collie: (?:no sheep answers at|no answer from|the sheep at .* is stopping)/,
    );
  });
});
