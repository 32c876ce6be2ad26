import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { openClientTls } from '../../src/host/node-tls-client.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { OPT } from '../../src/nbd/constants.ts';
import { http } from '../app-unit/http.ts';
import { infoData, TestClient } from '../nbd/client.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { COLLIE, Daemon, run, SHEEP, succeed } from './daemon.ts';

/** Who may reach what of a daemon, and who learns of which disk: with the programs that people use. */

const TOOLS = ['openssl', 'qemu-img', 'nbdinfo'] as const;
const available = TOOLS.every(hasTool);
const folder = mkdtempSync(join(tmpdir(), 'sheepdog-access-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface World {
  readonly authority: Authority;
  readonly certs: string;
  readonly psk: string;
}
let tls: World;
beforeAll(() => {
  if (!available) return;
  const authority = new Authority();
  const psk = authority.pskFile('keys.psk', { alice: pskKey('a') });
  const certs = authority.directory('web1');
  const names = 'DNS:localhost,DNS:store.lan,IP:127.0.0.1';
  authority.issue(certs, 'server', { commonName: 'store.lan', usage: 'serverAuth', names });
  tls = { authority, psk, certs };
  return () => authority[Symbol.dispose]();
});

let count = 0;
function store(): string {
  const path = join(folder, `${count++}`);
  mkdirSync(path);
  return path;
}

const portOf = (pattern: RegExp, { out }: Daemon) => {
  const port = pattern.exec(out)?.[1];
  if (port === undefined) throw new Error(`no port in ${out}`);
  return port;
};

describe.skipIf(!available)('a door to the network', () => {
  test.for<[string, (world: World) => string[]]>([
    ['NBD without TLS', () => ['-n', '0.0.0.0:0']],
    ['NBD on IPv6 without TLS', () => ['-n', '[::]:0']],
    [
      'NBD beside TLS that clients may leave out',
      ({ certs }) => ['-n', '0.0.0.0:0', '--tls-certs', certs],
    ],
    ['admin without TLS', () => ['--admin', '0.0.0.0:0']],
    [
      'admin with keys, which are for disks',
      ({ psk }) => ['--admin', '0.0.0.0:0', '--tls-psk', psk, '--tls-require'],
    ],
  ])(
    'is refused for %s, and opened where the network is said to be trusted',
    async ([, options]) => {
      const directory = store();
      const args = [
        directory,
        '-n',
        `unix:${directory}/nbd.sock`,
        '--admin',
        `unix:${directory}/a.sock`,
      ];
      args.push(...options(tls));
      const refused = await run(SHEEP, args);
      expect(refused).toMatchObject({ status: 2, out: '' });
      expect(refused.err).toMatch(/:0 can be reached from other machines/);
      await using daemon = await Daemon.start([...args, '--insecure-network']);
      const insecure = daemon.log.filter(({ event }) => event === 'sheep.insecure-network');
      expect(insecure).toHaveLength(1);
      const health = await run(COLLIE, ['-a', `unix:${directory}/a.sock`, 'cluster', 'health']);
      expect(health.out).toContain('insecure-network');
      expect(await daemon.stop('SIGTERM')).toBe(0);
    },
  );

  test('is opened inside TLS that every client has to use, and nothing is insecure then', async () => {
    const directory = store();
    const admin = `unix:${directory}/a.sock`;
    await using daemon = await Daemon.start([
      ...[directory, '-n', '0.0.0.0:0', '--admin', admin, '--admin', '0.0.0.0:0'],
      ...['--tls-certs', tls.certs, '--tls-psk', tls.psk, '--tls-require'],
    ]);
    expect(daemon.log.map(({ event }) => event)).not.toContain('sheep.insecure-network');
    expect(await succeed(COLLIE, ['-a', admin, 'cluster', 'health'])).not.toContain('insecure');
  });
});

describe.skipIf(!available)('the admin API', () => {
  let daemon: Daemon;
  let directory: string;
  beforeAll(async () => {
    directory = store();
    daemon = await Daemon.start([
      ...[directory, '-n', `unix:${directory}/nbd.sock`, '--tls-certs', tls.certs],
      ...['--admin', `unix:${directory}/a.sock`, '--admin', '127.0.0.1:0', '--admin', '0.0.0.0:0'],
    ]);
    return () => daemon[Symbol.asyncDispose]();
  });
  const loopback = () => `127.0.0.1:${portOf(/ 127\.0\.0\.1:(\d+)/, daemon)}`;
  const outside = () => `https://localhost:${portOf(/https:\/\/0\.0\.0\.0:(\d+)/, daemon)}`;
  const collie = (place: string, token: string, ...more: string[]) =>
    run(COLLIE, ['-a', place, ...more, 'vdi', 'list'], {
      environment: { COLLIE_TOKEN_FILE: token },
    });

  test('is for its user alone on a unix socket, whose mode says so, and needs nothing there', async () => {
    for (const name of ['a.sock', 'admin.token']) {
      expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    }
    expect((await http(`unix:${directory}/a.sock`, 'GET', '/v1/info')).status).toBe(200);
  });

  test('wants the token on a loopback address, and no web page', async () => {
    const token = join(directory, 'admin.token');
    expect(await collie(loopback(), token)).toMatchObject({ status: 0 });
    expect(await collie(loopback(), '/dev/null')).toMatchObject({
      status: 1,
      err: expect.stringContaining('this needs the token'),
    });
    const authorization = `Bearer ${readFileSync(token, 'utf8').trim()}`;
    const status = async (headers: Record<string, string>) =>
      (await http(loopback(), 'GET', '/v1/info', { headers: { authorization, ...headers } }))
        .status;
    expect(await status({})).toBe(200);
    expect(await status({ host: 'evil.example' })).toBe(403);
    expect(await status({ origin: 'https://localhost' })).toBe(403);
  });

  test('wants the token and a certificate on another address, and no web page there either', async () => {
    const token = join(directory, 'admin.token');
    const shown = ['--tls-certs', tls.certs];
    expect(await collie(outside(), token, ...shown)).toMatchObject({ status: 0, err: '' });
    expect(await collie(outside(), '/dev/null', ...shown)).toMatchObject({
      status: 1,
      err: expect.stringContaining('this needs the token'),
    });
    using strangers = new Authority('Strangers');
    const theirs = ['--tls-certs', strangers.directory('web1')];
    expect((await collie(outside(), token, ...theirs)).err).toMatch(
      /is not what ca-cert\.pem vouches/,
    );
    const status = (headers: Record<string, string>, side: 'client' | 'none' = 'client') =>
      httpsStatus(outside(), tls.certs, side, {
        authorization: `Bearer ${readFileSync(token, 'utf8').trim()}`,
        ...headers,
      });
    for (const host of ['localhost', '10.0.0.5:7001', 'store.lan:7001']) {
      expect(await status({ host }), host).toBe(200);
    }
    expect(await status({ host: 'evil.example' })).toBe(403);
    expect(await status({ origin: 'https://localhost' })).toBe(403);
    await expect(status({}, 'none')).rejects.toThrow();
    expect(daemon.log.map(({ event }) => event)).toContain('admin.tls-refused');
  });

  test('tells there what happens, as it happens', async () => {
    const args = ['-a', outside(), '--tls-certs', tls.certs, 'events', '--since-start'];
    const environment = { ...process.env, COLLIE_TOKEN_FILE: join(directory, 'admin.token') };
    const child = spawn(COLLIE, args, { env: environment, stdio: ['ignore', 'pipe', 'inherit'] });
    let told = '';
    for await (const chunk of child.stdout) {
      told += chunk;
      if (told.includes('sheep.ready')) break;
    }
    child.kill();
    expect(told).toContain('sheep.ready');
  });
});

function httpsStatus(
  place: string,
  certs: string,
  side: 'client' | 'none',
  headers: Record<string, string>,
): Promise<number | undefined> {
  const pem = (name: string) => readFileSync(join(certs, `${name}.pem`));
  const shown = side === 'none' ? {} : { cert: pem('client-cert'), key: pem('client-key') };
  const options = { ca: pem('ca-cert'), ...shown, servername: 'localhost', headers, agent: false };
  return new Promise((resolve, reject) => {
    request(`${place}/v1/info`, options, (answer) => resolve(answer.resume().statusCode))
      .on('error', reject)
      .end();
  });
}

describe.skipIf(!available)('a disk', () => {
  let daemon: Daemon;
  let directory: string;
  let port: string;
  const rules = {
    everybody: 'default',
    socket: 'unix',
    machine: 'cidr:127.0.0.0/8',
    network: 'cidr:192.0.2.0/24',
    web1: 'cert:web1',
    web: 'cert:web',
    alice: 'psk:alice',
  };
  beforeAll(async () => {
    directory = store();
    daemon = await Daemon.start([
      ...[directory, '-n', '127.0.0.1:0', '-n', `unix:${directory}/nbd.sock`],
      ...['--admin', `unix:${directory}/a.sock`, '--log-level', 'debug'],
      ...['--tls-certs', tls.certs, '--tls-psk', tls.psk],
    ]);
    port = portOf(/nbd 127\.0\.0\.1:(\d+)/, daemon);
    for (const [name, allow] of Object.entries(rules)) {
      await collie('vdi', 'create', name, '8M', '--allow', allow);
    }
    return () => daemon[Symbol.asyncDispose]();
  });
  const collie = (...args: string[]) =>
    succeed(COLLIE, ['-a', `unix:${directory}/a.sock`, ...args]);

  /** Clients, by the URI that leads nbdinfo to an export. */
  const clients: Readonly<Record<string, (name: string) => string>> = {
    'a unix socket': (name) => `nbd+unix:///${name}?socket=${directory}/nbd.sock`,
    'a loopback address': (name) => `nbd://127.0.0.1:${port}/${name}`,
    'a certificate': (name) => `nbds://localhost:${port}/${name}?tls-certificates=${tls.certs}`,
    'a key': (name) => `nbds://alice@localhost:${port}/${name}?tls-psk-file=${tls.psk}`,
  };

  test.for<[string, readonly (keyof typeof rules)[]]>([
    ['a unix socket', ['everybody', 'socket']],
    ['a loopback address', ['everybody', 'machine']],
    ['a certificate', ['everybody', 'machine', 'web1']],
    ['a key', ['everybody', 'machine', 'alice']],
  ])('is there for a client by %s if its rules say so, and else is not', async ([by, allowed]) => {
    const uri = clients[by]!;
    const listed = JSON.parse(await succeed('nbdinfo', ['--json', '--list', uri('')]));
    const names = listed.exports.map((each: Record<string, unknown>) => each['export-name']);
    expect(names.sort()).toEqual([...allowed].sort());
    for (const name of Object.keys(rules)) {
      const said = await run('nbdinfo', ['--size', uri(name)]);
      if (allowed.some((each) => each === name)) expect(said.out).toBe('8388608\n');
      else expect(said).toMatchObject({ status: 1, out: '' });
      const unknown = await run('nbdinfo', ['--size', uri(name.replace(/./g, 'x'))]);
      if (said.status !== 0)
        expect(said.err.replaceAll(name, name.replace(/./g, 'x'))).toBe(unknown.err);
    }
  });

  test('that is taken away is gone for who had it, at once', async () => {
    await collie('vdi', 'create', 'taken', '8M', '--allow', 'default,psk:alice');
    const [net, address] = [await openNodeNet(), `127.0.0.1:${port}`];
    const side = await openClientTls({ psk: tls.psk });
    await using inside = await connectNbd(net, address, 'taken', { tls: side });
    await using outside = await connectNbd(net, address, 'taken');
    for (const client of [inside, outside]) await client.read(0, new Uint8Array(4096));
    expect(await collie('vdi', 'set', 'taken', 'allow=cert:web1')).toMatch(
      /^taken allow=cert:web1\n(127\.0\.0\.1:\d+ disconnected from taken\n){2}$/,
    );
    for (const client of [inside, outside]) {
      await expect(client.read(0, new Uint8Array(4096))).rejects.toThrow();
      expect(client.lost.aborted).toBe(true);
    }
    const said = await run('nbdinfo', ['--size', clients['a loopback address']!('taken')]);
    expect(said).toMatchObject({ status: 1, out: '' });
    expect(await succeed('nbdinfo', ['--size', clients['a certificate']!('taken')])).toBe(
      '8388608\n',
    );
  });

  test('that is forbidden takes as long to be denied as one that does not exist', async () => {
    // More rules and a line in the log, once: what could be seen in the time.
    const many = Array.from({ length: 64 }, (_, user) => `psk:${'user'.repeat(63)}${user}`);
    await collie('vdi', 'set', 'alice', `allow=${many.join(',')}`);
    const net = await openNodeNet();
    const times: { forbidden: boolean; ms: number }[] = [];
    for (let round = 0; round < 8; round += 1) {
      const client = await TestClient.connect(net, `127.0.0.1:${port}`);
      await client.greet();
      for (let pair = 0; pair < 12; pair += 1) {
        // In turn, so that whatever else the machine does meets both.
        for (const forbidden of pair % 2 === 0 ? [true, false] : [false, true]) {
          const startMs = performance.now();
          await client.option(OPT.INFO, infoData(forbidden ? 'alice' : 'xxxxx'));
          times.push({ forbidden, ms: performance.now() - startMs });
        }
      }
      client.stream.destroy();
    }
    // Of two samples of the same kind the ranks differ by so much once in millions of runs.
    expect(Math.abs(rankSumDeviation(times))).toBeLessThan(5);
  });

  test('and its keeper find no secret in the log, at any level', async () => {
    const token = readFileSync(join(directory, 'admin.token'), 'utf8').trim();
    const key = readFileSync(join(tls.certs, 'server-key.pem'), 'utf8').split('\n')[1]!;
    const text = JSON.stringify(daemon.log);
    expect(text).toContain('nbd.export-forbidden');
    for (const secret of [token, pskKey('a'), key]) {
      expect(secret.length).toBeGreaterThan(30);
      expect(text.toLowerCase()).not.toContain(secret.toLowerCase());
    }
    // Nor in what everybody on the machine sees of a process.
    for (const secret of [token, pskKey('a')]) {
      expect(readFileSync(`/proc/${daemon.child.pid}/cmdline`, 'utf8')).not.toContain(secret);
    }
  });
});

/** By how many standard deviations the ranks of the forbidden differ from chance (Mann-Whitney). */
function rankSumDeviation(times: readonly { forbidden: boolean; ms: number }[]): number {
  const sorted = times.toSorted((a, b) => a.ms - b.ms);
  const sum = sorted.reduce((ranks, { forbidden }, at) => ranks + (forbidden ? at + 1 : 0), 0);
  const some = times.filter(({ forbidden }) => forbidden).length;
  const others = times.length - some;
  const mean = (some * (times.length + 1)) / 2;
  return (sum - mean) / Math.sqrt((some * others * (times.length + 1)) / 12);
}
