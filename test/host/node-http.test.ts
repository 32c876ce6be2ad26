import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type ServerOptions } from 'node:http';
import { Agent, request } from 'node:https';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/base/address.ts';
import { describeError } from '../../src/base/errors.ts';
import type { TlsFiles } from '../../src/contracts/tls.ts';
import { listenHttp } from '../../src/host/node-http.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openServerTls } from '../../src/host/node-tls.ts';
import { openClientTls } from '../../src/host/node-tls-client.ts';
import { Authority, pskKey } from '../tls/authority.ts';

const [ours, theirs] = [new Authority(), new Authority('Another')];
afterAll(() => {
  ours[Symbol.dispose]();
  theirs[Symbol.dispose]();
});
const certs = ours.directory('operator');
const psk = ours.pskFile('keys', { alice: pskKey('a') });

async function world(files: TlsFiles = { certs }, limits: ServerOptions = {}) {
  const owned = new AsyncDisposableStack();
  const refusals: string[] = [];
  const server: Server = createServer(limits, (asked, answer) => answer.end(`hello ${asked.url}`));
  const tls = await openServerTls(files);
  const listener = await listenHttp(server, '127.0.0.1:0', {
    tls,
    refused: (_client, cause) => refusals.push(describeError(cause)),
  });
  owned.use(listener);
  const where = parseAddress(listener.address);
  if (!('port' in where)) throw new Error('no port');
  return {
    ...{ tls, refusals, listener, port: where.port },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

type World = Awaited<ReturnType<typeof world>>;

const file = (directory: string, name: string) => readFileSync(join(directory, name));
const shown = (directory: string) => ({
  cert: file(directory, 'client-cert.pem'),
  key: file(directory, 'client-key.pem'),
});

/** What the server answers a client that believes our authority and shows this. */
async function get({ port }: World, client: object, agent = new Agent()): Promise<string> {
  const ca = file(certs, 'ca-cert.pem');
  const asked = request({ host: '127.0.0.1', port, path: '/v1', ca, agent, ...client });
  asked.end();
  const [answer] = await once(asked, 'response');
  let text = '';
  for await (const chunk of answer) text += chunk;
  return text;
}

function plain({ port }: World): Socket {
  return createConnection(port, '127.0.0.1').on('error', () => undefined);
}

describe('HTTP inside TLS', () => {
  test('answers who has proven a certificate of the authority', async () => {
    await using it = await world();
    expect(await get(it, shown(certs))).toBe('hello /v1');
    expect(it.refusals).toEqual([]);
  });

  test.for<[string, () => object, RegExp]>([
    ['without one', () => ({}), /peer did not return a certificate/],
    ['with that of another authority', () => shown(theirs.directory('one')), /refused|unable/],
    [
      'with one that has expired',
      () => shown(ours.directory('late', { days: -1 })),
      /certificate is refused: CERT_HAS_EXPIRED/,
    ],
    [
      'with one that is for servers',
      () => shown(ours.directory('usage', { usage: 'serverAuth' })),
      /certificate is refused: INVALID_PURPOSE/,
    ],
  ])('lets nobody in %s', async ([_how, client, why]) => {
    await using it = await world();
    await expect(get(it, client())).rejects.toThrow();
    await expect.poll(() => it.refusals).toEqual([expect.stringMatching(why)]);
  });

  test('lets nobody in who has proven a key: that is for disks', async () => {
    await using it = await world({ psk });
    const net = await openNodeNet();
    const client = await openClientTls({ psk });
    const { stream } = await client.secure(await net.dial(it.listener.address));
    const { promise, resolve } = Promise.withResolvers<void>();
    stream.start({ received: () => undefined, ended: resolve, closed: () => resolve() });
    await promise;
    stream.destroy();
    expect(it.refusals).toEqual(['a certificate is needed here, and a key was shown']);
  });

  test('is no HTTP outside it', async () => {
    await using it = await world();
    const socket = plain(it);
    socket.write('GET /v1 HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let answered = '';
    socket.on('data', (chunk) => {
      answered += chunk.toString('latin1');
    });
    await once(socket, 'close');
    expect(answered).not.toContain('hello');
    await expect.poll(() => it.refusals).toHaveLength(1);
  });

  test('a handshake has the time of a request head, and so has what comes after it', async () => {
    await using it = await world(
      { certs },
      { headersTimeout: 200, connectionsCheckingInterval: 50 },
    );
    const silent = plain(it);
    await once(silent, 'close');
    expect(it.refusals).toHaveLength(1);
    const slow = connect({
      host: '127.0.0.1',
      port: it.port,
      ca: file(certs, 'ca-cert.pem'),
      ...shown(certs),
    });
    slow.on('error', () => undefined);
    slow.write('GET /v1 HT');
    slow.resume();
    await once(slow, 'close');
    expect(it.refusals).toHaveLength(1);
  });

  test('what is reloaded holds for the next connection', async () => {
    const directory = ours.directory('revoked');
    await using it = await world({ certs: directory });
    const serial = ours.issue(directory, 'client', { commonName: 'revoked' });
    expect(await get(it, shown(directory))).toBe('hello /v1');
    ours.revoke(directory, serial);
    await it.tls.reload();
    await expect(get(it, shown(directory))).rejects.toThrow();
    expect(it.refusals).toEqual([expect.stringMatching(/CERT_REVOKED/)]);
    expect(await get(it, shown(certs))).toBe('hello /v1');
  });

  test('knows the names that its certificate is for', async () => {
    const directory = ours.directory('named');
    const names = 'DNS:store.lan,DNS:*.disks.lan,IP:10.0.0.5';
    ours.issue(directory, 'server', { commonName: 'other.lan', usage: 'serverAuth', names });
    const tls = await openServerTls({ certs: directory });
    for (const name of ['store.lan', 'STORE.LAN', 'a.disks.lan', '10.0.0.5']) {
      expect(tls.isNamed(name), name).toBe(true);
    }
    for (const name of ['', '.lan', 'lan', 'xstore.lan', 'other.lan', 'localhost', '10.0.0.6']) {
      expect(tls.isNamed(name), name).toBe(false);
    }
    expect((await openServerTls({ psk })).isNamed('store.lan')).toBe(false);
  });

  test('ends with its listener: idle connections and handshakes too', async () => {
    await using it = await world();
    const agent = new Agent({ keepAlive: true });
    expect(await get(it, shown(certs), agent)).toBe('hello /v1');
    const [idle] = Object.values(agent.freeSockets).flat();
    const silent = plain(it);
    await once(silent, 'connect');
    await it.listener[Symbol.asyncDispose]();
    await Promise.all([once(idle!, 'close'), once(silent, 'close')]);
    await expect(get(it, shown(certs))).rejects.toThrow('ECONNREFUSED');
    expect(it.refusals).toEqual([]);
  });
});
