import { expect, test } from 'vitest';
import { type Door, refusalOf } from '../../src/app/admin-guard.ts';

const token = 'f'.repeat(64);
const authorization = `Bearer ${token}`;
const loopback: Door = { transport: 'tcp', token, host: '127.0.0.1' };
const network: Door = { transport: 'tcp', token, host: '0.0.0.0' };
const named: Door = { transport: 'tcp', token, host: 'store.lan' };
const unix: Door = { transport: 'unix' };

const status = (door: Door, host?: string, given?: string, origin?: string) =>
  refusalOf({ host, origin, authorization: given }, door)?.status ?? 200;

test('a unix socket lets everybody in but web pages', () => {
  expect(status(unix)).toBe(200);
  expect(status(unix, 'evil.example')).toBe(200);
  expect(status(unix, 'localhost', authorization, 'null')).toBe(403);
});

test('over TCP the token decides, to the last character', () => {
  expect(status(loopback, 'localhost:7001', authorization)).toBe(200);
  expect(status(loopback, 'localhost:7001', `bearer ${token}`)).toBe(200);
  const wrong = [undefined, '', 'Bearer', `Bearer ${token}f`, `Bearer ${token.slice(1)}`, token];
  for (const given of wrong) expect(status(loopback, 'localhost', given)).toBe(401);
  expect(status(loopback, 'localhost', `Basic ${token}`)).toBe(401);
});

test('a foreign Host is refused before the token is looked at', () => {
  for (const host of [
    undefined,
    '',
    'evil.example',
    '10.0.0.1',
    '127.0.0.1.evil.example',
    ':7001',
  ]) {
    expect(status(loopback, host, authorization)).toBe(403);
  }
});

test('inside TLS a sheep goes by the names that its certificate is for', () => {
  const inside: Door = { ...network, isNamed: (host) => host === 'store.lan' };
  expect(status(inside, 'store.lan:7001', authorization)).toBe(200);
  expect(status(inside, '192.168.0.7:7001', authorization)).toBe(200);
  expect(status(inside, 'store.lan.evil.example', authorization)).toBe(403);
  expect(status(inside, 'evil.example:7001', authorization)).toBe(403);
  expect(status(inside, 'store.lan', 'Bearer wrong')).toBe(401);
});

test('a sheep that serves the network goes by any address, and by the name it was given', () => {
  expect(status(network, '192.168.0.7:7001', authorization)).toBe(200);
  expect(status(network, '[fe80::1]:7001', authorization)).toBe(200);
  expect(status(network, 'evil.example:7001', authorization)).toBe(403);
  expect(status(named, 'store.lan:7001', authorization)).toBe(200);
  expect(status(named, 'store.lan.evil.example:7001', authorization)).toBe(403);
});
