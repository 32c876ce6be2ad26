import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { TlsFiles } from '../../src/contracts/tls.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openServerTls } from '../../src/host/node-tls.ts';
import { type ClientTlsOptions, openClientTls } from '../../src/host/node-tls-client.ts';
import { type NetWorld, netContract } from '../contracts/net.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { TlsNet } from '../tls/tls-net.ts';

const authority = new Authority();
afterAll(() => authority[Symbol.dispose]());
const certs = authority.directory('guest');
const psk = authority.pskFile('keys', { alice: pskKey('a'), bob: pskKey('b') });

let count = 0;
async function world(
  kind: 'tcp' | 'unix',
  server: TlsFiles,
  client: TlsFiles & ClientTlsOptions,
  fixedMemory = true,
): Promise<NetWorld & { readonly net: TlsNet }> {
  const under = await openNodeNet({ fixedMemory });
  return {
    net: new TlsNet(under, await openServerTls(server), await openClientTls(client, client)),
    address: () =>
      kind === 'tcp' ? '127.0.0.1:0' : `unix:${join(authority.folder, `${count++}.sock`)}`,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

netContract('TLS with certificates over TCP', () => world('tcp', { certs }, { certs }));
netContract('TLS with a key over a unix socket', () =>
  world('unix', { psk }, { psk, user: 'alice' }),
);
netContract('TLS in memory of its own for each chunk', () =>
  world('tcp', { certs }, { certs }, false),
);
