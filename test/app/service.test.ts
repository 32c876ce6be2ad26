import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { findTool, hasTool } from '../../scripts/tools.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { scratch } from '../cluster/scratch.ts';
import { TestClient } from '../nbd/client.ts';
import { COLLIE, Daemon, run, SHEEP } from './daemon.ts';

const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 30_000, interval: 50 });

describe.skipIf(!hasTool('systemd-socket-activate'))('below systemd-socket-activate', () => {
  /** Listens as systemd would, and starts a sheep when somebody comes. */
  async function activated(path: string, names: string, addresses: readonly string[]) {
    const listen = addresses.flatMap((address) => ['-l', address]);
    const environment = ['-E', 'PATH', '-E', 'HOME'];
    const sheep = [SHEEP, `${path}/store`, '--vdi', 'demo:1M'];
    const args = [...listen, `--fdname=${names}`, ...environment, ...sheep];
    return Daemon.spawn(args, { command: findTool('systemd-socket-activate') ?? '' });
  }

  test('the first client starts it, and both sockets are what their names say', async () => {
    const { path, ...directory } = await scratch();
    await using _ = directory;
    const sockets = [`${path}/nbd.sock`, `${path}/admin.sock`] as const;
    await using daemon = await activated(path, 'nbd:admin', sockets);
    await eventually(() => sockets.every((socket) => existsSync(socket))).toBe(true);
    const client = await TestClient.connect(await openNodeNet(), `unix:${sockets[0]}`);
    await client.go('demo');
    const served = `nbd unix:${sockets[0]}, admin unix:${sockets[1]}, store`;
    await eventually(() => daemon.out).toContain(served);
    const shown = await run(COLLIE, ['-a', `unix:${sockets[1]}`, 'vdi', 'info', 'demo']);
    expect(shown.out).toMatch(new RegExp(`^clients: +unix:${sockets[0]}$`, 'm'));
    client.stream.destroy();
    expect(await daemon.stop('SIGTERM')).toBe(0);
    // They are the manager's, who listens on them while nobody serves.
    expect(sockets.every((socket) => existsSync(socket))).toBe(true);
  });

  test('a TCP socket is not taken for the admin API, which would be open to all users', async () => {
    const { path, ...directory } = await scratch();
    await using _ = directory;
    const probe = createServer().listen(0, '127.0.0.1');
    await new Promise((done) => probe.once('listening', done));
    const { port } = probe.address() as { port: number };
    await new Promise((done) => probe.close(done));
    await using daemon = await activated(path, 'admin', [`127.0.0.1:${port}`]);
    const net = await openNodeNet();
    await eventually(() => net.dial(`127.0.0.1:${port}`).then(Boolean, () => false)).toBe(true);
    expect(await daemon.ended()).toBe(2);
    expect(daemon.err).toMatch(/passed on as 'admin' .* is no unix socket; .* use --admin/);
  });
});

// libnbd's Python comes with Python.
const python = hasTool('nbdsh') ? findTool('python3') : undefined;
describe.skipIf(python === undefined)('a manager with a watchdog', () => {
  /** Takes messages, and prints each with the milliseconds since the one before. */
  const LISTEN = `
import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    print(s.recv(4096).decode().split()[0], flush=True)
`;

  test('hears that the daemon lives, before it is ready and until it has stopped', async () => {
    const { path, ...directory } = await scratch();
    await using _ = directory;
    const socket = `${path}/notify.sock`;
    await using manager = await Daemon.start(['-c', LISTEN, socket], { command: python! });
    const environment = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '200000' };
    const args = [`${path}/store`, '-n', `unix:${path}/n`, '--admin', `unix:${path}/a`];
    await using daemon = await Daemon.start(args, { environment });
    await eventually(() => manager.out.split('WATCHDOG=1').length).toBeGreaterThan(3);
    daemon.child.kill('SIGSTOP');
    // What it had sent by then may still be under way.
    let heard = -1;
    while (heard !== manager.out.length) {
      heard = manager.out.length;
      await new Promise((done) => setTimeout(done, 300));
    }
    daemon.child.kill('SIGCONT');
    await eventually(() => manager.out.length).toBeGreaterThan(heard);
    expect(await daemon.stop('SIGTERM')).toBe(0);
    await eventually(() => manager.out).toContain('READY=1');
    await eventually(() => manager.out).toContain('STOPPING=1');
  });
});
