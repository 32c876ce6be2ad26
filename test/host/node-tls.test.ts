import assert from 'node:assert';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates, TLSSocket } from 'node:tls';
import { afterAll, describe, expect, test } from 'vitest';
import { findTool } from '../../scripts/tools.ts';
import type { Proof } from '../../src/contracts/exports.ts';
import type { ServerTls, Tls, TlsFiles } from '../../src/contracts/tls.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { NodeStream } from '../../src/host/node-stream.ts';
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
netContract('TLS with a key over a unix socket, in memory of its own for each chunk', () =>
  world('unix', { psk }, { psk, user: 'alice' }, false),
);

/** A client and a server, each with its files: what the server says that the client has proven. */
async function meet(
  server: ServerTls,
  client: TlsFiles & ClientTlsOptions,
): Promise<{ proof?: Proof; refusal?: unknown; clientSays?: unknown }> {
  const net = new TlsNet(await openNodeNet(), server, await openClientTls(client, client));
  const accepted = Promise.withResolvers<void>();
  await using listener = await net.listen('127.0.0.1:0', (stream) => {
    stream.destroy();
    accepted.resolve();
  });
  let clientSays: unknown;
  try {
    const stream = await net.dial(listener.address);
    const closed = Promise.withResolvers<void>();
    stream.start({
      received: () => undefined,
      ended: () => stream.destroy(),
      closed: () => closed.resolve(),
    });
    await closed.promise;
  } catch (error) {
    clientSays = error;
  }
  while (net.proofs.length + net.refusals.length === 0) await new Promise(setImmediate);
  const [[proof], [refusal]] = [net.proofs, net.refusals];
  return { ...(proof && { proof }), ...(refusal !== undefined && { refusal }), clientSays };
}

const forbidden = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_FORBIDDEN', message: expect.stringMatching(message) });

describe('who comes in', () => {
  const stranger = new Authority('Somebody Else');
  afterAll(() => stranger[Symbol.dispose]());
  /** A client's directory that believes our servers, with a certificate made by `issue`. */
  const clientWith = (name: string, issue: (directory: string) => void): string => {
    const directory = authority.directory(name);
    issue(directory);
    return directory;
  };

  test('a certificate of the authority, by its common name; a key, by its user', async () => {
    const server = await openServerTls({ certs, psk });
    expect(await meet(server, { certs })).toMatchObject({
      proof: { kind: 'certificate', commonName: 'guest' },
    });
    expect(await meet(server, { psk, user: 'bob' })).toMatchObject({
      proof: { kind: 'psk', user: 'bob' },
    });
  });

  test.for<[string, RegExp, (directory: string) => void]>([
    [
      'of another authority',
      /UNABLE_TO_VERIFY|UNABLE_TO_GET|SELF_SIGNED/,
      (to) => stranger.issue(to, 'client'),
    ],
    ['that has expired', /CERT_HAS_EXPIRED/, (to) => authority.issue(to, 'client', { days: -1 })],
    [
      'of a server',
      /INVALID_PURPOSE/,
      (to) => authority.issue(to, 'client', { usage: 'serverAuth' }),
    ],
  ])('a certificate %s does not, with keys and without', async ([name, why, issue]) => {
    const directory = clientWith(name.replaceAll(' ', '-'), issue);
    for (const files of [{ certs }, { certs, psk }]) {
      const met = await meet(await openServerTls(files), { certs: directory });
      expect(met.proof).toBeUndefined();
      expect(met.refusal).toEqual(forbidden(why));
    }
  });

  test('a certificate that was revoked does not, others of its authority do', async () => {
    const directory = authority.directory('revoking');
    const gone = clientWith('gone', () => undefined);
    const serial = authority.issue(gone, 'client', { commonName: 'gone' });
    authority.revoke(directory, serial);
    const server = await openServerTls({ certs: directory });
    expect(server.state.certificate?.revocations).toBe(true);
    expect((await meet(server, { certs: gone })).refusal).toEqual(forbidden(/CERT_REVOKED/));
    expect((await meet(server, { certs })).proof).toBeDefined();
  });

  test('a wrong key, or one of an unknown user, does not', async () => {
    const wrong = authority.pskFile('wrong', { alice: pskKey('x'), eve: pskKey('e') });
    for (const files of [{ psk }, { certs, psk }]) {
      const server = await openServerTls(files);
      for (const user of ['alice', 'eve']) {
        const met = await meet(server, { psk: wrong, user });
        expect(met.proof).toBeUndefined();
        expect(met.refusal).toEqual(forbidden(/TLS|key/));
      }
    }
  });

  test('a key is of no use where there are certificates only, nor the other way round', async () => {
    expect(
      (await meet(await openServerTls({ certs }), { psk, user: 'bob' })).proof,
    ).toBeUndefined();
    expect((await meet(await openServerTls({ psk }), { certs })).proof).toBeUndefined();
  });
});

