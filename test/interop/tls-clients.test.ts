import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findTool, hasTool, type Tool } from '../../scripts/tools.ts';
import { MiB } from '../../src/base/units.ts';
import { pattern } from '../nbd/served.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { ServedTls } from '../tls/served-tls.ts';
import { libnbdSuite, nbdClientList, nbdcopyRoundTrip, nbdinfo } from './nbd-clients.ts';

const SIZE = 64 * MiB;
const authority = new Authority();
const strangers = new Authority('Somebody Else');
const certs = authority.directory('guest');
const psk = authority.pskFile('keys', { alice: pskKey('a'), bob: pskKey('b') });
const image = join(authority.folder, 'image');
let served: ServedTls;

beforeAll(async () => {
  writeFileSync(image, pattern(SIZE));
  served = await ServedTls.start({ files: { certs, psk }, required: true, sizeBytes: SIZE });
});
afterAll(async () => {
  await served[Symbol.asyncDispose]();
  for (const one of [authority, strangers]) one[Symbol.dispose]();
});

/** What a tool prints; with what it printed where it fails. */
async function run(tool: Tool, ...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(findTool(tool) ?? tool, args);
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${tool} ${args.join(' ')}\n${stdout}${stderr}`, { cause: error });
  }
}

/** How QEMU's tools are told of the export. */
function qemuArgs(credentials: string, hostname = ''): string[] {
  const options = `driver=nbd,host=127.0.0.1,port=${served.port},export=disk,tls-creds=t${hostname}`;
  return ['--object', `${credentials},id=t,endpoint=client`, '--image-opts', options];
}
const x509 = (directory: string) => `tls-creds-x509,dir=${directory},verify-peer=on`;
/** A directory with keys.psk, as QEMU wants it. */
function pskDirectory(name: string, user: string, letter: string): string {
  const directory = authority.directory(name);
  authority.pskFile(join(name, 'keys.psk'), { [user]: pskKey(letter) });
  return `tls-creds-psk,dir=${directory},username=${user}`;
}

/** How libnbd is told of the export, over TCP and over the unix socket. */
const certificateUri = () => `nbds://localhost:${served.port}/disk?tls-certificates=${certs}`;
const keyUri = (user = 'alice', file = psk) =>
  `nbds+unix://${user}@localhost/disk?socket=${served.socket}&tls-psk-file=${file}`;

describe.skipIf(!hasTool('qemu-img') || !hasTool('qemu-io'))('QEMU', () => {
  test.for([
    ['a certificate', () => x509(certs), { kind: 'certificate', commonName: 'guest' }],
    ['a key', () => pskDirectory('qemu-psk', 'bob', 'b'), { kind: 'psk', user: 'bob' }],
  ] as const)('attaches, writes and reads with %s', async ([, credentials, proof]) => {
    const args = qemuArgs(credentials());
    const info = JSON.parse(await run('qemu-img', 'info', '--output=json', ...args));
    expect(info['virtual-size']).toBe(SIZE);
    const printed = await run(
      'qemu-io',
      ...['-c', 'write -P 0x5a 1M 9M', '-c', 'write -z 3M 1M', '-c', 'flush'],
      ...['-c', 'read -P 0x5a 1M 2M', '-c', 'read -P 0 3M 1M', '-c', 'read -P 0x5a 4M 6M', ...args],
    );
    expect(printed).not.toMatch(/failed|error|wrong/i);
    expect(served.opened.at(-1)).toEqual(proof);
  });

  test('is told in words that TLS comes first', async () => {
    const plain = `nbd://127.0.0.1:${served.port}/disk`;
    await expect(run('qemu-img', 'info', plain)).rejects.toThrow(/server wants TLS first/);
  });

  test.for<[string, (directory: string) => void]>([
    ['of another authority', (to) => strangers.issue(to, 'client', { commonName: 'guest' })],
    ['that has expired', (to) => authority.issue(to, 'client', { days: -1 })],
    ['that is for servers', (to) => authority.issue(to, 'client', { usage: 'serverAuth' })],
  ])('is shut out with a certificate %s', async ([name, issue]) => {
    const before = served.opened.length;
    const directory = authority.directory(name.replaceAll(' ', '-'));
    issue(directory);
    // QEMU looks at its own certificate too, unless it is told not to.
    const args = qemuArgs(`${x509(directory)},sanity-check=off`);
    await expect(run('qemu-img', 'info', ...args)).rejects.toThrow(/TLS|channel|alert/i);
    expect(served.opened.length).toBe(before);
    expect(served.named('nbd.tls-refused').at(-1)?.['cause']).toMatch(/certificate/);
  });

  test('does not go on with a server whose certificate is not for its name', async () => {
    const args = qemuArgs(x509(certs), ',tls-hostname=example.org');
    await expect(run('qemu-img', 'info', ...args)).rejects.toThrow(/Certificate.*example.org/);
  });
});

describe.skipIf(!hasTool('nbdinfo') || !hasTool('nbdcopy') || !hasTool('nbdsh'))('libnbd', () => {
  test.for([
    ['a certificate', certificateUri, { kind: 'certificate', commonName: 'guest' }],
    ['a key', keyUri, { kind: 'psk', user: 'alice' }],
  ] as const)('does all it can with %s', async ([, uri, proof]) => {
    expect(await nbdinfo(uri())).toMatchObject({ 'export-size': SIZE, 'export-name': 'disk' });
    if (proof.kind === 'certificate') await libnbdSuite(uri(), 20);
    await nbdcopyRoundTrip(uri(), image, authority.folder);
    expect(served.opened.at(-1)).toEqual(proof);
  });

  test('does not get in without TLS, with a wrong key or as somebody unknown', async () => {
    const before = served.opened.length;
    const plain = `nbd://127.0.0.1:${served.port}/disk`;
    await expect(nbdinfo(plain)).rejects.toThrow(/not supported/);
    const wrong = authority.pskFile('wrong-keys', { alice: pskKey('x'), eve: pskKey('e') });
    await expect(nbdinfo(keyUri('alice', wrong))).rejects.toThrow(/gnutls|TLS/i);
    await expect(nbdinfo(keyUri('eve', wrong))).rejects.toThrow(/gnutls|TLS|reset|closed/i);
    expect(served.opened.length).toBe(before);
  });
});

describe.skipIf(!hasTool('nbd-client'))('nbd-client', () => {
  test('lists inside TLS, and is refused outside of it', async () => {
    const flags = [
      ...['-certfile', join(certs, 'client-cert.pem'), '-keyfile', join(certs, 'client-key.pem')],
      ...['-cacertfile', join(certs, 'ca-cert.pem'), '-tlshostname', 'localhost'],
    ];
    const listed = await run('nbd-client', ...flags, '-l', '127.0.0.1', String(served.port));
    expect(listed.trim().split('\n').at(-1)).toBe('disk');
    await expect(nbdClientList('127.0.0.1', served.port)).rejects.toThrow(/TLS/);
  });
});
