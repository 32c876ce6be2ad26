import { chmod, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADMIN_LIMITS, adminServer } from '../../src/app/admin-server.ts';
import { silentLog } from '../../src/base/log.ts';
import { scratch } from '../cluster/scratch.ts';
import { http } from './http.ts';
import { startTestSheep } from './test-sheep.ts';

const NOTHING = { vdis: [], snapshots: [], deleting: [], kept: [] };
const JSON_TYPE = { 'content-type': 'application/json' };

async function world(settings: Record<string, unknown> = {}) {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const socket = `unix:${path}/admin.sock`;
  const sheep = owned.use(
    await startTestSheep(path, { admin: [socket, '127.0.0.1:0'], ...settings }),
  );
  const token = (await readFile(`${path}/admin.token`, 'utf8')).trim();
  const tcp = sheep.admin[1]!;
  return {
    ...{ path, sheep, socket, tcp, token, bearer: { authorization: `Bearer ${token}` } },
    post: (body: unknown) =>
      http(socket, 'POST', '/v1/vdis', { headers: JSON_TYPE, body: JSON.stringify(body) }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

type World = Awaited<ReturnType<typeof world>>;

describe('who may use the admin API', () => {
  test('the unix socket needs no token, and only its user may open it', async () => {
    await using it = await world();
    expect((await http(it.socket, 'GET', '/v1/info')).status).toBe(200);
    expect((await stat(`${it.path}/admin.sock`)).mode & 0o777).toBe(0o600);
  });

  test('the token is in a file that only its user may read, and stays the same', async () => {
    await using directory = await scratch();
    const tokens = [];
    for (let start = 0; start < 2; start++) {
      await using _sheep = await startTestSheep(directory.path);
      tokens.push(await readFile(`${directory.path}/admin.token`, 'utf8'));
    }
    expect(tokens[0]).toMatch(/^[0-9a-f]{64}\n$/);
    expect(tokens[1]).toBe(tokens[0]);
    expect((await stat(`${directory.path}/admin.token`)).mode & 0o777).toBe(0o600);
  });

  test('a token file that is damaged is refused by name', async () => {
    await using directory = await scratch();
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
    await writeFile(`${directory.path}/admin.token`, 'short\n');
    await expect(startTestSheep(directory.path)).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringContaining(`${directory.path}/admin.token`),
    });
  });

  test('a token that others may read is refused, with what to do about it', async () => {
    await using directory = await scratch();
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
    const path = `${directory.path}/admin.token`;
    const token = await readFile(path, 'utf8');
    for (const mode of [0o644, 0o640, 0o604]) {
      await chmod(path, mode);
      await expect(startTestSheep(directory.path)).rejects.toMatchObject({
        code: 'ERR_FORBIDDEN',
        message: expect.stringMatching(
          new RegExp(
            `admin.token .* mode is 0${mode.toString(8)}.*chmod 600 '${path}'; or.*remove it`,
          ),
        ),
      });
    }
    await chmod(path, 0o600);
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
    expect(await readFile(path, 'utf8')).toBe(token);
    await rm(path);
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
    expect(await readFile(path, 'utf8')).not.toBe(token);
  });

  test('TCP needs the token, on loopback too', async () => {
    await using it = await world();
    const wrong = [{}, { authorization: 'Bearer x' }, { authorization: it.token }];
    for (const headers of wrong) {
      const answer = await http(it.tcp, 'GET', '/v1/info', { headers });
      expect(answer).toMatchObject({
        status: 401,
        headers: { 'www-authenticate': 'Bearer' },
        body: { code: 'ERR_FORBIDDEN', message: expect.stringContaining('admin.token') },
      });
    }
    expect((await http(it.tcp, 'GET', '/v1/info', { headers: it.bearer })).status).toBe(200);
  });

  test('without the token nobody learns what there is', async () => {
    await using it = await world();
    for (const path of ['/v1/vdis/demo', '/nothing', '/v1/shutdown']) {
      expect((await http(it.tcp, 'POST', path)).status).toBe(401);
    }
  });

  test('a request of a web page is refused, whatever it knows', async () => {
    await using it = await world();
    const headers = { ...it.bearer, origin: 'http://localhost:3000' };
    expect((await http(it.tcp, 'GET', '/v1/info', { headers })).status).toBe(403);
    expect((await http(it.socket, 'GET', '/v1/info', { headers })).status).toBe(403);
  });

  describe('over TCP a Host', () => {
    let it: World;
    beforeAll(async () => {
      it = await world();
    });
    afterAll(() => it[Symbol.asyncDispose]());

    const status = async (host: string) =>
      (await http(it.tcp, 'GET', '/v1/info', { headers: { ...it.bearer, host } })).status;

    test.for(['evil.example', 'evil.example:7001', '192.168.0.1', 'localhost.evil.example'])(
      '%s is foreign on loopback, and refused',
      async (host) => expect(await status(host)).toBe(403),
    );

    test.for(['localhost', 'localhost:1', '127.0.0.1', '[::1]:7001'])('%s is ours', async (host) =>
      expect(await status(host)).toBe(200),
    );
  });
});

describe('what the admin API answers', () => {
  test('a VDI is made, shown, listed and deleted', async () => {
    await using it = await world();
    const made = await it.post({ name: 'demo', size: '8G', objectSize: '1M' });
    const vdi = { name: 'demo', vid: 1, sizeBytes: 8 * 2 ** 30, objectBytes: 2 ** 20, clients: [] };
    expect(made).toMatchObject({ status: 201, body: vdi });
    expect((await http(it.socket, 'GET', '/v1/vdis/demo')).body).toMatchObject({
      ...vdi,
      objects: 0,
    });
    expect((await http(it.socket, 'GET', '/v1/vdis')).body).toMatchObject({
      vdis: [vdi],
      deleting: [],
    });
    const dry = await http(it.socket, 'DELETE', '/v1/vdis/demo?dryRun=true');
    expect(dry).toMatchObject({ status: 200, body: { name: 'demo', dryRun: true } });
    expect((await http(it.socket, 'GET', '/v1/vdis/demo')).status).toBe(200);
    const deleted = await http(it.socket, 'DELETE', '/v1/vdis/demo');
    expect(deleted).toMatchObject({ status: 200, body: { name: 'demo', dryRun: false } });
    expect((await http(it.socket, 'GET', '/v1/vdis')).body).toEqual(NOTHING);
  });

  test('any name that a VDI can have reaches it', async () => {
    await using it = await world();
    for (const name of ['.', '..', '%2e', 'a?b#c', 'é'.repeat(127), '羊', 'a%b', 'q"\\']) {
      expect((await it.post({ name, size: 4096 })).status).toBe(201);
      const found = await http(it.socket, 'GET', `/v1/vdis/${encodeURIComponent(name)}`);
      expect(found.body).toMatchObject({ name, sizeBytes: 4096 });
    }
  });

  test('a snapshot is made, shown, cloned, rolled back to and deleted, whatever its tag', async () => {
    await using it = await world();
    await it.post({ name: 'de%mo', size: '1G' });
    const send = (method: string, path: string, body?: object) =>
      http(it.socket, method, `/v1/vdis/de%25mo${path}`, {
        ...(body && { headers: JSON_TYPE, body: JSON.stringify(body) }),
      });
    const tags = ['.', '..', '%2e', 'a?b#c', 'é'.repeat(127), '羊', 'a%b', 'q"\\', '1.5', 'clones'];
    for (const tag of tags) {
      const view = { name: 'de%mo', tag, export: `de%mo@${tag}`, state: 'snapshot', clients: [] };
      expect(await send('POST', '/snapshots', { tag })).toMatchObject({ status: 201, body: view });
      const path = `/snapshots/${encodeURIComponent(tag)}`;
      const found = await send('GET', path);
      expect(found).toMatchObject({ status: 200, body: { ...view, objects: 0, sharedObjects: 0 } });
      const byId = await send('GET', `/snapshots/${found.body['vid']}`);
      expect(byId.body).toEqual(found.body);
      const clone = await send('POST', `${path}/clones`, { name: `of-${found.body['vid']}` });
      expect(clone).toMatchObject({
        status: 201,
        body: { state: 'ready', parent: found.body['vid'] },
      });
      const back = await send('POST', `${path}/rollback`, { dryRun: false });
      expect(back).toMatchObject({
        status: 200,
        body: { parent: found.body['vid'], dryRun: false },
      });
      const dry = await send('DELETE', `${path}?dryRun=true`);
      expect(dry).toMatchObject({ status: 200, body: { tag, dryRun: true } });
      expect(await send('DELETE', path)).toMatchObject({ status: 200, body: { dryRun: false } });
      expect((await send('GET', path)).status).toBe(404);
    }
  });

  test('a body of a snapshot, a clone, a rollback or a new size that cannot be is refused', async () => {
    await using it = await world();
    await it.post({ name: 'demo', size: '1G' });
    const send = (path: string, body: unknown) =>
      http(it.socket, 'POST', `/v1/vdis/demo${path}`, {
        headers: JSON_TYPE,
        body: JSON.stringify(body),
      });
    expect((await send('/snapshots', { tag: 'one' })).status).toBe(201);
    const cases: [string, unknown, number, RegExp][] = [
      ['/snapshots', {}, 400, /must have required property 'tag'/],
      ['/snapshots', { tag: 7 }, 400, /tag must be string/],
      ['/snapshots', { tag: '7' }, 400, /all digits/],
      ['/snapshots', { tag: '' }, 400, /at least one character/],
      ['/snapshots', { tag: 'x'.repeat(300) }, 400, /300 bytes/],
      ['/snapshots', { tag: 'two', name: 'x' }, 400, /must NOT have additional properties/],
      ['/snapshots', { tag: 'one' }, 409, /has a snapshot 'one' already/],
      ['/snapshots/one/clones', {}, 400, /must have required property 'name'/],
      ['/snapshots/one/clones', { name: 'demo' }, 409, /'demo' already/],
      ['/snapshots/two/clones', { name: 'new' }, 404, /no snapshot 'two'/],
      ['/snapshots/one/rollback', { dryRun: 'yes' }, 400, /dryRun must be boolean/],
      ['/snapshots/one/rollback', { force: true }, 400, /must NOT have additional properties/],
      ['/snapshots/two/rollback', {}, 404, /no snapshot 'two'/],
      ['/resize', {}, 400, /must have required property 'size'/],
      ['/resize', { size: -1 }, 400, /size must/],
      ['/resize', { size: '2P' }, 400, /at most 1PiB/],
      ['/resize', { size: '2G', dryRun: 1 }, 400, /dryRun must be boolean/],
      ['/snapshots/two/check', {}, 404, /no snapshot 'two'/],
      ['/freeze', {}, 404, /there is no POST/],
    ];
    const before = await http(it.socket, 'GET', '/v1/vdis');
    for (const [path, body, status, message] of cases) {
      expect(await send(path, body), path).toMatchObject({
        status,
        body: { message: expect.stringMatching(message) },
      });
    }
    expect((await http(it.socket, 'GET', '/v1/vdis')).body).toEqual(before.body);
  });

  describe('refuses', () => {
    let it: World;
    beforeAll(async () => {
      it = await world();
    });
    afterAll(() => it[Symbol.asyncDispose]());

    test.for<[unknown, number, RegExp]>([
      [{}, 400, /must have required property 'name'/],
      [{ name: 'demo' }, 400, /must have required property 'size'/],
      [{ name: 'demo', size: 1, sizes: 2 }, 400, /must NOT have additional properties/],
      [{ name: 7, size: 1 }, 400, /name must be string/],
      [{ name: 'demo', size: true }, 400, /size must/],
      [{ name: 'demo', size: -1 }, 400, /size must/],
      [{ name: 'demo', size: 1.5 }, 400, /size must/],
      [{ name: 'demo', size: 1e21 }, 400, /not a size|too large/],
      [{ name: 'demo', size: '8GB' }, 400, /"8GB" is not a size/],
      [{ name: 'demo', size: 0 }, 400, /empty/],
      [{ name: 'demo', size: '1P', objectSize: '1M' }, 400, /more than 2\^28 objects/],
      [{ name: 'demo', size: 1, objectSize: '3M' }, 400, /object size 3M/],
      [{ name: 'a@b', size: 1 }, 400, /contains '@'/],
      [{ name: 'x'.repeat(300), size: 1 }, 400, /300 bytes/],
      [{ name: 'x'.repeat(70_000), size: 1 }, 413, /too large/],
      [[], 400, /must be object/],
      [null, 400, /must be object/],
      ['demo', 400, /must be object/],
    ])('%#: a body that makes no VDI', async ([body, status, message]) => {
      const answer = await it.post(body);
      expect(answer).toMatchObject({
        status,
        body: { code: 'ERR_BAD_INPUT', message: expect.stringMatching(message) },
      });
      expect((await http(it.socket, 'GET', '/v1/vdis')).body).toEqual(NOTHING);
    });
  });

  test('a name in use, an unknown name, an unknown path: each has its status and its sentence', async () => {
    await using it = await world();
    await it.post({ name: 'demo', size: 1 });
    expect(await it.post({ name: 'demo', size: 1 })).toMatchObject({
      status: 409,
      body: { code: 'ERR_EXISTS', facts: { name: 'demo' } },
    });
    for (const method of ['GET', 'DELETE']) {
      expect(await http(it.socket, method, '/v1/vdis/other')).toMatchObject({
        status: 404,
        body: { code: 'ERR_NOT_FOUND', message: expect.stringContaining("'other'") },
      });
    }
    for (const [method, path] of [
      ['GET', '/'],
      ['PATCH', '/v1/vdis'],
    ] as const) {
      expect(await http(it.socket, method, path)).toMatchObject({
        status: 404,
        body: { code: 'ERR_NOT_FOUND' },
      });
    }
  });

  test('a body that is no JSON, and a query that says something else, are refused', async () => {
    await using it = await world();
    await it.post({ name: 'demo', size: 1 });
    const refusals = [
      await http(it.socket, 'POST', '/v1/vdis', { headers: JSON_TYPE, body: '{' }),
      await http(it.socket, 'POST', '/v1/vdis', { headers: { 'content-type': 'a/b' }, body: 'x' }),
      await http(it.socket, 'DELETE', '/v1/vdis/demo?dryRun=1'),
      await http(it.socket, 'DELETE', '/v1/vdis/demo?dryrun=true'),
      await http(it.socket, 'GET', '/v1/vdis/%ff'),
      await http(it.socket, 'GET', `/v1/vdis/${'x'.repeat(2000)}`),
    ];
    for (const { status, body } of refusals) {
      expect(status).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(500);
      expect(body).toMatchObject({ code: 'ERR_BAD_INPUT', message: expect.any(String), facts: {} });
    }
    expect((await http(it.socket, 'GET', '/v1/vdis/demo')).status).toBe(200);
  });

  test('info, stats and health speak of this sheep', async () => {
    await using it = await world();
    const { body: info } = await http(it.socket, 'GET', '/v1/info');
    expect(info).toMatchObject({
      cluster: { driver: 'local', nodes: 1 },
      node: { version: '1.2.3', store: it.path, nbd: it.sheep.nbd, admin: it.sheep.admin },
      space: { totalBytes: expect.any(Number), freeBytes: expect.any(Number) },
    });
    const { body: stats } = await http(it.socket, 'GET', '/v1/stats');
    expect(stats).toMatchObject({
      upMs: expect.any(Number),
      process: { residentBytes: expect.any(Number), eventLoopDelayMs: { p99: expect.any(Number) } },
      connections: [],
    });
    const { body: health } = await http(it.socket, 'GET', '/v1/health');
    expect(health).toMatchObject({ problems: expect.any(Array) });
  });

  test('a stop that was asked for is answered first', async () => {
    await using it = await world();
    const answer = await http(it.socket, 'POST', '/v1/shutdown');
    expect(answer).toMatchObject({ status: 202, body: { stopping: true } });
    await it.sheep.stopRequested;
  });
});

describe('strangers at the admin port', () => {
  test('what never becomes a request is closed in time, and others are served meanwhile', async () => {
    const limits = { ...ADMIN_LIMITS, requestMs: 200, sweepMs: 20, connections: 4 };
    const server = adminServer({ transport: 'unix' }, silentLog, limits);
    server.get('/', () => ({ fine: true }));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => server.close());
    await server.listen({ host: '127.0.0.1', port: 0 });
    const { port } = server.server.address() as { port: number };
    const starts = ['', 'GET / HT', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab'];
    const closed = starts.map(async (start) => {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      socket.write(start);
      socket.resume();
      await new Promise((settle) => socket.once('close', settle));
    });
    expect((await http(`127.0.0.1:${port}`, 'GET', '/')).body).toEqual({ fine: true });
    await Promise.all(closed);
    const many: Socket[] = Array.from({ length: 10 }, () => connect(port, '127.0.0.1'));
    for (const socket of many) socket.on('error', () => undefined).resume();
    await Promise.all(many.map((socket) => new Promise((settle) => socket.once('close', settle))));
    expect((await http(`127.0.0.1:${port}`, 'GET', '/')).body).toEqual({ fine: true });
  });

  test('garbage is answered or closed, and does no harm', async () => {
    await using it = await world();
    const { port } = { port: Number(it.tcp.split(':').at(-1)) };
    const garbage = ['\0\xff'.repeat(5000), 'GET '.repeat(20_000), 'NBDMAGICIHAVEOPT', '\r\n\r\n'];
    for (const text of garbage) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      socket.resume();
      socket.end(text, 'latin1');
      await new Promise((settle) => socket.once('close', settle));
    }
    expect((await http(it.tcp, 'GET', '/v1/info', { headers: it.bearer })).status).toBe(200);
  });
});
