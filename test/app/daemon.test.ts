import { randomFillSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { findTool, hasTool } from '../../scripts/tools.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { scratch } from '../cluster/scratch.ts';
import { requestBytes, TestClient } from '../nbd/client.ts';
import { COLLIE, Daemon, ROOT, run, SHEEP, succeed } from './daemon.ts';

/** A store in a directory of its own, and daemons on it. */
async function world() {
  const directory = await scratch();
  const store = `${directory.path}/store`;
  const socket = `unix:${store}/admin.sock`;
  const args = [store, '-n', '127.0.0.1:0', '--admin', socket];
  return {
    path: directory.path,
    ...{ store, args },
    start: (...more: string[]) => Daemon.start([...args, ...more]),
    collie: (...words: string[]) => run(COLLIE, ['-a', socket, ...words]),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

/** Commands are processes that take their time, the more so on a busy machine. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 30_000, interval: 100 });

const demo = (daemon: Daemon) => `nbd://${daemon.nbd}/demo`;
const qemuIo = (daemon: Daemon, ...commands: string[]) =>
  succeed('qemu-io', ['-f', 'raw', ...commands.flatMap((one) => ['-c', one]), demo(daemon)]);

describe('a VDI served as a real disk', () => {
  test.skipIf(!hasTool('qemu-io'))('what was flushed is there after kill -9', async () => {
    await using it = await world();
    await using first = await it.start();
    expect(await it.collie('vdi', 'create', 'demo', '1G')).toMatchObject({ status: 0 });
    await qemuIo(first, 'write -P 7 0 8M', 'write -P 9 500M 64k', 'flush');
    await first.stop('SIGKILL');
    await using second = await it.start();
    const out = await qemuIo(
      second,
      'read -P 7 0 8M',
      'read -P 9 500M 64k',
      'read -P 0 8M 8M',
      'write -P 1 4M 4k',
      'read -P 1 4M 4k',
    );
    expect(out).not.toContain('Pattern verification failed');
  });

  test.skipIf(!hasTool('nbdinfo'))('nbdinfo sees the disk as it is', async () => {
    await using it = await world();
    await using daemon = await it.start('--vdi', 'demo:1G', '--vdi', 'other:5k');
    const listed = JSON.parse(
      await succeed('nbdinfo', ['--json', '--list', `nbd://${daemon.nbd}`]),
    );
    const exports = listed.exports as Record<string, unknown>[];
    const sizes = exports.map((one) => [one['export-name'], one['export-size']]);
    expect(sizes).toEqual([
      ['demo', 2 ** 30],
      ['other', 8192],
    ]);
    expect(exports[0]).toMatchObject({
      is_read_only: false,
      can_multi_conn: true,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
    });
    const unknown = await run('nbdinfo', [`nbd://${daemon.nbd}/demo@monday`]);
    expect(unknown.status).not.toBe(0);
  });

  test.skipIf(!hasTool('qemu-img'))(
    'an image converted into it compares equal, also later',
    async () => {
      await using it = await world();
      const image = `${it.path}/image`;
      await writeFile(
        image,
        randomFillSync(new Uint8Array(24 * 2 ** 20)).fill(0, 2 ** 20, 9 * 2 ** 20),
      );
      await using first = await it.start('--vdi', 'demo:24M');
      const convert = ['convert', '-n', '-t', 'writethrough', '-O', 'raw', image, demo(first)];
      await succeed('qemu-img', convert);
      await succeed('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, demo(first)]);
      await first.stop('SIGKILL');
      await using second = await it.start();
      await succeed('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, demo(second)]);
    },
  );

  test.skipIf(!hasTool('qemu-io'))(
    'a VDI in use is not deleted, and its client is named',
    async () => {
      await using it = await world();
      await using daemon = await it.start('--vdi', 'demo:64M');
      const client = await TestClient.connect(await openNodeNet(), daemon.nbd);
      await client.go('demo');
      const said = await it.collie('vdi', 'delete', 'demo');
      expect(said).toMatchObject({ status: 1, out: '' });
      expect(said.err).toMatch(/^collie: the VDI 'demo' is used by 127\.0\.0\.1:\d+; disconnect/);
      client.stream.destroy();
      await eventually(async () => (await it.collie('vdi', 'delete', 'demo')).status).toBe(0);
      expect(JSON.parse((await it.collie('vdi', 'list', '--json')).out)).toEqual({
        ...{ vdis: [], snapshots: [], deleting: [], kept: [] },
      });
    },
  );

  test('what a deletion left when the daemon was killed goes at the next start', async () => {
    await using it = await world();
    const first = await it.start('--vdi', 'demo:8G', '--vdi', 'kept:1M');
    const client = await TestClient.connect(await openNodeNet(), first.nbd);
    await client.go('demo');
    for (let index = 0; index < 300; index++) {
      const payload = new Uint8Array(4096).fill(1);
      const request = { type: CMD.WRITE, offset: index * 4 * 2 ** 20, payload };
      expect((await client.request(request)).errno).toBe(0);
    }
    client.stream.destroy();
    await eventually(
      async () => (await it.collie('vdi', 'delete', 'demo', '--dry-run')).status,
    ).toBe(0);
    const deleting = it.collie('vdi', 'delete', 'demo');
    await eventually(async () => (await it.collie('vdi', 'info', 'demo')).status).toBe(1);
    await first.stop('SIGKILL');
    await deleting;
    await using second = await it.start();
    await eventually(
      async () => JSON.parse((await it.collie('vdi', 'list', '--json')).out).deleting,
    ).toEqual([]);
    expect(second.nbd).not.toBe('');
    const files = await readdir(`${it.store}/obj`, { recursive: true });
    const left = files.filter((name) => /^..\/.0000001/.test(name));
    expect(left).toEqual([]);
  }, 60_000);
});

describe('starting', () => {
  test('one line says where it serves, and sheep.json says it too', async () => {
    await using it = await world();
    await using daemon = await it.start('-n', `unix:${it.path}/nbd.sock`);
    expect(daemon.out).toMatch(
      /^sheep: ready, nbd 127\.0\.0\.1:[1-9]\d* unix:\S+, admin unix:\S+, store \S+\n$/,
    );
    const json = JSON.parse(await readFile(`${it.store}/sheep.json`, 'utf8'));
    expect(json.nbd).toEqual([daemon.nbd, `unix:${it.path}/nbd.sock`]);
  });

  test('--ready-fd gets the line and is closed', async () => {
    await using it = await world();
    const daemon = await Daemon.start([...it.args, '--ready-fd', '3'], { stdio: ['pipe'] });
    await using _stopped = daemon;
    const line = await text(daemon.child.stdio[3] as NodeJS.ReadableStream & AsyncIterable<string>);
    expect(line).toBe(daemon.out);
  });

  test('--hints tell what to do next, in commands that work', async () => {
    await using it = await world();
    await using daemon = await it.start('--vdi', 'demo:1G', '--hints');
    await eventually(() => daemon.out).toContain('cluster shutdown\n');
    const listing = /^ {2}(\S+) (-a \S+ vdi list)$/m.exec(daemon.out);
    const said = await run(listing![1]!, listing![2]!.split(' '), { cwd: ROOT });
    expect(said).toMatchObject({ status: 0, out: expect.stringContaining('demo') });
  });

  test('without arguments the store is ./sheepdog-data, where collie finds it', async () => {
    await using it = await world();
    const settings = { nbd: ['127.0.0.1:0'], admin: ['unix:./sheepdog-data/admin.sock'] };
    await writeFile(`${it.path}/sheep.json`, JSON.stringify(settings));
    await using _daemon = await Daemon.start(['--config', 'sheep.json'], { cwd: it.path });
    await succeed(COLLIE, ['vdi', 'create', 'demo', '1G'], { cwd: it.path });
    expect(existsSync(`${it.path}/sheepdog-data/store.json`)).toBe(true);
  });

  test('a second daemon on a store refuses, and the first does not notice', async () => {
    await using it = await world();
    await using first = await it.start('--vdi', 'demo:1M');
    const second = await run(SHEEP, it.args);
    expect(second).toMatchObject({ status: 1, out: '' });
    expect(second.err).toMatch(
      /^sheep: another sheep has the store .*; stop that one, or give another folder/m,
    );
    expect(await it.collie('vdi', 'info', 'demo')).toMatchObject({ status: 0 });
    expect(first.child.exitCode).toBeNull();
  });

  test('a pool of 8 threads, or as many as it is told, does the work that waits', async () => {
    await using it = await world();
    for (const [environment, threads] of [
      [{}, 8],
      [{ UV_THREADPOOL_SIZE: '3' }, 3],
    ] as const) {
      const daemon = await Daemon.start(it.args, { environment });
      await using _stopped = daemon;
      const tasks = `/proc/${daemon.child.pid}/task`;
      const names = await Promise.all(
        (await readdir(tasks)).map((task) => readFile(`${tasks}/${task}/comm`, 'utf8')),
      );
      expect(names.filter((name) => name === 'libuv-worker\n')).toHaveLength(threads);
      await daemon.stop('SIGTERM');
    }
  });

  const old = findTool('node', ['/usr/bin', '/usr/local/bin']);
  test.skipIf(old === undefined)('an old Node is refused before anything is loaded', async () => {
    const version = (await succeed(old!, ['--version'])).trim();
    for (const program of ['sheep', 'collie']) {
      const said = await run(old!, [`${ROOT}/dist/cli/${program}.js`, '--version']);
      if (Number.parseInt(version.slice(1), 10) >= 24) expect(said.status).toBe(0);
      else {
        expect(said).toMatchObject({ status: 1, out: '' });
        expect(said.err).toContain(
          `${program} needs Node 24 or newer, and this is Node ${version.slice(1)}`,
        );
      }
    }
  });

  test.for<[string[], RegExp]>([
    [['--nonsense'], /unknown option '--nonsense'/],
    [['a', 'b'], /too many arguments/],
    [['-c', 'etcd:http://a:2379'], /--cluster: there is no cluster driver "etcd:http:\/\/a:2379"/],
    [['-n', 'nowhere'], /--nbd: "nowhere" is no address: give host:port/],
    [['-n', '0.0.0.0:0'], /0\.0\.0\.0:0 can be reached from other machines.*--insecure-network/],
    [['--admin', '[::]:0'], /\[::\]:0 can be reached from other machines/],
    [['--nbd-mode', '660'], /--nbd unix:/],
    [['-n', 'unix:/tmp/x', '--nbd-mode', '999'], /--nbd-mode: give permission bits in octal/],
    [['--vdi', 'demo'], /"demo" has no size; give NAME:SIZE/],
    [['--vdi', 'a@b:1G'], /contains '@'/],
    [['--vdi', 'demo:8GB'], /"8GB" is not a size/],
    [['--checksums=no'], /--checksums: .*"off"/],
    [['--log-level', 'loud'], /--log-level: /],
    [['--ready-fd', '77'], /--ready-fd: 77 is not an open file descriptor/],
    [['--config', '/nowhere.json'], /cannot read the file of --config \/nowhere\.json/],
  ])('%j is wrong usage: status 2, a sentence, and no store', async ([args, message]) => {
    await using it = await world();
    const said = await run(SHEEP, [it.store, ...args]);
    expect(said).toMatchObject({ status: 2, out: '' });
    expect(said.err).toMatch(/^sheep: [^\n]*\n(?:\([^\n]*\)\n)*$/);
    expect(said.err).toMatch(message);
    expect(existsSync(it.store)).toBe(false);
  });

  test('a group that does not exist, and a directory that is no store, are refused by name', async () => {
    await using it = await world();
    const group = ['-n', `unix:${it.path}/n.sock`, '--nbd-group', 'nosuchgroup'];
    expect(await run(SHEEP, [...it.args, ...group])).toMatchObject({
      status: 2,
      err: expect.stringContaining("there is no group 'nosuchgroup'"),
    });
    await writeFile(`${it.path}/letter.txt`, 'dear reader');
    const said = await run(SHEEP, [it.path, '-n', '127.0.0.1:0', '--admin', `unix:${it.path}/a`]);
    expect(said).toMatchObject({ status: 2, out: '' });
    expect(said.err).toContain('letter.txt');
  });
});

describe('stopping', () => {
  test.skipIf(!hasTool('qemu-io'))(
    'SIGTERM flushes what nobody flushed, and ends with 0',
    async () => {
      await using it = await world();
      await using first = await it.start('--vdi', 'demo:64M');
      const client = await TestClient.connect(await openNodeNet(), first.nbd);
      await client.go('demo');
      const payload = new Uint8Array(65_536).fill(7);
      expect((await client.request({ type: CMD.WRITE, payload })).errno).toBe(0);
      expect(await first.stop('SIGTERM')).toBe(0);
      await client.gone;
      expect(first.log.map((line) => line['event'])).toEqual(
        expect.arrayContaining(['sheep.stopping', 'vdi.detached', 'sheep.stopped']),
      );
      expect(existsSync(`${it.store}/sheep.json`)).toBe(false);
      expect(existsSync(`${it.store}/admin.sock`)).toBe(false);
      await using second = await it.start();
      expect(second.log[0]).toMatchObject({ event: 'farm.opened', clean: true });
      expect(await qemuIo(second, 'read -P 7 0 64k')).not.toContain('failed');
    },
  );

  test('collie cluster shutdown does the same', async () => {
    await using it = await world();
    await using daemon = await it.start();
    expect(await it.collie('cluster', 'shutdown')).toMatchObject({ status: 0 });
    expect(await daemon.ended()).toBe(0);
  });

  test('a second signal stops at once what the first one waits for, if it is not the same', async () => {
    await using it = await world();
    await using daemon = await it.start('--vdi', 'demo:64M');
    const client = await TestClient.connect(await openNodeNet(), daemon.nbd);
    await client.go('demo');
    client.stream.pause(); // and so there are answers that cannot be sent
    for (let index = 0; index < 64; index++) {
      await client.sent(requestBytes({ type: CMD.READ, length: 2 ** 20 }));
    }
    daemon.child.kill('SIGINT');
    await eventually(() => daemon.log.map((line) => line['event'])).toContain('sheep.stopping');
    daemon.child.kill('SIGINT'); // as from a terminal and from npm: the same Ctrl-C
    await sleep(2200);
    expect(daemon.child.exitCode).toBeNull();
    expect(await daemon.stop('SIGINT')).toBe(1);
    client.stream.destroy();
  });
});

// libnbd's Python comes with Python.
const python = hasTool('nbdsh') ? findTool('python3') : undefined;
describe.skipIf(python === undefined)('below a service manager', () => {
  /** Listens, passes the socket on as file descriptor 3, and becomes the daemon. */
  const PASS = `
import os, socket, sys
s = socket.create_server((sys.argv[1], 0))
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[2], sys.argv[2:])
`;
  /** Takes messages until STOPPING, and prints them. */
  const LISTEN = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    message = s.recv(4096).decode()
    print(message, flush=True)
    if 'STOPPING=1' in message: break
`;

  test('a socket that was passed on is served instead of the default address', async () => {
    await using it = await world();
    const args = ['-c', PASS, '127.0.0.1', SHEEP, it.store, '--vdi', 'demo:1M'];
    const admin = ['--admin', `unix:${it.store}/admin.sock`];
    await using daemon = await Daemon.start([...args, ...admin], { command: python! });
    expect(daemon.nbd).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    expect(daemon.nbd).not.toBe('127.0.0.1:10809');
    const client = await TestClient.connect(await openNodeNet(), daemon.nbd);
    await client.go('demo');
    client.stream.destroy();
  });

  test('a passed socket that other machines can reach is refused as well', async () => {
    await using it = await world();
    const args = ['-c', PASS, '0.0.0.0', SHEEP, it.store, '--admin', `unix:${it.store}/a.sock`];
    const said = await run(python!, args);
    expect(said).toMatchObject({ status: 2, out: '' });
    expect(said.err).toMatch(/0\.0\.0\.0:\d+ can be reached from other machines/);
  });

  test('it is told when the daemon is ready and when it stops', async () => {
    await using it = await world();
    const socket = `${it.path}/notify.sock`;
    await using manager = await Daemon.start(['-c', LISTEN, socket], { command: python! });
    await using daemon = await Daemon.start(it.args, { environment: { NOTIFY_SOCKET: socket } });
    await eventually(() => manager.out).toContain(`READY=1\nSTATUS=serving NBD on ${daemon.nbd}\n`);
    expect(await daemon.stop('SIGTERM')).toBe(0);
    expect(await manager.ended()).toBe(0);
    expect(manager.out).toContain('STOPPING=1');
  });
});

test('collie ends quietly when nobody reads on', async () => {
  await using it = await world();
  await using _daemon = await it.start('--vdi', 'demo:1M');
  const line = `"${COLLIE}" -a unix:${it.store}/admin.sock vdi list | head -n 0`;
  expect(await run('/bin/sh', ['-c', line])).toEqual({ status: 0, out: '', err: '' });
});
