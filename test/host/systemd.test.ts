import { expect, test } from 'vitest';
import { notifyServiceManager, passedSockets } from '../../src/host/systemd.ts';

test('sockets are taken only if they were passed to this process', () => {
  expect(passedSockets({ LISTEN_PID: '7', LISTEN_FDS: '2' }, 7)).toEqual(['fd:3', 'fd:4']);
  expect(passedSockets({ LISTEN_PID: '7', LISTEN_FDS: '0' }, 7)).toEqual([]);
  expect(passedSockets({ LISTEN_PID: '8', LISTEN_FDS: '2' }, 7)).toEqual([]);
  expect(passedSockets({ LISTEN_FDS: '2' }, 7)).toEqual([]);
  expect(passedSockets({ LISTEN_PID: '7', LISTEN_FDS: 'x' }, 7)).toEqual([]);
  expect(passedSockets({}, 7)).toEqual([]);
});

test('nobody is told where nobody asked', () => {
  notifyServiceManager({}, 'READY=1');
  notifyServiceManager({ NOTIFY_SOCKET: '' }, 'READY=1');
});

test('a manager that cannot be told is an error with its address', () => {
  const environment = { NOTIFY_SOCKET: '/nowhere/notify' };
  expect(() => notifyServiceManager(environment, 'READY=1')).toThrow('/nowhere/notify');
});
