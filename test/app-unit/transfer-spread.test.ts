import { expect, test } from 'vitest';
import { spread } from '../../src/app/transfer/spread.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { NbdClient } from '../../src/nbd/client/connect.ts';
import { MemoryDevice } from './memory-device.ts';

const B = BLOCK_BYTES;

/** Connections to one disk; each knows what it was asked, whether it is closed, and when it is lost. */
function connections(count: number) {
  const bytes = new Uint8Array(8 * B);
  return Array.from({ length: count }, () => {
    const device = new MemoryDevice(8 * B, bytes);
    const lost = new AbortController();
    const state = { closed: false };
    const client = Object.assign(device, {
      describe: device.describe.bind(device),
      blocks: { minimumBytes: 1, preferredBytes: B, payloadMaxBytes: 32 * B },
      multiConn: true,
      lost: lost.signal,
      [Symbol.asyncDispose]: async () => {
        state.closed = true;
      },
    });
    return { client, lost, state };
  });
}

function spreadOver(all: readonly { readonly client: NbdClient }[]) {
  const [first, ...others] = all;
  if (first === undefined) throw new Error('one connection at least');
  return spread(
    first.client,
    others.map(({ client }) => client),
  );
}

test('data goes over each connection in turn, and one flush covers all of it', async () => {
  const all = connections(3);
  const device = spreadOver(all);
  for (let block = 0; block < 6; block += 1) {
    await device.write(block * B, new Uint8Array(B).fill(block), { durable: false });
  }
  await device.flush();
  const asked = all.map(({ client }) => client.asked.map(({ name }) => name));
  expect(asked.toSorted()).toEqual([
    ['write', 'write'],
    ['write', 'write'],
    ['write', 'write', 'flush'],
  ]);
  const read = new Uint8Array(B);
  await device.read(5 * B, read);
  expect(read[0]).toBe(5);
});

test('it is lost with any of its connections, and closed with all of them', async () => {
  const all = connections(3);
  const device = spreadOver(all);
  expect(device.lost.aborted).toBe(false);
  const reason = new Error('gone');
  all[2]?.lost.abort(reason);
  expect(device.lost.reason).toBe(reason);
  await device[Symbol.asyncDispose]();
  expect(all.map(({ state }) => state.closed)).toEqual([true, true, true]);
});
