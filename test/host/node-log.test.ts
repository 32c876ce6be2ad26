import { openSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { LogLevel } from '../../src/base/log.ts';
import { openNodeLog } from '../../src/host/node-log.ts';
import { scratch } from '../cluster/scratch.ts';

async function written(level: LogLevel, readable: boolean): Promise<string[]> {
  await using directory = await scratch();
  const path = `${directory.path}/log`;
  const fd = openSync(path, 'w');
  const log = openNodeLog(fd, level, readable);
  log.event('debug', 'a.detail', { at: 1 });
  log.event('info', 'farm.opened', { directory: '/srv/my store', bytes: 2n ** 60n, clean: true });
  log.event('error', 'farm.failed');
  log.event('warn', 'farm.last', { missing: undefined });
  await log.close();
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  return lines;
}

test('an event is a line of JSON with its name, its level, the time and its facts', async () => {
  const lines = (await written('info', false)).map((line) => JSON.parse(line));
  expect(lines).toMatchObject([
    {
      level: 'info',
      event: 'farm.opened',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      directory: '/srv/my store',
      bytes: '1152921504606846976',
      clean: true,
    },
    { level: 'error', event: 'farm.failed' },
    { level: 'warn', event: 'farm.last' },
  ]);
});

test('only what is as grave as the level, or graver, is written', async () => {
  const events = async (level: LogLevel) =>
    (await written(level, false)).map((line) => JSON.parse(line).event);
  expect(await events('debug')).toEqual(['a.detail', 'farm.opened', 'farm.failed', 'farm.last']);
  expect(await events('warn')).toEqual(['farm.failed', 'farm.last']);
  expect(await events('error')).toEqual(['farm.failed']);
});

test('for people a line is short, and shows where a value ends', async () => {
  const [opened, failed] = await written('info', true);
  expect(opened).toMatch(
    /^[\d:.]{12} info {2}farm\.opened directory="\/srv\/my store" bytes=1152921504606846976 clean=true$/,
  );
  expect(failed).toMatch(/^[\d:.]{12} error farm\.failed$/);
});

test('what is told just before the end is there', async () => {
  await using directory = await scratch();
  const path = `${directory.path}/log`;
  const log = openNodeLog(openSync(path, 'w'), 'info', false);
  log.event('error', 'sheep.fatal');
  log.flushNow();
  expect(readFileSync(path, 'utf8')).toContain('"event":"sheep.fatal"');
  await log.close();
});

test('a log that cannot be written any more stops nothing, and nothing waits for it', async () => {
  const log = openNodeLog(openSync('/dev/full', 'w'), 'info', true);
  log.event('info', 'sheep.ready');
  await log.close();
  log.event('info', 'sheep.stopped');
  log.flushNow();
  await log.close();
});
