import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { MiB } from '../../src/base/units.ts';
import type { TlsFiles } from '../../src/contracts/tls.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openClientTls } from '../../src/host/node-tls-client.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { pattern } from '../nbd/served.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { ForeignServer } from './servers.ts';

const authority = new Authority();
afterAll(() => authority[Symbol.dispose]());
const certs = authority.directory('guest');
const psk = authority.pskFile('keys', { alice: pskKey('a') });
const [SIZE, AT] = [4 * MiB, 12_345];

let count = 0;
const socketPath = () => join(authority.folder, `foreign-${count++}.sock`);

/** Writes and reads through TLS, and is refused without it. */
async function exchange(socket: string, name: string, files: TlsFiles): Promise<void> {
  const [net, address] = [await openNodeNet(), `unix:${socket}`];
  await expect(connectNbd(net, address, name)).rejects.toMatchObject({
    facts: { reply: 'ERR_TLS_REQD' },
  });
  const tls = await openClientTls(files);
  await using device = await connectNbd(net, address, name, { tls });
  const written = pattern(1 * MiB);
  await device.write(AT, written, { durable: true });
  const read = new Uint8Array(written.length);
  await device.read(AT, read);
  expect(Buffer.compare(read, written)).toBe(0);
}

describe.skipIf(!hasTool('nbdkit'))('nbdkit, for our client', () => {
  test('inside TLS with certificates', async () => {
    const socket = socketPath();
    const tls = ['--tls=require', `--tls-certificates=${certs}`, '--tls-verify-peer'];
    await using _server = await ForeignServer.nbdkit(socket, ...tls, 'memory', `${SIZE}`);
    await exchange(socket, '', { certs });
  });

  test('inside TLS with a key', async () => {
    const socket = socketPath();
    const tls = ['--tls=require', `--tls-psk=${psk}`];
    await using _server = await ForeignServer.nbdkit(socket, ...tls, 'memory', `${SIZE}`);
    await exchange(socket, '', { psk });
  });
});

describe.skipIf(!hasTool('qemu-nbd'))('qemu-nbd, for our client', () => {
  const image = join(authority.folder, 'image');
  writeFileSync(image, '');
  truncateSync(image, SIZE);

  test('inside TLS with certificates', async () => {
    const socket = socketPath();
    const object = `tls-creds-x509,id=t,dir=${certs},endpoint=server,verify-peer=on`;
    const args = ['--object', object, '--tls-creds', 't', '-f', 'raw', image];
    await using _server = await ForeignServer.qemuNbd(socket, ...args);
    await exchange(socket, 'disk', { certs });
  });

  test('inside TLS with a key', async () => {
    const socket = socketPath();
    const directory = join(authority.folder, 'qemu-keys');
    mkdirSync(directory);
    authority.pskFile(join('qemu-keys', 'keys.psk'), { alice: pskKey('a') });
    const object = `tls-creds-psk,id=t,dir=${directory},endpoint=server`;
    const args = ['--object', object, '--tls-creds', 't', '-f', 'raw', image];
    await using _server = await ForeignServer.qemuNbd(socket, ...args);
    await exchange(socket, 'disk', { psk });
  });
});
