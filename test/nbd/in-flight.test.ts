import { describe, expect, test } from 'vitest';
import { GiB, KiB, MiB } from '../../src/base/units.ts';
import { CMD, ERRNO } from '../../src/nbd/constants.ts';
import { FORMS } from './client.ts';
import { Gate, Served } from './served.ts';

const { READ, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = CMD;

describe('requests that wait', () => {
  test('replies come in the order in which the device finishes', async () => {
    const gates = new Map<number, Gate>();
    await using served = await Served.start({
      before: ({ name, at }) => {
        if (name !== 'read' || at === 0) return undefined;
        gates.set(at, new Gate());
        return gates.get(at)?.wait();
      },
    });
    const client = await served.client();
    client.ask({ type: READ, offset: 4096, length: 8, cookie: 1n });
    client.ask({ type: CACHE, length: 8, cookie: 2n });
    expect(await client.reply()).toMatchObject({ cookie: 2n });
    gates.get(4096)?.open();
    expect(await client.reply()).toMatchObject({ cookie: 1n });
  });

  test('the device is called in the order in which requests arrived', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client({ meta: true });
    const order = [READ, WRITE_ZEROES, TRIM, FLUSH, CACHE, BLOCK_STATUS, READ];
    for (const [index, type] of order.entries()) {
      client.ask({ type, length: type === FLUSH ? 0 : 4096, cookie: BigInt(index) });
    }
    await served.settle();
    const names = ['read', 'writeZeroes', 'trim', 'flush', 'prefetch', 'extents', 'read'];
    expect(served.calls.map(({ name }) => name)).toEqual(names);
    gate.open();
    for (let left = order.length; left > 0; left -= 1) {
      expect(await client.reply()).toMatchObject({ errno: 0 });
    }
  });

  test('a client may have 1024 in flight; then it is read no further', async () => {
    const gate = new Gate();
    await using served = await Served.start({ before: () => gate.wait() });
    const client = await served.client();
    const one = { type: TRIM, length: 1 };
    for (let count = 0; count < 3000; count += 1) client.ask(one);
    await served.settle();
    expect(served.calls).toHaveLength(1024);
    expect(served.server.connections()).toMatchObject([{ inFlight: 1024 }]);
    gate.open();
    for (let count = 0; count < 3000; count += 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('small READs that wait share reply memory, also when each came by itself', async () => {
    const gate = new Gate();
    await using served = await Served.start({ chunkBytes: 28, before: () => gate.wait() });
    const client = await served.client();
    for (let index = 0; index < 200; index += 1) {
      client.ask({ type: READ, offset: index, length: 4096, cookie: BigInt(index) });
    }
    await served.settle();
    expect(served.calls).toHaveLength(200);
    gate.open();
    for (let left = 200; left > 0; left -= 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('reply memory is bounded however much is asked for', async () => {
    const gate = new Gate();
    await using served = await Served.start({
      sizeBytes: 64 * MiB,
      before: ({ name }) => (name === 'read' ? gate.wait() : undefined),
    });
    const client = await served.client();
    const all = { type: READ, offset: 0, length: 64 * MiB };
    client.ask(all, all, all);
    await served.settle();
    const bytes = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThanOrEqual(33 * 256 * KiB);
    gate.open();
  });

  test('so it is where replies cannot be cut', async () => {
    const gate = new Gate();
    await using served = await Served.start({ sizeBytes: 4 * MiB, before: () => gate.wait() });
    const client = await served.client({ form: 'simple' });
    for (let count = 0; count < 20; count += 1) client.ask({ type: READ, length: 2 * MiB });
    await served.settle();
    const bytes = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThanOrEqual(33 * 256 * KiB);
    gate.open();
    for (let left = 20; left > 0; left -= 1)
      expect(await client.reply()).toMatchObject({ errno: 0 });
  });

  test('a large READ whose client is gone is not read to its end', async () => {
    for (const form of FORMS) {
      const gate = new Gate();
      await using served = await Served.start({
        sizeBytes: 64 * MiB,
        before: ({ name }) => (name === 'read' ? gate.wait() : undefined),
      });
      const client = await served.client({ form });
      client.ask({ type: READ, length: 64 * MiB });
      await served.settle();
      const begun = served.calls.length;
      client.stream.destroy();
      await served.settle();
      gate.open();
      await served.until(() => served.closed === 1);
      expect(served.calls).toHaveLength(begun);
    }
  });

  test('a client that reads nothing is read no further', async () => {
    await using served = await Served.start({ sizeBytes: 64 * MiB });
    const client = await served.client({ form: 'simple' });
    client.stream.pause();
    for (let count = 0; count < 500; count += 1) client.ask({ type: READ, length: MiB });
    await served.settle();
    const bytes = served.calls.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThan(16 * MiB);
    client.stream.destroy();
  });

  test('the error of one does not touch the others', async () => {
    await using served = await Served.start({
      before: ({ name, at }) =>
        name === 'read' && at === 4096 ? Promise.reject(new Error('odd')) : Promise.resolve(),
    });
    const client = await served.client();
    for (const at of [0, 4096, 8192]) {
      client.ask({ type: READ, offset: at, length: 4096, cookie: BigInt(at) });
    }
    const errors = new Map<bigint, number>();
    for (let count = 0; count < 3; count += 1) {
      const { cookie, errno } = await client.reply();
      errors.set(cookie, errno);
    }
    expect(errors).toEqual(
      new Map([
        [0n, 0],
        [4096n, ERRNO.EIO],
        [8192n, 0],
      ]),
    );
  });
});

test('doc/proto.md, "NBD_CMD_DISC": everything in flight is answered, then the connection ends', async () => {
  const gate = new Gate();
  await using served = await Served.start({ before: () => gate.wait() });
  const client = await served.client();
  for (let index = 0; index < 64; index += 1) {
    client.ask({ type: READ, offset: index, length: 100, cookie: BigInt(index) });
  }
  client.ask({ type: DISC, flags: 0xffff, offset: 2n ** 64n - 1n, length: GiB });
  client.ask({ type: READ, length: 1, cookie: 99n });
  await served.settle();
  expect(served.closed).toBe(0);
  gate.open();
  for (let index = 0; index < 64; index += 1) {
    expect(await client.reply()).toMatchObject({ cookie: BigInt(index), errno: 0 });
  }
  expect(await client.rest()).toHaveLength(0);
  await served.settle();
  expect([served.opened, served.closed]).toEqual([1, 1]);
});
