import { expect, test } from 'vitest';
import { FlushBehind } from '../../src/app/backup/flush-behind.ts';
import { BLOCK_BYTES as B } from '../../src/base/units.ts';
import { MemoryDevice } from './memory-device.ts';

const PLAIN = { durable: false };
const BLOCK = new Uint8Array(B).fill(1);

/** A disk that is flushed after four blocks, and tells when a flush may go on. */
function world() {
  const device = new MemoryDevice(64 * B);
  const flushes: PromiseWithResolvers<void>[] = [];
  device.before = ({ name }) => {
    if (name !== 'flush') return;
    const flush = Promise.withResolvers<void>();
    flushes.push(flush);
    return flush.promise;
  };
  const behind = new FlushBehind(device, 4 * B);
  const write = async (from: number, to: number) => {
    for (let block = from; block < to; block += 1) await behind.write(block * B, BLOCK, PLAIN);
  };
  return { device, flushes, behind, write };
}

test('A disk is flushed beside what is written to it, once at a time', async () => {
  const { device, flushes, write } = world();
  await write(0, 3);
  expect(flushes).toHaveLength(0);
  await write(3, 20);
  expect(flushes).toHaveLength(1);
  expect(device.written.slice(0, 20)).not.toContain(false);
  flushes[0]?.resolve();
  await new Promise((settle) => setImmediate(settle));
  await write(20, 21);
  expect(flushes).toHaveLength(2);
});

test('The last flush begins when the one before is over, and covers what was written since', async () => {
  const { flushes, behind, write } = world();
  await write(0, 6);
  let isStable = false;
  const last = behind.flush().then(() => {
    isStable = true;
  });
  await new Promise((settle) => setImmediate(settle));
  expect(flushes).toHaveLength(1);
  flushes[0]?.resolve();
  await new Promise((settle) => setImmediate(settle));
  expect(flushes).toHaveLength(2);
  expect(isStable).toBe(false);
  flushes[1]?.resolve();
  await last;
});

test('After a flush has failed nothing is written and no later flush says that all is well', async () => {
  const { device, flushes, behind, write } = world();
  await write(0, 4);
  flushes[0]?.reject(new Error('the medium is gone'));
  await new Promise((settle) => setImmediate(settle));
  await expect(write(4, 5)).rejects.toThrow('the medium is gone');
  expect(device.written[4]).toBe(false);
  device.before = () => undefined;
  await expect(behind.flush()).rejects.toThrow('the medium is gone');
});
