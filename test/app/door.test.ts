import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { memoryBytes, resetPeak } from '../../bench/process-stats.ts';
import { requestHeader, Strangers } from '../../bench/strangers.ts';
import { hasTool } from '../../scripts/tools.ts';
import { MiB } from '../../src/base/units.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openClientTls } from '../../src/host/node-tls-client.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { scratch } from '../cluster/scratch.ts';
import { TestClient } from '../nbd/client.ts';
import { Authority } from '../tls/authority.ts';
import { Daemon, SHEEP } from './daemon.ts';

const REQUEST_BYTES = 64 * MiB;
const payload = Buffer.alloc(REQUEST_BYTES, 1);

/** A daemon with a VDI `door`, and a client of it that means well. */
async function world({ filesMax, options = [] }: { filesMax?: number; options?: string[] } = {}) {
  await using owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const args = [`${path}/store`, '-n', '127.0.0.1:0', '--admin', `unix:${path}/admin`];
  args.push(...options);
  const limited = ['-c', `ulimit -n ${filesMax} && exec "$0" "$@"`, SHEEP];
  const daemon = owned.use(
    filesMax === undefined
      ? await Daemon.start([...args, '--vdi', 'door:1G'])
      : await Daemon.start([...limited, ...args, '--vdi', 'door:1G'], { command: '/bin/sh' }),
  );
  const [host = '', port] = daemon.nbd.split(':');
  const good = await TestClient.connect(await openNodeNet(), daemon.nbd);
  owned.defer(() => good.stream.destroy());
  await good.go('door');
  const strangers = owned.use(new Strangers());
  const pid = daemon.child.pid ?? 0;
  const held = owned.move();
  return {
    ...{ daemon, good, strangers, pid, place: { host, port: Number(port) } },
    /** Resident memory at its highest during `story`, above what it was before. */
    more: async (story: () => Promise<unknown>) => {
      resetPeak(pid);
      const before = memoryBytes(pid, 'VmRSS');
      await story();
      return memoryBytes(pid, 'VmHWM') - before;
    },
    serves: async () => expect(await good.read(0, 4096)).toHaveLength(4096),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

describe('what strangers cost', () => {
  test('a thousand half-open and a thousand idle connections: under 100 MB', async () => {
    await using it = await world();
    const more = await it.more(async () => {
      await it.strangers.idle(it.place, 'door', 1_000);
      await it.strangers.halfOpen(it.place, 1_000);
      expect(it.strangers.open).toBe(2_000);
      await it.serves();
    });
    expect(more).toBeLessThan(100e6);
  });

  test('a thousand idle clients that wrote much before: under 100 MB', async () => {
    await using it = await world();
    const more = await it.more(async () => {
      await it.strangers.idle(it.place, 'door', 1_000, MiB / 2);
      await it.serves();
    });
    expect(more).toBeLessThan(100e6);
  });

  test('a thousand that stop in the middle of an option of 1 MiB: under 100 MB', async () => {
    await using it = await world();
    const more = await it.more(async () => {
      await it.strangers.halfOpen(it.place, 1_000, 'most of an option', 'once');
      await it.serves();
    });
    expect(more).toBeLessThan(100e6);
  });

  test.skipIf(!hasTool('openssl'))(
    'a thousand that begin with TLS and do not go on: under 85 MB, and another comes in meanwhile',
    async () => {
      using authority = new Authority();
      const certs = authority.directory('guest');
      await using it = await world({ options: ['--tls-certs', certs] });
      const tls = await openClientTls({ certs });
      const more = await it.more(async () => {
        await it.strangers.halfOpen(it.place, 1_000, 'TLS has begun', 'once');
        const client = await connectNbd(await openNodeNet(), it.daemon.nbd, 'door', { tls });
        await client.read(0, new Uint8Array(4096));
        await client[Symbol.asyncDispose]();
        await it.serves();
      });
      expect(more).toBeLessThan(85e6);
    },
  );

  test.for<[what: string, next: () => Buffer]>([
    ['writes', () => Buffer.concat([requestHeader(CMD.WRITE, 0, REQUEST_BYTES), payload])],
    ['reads', () => requestHeader(CMD.READ, 0, REQUEST_BYTES)],
  ])('a client that sends %s of 64 MiB and reads no reply: at most 128 MiB', async ([, next]) => {
    await using it = await world();
    let sent = 0;
    const more = await it.more(async () => {
      sent = await it.strangers.deaf(it.place, 'door', 2, next);
      await it.serves();
    });
    expect(sent).toBeGreaterThan(next().length);
    expect(more).toBeLessThanOrEqual(128 * MiB);
  });
});

test('with few files to open, a flood of strangers leaves enough of them for the disks', async () => {
  await using it = await world({ filesMax: 600 });
  await it.strangers.halfOpen(it.place, 300);
  const writing = Array.from({ length: 50 }, (_, index) => ({
    ...{ type: CMD.WRITE, offset: index * 4 * MiB, payload: new Uint8Array(4096).fill(1) },
  }));
  for (const request of writing) expect(await it.good.request(request)).toMatchObject({ errno: 0 });
  const files = await readdir(`/proc/${it.pid}/fd`);
  expect(files.length).toBeLessThan(600);
  const events = it.daemon.log.map(({ event }) => event);
  expect(events).toContain('nbd.handshakes-full');
  expect(events).not.toContain('nbd.accept-failed');
  await it.serves();
});

test('with too few files to open it does not start, and says what to raise', async () => {
  const { path, ...directory } = await scratch();
  await using _ = directory;
  const args = [
    '-c',
    'ulimit -n 300 && exec "$0" "$@"',
    SHEEP,
    `${path}/store`,
    '-n',
    '127.0.0.1:0',
  ];
  const started = Daemon.start(args, { command: '/bin/sh' });
  await expect(started).rejects.toThrow(
    /may have 300 files open, and needs 512; raise 'ulimit -n'/,
  );
});
