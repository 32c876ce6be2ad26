import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Writer } from '../../src/base/bytes.ts';
import { SheepError } from '../../src/base/errors.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { FIRST_STATE, need, type State, step } from '../../src/nbd/client/handshake.ts';
import {
  blockInfo,
  exportInfo,
  FLAGS,
  greetingBytes,
  optionReplyBytes,
  ScriptedServer,
} from './scripted-server.ts';

const [EXTENDED, STRUCTURED, META, GO] = [11, 8, 10, 7];
const [ACK, INFO, CONTEXT] = [1, 3, 4];
const SIZE = 1 << 20;
const NOTHING = new Uint8Array(0);

const context = (id: number, name: string) => new Writer().u32(id).text(name).done();
const wanted = { exportName: 'disk', contexts: ['qemu:allocation-depth'], tls: false };

/** What an honest server sends, reply by reply; most know nothing of extended headers. */
const honest = [
  Buffer.concat([greetingBytes(), optionReplyBytes(EXTENDED, 0x8000_0001)]),
  optionReplyBytes(STRUCTURED, ACK),
  optionReplyBytes(META, CONTEXT, context(1, 'base:allocation')),
  optionReplyBytes(META, CONTEXT, context(7, 'qemu:allocation-depth')),
  optionReplyBytes(META, ACK),
  optionReplyBytes(GO, INFO, exportInfo(SIZE, FLAGS.all)),
  optionReplyBytes(GO, INFO, blockInfo(512, 4096, 1 << 20)),
  optionReplyBytes(GO, INFO, new Writer().u16(2).text('a disk').done()),
  optionReplyBytes(GO, INFO, new Writer().u16(99).text('of the future').done()),
  optionReplyBytes(GO, ACK),
];

/** Runs the states over bytes as far as they go. */
function run(bytes: Uint8Array): State {
  let state: State = FIRST_STATE;
  for (let at = 0, steps = 0; at + need(state) <= bytes.length; steps += 1) {
    expect(steps).toBeLessThan(bytes.length + 2);
    const end = at + need(state);
    ({ state } = step(state, bytes.subarray(at, end), wanted));
    at = end;
  }
  return state;
}
/** The first `kept` honest replies, then others. */
const upTo = (kept: number, ...replies: readonly Uint8Array[]) =>
  Buffer.concat([...honest.slice(0, kept), ...replies]);
/** Everything honest, but for these. */
const instead = (place: number, ...replies: readonly Uint8Array[]) =>
  Buffer.concat([...honest.slice(0, place), ...replies, ...honest.slice(place + 1)]);

function code(bytes: Uint8Array): string | undefined {
  try {
    run(bytes);
    return undefined;
  } catch (error) {
    return (error as SheepError).code;
  }
}

describe('what a server offers', () => {
  test('is agreed to: size, flags, contexts with their ids, sizes of blocks, description', () => {
    expect(run(Buffer.concat(honest))).toEqual({
      at: 'over',
      terms: {
        sizeBytes: SIZE,
        flags: FLAGS.all,
        form: 'structured',
        description: 'a disk',
        contexts: new Map([
          ['base:allocation', 1],
          ['qemu:allocation-depth', 7],
        ]),
        blocks: { minimumBytes: 512, preferredBytes: 4096, payloadMaxBytes: 1 << 20 },
      },
    });
  });

  test('may be extended headers: then structured replies are not asked for', () => {
    const told = Buffer.concat([
      greetingBytes(),
      optionReplyBytes(EXTENDED, ACK),
      ...honest.slice(2),
    ]);
    expect(run(told)).toMatchObject({ at: 'over', terms: { form: 'extended' } });
    const [first, second] = [step(FIRST_STATE, greetingBytes(), wanted), optionReplyBytes(11, ACK)];
    const header = step(first.state, second, wanted);
    const { send } = step(header.state, NOTHING, wanted);
    expect([first.send?.at(15), send?.at(11)]).toEqual([EXTENDED, META]);
  });

  test('may be little: no structured replies, so no contexts are asked for, and default sizes', () => {
    const refused = optionReplyBytes(STRUCTURED, 0x8000_0001);
    const replies = [honest[0], refused, honest[5], honest[9]] as Uint8Array[];
    expect(run(Buffer.concat(replies))).toMatchObject({
      terms: {
        form: 'simple',
        contexts: new Map(),
        blocks: { minimumBytes: 1, payloadMaxBytes: 32 * 1024 * 1024 },
      },
    });
  });

  test('may lack all contexts: whatever it told before it refused is gone', () => {
    const refused = instead(4, optionReplyBytes(META, 0x8000_0001));
    expect(run(refused)).toMatchObject({ terms: { form: 'structured', contexts: new Map() } });
  });

  test('is asked for in one option after the other, and the flags are those of both', async () => {
    await using server = await ScriptedServer.listen({ contexts: ['qemu:allocation-depth'] });
    const connecting = server.connect({ contexts: ['qemu:allocation-depth', 'base:allocation'] });
    await server.handshake();
    await using client = await connecting;
    expect(server.asked).toEqual(['base:allocation', 'qemu:allocation-depth']);
    expect(client.info.contexts).toEqual(['qemu:allocation-depth']);
  });
});

