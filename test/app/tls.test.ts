import { randomFillSync } from 'node:crypto';
import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openClientTls } from '../../src/host/node-tls-client.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { scratch } from '../cluster/scratch.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { COLLIE, Daemon, run, SHEEP } from './daemon.ts';

const authority = new Authority();
afterAll(() => authority[Symbol.dispose]());
const certs = authority.directory('guest');
const psk = authority.pskFile('keys', { alice: pskKey('a'), bob: pskKey('b') });

/** A store in a directory of its own, and daemons on it. */
async function world() {
  const directory = await scratch();
  const store = `${directory.path}/store`;
  const socket = `unix:${store}/admin.sock`;
  const args = [store, '-n', '127.0.0.1:0', '--admin', socket];
  return {
    path: directory.path,
    start: (...more: string[]) => Daemon.start([...args, ...more]),
    refused: (...more: string[]) => run(SHEEP, [...args, ...more]),
    collie: (...words: string[]) => run(COLLIE, ['-a', socket, ...words]),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 30_000, interval: 50 });

async function open(daemon: Daemon, directory = certs) {
  const tls = await openClientTls({ certs: directory });
  return connectNbd(await openNodeNet(), daemon.nbd, 'demo', { tls });
}

describe('certificates and keys of a running daemon', () => {
  test('new ones hold after SIGHUP or collie node reload, and end no connection', async () => {
    await using it = await world();
    const own = authority.directory('own');
    const leaver = authority.directory('leaver');
    const serial = authority.issue(leaver, 'client', { commonName: 'leaver' });
    await using daemon = await it.start('--vdi', 'demo:1M', '--tls-certs', own, '--tls-psk', psk);
    await using attached = await open(daemon, leaver);
    authority.revoke(own, serial);
    await using another = await open(daemon, leaver);
    await another.flush();

    daemon.child.kill('SIGHUP');
    await eventually(() => daemon.err).toContain('tls.reloaded');
    await expect(open(daemon, leaver)).rejects.toThrow();
    await eventually(() => daemon.err).toContain('CERT_REVOKED');
    await attached.flush();
    await using allowed = await open(daemon);
    await allowed.flush();

    await copyFile(join(certs, 'server-cert.pem'), join(own, 'server-cert.pem'));
    await copyFile(join(certs, 'server-key.pem'), join(own, 'server-key.pem'));
    const reloaded = await it.collie('--json', 'node', 'reload');
    expect(JSON.parse(reloaded.out)).toMatchObject({
      certificate: { subject: 'O=Tests, CN=localhost', revocations: true },
      pskUsers: 2,
    });
    expect((await it.collie('node', 'reload')).out).toMatch(/O=Tests, CN=localhost, good until 20/);
    await using later = await open(daemon);
    await later.flush();
  });

  test('what cannot be used leaves the old in force; the log and the answer say why', async () => {
    await using it = await world();
    const own = authority.directory('spoilt');
    await using daemon = await it.start('--vdi', 'demo:1M', '--tls-certs', own);
    await writeFile(join(own, 'server-cert.pem'), 'nothing');
    const refused = await it.collie('node', 'reload');
    expect(refused.status).toBe(2);
    expect(refused.err).toMatch(/server-cert.pem.*BEGIN CERTIFICATE.*stays in force/);
    daemon.child.kill('SIGHUP');
    await eventually(() => daemon.err.match(/tls.not-reloaded/g)?.length).toBe(2);
    await copyFile(join(certs, 'server-cert.pem'), join(own, 'server-cert.pem'));
    await copyFile(join(certs, 'server-key.pem'), join(own, 'server-key.pem'));
    await chmod(join(own, 'server-key.pem'), 0o644);
    daemon.child.kill('SIGHUP');
    await eventually(() => daemon.err).toMatch(/server-key.pem.*0644.*chmod 600.*tls.not-reloaded/);
    await using device = await open(daemon);
    await device.flush();
  });

  test('where there are none, SIGHUP changes nothing, and collie says so', async () => {
    await using it = await world();
    await using daemon = await it.start();
    daemon.child.kill('SIGHUP');
    await eventually(() => daemon.err).toContain('tls.not-reloaded');
    expect(await it.collie('node', 'reload')).toMatchObject({
      status: 2,
      err: expect.stringMatching(/without --tls-certs and --tls-psk/),
    });
    expect(await it.collie('node', 'info')).toMatchObject({ status: 0 });
  });

  test.skipIf(!hasTool('nbdsh'))('a daemon whose terminal is closed stops as asked', async () => {
    await using it = await world();
    const store = join(it.path, 'store');
    // Gives the daemon a terminal of its own, closes that once it is ready, and tells how it ended.
    const terminal = [
      'import os, pty, sys',
      'child, tty = pty.fork()',
      'if child == 0: os.execv(sys.argv[1], sys.argv[1:])',
      'said = b""',
      'while b"sheep: ready" not in said: said += os.read(tty, 4096)',
      'os.close(tty)',
      'print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))',
    ].join('\n');
    const args = ['-c', terminal, SHEEP, store, '-n', '127.0.0.1:0', '--admin', `unix:${store}/a`];
    const ended = await run('/usr/bin/python3', args);
    expect(ended.out.trim(), ended.err).toBe('0');
  });
});

