import { describe, expect, test } from 'vitest';
import { AssertionFailure } from '../../src/base/assert.ts';
import { type FaultCode, SheepError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { CMD, CMD_FLAG, ERRNO } from '../../src/nbd/constants.ts';
import { FORMS } from './client.ts';
import type { DeviceCall } from './file-device.ts';
import { Gate, pattern, Served } from './served.ts';

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;
const { NO_HOLE, REQ_ONE, FAST_ZERO } = CMD_FLAG;

describe.for(FORMS)('with %s replies', (form) => {
  const structured = form !== 'simple';

  test('doc/proto.md, "NBD_CMD_READ": data is what was written', async () => {
    await using served = await Served.start();
    const client = await served.client({ form });
    const bytes = pattern(10_000);
    const written = await client.request({ type: WRITE, offset: 777, payload: bytes, cookie: 1n });
    expect(written).toMatchObject({ errno: 0, cookie: 1n });
    const reply = await client.request({ type: READ, offset: 777, length: 10_000, cookie: 2n });
    expect(reply).toMatchObject({ errno: 0, cookie: 2n, structured });
    expect(reply.data).toEqual(bytes);
  });

  test('doc/proto.md, "Error values": a READ that fails sends no data', async () => {
    await using served = await Served.start({
      before: ({ name }) => {
        if (name === 'read') throw new SheepError('ERR_CORRUPT', 'block 7 of /secret/path');
      },
    });
    const client = await served.client({ form });
    const reply = await client.request({ type: READ, length: 4096, cookie: 3n });
    expect(reply).toMatchObject({ errno: ERRNO.EIO, cookie: 3n, structured });
    expect(reply.text).toBe(structured ? 'stored data is damaged' : '');
    expect(served.named('nbd.request-failed')).toMatchObject([
      { command: 'READ', errno: 5, cause: 'block 7 of /secret/path' },
    ]);
    expect(await client.request({ type: FLUSH })).toMatchObject({ errno: 0 });
  });

  test('cookies come back as they were, all 64 bits', async () => {
    await using served = await Served.start();
    const client = await served.client({ form });
    for (const cookie of [0n, 2n ** 64n - 1n, 2n ** 63n, 0x8000_0000n, 0x0123_4567_89ab_cdefn]) {
      expect((await client.request({ type: READ, length: 1, cookie })).cookie).toBe(cookie);
      expect((await client.request({ type: FLUSH, cookie })).cookie).toBe(cookie);
      expect((await client.request({ type: 99, cookie })).cookie).toBe(cookie);
    }
  });
});

describe('commands without data', () => {
  test('doc/proto.md, "NBD_CMD_WRITE_ZEROES": reads back as zero; flags reach the device', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    await client.request({ type: WRITE, payload: pattern(32_768) });
    await client.request({ type: WRITE_ZEROES, offset: 4096, length: 8192 });
    expect((await client.read(4096, 8192)).every((byte) => byte === 0)).toBe(true);
    const holes = await client.request({ type: BLOCK_STATUS, length: 16_384 });
    expect(holes.status).toEqual([1, 4096, 0, 8192, 3, 4096, 0]);
    await client.request({ type: WRITE_ZEROES, flags: NO_HOLE, offset: 4096, length: 8192 });
    const kept = await client.request({ type: BLOCK_STATUS, length: 16_384 });
    expect(kept.status).toEqual([1, 16_384, 0]);
  });

  test('doc/proto.md, "NBD_CMD_FLAG_FAST_ZERO": done, or ENOTSUP and nothing changed', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const bytes = pattern(8192);
    await client.request({ type: WRITE, payload: bytes });
    const slow = { type: WRITE_ZEROES, flags: FAST_ZERO, offset: 100, length: 200 };
    expect(await client.request(slow)).toMatchObject({ errno: ERRNO.ENOTSUP });
    expect(await client.read(0, 8192)).toEqual(bytes);
    const fast = { type: WRITE_ZEROES, flags: FAST_ZERO | NO_HOLE, offset: 4096, length: 4096 };
    expect(await client.request(fast)).toMatchObject({ errno: 0 });
    expect((await client.read(4096, 4096)).every((byte) => byte === 0)).toBe(true);
  });

  test('doc/proto.md, "NBD_CMD_TRIM": whole blocks are gone, parts of blocks stay', async () => {
    await using served = await Served.start();
    const client = await served.client();
    const bytes = pattern(16_384);
    await client.request({ type: WRITE, payload: bytes });
    expect(await client.request({ type: TRIM, offset: 1, length: 12_000 })).toMatchObject({
      errno: 0,
    });
    expect(await client.read(0, 16_384)).toEqual(bytes.fill(0, 4096, 8192));
  });

  test('doc/proto.md, "NBD_CMD_CACHE": a hint to the device', async () => {
    await using served = await Served.start();
    const client = await served.client();
    expect(await client.request({ type: CACHE, offset: 5, length: 9 })).toMatchObject({ errno: 0 });
    expect(served.calls).toEqual([{ name: 'prefetch', at: 5, length: 9 }]);
  });

  test('doc/proto.md, "NBD_CMD_BLOCK_STATUS": extents from the offset on, one with REQ_ONE', async () => {
    await using served = await Served.start();
    const client = await served.client({ meta: true });
    await client.request({ type: WRITE, offset: 8192, payload: pattern(4096) });
    const whole = await client.request({ type: BLOCK_STATUS, length: MiB });
    expect(whole.status).toEqual([1, 8192, 3, 4096, 0, MiB - 12_288, 3]);
    const one = { type: BLOCK_STATUS, flags: REQ_ONE, offset: 4096, length: 5000 };
    expect((await client.request(one)).status).toEqual([1, 4096, 3]);
    const tail = { type: BLOCK_STATUS, flags: REQ_ONE, offset: 8193, length: 2 };
    expect((await client.request(tail)).status).toEqual([1, 2, 0]);
  });

  test('extents that wait, or fail, are answered as well', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      before: ({ name }) => (name === 'extents' ? gate.wait() : undefined),
    });
    const client = await served.client({ meta: true });
    const first = client.request({ type: BLOCK_STATUS, length: 4096 });
    await served.settle();
    gate.fail(new SheepError('ERR_IO', 'broken'));
    expect(await first).toMatchObject({ errno: ERRNO.EIO });
  });

  test('a list of extents is cut at a bound; the client asks on', async () => {
    await using served = await Served.start({ limits: { extentsMax: 4, contextsMax: 4 } });
    const client = await served.client({ meta: true });
    for (let block = 0; block < 20; block += 2) {
      await client.request({ type: WRITE, offset: block * 4096, payload: pattern(4096) });
    }
    const { status } = await client.request({ type: BLOCK_STATUS, length: MiB });
    expect(status).toEqual([1, 4096, 0, 4096, 3, 4096, 0, 4096, 3]);
  });
});

