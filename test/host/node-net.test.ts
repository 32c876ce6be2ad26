import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../src/contracts/net.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { adoptionWorks } from '../../src/host/receive-buffer.ts';
import { type NetWorld, netContract } from '../contracts/net.ts';

async function world(kind: 'tcp' | 'unix', fixedMemory: boolean): Promise<NetWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'sheepdog-net-'));
  let count = 0;
  return {
    net: await openNodeNet({ fixedMemory }),
    address: () => (kind === 'tcp' ? '127.0.0.1:0' : `unix:${join(folder, `${count++}.sock`)}`),
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true }),
  };
}

netContract('TCP', () => world('tcp', true));
netContract('TCP in memory of its own for each chunk', () => world('tcp', false));
netContract('a unix socket', () => world('unix', true));
netContract('a unix socket in memory of its own for each chunk', () => world('unix', false));

test('this Node can receive accepted connections in fixed memory', async () => {
  expect(await adoptionWorks()).toBe(true);
});

describe('receive memory', () => {
  const KiB = 1024;
  /** Connections whose chunks are told by the size of the memory that they lie in. */
  async function receiving(count: number) {
    const net = await openNodeNet();
    const rooms: number[][] = [];
    let received = 0;
    let heard = Promise.withResolvers<void>();
    const listener = await net.listen('127.0.0.1:0', (stream) => {
      const mine: number[] = [];
      rooms.push(mine);
      stream.start({
        received: (chunk) => {
          mine.push(chunk.buffer.byteLength);
          received += chunk.length;
          heard.resolve();
        },
        ended: () => stream.end(),
        closed: () => undefined,
      });
    });
    const streams: ByteStream[] = [];
    for (let number = 0; number < count; number += 1) {
      const stream = await net.dial(listener.address);
      stream.start({ received: () => undefined, ended: () => undefined, closed: () => undefined });
      streams.push(stream);
    }
    return {
      rooms,
      send: async (stream: ByteStream | undefined, bytes: number) => {
        const until = received + bytes;
        stream?.write(new Uint8Array(bytes));
        while (received < until) {
          await heard.promise;
          heard = Promise.withResolvers();
        }
      },
      streams,
      [Symbol.asyncDispose]: async () => {
        for (const stream of streams) stream.destroy();
        await listener[Symbol.asyncDispose]();
      },
    };
  }

  test('is large while a client sends much, and small again once it sends little', async () => {
    await using it = await receiving(1);
    await it.send(it.streams[0], 100);
    await it.send(it.streams[0], 2000 * KiB);
    const [rooms = []] = it.rooms;
    for (let count = 0; count < 15; count += 1) await it.send(it.streams[0], 28);
    expect(rooms.at(-1)).toBe(256 * KiB);
    for (let count = 0; count < 5; count += 1) await it.send(it.streams[0], 28);
    expect([rooms[0], rooms.at(-1)]).toEqual([16 * KiB, 16 * KiB]);
  });

  test('is shared: of 200 clients that send much at most 128 have a large one', async () => {
    await using it = await receiving(200);
    const withLarge = () => it.rooms.map((rooms) => rooms.lastIndexOf(256 * KiB) >= 0);
    const much = async (stream: ByteStream | undefined) => {
      await it.send(stream, 16 * KiB);
      await it.send(stream, 100 * KiB);
    };
    for (const stream of it.streams) await much(stream);
    expect(withLarge().filter(Boolean).length).toBeLessThanOrEqual(128);
    expect(withLarge().at(-1)).toBe(false);
    // Where most are in use, one that sends little gives its own back at once.
    for (const stream of it.streams) await it.send(stream, 28);
    await much(it.streams.at(-1));
    expect(withLarge().at(-1)).toBe(true);
  });
});

describe('unix sockets', () => {
  const inFolder = async (story: (path: string) => Promise<void>) => {
    const folder = mkdtempSync(join(tmpdir(), 'sheepdog-net-'));
    try {
      await story(join(folder, 'socket'));
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  test('are made for their owner alone unless told otherwise', () =>
    inFolder(async (path) => {
      const net = await openNodeNet();
      const umask = process.umask();
      await using _ = await net.listen(`unix:${path}`, () => undefined);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(process.umask()).toBe(umask);
    }));

  test('get the mode and the group that were asked for', () =>
    inFolder(async (path) => {
      const net = await openNodeNet();
      const gid = process.getgid?.() ?? 0;
      const name = execFileSync('id', ['-gn'], { encoding: 'utf8' }).trim();
      const options = { unixMode: 0o660, unixGroup: name };
      await using _ = await net.listen(`unix:${path}`, () => undefined, options);
      expect(statSync(path).mode & 0o777).toBe(0o660);
      expect(statSync(path).gid).toBe(gid);
    }));

  test('of a group that does not exist are refused before anything is made', () =>
    inFolder(async (path) => {
      const net = await openNodeNet();
      const listening = net.listen(`unix:${path}`, () => undefined, { unixGroup: 'no-such-group' });
      await expect(listening).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
      expect(() => statSync(path)).toThrow('ENOENT');
    }));

  test('that nobody listens on any more are replaced', () =>
    inFolder(async (path) => {
      // A process that is killed leaves its socket behind.
      const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
      expect(() => execFileSync(process.execPath, ['-e', script])).toThrow();
      expect(statSync(path).isSocket()).toBe(true);
      const net = await openNodeNet();
      const listener = await net.listen(`unix:${path}`, (stream) => stream.destroy());
      (await net.dial(`unix:${path}`)).destroy();
      await listener[Symbol.asyncDispose]();
    }));

  test('are never put in the place of a file', () =>
    inFolder(async (path) => {
      writeFileSync(path, 'precious');
      const net = await openNodeNet();
      const listening = net.listen(`unix:${path}`, () => undefined);
      await expect(listening).rejects.toMatchObject({ code: 'ERR_BUSY' });
      expect(statSync(path).size).toBe(8);
    }));
});

test('a port that another program has is named in the refusal', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((done) => other.once('listening', done));
  const address = `127.0.0.1:${(other.address() as { port: number }).port}`;
  const net = await openNodeNet();
  const listening = net.listen(address, () => undefined);
  await expect(listening).rejects.toThrow(`somebody listens on ${address} already`);
  other.close();
});

test('nobody there is told by address', async () => {
  const net = await openNodeNet();
  const listener = await net.listen('127.0.0.1:0', () => undefined);
  await listener[Symbol.asyncDispose]();
  await expect(net.dial(listener.address)).rejects.toThrow(`nobody answers at ${listener.address}`);
});

test('IPv6 addresses are told in brackets', async () => {
  const net = await openNodeNet();
  await using listener = await net.listen('[::1]:0', (stream) => stream.destroy());
  expect(listener.address).toMatch(/^\[::1\]:\d+$/);
  (await net.dial(listener.address)).destroy();
});
