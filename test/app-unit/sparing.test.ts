import { expect, test } from 'vitest';
import { sparing } from '../../src/app/backup/sparing.ts';
import { SheepError } from '../../src/base/errors.ts';
import { BLOCK_BYTES as B } from '../../src/base/units.ts';
import { MemoryDevice } from './memory-device.ts';

const PLAIN = { durable: false };

/** Blocks 0 to 3 and 8 are of 1, the others are holes. */
const disk = () => new MemoryDevice(16 * B).fill(0, 4, 1).fill(8, 9, 1);
/** Eight blocks: as it is, changed, zeroes, as it is, new twice, zeroes that are there, new. */
const slice = () =>
  new MemoryDevice(8 * B).fill(0, 4, 1).fill(1, 2, 5).punch(2, 3).fill(4, 6, 6).fill(7, 8, 7).bytes;
const asked = (device: MemoryDevice) =>
  device.asked
    .filter(({ name }) => name !== 'read')
    .map(({ name, at, length }) => `${name} ${at / B} ${length / B}`);

test('only blocks that are not there are written, and zeroes become holes', async () => {
  const device = disk();
  await sparing(device, false).write(0, slice(), PLAIN);
  expect(asked(device)).toEqual([...['write 1 1', 'writeZeroes 2 1', 'write 4 2', 'write 7 1']]);
  expect(Buffer.compare(device.bytes.subarray(0, 8 * B), slice())).toBe(0);
  expect(device.written.slice(0, 9)).toEqual([
    ...[true, true, false, true, true, true, false, true, true],
  ]);
});

test('a disk of zeroes is not read, and takes what is not zeroes', async () => {
  const device = new MemoryDevice(16 * B);
  await sparing(device, true).write(8 * B, slice(), PLAIN);
  expect(device.asked.map(({ name }) => name)).not.toContain('read');
  expect(asked(device)).toEqual(['write 8 2', 'write 11 3', 'write 15 1']);
  expect(Buffer.compare(device.bytes.subarray(8 * B), slice())).toBe(0);
});

test('where what is there cannot be read everything is written', async () => {
  const device = disk();
  device.before = ({ name }) => {
    if (name === 'read') throw new SheepError('ERR_CORRUPT', 'a checksum does not fit');
  };
  await sparing(device, false).write(0, slice(), PLAIN);
  expect(asked(device)).toEqual([
    ...['write 0 2', 'writeZeroes 2 1', 'write 3 3', 'writeZeroes 6 1', 'write 7 1'],
  ]);
  expect(Buffer.compare(device.bytes.subarray(0, 8 * B), slice())).toBe(0);
});

test('what fails otherwise is told', async () => {
  const device = disk();
  device.before = ({ name }) => {
    if (name === 'read') throw new SheepError('ERR_SHUTDOWN', 'stopping');
  };
  await expect(sparing(device, false).write(0, slice(), PLAIN)).rejects.toMatchObject({
    code: 'ERR_SHUTDOWN',
  });
  expect(asked(device)).toEqual([]);
});