describe('what may be served', () => {
  test('a network address is, inside TLS and nowhere else', async () => {
    await using it = await world();
    const network = ['-n', '0.0.0.0:0', '--tls-certs', certs];
    expect(await it.refused(...network)).toMatchObject({
      status: 2,
      err: expect.stringMatching(/0\.0\.0\.0:0 can be reached.*--tls-require/),
    });
    await using daemon = await it.start(...network, '--tls-require');
    expect(daemon.err).not.toContain('insecure-network');
    const health = JSON.parse((await it.collie('--json', 'cluster', 'health')).out);
    expect(health.problems.map(({ code }: { code: string }) => code)).not.toContain(
      'insecure-network',
    );
  });

  test('files that cannot be used are a reason not to start, and no reason to touch the store', async () => {
    await using it = await world();
    expect(await it.refused('--tls-certs', join(it.path, 'nowhere'))).toMatchObject({
      status: 2,
      err: expect.stringMatching(/nowhere\/ca-cert.pem cannot be used for TLS/),
    });
    await expect(readFile(join(it.path, 'store', 'admin.token'))).rejects.toThrow('ENOENT');
  });
});

describe('collie and a sheep that insists on TLS', () => {
  test('images go in and out with a certificate or a key, and not without', async () => {
    await using it = await world();
    await using _daemon = await it.start('--tls-certs', certs, '--tls-psk', psk, '--tls-require');
    const [image, back] = [join(it.path, 'image'), join(it.path, 'back')];
    await writeFile(image, randomFillSync(Buffer.alloc(3_000_000)));
    expect(await it.collie('vdi', 'import', image, 'demo')).toMatchObject({
      status: 1,
      err: expect.stringMatching(/wants TLS first.*--tls-certs DIR or --tls-psk FILE/),
    });
    const imported = await it.collie('--tls-certs', certs, 'vdi', 'import', image, 'demo');
    expect(imported, imported.err).toMatchObject({ status: 0 });
    const byKey = ['--tls-psk', psk, '--tls-user', 'alice'];
    expect(await it.collie('vdi', 'set', 'demo', 'allow=psk:alice')).toMatchObject({ status: 0 });
    const exported = await it.collie(...byKey, 'vdi', 'export', 'demo', back);
    expect(exported, exported.err).toMatchObject({ status: 0 });
    expect(
      Buffer.compare((await readFile(back)).subarray(0, 3_000_000), await readFile(image)),
    ).toBe(0);
    // Whom the rules do not name has no such disk.
    const named = await it.collie('--tls-certs', certs, 'vdi', 'map', 'demo');
    expect(named.status).toBe(1);
    const wrong = await it.collie('--tls-psk', psk, 'vdi', 'map', 'demo');
    expect(wrong).toMatchObject({
      status: 2,
      err: expect.stringMatching(/name one of them: alice, bob/),
    });
  });

  test('its certificate must be for where it is asked, or for the name that is given', async () => {
    await using it = await world();
    const elsewhere = authority.directory('elsewhere');
    await using _daemon = await it.start('--vdi', 'demo:1M', '--tls-certs', elsewhere);
    const map = (hostname: string) =>
      it.collie('--tls-certs', certs, '--tls-hostname', hostname, 'vdi', 'map', 'demo');
    expect(await map('localhost')).toMatchObject({ status: 0 });
    const refused = await map('example.org');
    expect(refused.status).toBe(1);
    expect(refused.err).toMatch(/example.org/);
  });
});
