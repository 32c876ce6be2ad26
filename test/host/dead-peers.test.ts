import { execFile, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import koffi from 'koffi';
import { describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import type { NodeStream } from '../../src/host/node-stream.ts';

const [IPPROTO_TCP, TCP_KEEPIDLE, TCP_USER_TIMEOUT] = [6, 4, 18] as const;

test('the kernel is told when a peer that says nothing is dead', async () => {
  const getsockopt = koffi
    .load(null)
    .func('int getsockopt(int fd, int level, int option, int32_t *value, uint32_t *length)');
  const net = await openNodeNet();
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const { port } = server.address() as { port: number };
  const stream = (await net.dial(`127.0.0.1:${port}`)) as NodeStream;
  stream.start({ received: () => undefined, ended: () => undefined, closed: () => undefined });
  const { fd } = (stream.giveUp() as unknown as { _handle: { fd: number } })._handle;
  const read = (option: number) => {
    const value = new Int32Array(1);
    expect(getsockopt(fd, IPPROTO_TCP, option, value, Uint32Array.of(4))).toBe(0);
    return value[0];
  };
  expect([read(TCP_KEEPIDLE), read(TCP_USER_TIMEOUT)]).toEqual([30, 60_000]);
  stream.destroy();
  server.close();
});

/** Only root makes networks, and not everywhere. */
const makesNetworks =
  process.getuid?.() === 0 &&
  hasTool('ip') &&
  hasTool('unshare') &&
  spawnSync('unshare', ['-n', 'true']).status === 0;

describe.skipIf(!makesNetworks)('a client that vanishes without a word', () => {
  test.concurrent.for(['silent', 'sending'])('is noticed when it is %s', async (how) => {
    const script = fileURLToPath(new URL('vanishing-peer.ts', import.meta.url));
    const { stdout } = await promisify(execFile)('unshare', ['-n', process.execPath, script, how]);
    const [code, ms] = stdout.trim().split(' ');
    expect(code).toBe('ETIMEDOUT');
    // It asks for two seconds; without them the kernel tries for eleven, or for a quarter of an hour.
    expect(Number(ms)).toBeLessThan(8_000);
  });
});
