import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  notifyServiceManager,
  passedSockets,
  unixSocketPath,
  watchdogMs,
} from '../../src/host/systemd.ts';

test('sockets are taken only if they were passed to this process', () => {
  const [first, second] = [
    { fd: 3, name: '' },
    { fd: 4, name: '' },
  ];
  expect(passedSockets({ LISTEN_PID: '7', LISTEN_FDS: '2' }, 7)).toEqual([first, second]);
  expect(passedSockets({ LISTEN_PID: '7', LISTEN_FDS: '0' }, 7)).toEqual([]);
  expect(passedSockets({ LISTEN_PID: '8', LISTEN_FDS: '2' }, 7)).toEqual([]);
  expect(passedSockets({ LISTEN_FDS: '2' }, 7)).toEqual([]);
  expect(passedSockets({ LISTEN_PID: '7', LISTEN_FDS: 'x' }, 7)).toEqual([]);
  expect(passedSockets({}, 7)).toEqual([]);
});

test('sockets have the names that the manager gave them', () => {
  const environment = { LISTEN_PID: '7', LISTEN_FDS: '3', LISTEN_FDNAMES: 'nbd:admin' };
  expect(passedSockets(environment, 7)).toEqual([
    { fd: 3, name: 'nbd' },
    { fd: 4, name: 'admin' },
    { fd: 5, name: '' },
  ]);
});

test('the watchdog is fed twice in the time that it waits, if it waits for this process', () => {
  expect(watchdogMs({ WATCHDOG_USEC: '60000000' }, 7)).toBe(30_000);
  expect(watchdogMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' }, 7)).toBe(30_000);
  expect(watchdogMs({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }, 7)).toBeUndefined();
  expect(watchdogMs({ WATCHDOG_USEC: '100' }, 7)).toBe(1);
  expect(watchdogMs({ WATCHDOG_USEC: '0' }, 7)).toBeUndefined();
  expect(watchdogMs({ WATCHDOG_USEC: 'soon' }, 7)).toBeUndefined();
  expect(watchdogMs({}, 7)).toBeUndefined();
});

test('a unix socket is told by its path, and nothing else is one', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sheepdog-systemd-'));
  const listen = async (where: string | { host: string; port: number }) => {
    const server = createServer();
    await new Promise<void>((done) => server.listen(where, done));
    return server;
  };
  const fdOf = (server: Server) => (server as unknown as { _handle: { fd: number } })._handle.fd;
  const [file, abstract, tcp] = await Promise.all([
    listen(join(folder, 'n.sock')),
    listen(`\0sheepdog-systemd-${process.pid}`),
    listen({ host: '127.0.0.1', port: 0 }),
  ]);
  expect(unixSocketPath(fdOf(file))).toBe(join(folder, 'n.sock'));
  expect(unixSocketPath(fdOf(abstract))).toBe(`@sheepdog-systemd-${process.pid}`);
  expect(unixSocketPath(fdOf(tcp))).toBeUndefined();
  expect(unixSocketPath(openSync('/dev/null', 'r'))).toBeUndefined();
  expect(unixSocketPath(9_999)).toBeUndefined();
  for (const server of [file, abstract, tcp]) server.close();
  rmSync(folder, { recursive: true });
});

test('nobody is told where nobody asked', () => {
  notifyServiceManager({}, 'READY=1');
  notifyServiceManager({ NOTIFY_SOCKET: '' }, 'READY=1');
});

test('a manager that cannot be told is an error with its address', () => {
  const environment = { NOTIFY_SOCKET: '/nowhere/notify' };
  expect(() => notifyServiceManager(environment, 'READY=1')).toThrow('/nowhere/notify');
});