describe('what a server must not say ends the handshake', () => {
  const OLDSTYLE = new Writer().text('NBDMAGIC').u64(0x0000420281861253n).u64(0).done();
  const say = (text: string) => new TextEncoder().encode(text);
  const endless = Array.from({ length: 100 }, () => honest[8] as Uint8Array);
  test.for([
    ['another greeting', 'ERR_BAD_FRAME', say('HTTP/1.1 400 Bad Request')],
    ['an old greeting', 'ERR_UNSUPPORTED', greetingBytes(0)],
    ['an oldstyle greeting', 'ERR_UNSUPPORTED', instead(0, OLDSTYLE)],
    ['half a greeting', 'ERR_BAD_FRAME', new Writer().text('NBDMAGIC').u64(5n).u16(3).done()],
    ['another magic before a reply', 'ERR_BAD_FRAME', upTo(1, new Uint8Array(20))],
    ['a reply to another option', 'ERR_BAD_FRAME', upTo(1, optionReplyBytes(META, ACK))],
    ['an acknowledgement with data', 'ERR_BAD_FRAME', upTo(1, optionReplyBytes(8, ACK, say('x')))],
    ['a reply of 4 GiB', 'ERR_BAD_FRAME', upTo(2, optionReplyBytes(META, 4, NOTHING, 2 ** 32 - 1))],
    ['a reply type of another option', 'ERR_BAD_FRAME', instead(1, optionReplyBytes(8, INFO))],
    [
      'a context nobody asked for',
      'ERR_BAD_FRAME',
      instead(2, optionReplyBytes(META, 4, context(1, 'x:y'))),
    ],
    [
      'one context twice',
      'ERR_BAD_FRAME',
      instead(3, optionReplyBytes(META, 4, context(2, 'base:allocation'))),
    ],
    [
      'one id twice',
      'ERR_BAD_FRAME',
      instead(3, optionReplyBytes(META, 4, context(1, 'qemu:allocation-depth'))),
    ],
    ['a context without an id', 'ERR_BAD_FRAME', instead(2, optionReplyBytes(META, 4, say('abc')))],
    ['no size', 'ERR_BAD_FRAME', instead(5)],
    [
      'half a size',
      'ERR_BAD_FRAME',
      instead(5, optionReplyBytes(GO, INFO, exportInfo(1, 1).subarray(0, 8))),
    ],
    [
      'a size with something behind',
      'ERR_BAD_FRAME',
      instead(5, optionReplyBytes(GO, INFO, new Uint8Array(13))),
    ],
    [
      'a size of 2^63',
      'ERR_BAD_FRAME',
      instead(5, optionReplyBytes(GO, INFO, exportInfo(2n ** 63n, 1))),
    ],
    [
      'a size that is no multiple',
      'ERR_BAD_FRAME',
      instead(5, optionReplyBytes(GO, INFO, exportInfo(SIZE + 1, 1))),
    ],
    [
      'a minimum block of 0',
      'ERR_BAD_FRAME',
      instead(6, optionReplyBytes(GO, INFO, blockInfo(0, 4096, SIZE))),
    ],
    ['one of 3', 'ERR_BAD_FRAME', instead(6, optionReplyBytes(GO, INFO, blockInfo(3, 4096, SIZE)))],
    [
      'one of 128 KiB',
      'ERR_BAD_FRAME',
      instead(6, optionReplyBytes(GO, INFO, blockInfo(131_072, 131_072, SIZE))),
    ],
    [
      'a preferred one below it',
      'ERR_BAD_FRAME',
      instead(6, optionReplyBytes(GO, INFO, blockInfo(4096, 512, SIZE))),
    ],
    [
      'a maximum below that',
      'ERR_BAD_FRAME',
      instead(6, optionReplyBytes(GO, INFO, blockInfo(1, 4096, 4095))),
    ],
    ['information without end', 'ERR_BAD_FRAME', upTo(5, ...endless)],
    ['that there is no such export', 'ERR_NOT_FOUND', upTo(5, optionReplyBytes(GO, 0x8000_0006))],
    ['that policy forbids it', 'ERR_FORBIDDEN', upTo(5, optionReplyBytes(GO, 0x8000_0002))],
    ['that it wants TLS', 'ERR_UNSUPPORTED', upTo(5, optionReplyBytes(GO, 0x8000_0005))],
    ['that it does not know GO', 'ERR_UNSUPPORTED', upTo(5, optionReplyBytes(GO, 0x8000_0001))],
    ['an error of the future', 'ERR_IO', upTo(5, optionReplyBytes(GO, 0x8000_0063))],
    ['that it is stopping', 'ERR_SHUTDOWN', upTo(1, optionReplyBytes(8, 0x8000_0007))],
  ] as const)('%s: %s', ([, expected, bytes]) => {
    expect(code(bytes)).toBe(expected);
  });

  test('its words are heard, cut, and without what would move a cursor', () => {
    const text = `\u001b[2Jno\n\u0000disk${'x'.repeat(5000)}`;
    const bytes = upTo(5, optionReplyBytes(GO, 0x8000_0006, say(text)));
    expect(() => run(bytes)).toThrow(/^export "disk" cannot be opened: \[2Jno diskx{1000,4100}$/);
  });

  test('whatever it sends: it is refused as a SheepError, or more is waited for', () => {
    const place = fc.nat(honest.length);
    const wires = fc.tuple(place, fc.uint8Array({ maxLength: 60 }), fc.nat(400), fc.nat(255));
    fc.assert(
      fc.property(wires, ([kept, rubbish, at, value]) => {
        const bytes = upTo(kept, rubbish, ...honest.slice(kept));
        if (at < bytes.length) bytes[at] = value;
        try {
          run(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(SheepError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('connecting', () => {
  test('to nobody, or to what is no address, says so', async () => {
    await using server = await ScriptedServer.listen();
    const nobody = connectNbd(server.net, 'memory:99', 'disk');
    await expect(nobody).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  test.for([
    ['an export of 5000 bytes', 'x'.repeat(5000), []],
    ['a NUL in a name', 'a\0b', []],
    ['half a character', '\ud800', []],
    ['a context of 5000 bytes', 'disk', ['x'.repeat(5000)]],
  ] as const)('%s is refused before anybody is asked', async ([, name, contexts]) => {
    await using server = await ScriptedServer.listen();
    const refused = connectNbd(server.net, 'memory:99', name, { contexts });
    await expect(refused).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
  });

  const whole = Buffer.concat(honest);
  test('a server that goes in the middle, after any byte, is told of, and nothing hangs', async () => {
    for (let cut = 0; cut < whole.length; cut += 1) {
      await using server = await ScriptedServer.listen();
      const connecting = server.connect({ contexts: wanted.contexts });
      connecting.catch(() => undefined);
      await new Promise((done) => setImmediate(done));
      server.send(whole.subarray(0, cut));
      server.stream.end();
      await expect(connecting).rejects.toMatchObject({ code: 'ERR_IO' });
      await expect(connecting).rejects.toThrow(/closed the connection during the handshake/);
    }
  });

  test.for([1, 7, 100_000])(
    'succeeds however the server cuts its words: %i bytes',
    async (size) => {
      await using server = await ScriptedServer.listen({ chunkBytes: size });
      const connecting = server.connect({ contexts: wanted.contexts });
      await new Promise((done) => setImmediate(done));
      server.send(whole);
      await using client = await connecting;
      expect(client.info).toEqual({
        sizeBytes: SIZE,
        readOnly: false,
        description: 'a disk',
        contexts: ['qemu:allocation-depth'],
      });
      expect(client.multiConn).toBe(true);
      expect(client.blocks.minimumBytes).toBe(512);
    },
  );

  test('a mute server is waited for until the signal; then it is left', async () => {
    await using server = await ScriptedServer.listen();
    const controller = new AbortController();
    const connecting = server.connect({ signal: controller.signal });
    connecting.catch(() => undefined);
    await new Promise((done) => setImmediate(done));
    server.send(greetingBytes());
    await server.flags();
    controller.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
    await server.left();
  });

  test('an aborted signal ends it before it begins', async () => {
    await using server = await ScriptedServer.listen();
    const connecting = server.connect({ signal: AbortSignal.abort(new Error('never')) });
    await expect(connecting).rejects.toThrow('never');
    expect(server.gone).toBe(false); // nobody came
  });

  test('a refused client is closed, not left open', async () => {
    await using server = await ScriptedServer.listen();
    const connecting = server.connect();
    connecting.catch(() => undefined);
    await new Promise((done) => setImmediate(done));
    server.send(new Uint8Array(18));
    await expect(connecting).rejects.toThrow('this is no NBD server');
    await server.left();
  });
});
