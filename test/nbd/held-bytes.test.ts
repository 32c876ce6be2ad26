import { describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import { requestBytes } from './client.ts';
import { Gate, Served } from './served.ts';

const CHUNK_BYTES = 256 * KiB;
/** As a stream of this machine: so many held chunks, and it reads no further. */
const CHUNKS_MAX = 9;
const payload = new Uint8Array(64 * MiB);

describe('of one client the server holds no more', () => {
  test('than nine chunks of what it writes to a device that takes nothing', async () => {
    const stuck = new Gate();
    await using served = await Served.start({
      ...{ sizeBytes: 64 * MiB, chunkBytes: CHUNK_BYTES, windowBytes: CHUNK_BYTES },
      before: ({ name }) => (name === 'write' ? stuck.wait() : undefined),
    });
    const client = await served.client();
    const wire = requestBytes({ type: CMD.WRITE, payload });
    for (let at = 0; at < wire.length; at += CHUNK_BYTES) {
      client.send(wire.subarray(at, at + CHUNK_BYTES));
    }
    await served.settle();
    const taken = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThanOrEqual(CHUNKS_MAX * CHUNK_BYTES);
    stuck.open();
    const reply = new DataView((await client.take(16)).buffer);
    expect(reply.getUint32(4)).toBe(0);
  });

  test.for([
    ['of 64 MiB', 64 * MiB, 4],
    ['of 4 KiB', 4 * KiB, 10_000],
  ] as const)(
    'than its slabs of answers to reads %s that it does not take',
    async ([, length, count]) => {
      await using served = await Served.start({ sizeBytes: 64 * MiB, windowBytes: 64 * KiB });
      const client = await served.client();
      client.ask({ type: CMD.WRITE, payload: new Uint8Array(MiB).fill(1) });
      await client.reply();
      served.calls.length = 0;
      client.stream.pause();
      for (let asked = 0; asked < count; asked += 1) client.ask({ type: CMD.READ, length });
      await served.turns(200);
      const read = served.calls.reduce((sum, { length: bytes }) => sum + bytes, 0);
      expect(read).toBeLessThanOrEqual(NBD_LIMITS.slabsMax * NBD_LIMITS.slabBytes + 64 * KiB);
      client.stream.destroy();
    },
  );
});
