import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { scratch } from '../cluster/scratch.ts';
import { run, SHEEP } from './daemon.ts';

/** `sheep --check-config` of a file with this text, and flags beside it. */
async function check(text: string, ...flags: string[]) {
  const { path, ...directory } = await scratch();
  await using _ = directory;
  const file = `${path}/sheep.json`;
  await writeFile(file, text);
  const said = await run(SHEEP, ['--check-config', file, ...flags], { cwd: path });
  expect(existsSync(`${path}/sheepdog-data`)).toBe(false);
  return { ...said, err: said.err.replaceAll(file, 'FILE'), out: said.out.replace(file, 'FILE') };
}

describe('sheep --check-config', () => {
  test('says that a file can be used, and starts nothing', async () => {
    expect(await check('{"logLevel":"debug","vdis":["demo:8G"]}')).toEqual({
      ...{ status: 0, out: 'FILE can be used\n', err: '' },
    });
  });

  test.for<[string, RegExp, ...string[]]>([
    [
      '{"logLevel": "loud", "nbds": []}',
      /^sheep: logLevel in FILE: .*not "loud"\nsheep: .*nbds.*\n$/,
    ],
    ['{\n  "nbd": [\n}', /^sheep: FILE is not JSON \(Unexpected token '}'.*\)\n$/],
    ['{"vdis":["demo"]}', /^sheep: .*"demo" has no size; give NAME:SIZE/],
    ['{"nbd":["0.0.0.0:10809"]}', /^sheep: 0\.0\.0\.0:10809 can be reached from other machines/],
    ['{"tlsCerts":"/nowhere"}', /^sheep: .*\/nowhere/],
    ['{}', /^sheep: --log-level: .*not "loud"/, '--log-level', 'loud'],
    ['{"nbdMode":"660"}', /add --nbd unix:\/PATH/],
  ])('tells what is wrong with %j', async ([text, message, ...flags]) => {
    const said = await check(text, ...flags);
    expect(said).toMatchObject({ status: 2, out: '' });
    expect(said.err).toMatch(message);
  });

  test('is not a start: --config beside it is refused', async () => {
    const said = await check('{}', '--config', 'sheep.json');
    expect(said).toMatchObject({ status: 2, out: '' });
    expect(said.err).toMatch(
      /'--check-config <file>' cannot be used with option '--config <file>'/,
    );
  });
});