describe('doc/proto.md, "Error values": how faults of the device are told', () => {
  const failing = async (code: FaultCode, fields: { type: number; flags?: number }) => {
    await using served = await Served.start({
      before: (_: DeviceCall) => {
        throw new SheepError(code, 'why');
      },
    });
    const client = await served.client();
    const reply = await client.request({ ...fields, length: 4096 });
    return reply.errno;
  };

  test.for([
    ['ERR_IO', ERRNO.EIO],
    ['ERR_MISSING', ERRNO.EIO],
    ['ERR_NO_SPACE', ERRNO.ENOSPC],
    ['ERR_READ_ONLY', ERRNO.EPERM],
    ['ERR_LIMIT', ERRNO.ENOMEM],
    ['ERR_SHUTDOWN', ERRNO.ESHUTDOWN],
    ['ERR_UNSUPPORTED', ERRNO.EINVAL],
  ] as const)('%s', async ([code, errno]) => {
    expect(await failing(code, { type: TRIM })).toBe(errno);
  });

  test('ENOTSUP answers nothing but FAST_ZERO', async () => {
    const fast = { type: WRITE_ZEROES, flags: FAST_ZERO };
    expect(await failing('ERR_NOT_FAST', fast)).toBe(ERRNO.ENOTSUP);
    expect(await failing('ERR_NOT_FAST', { type: WRITE_ZEROES })).toBe(ERRNO.EINVAL);
    expect(await failing('ERR_NOT_FAST', { type: TRIM })).toBe(ERRNO.EINVAL);
  });

  test.for([
    ['ERR_IO', {}, 'error'],
    ['ERR_NO_SPACE', {}, 'error'],
    ['ERR_UNSUPPORTED', {}, 'warn'],
    ['ERR_READ_ONLY', {}, 'warn'],
    ['ERR_NOT_FAST', { flags: FAST_ZERO }, 'debug'],
  ] as const)('%s is logged for what it is', async ([code, flags, level]) => {
    await using served = await Served.start({
      before: () => {
        throw new SheepError(code, 'why');
      },
    });
    const client = await served.client();
    await client.request({ type: WRITE_ZEROES, length: 4096, ...flags });
    expect(served.log.filter(({ name }) => name === 'nbd.request-failed')).toMatchObject([
      { level },
    ]);
  });

  test('a failing device fills no log: one line for each command and number', async () => {
    await using served = await Served.start({
      before: () => {
        throw new SheepError('ERR_IO', 'why');
      },
    });
    const client = await served.client();
    for (let count = 0; count < 50; count += 1) {
      await client.request({ type: READ, length: 1 });
      await client.request({ type: TRIM, length: 1 });
    }
    expect(served.named('nbd.request-failed')).toHaveLength(2);
  });

  test('a broken belief is not swallowed', async () => {
    for (const later of [false, true]) {
      const broken = new AssertionFailure('two and two');
      await using served = await Served.start({
        before: () => {
          if (later) return Promise.reject(broken);
          throw broken;
        },
      });
      const client = await served.client({ meta: true });
      for (const type of [READ, TRIM, FLUSH, BLOCK_STATUS]) {
        client.ask({ type, length: type === FLUSH ? 0 : 8 });
      }
      client.ask({ type: WRITE, payload: Uint8Array.of(1) });
      await served.settle();
      expect(served.fatal).toEqual(Array(5).fill(broken));
    }
  });
});