/** openssl(1) as a client: it can do what ours never would. */
async function sClient(address: string, ...args: readonly string[]): Promise<string> {
  const child = spawn(
    findTool('openssl') ?? 'openssl',
    ['s_client', '-connect', address, ...args],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let printed = '';
  for (const output of [child.stdout, child.stderr]) {
    output.on('data', (text) => {
      printed += String(text);
    });
  }
  await once(child, 'close');
  return printed;
}

describe('openssl as a client', () => {
  /** A server that says hello in TLS to whoever comes in, and closes. */
  const serve = async (files: TlsFiles) => {
    const tls = await openServerTls(files);
    const proofs: Proof[] = [];
    const refusals: unknown[] = [];
    const listener = await (await openNodeNet()).listen('127.0.0.1:0', (stream) => {
      tls.secure(stream).then(
        ({ stream: inside, proof }) => {
          proofs.push(proof);
          const nothing = () => undefined;
          inside.start({ received: nothing, ended: () => inside.end(), closed: nothing });
          inside.write(new TextEncoder().encode('hello'), () => inside.end());
        },
        (error) => refusals.push(error),
      );
    });
    return Object.assign(listener, { proofs, refusals });
  };
  const identity = [
    ...['-cert', join(certs, 'client-cert.pem'), '-key', join(certs, 'client-key.pem')],
    ...['-CAfile', join(certs, 'ca-cert.pem')],
  ];
  const key = ['-psk_identity', 'alice', '-psk', pskKey('a')];

  test('comes in with TLS 1.3 and 1.2, by certificate and by key, and not with 1.1', async () => {
    await using server = await serve({ certs, psk });
    for (const version of ['-tls1_3', '-tls1_2']) {
      expect(await sClient(server.address, version, ...identity)).toContain('hello');
      const psk12 = version === '-tls1_2' ? ['-cipher', 'PSK'] : [];
      expect(await sClient(server.address, version, ...key, ...psk12)).toContain('hello');
    }
    expect(server.proofs.map(({ kind }) => kind)).toEqual([
      ...['certificate', 'psk', 'certificate', 'psk'],
    ]);
    const old = ['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'];
    expect(await sClient(server.address, ...old, ...identity)).not.toContain('hello');
    expect(server.proofs).toHaveLength(4);
  });

  test('with neither certificate nor key does not come in', async () => {
    for (const files of [{ certs }, { psk }, { certs, psk }]) {
      await using server = await serve(files);
      for (const version of ['-tls1_3', '-tls1_2']) {
        expect(await sClient(server.address, version)).not.toContain('hello');
      }
      expect([server.proofs, server.refusals.length]).toEqual([[], 2]);
    }
  });

  test('that offers a key but makes the handshake without it is nobody', async () => {
    await using server = await serve({ certs, psk });
    // The key belongs to SHA-256: with this cipher the server leaves it out and shows a certificate.
    const other = ['-tls1_3', '-ciphersuites', 'TLS_AES_256_GCM_SHA384'];
    expect(await sClient(server.address, ...other, ...key)).not.toContain('hello');
    expect(server.proofs).toEqual([]);
    expect(server.refusals).toEqual([forbidden(/no certificate, and no key/)]);
    // And with a certificate besides it is who that names, not the user of the key.
    expect(await sClient(server.address, ...other, ...key, ...identity)).toContain('hello');
    expect(server.proofs).toEqual([{ kind: 'certificate', commonName: 'guest' }]);
  });

  test('cannot take a session up again: each connection proves itself anew', async () => {
    await using server = await serve({ certs });
    for (const version of ['-tls1_3', '-tls1_2']) {
      const session = join(authority.folder, `session${version}`);
      await sClient(server.address, version, ...identity, '-sess_out', session);
      const saved = existsSync(session) ? ['-sess_in', session] : [];
      const again = await sClient(server.address, version, ...identity, ...saved);
      expect(again).toContain('hello');
      expect(again).not.toMatch(/^Reused/m);
    }
    expect(server.proofs).toHaveLength(4);
  });
});

describe('a client', () => {
  test('refuses a server of another authority, and one with another name', async () => {
    using stranger = new Authority('Somebody Else');
    const foreign = stranger.directory('guest');
    const met = await meet(await openServerTls({ certs: foreign }), { certs });
    expect(met.clientSays).toEqual(forbidden(/TLS handshake failed/));
    const server = await openServerTls({ certs });
    const elsewhere = await meet(server, { certs, hostname: 'example.org' });
    expect(elsewhere.clientSays).toMatchObject({ cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' } });
  });

  test('with a key does not go on with a server that has none, whoever vouches for it', async () => {
    const [key, cert, ca] = ['server-key.pem', 'server-cert.pem', 'ca-cert.pem'].map((name) =>
      readFileSync(join(certs, name), 'utf8'),
    );
    /** Shows a certificate, and asks for nothing. */
    const impostor: Tls = {
      secure: (stream) => {
        assert(stream instanceof NodeStream);
        new TLSSocket(stream.giveUp(), { isServer: true, ...{ key, cert } }).on('error', () => {});
        return new Promise(() => undefined);
      },
    };
    const usual = getCACertificates('default');
    setDefaultCACertificates([...usual, ca ?? '']);
    try {
      const tls = await openClientTls({ psk }, { user: 'alice' });
      const net = new TlsNet(await openNodeNet(), impostor, tls);
      await using listener = await net.listen('127.0.0.1:0', () => undefined);
      await expect(net.dial(listener.address)).rejects.toEqual(forbidden(/TLS|key/));
    } finally {
      setDefaultCACertificates(usual);
    }
  });

  test('with keys of several users must say whose', async () => {
    const opening = openClientTls({ psk });
    await expect(opening).rejects.toThrow(/several users; name one of them: alice, bob/);
    await expect(openClientTls({ psk }, { user: 'eve' })).rejects.toThrow(
      /no key of the user "eve"/,
    );
    await expect(openClientTls({ psk, certs }, { user: 'bob' })).rejects.toThrow(/not both/);
  });
});

describe('files are read again', () => {
  test('what is new holds for who comes from now on', async () => {
    const directory = authority.directory('reloading');
    const leaver = authority.directory('leaver');
    const serial = authority.issue(leaver, 'client', { commonName: 'leaver' });
    const server = await openServerTls({ certs: directory, psk });
    expect((await meet(server, { certs: leaver })).proof).toBeDefined();
    authority.revoke(directory, serial);
    expect((await meet(server, { certs: leaver })).proof).toBeDefined();
    await server.reload();
    expect((await meet(server, { certs: leaver })).refusal).toEqual(forbidden(/CERT_REVOKED/));
    expect((await meet(server, { certs })).proof).toBeDefined();
  });

  test('files that cannot be used leave the old ones in force', async () => {
    const directory = authority.directory('spoiling');
    const sound = join(authority.folder, 'sound');
    cpSync(directory, sound, { recursive: true });
    const server = await openServerTls({ certs: directory });
    const key = join(directory, 'server-key.pem');
    for (const [spoil, why] of [
      [() => writeFileSync(key, 'no key'), /server-key.pem.*no key in it/],
      [() => copyFileSync(join(certs, 'server-key.pem'), key), /not the key of .*server-cert.pem/],
      [() => chmodSync(key, 0o644), /server-key.pem.*0644.*everybody.*chmod 600/],
      [() => chmodSync(key, 0o640), /server-key.pem.*0640.*group.*chmod 600/],
      [() => rmSync(key), /server-key.pem.*cannot be opened/],
      [() => writeFileSync(join(directory, 'ca-crl.pem'), ''), /ca-crl.pem.*X509 CRL/],
      [() => writeFileSync(join(directory, 'ca-cert.pem'), ''), /ca-cert.pem.*BEGIN CERTIFICATE/],
    ] as const) {
      cpSync(sound, directory, { recursive: true });
      chmodSync(key, 0o600);
      spoil();
      await expect(server.reload()).rejects.toMatchObject({
        code: 'ERR_BAD_INPUT',
        message: expect.stringMatching(why),
      });
      expect((await meet(server, { certs })).proof).toBeDefined();
    }
  });

  test('a file of keys that others may read is none, and the keys before stay in force', async () => {
    const keys = authority.pskFile('exposed', { alice: pskKey('a') });
    const server = await openServerTls({ psk: keys });
    for (const [mode, who] of [
      [0o644, 'everybody on this machine may read it'],
      [0o640, 'its group may read it'],
      [0o620, 'others may change it'],
    ] as const) {
      chmodSync(keys, mode);
      const refused = {
        code: 'ERR_BAD_INPUT',
        message: expect.stringContaining(
          `0${mode.toString(8)}, so ${who}; first: chmod 600 '${keys}'`,
        ),
      };
      await expect(server.reload()).rejects.toMatchObject(refused);
      await expect(openServerTls({ psk: keys })).rejects.toMatchObject(refused);
      await expect(openClientTls({ psk: keys })).rejects.toMatchObject(refused);
      expect((await meet(server, { psk, user: 'alice' })).proof).toBeDefined();
    }
    chmodSync(keys, 0o600);
    await server.reload();
  });

  test('of two that are asked for at once the later one holds, however long the first one takes', async () => {
    const keys = authority.pskFile('two', { alice: pskKey('a') });
    const newer = authority.pskFile('newer', { bob: pskKey('b'), carol: pskKey('c') });
    const server = await openServerTls({ psk: keys });
    // The first one reads from a pipe, which has no end before we say so.
    rmSync(keys);
    execFileSync('mkfifo', ['-m', '600', keys]);
    const first = server.reload();
    const older = await open(keys, 'w');
    cpSync(newer, `${keys}.new`);
    renameSync(`${keys}.new`, keys);
    const second = server.reload();
    // Longer than the second one would need if it did not wait.
    for (let round = 0; round < 20; round += 1) await openServerTls({ psk: keys });
    await older.writeFile(`alice:${pskKey('a')}\n`);
    await older.close();
    expect([await first, await second]).toEqual([{ pskUsers: 1 }, { pskUsers: 2 }]);
    expect(server.state).toEqual({ pskUsers: 2 });
    expect((await meet(server, { psk, user: 'bob' })).proof).toBeDefined();
  });

  test('a reload that fails does not stop the next one', async () => {
    const keys = authority.pskFile('fails', { alice: pskKey('a') });
    const server = await openServerTls({ psk: keys });
    const text = readFileSync(keys, 'utf8');
    writeFileSync(keys, '');
    const failing = server.reload();
    await expect(failing).rejects.toThrow('holds no key');
    writeFileSync(keys, `${text}bob:${pskKey('b')}\n`);
    expect(await server.reload()).toEqual({ pskUsers: 2 });
  });
});
