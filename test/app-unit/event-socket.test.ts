import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { addEventRoutes } from '../../src/app/admin-event-routes.ts';
import { adminServer } from '../../src/app/admin-server.ts';
import type { EventView } from '../../src/app/admin-views.ts';
import { Events } from '../../src/app/events.ts';
import { silentLog } from '../../src/base/log.ts';
import { scratch } from '../cluster/scratch.ts';
import { ManualClock } from '../nbd/manual-clock.ts';
import { http } from './http.ts';
import { collie, startTestSheep } from './test-sheep.ts';

async function world() {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const socket = `unix:${path}/admin.sock`;
  const sheep = await startTestSheep(path, { admin: [socket, '127.0.0.1:0'] });
  owned.defer(() => sheep[Symbol.asyncDispose]());
  const token = (await readFile(`${path}/admin.token`, 'utf8')).trim();
  const tcp = sheep.admin[1]!;
  const bearer = { authorization: `Bearer ${token}` };
  const open = (path = '/v1/events', headers: Record<string, string> = bearer) => {
    const socket = new WebSocket(`ws://${tcp}${path}`, { headers });
    owned.defer(() => socket.terminate());
    return socket;
  };
  return {
    ...{ path, sheep, socket, tcp, bearer, open },
    change: () =>
      http(socket, 'POST', '/v1/vdis', {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name: 'demo', size: '1G' }),
      }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The status with which an upgrade is refused. */
async function refusal(socket: WebSocket): Promise<number> {
  socket.on('error', () => undefined);
  const [, answer] = await once(socket, 'unexpected-response');
  return answer.statusCode;
}

/** Resolves with the first event of this name. */
function named(socket: WebSocket, name: string): Promise<EventView> {
  return new Promise((settle) => {
    const look = (data: unknown) => {
      const event: EventView = JSON.parse(String(data));
      if (event.event !== name) return;
      socket.off('message', look);
      settle(event);
    };
    socket.on('message', look);
  });
}

/** A `collie events` that runs until its sheep stops. */
function listening(address: string, ...options: string[]) {
  let out = '';
  const looks = new Set<() => void>();
  const said = collie(['-a', address, ...options, 'events', '--since-start'], {}, (all) => {
    out = all;
    for (const look of looks) look();
  });
  const heard = (text: string) =>
    new Promise<void>((settle) => {
      const look = () => out.includes(text) && settle();
      looks.add(look);
      look();
    });
  return { said, heard };
}

describe('GET /v1/events', () => {
  test('tells what happens, and on demand what has happened', async () => {
    await using it = await world();
    const [late, early] = [it.open(), it.open('/v1/events?after=0')];
    const ready = named(early, 'sheep.ready');
    const drained = [late, early].map((socket) => named(socket, 'sheep.draining'));
    const heard: string[] = [];
    late.on('message', (data) => heard.push(JSON.parse(String(data)).event));
    expect(await ready).toMatchObject({ level: 'info', facts: { store: it.path } });
    if (late.readyState !== WebSocket.OPEN) await once(late, 'open');
    const closed = [late, early].map((socket) => once(socket, 'close'));
    await it.sheep[Symbol.asyncDispose]();
    await Promise.all(drained);
    expect(heard[0]).toBe('sheep.draining');
    for (const [code, reason] of await Promise.all(closed)) {
      expect([code, String(reason)]).toEqual([1001, 'sheep is stopping']);
    }
  });

  test('is for nobody without the token, for no web page and for no foreign host', async () => {
    await using it = await world();
    expect(await refusal(it.open('/v1/events', {}))).toBe(401);
    expect(await refusal(it.open('/v1/events', { authorization: 'Bearer wrong' }))).toBe(401);
    const page = { ...it.bearer, origin: 'http://localhost' };
    expect(await refusal(it.open('/v1/events', page))).toBe(403);
    const foreign = { ...it.bearer, host: 'evil.example' };
    expect(await refusal(it.open('/v1/events', foreign))).toBe(403);
  });

  test('says what is wrong with a request that is no WebSocket, or asks for what there is not', async () => {
    await using it = await world();
    expect(await http(it.socket, 'GET', '/v1/events')).toMatchObject({
      status: 426,
      body: { message: expect.stringContaining('collie events') },
    });
    expect(await refusal(it.open('/v1/events?after=x'))).toBe(400);
    expect(await refusal(it.open('/v1/events?since=1'))).toBe(400);
    expect(await refusal(it.open('/v1/nothing'))).toBe(404);
  });

  test('an upgrade where there is no WebSocket does nothing and is closed', async () => {
    await using it = await world();
    const info = it.open('/v1/info');
    await once(info, 'close');
    const port = Number(it.tcp.split(':').at(-1));
    const raw = connect(port, '127.0.0.1');
    raw.write(
      `POST /v1/shutdown HTTP/1.1\r\nhost: localhost\r\nauthorization: ${it.bearer.authorization}\r\n` +
        'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n' +
        'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    raw.resume();
    await once(raw, 'close');
    const stopped = it.sheep.stopRequested.then(() => 'stopped');
    expect(await Promise.race([stopped, 'goes on'])).toBe('goes on');
  });

  test('an upgrade by a URL that cannot be decoded is closed, also without the token', async () => {
    await using it = await world();
    const raw = connect(Number(it.tcp.split(':').at(-1)), '127.0.0.1');
    raw.write(
      'GET /% HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n' +
        'sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    raw.resume();
    await once(raw, 'close');
    expect((await http(it.socket, 'GET', '/v1/info')).status).toBe(200);
  });

  test('an upgrade behind a request that is not answered yet is cut off', async () => {
    await using it = await world();
    const raw = connect(Number(it.tcp.split(':').at(-1)), '127.0.0.1');
    const head = `host: localhost\r\nauthorization: ${it.bearer.authorization}\r\n`;
    raw.write(
      `GET /v1/stats HTTP/1.1\r\n${head}\r\nGET /v1/events HTTP/1.1\r\n${head}` +
        'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n' +
        'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    raw.resume();
    raw.on('error', () => undefined);
    await once(raw, 'close');
    expect((await http(it.socket, 'GET', '/v1/info')).status).toBe(200);
  });

  test('nor does one stay behind a request with an expectation that nobody knows', async () => {
    await using it = await world();
    const raw = connect(Number(it.tcp.split(':').at(-1)), '127.0.0.1');
    raw.write(
      'GET /v1/info HTTP/1.1\r\nhost: localhost\r\nexpect: 100-c\r\n\r\n' +
        'POST /v1/vdis HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n' +
        'sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    raw.resume();
    raw.on('error', () => undefined);
    await once(raw, 'close');
    expect((await http(it.socket, 'GET', '/v1/info')).status).toBe(200);
  });

  test('an upgrade of which nobody makes anything is closed after its time', async () => {
    await using directory = await scratch();
    const clock = new ManualClock();
    const server = adminServer({ transport: 'unix' }, silentLog);
    await addEventRoutes(server, { events: new Events(silentLog, clock), clock });
    server.addHook('onRequest', () => new Promise<void>(() => undefined));
    await server.listen({ path: `${directory.path}/s` });
    const raw = connect(`${directory.path}/s`);
    raw.on('error', () => undefined);
    raw.write(
      'GET /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n' +
        'sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
    );
    await once(server.server, 'upgrade');
    const closed = once(raw, 'close');
    raw.resume();
    await clock.pass(10_000);
    await closed;
    await server.close();
  });

  test('an upgrade that comes while the sheep stops is answered, and holds nothing up', async () => {
    await using it = await world();
    const port = Number(it.tcp.split(':').at(-1));
    const upgrade =
      `GET /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: ${it.bearer.authorization}\r\n` +
      'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n' +
      'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';
    const dial = async () => {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      await once(socket, 'connect');
      return socket;
    };
    // One who does not close his side gives the other the time to come.
    const [deaf, late] = [await dial(), await dial()];
    late.write(upgrade.slice(0, 30));
    deaf.write(upgrade);
    await once(deaf, 'data');
    const told = new Promise<void>((settle) => {
      deaf.on('data', (data) => String(data).includes('sheep is stopping') && settle());
    });
    const stopping = it.sheep[Symbol.asyncDispose]();
    await told;
    const closed = once(late, 'close');
    late.write(upgrade.slice(30));
    let answer = '';
    late.setEncoding('latin1').on('data', (text: string) => {
      answer += text;
    });
    await closed;
    expect(answer).toMatch(/^HTTP\/1\.1 503 /);
    await stopping;
  });

  test('who says anything is closed, and a frame that is none does no harm', async () => {
    await using it = await world();
    const talker = it.open();
    await once(talker, 'open');
    talker.send('hello');
    expect((await once(talker, 'close'))[0]).toBe(1003);
    const liar = it.open();
    await once(liar, 'open');
    liar.on('error', () => undefined);
    liar.send(Buffer.alloc(2000));
    expect((await once(liar, 'close'))[0]).toBe(1009);
    expect((await http(it.socket, 'GET', '/v1/info')).status).toBe(200);
  });

  test('more subscribers than are allowed are refused, and one that goes makes room', async () => {
    await using it = await world();
    const sockets = Array.from({ length: 16 }, () => it.open());
    await Promise.all(sockets.map((socket) => once(socket, 'open')));
    expect(await refusal(it.open())).toBe(429);
    expect((await http(it.socket, 'GET', '/v1/info')).status).toBe(200);
    const gone = once(sockets[0]!, 'close');
    sockets[0]?.close();
    await gone;
    await once(it.open(), 'open');
  });

  test('a subscriber who does not read is cut off, and the others are told', async () => {
    await using it = await world();
    const slow = it.open();
    await once(slow, 'open');
    slow.pause();
    const other = it.open();
    await once(other, 'open');
    const dropped = named(other, 'events.subscriber-dropped');
    let over = false;
    void dropped.then(() => {
      over = true;
    });
    // Until the kernel takes no more, and then all that we hold; the other reads along.
    for (let count = 0; !over; count += 1) {
      const heard = named(other, `test.filling-${count}`);
      for (let part = 0; part < 50; part += 1) {
        it.sheep.log.event('info', 'test.filling', { fill: 'x'.repeat(8000) });
      }
      it.sheep.log.event('info', `test.filling-${count}`);
      await heard;
    }
    expect((await dropped).facts).toEqual({ subscriber: '127.0.0.1' });
  });
});

test('a subscriber who answers no ping is gone after a minute, one who does stays', async () => {
  const clock = new ManualClock();
  const events = new Events(silentLog, clock);
  const server = adminServer({ transport: 'unix' }, silentLog);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => server.close());
  await addEventRoutes(server, { events, clock });
  await server.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.server.address() as { port: number };
  const open = async (autoPong: boolean) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/events`, { autoPong });
    stack.defer(() => socket.terminate());
    const pinged = once(socket, 'ping');
    await once(socket, 'open');
    await pinged;
    return socket;
  };
  const [dead, alive] = [await open(false), await open(true)];
  const gone = once(dead, 'close');
  // The answer to the first ping has arrived once what was told after it is heard.
  for (let minute = 0; minute < 3; minute += 1) {
    const heard = named(alive, `test.minute-${minute}`);
    alive.ping();
    await once(alive, 'pong');
    events.event('info', `test.minute-${minute}`);
    await heard;
    await clock.pass(30_000);
  }
  await gone;
  expect(alive.readyState).toBe(WebSocket.OPEN);
});

describe('collie events', () => {
  test('prints what has happened and what happens, and ends with the sheep', async () => {
    await using it = await world();
    const [people, program] = [listening(it.socket), listening(it.socket, '--json')];
    await Promise.all([people.heard('sheep.ready'), program.heard('sheep.ready')]);
    await it.sheep[Symbol.asyncDispose]();
    const { status, out, err } = await people.said;
    expect(status).toBe(1);
    expect(out).toMatch(/^\d\d:\d\d:\d\d\.\d{3} info {2}farm\.opened directory=/m);
    expect(err).toBe(`collie: the sheep at ${it.socket} has ended it: sheep is stopping\n`);
    const views = (await program.said).out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(views[0]).toMatchObject({ seq: 1, level: 'info', event: 'farm.opened' });
  });

  test('says so where it may not listen, or nobody answers', async () => {
    await using it = await world();
    const refused = await collie(['-a', it.tcp, 'events']);
    expect(refused).toMatchObject({ status: 1, err: expect.stringContaining('admin.token') });
    const nobody = await collie(['-a', 'unix:/nowhere/admin.sock', 'events']);
    expect(nobody).toMatchObject({ status: 1, err: expect.stringContaining('no sheep answers') });
  });

  test('a name that a stranger chose moves no cursor', async () => {
    await using it = await world();
    it.sheep.log.event('info', 'test.named', { name: 'a\u001b[2J\u009bb' });
    const { said, heard } = listening(it.socket);
    await heard('test.named');
    await it.sheep[Symbol.asyncDispose]();
    const line = (await said).out.split('\n').find((text) => text.includes('test.named'));
    expect(line).toContain('name="a\\u001b[2J b"');
  });
});
