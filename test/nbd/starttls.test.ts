import assert from 'node:assert';
import { once } from 'node:events';
import { connect } from 'node:tls';
import { afterAll, describe, expect, test } from 'vitest';
import type { TlsFiles } from '../../src/contracts/tls.ts';
import { NodeStream } from '../../src/host/node-stream.ts';
import { certificateOptions, openClientTls } from '../../src/host/node-tls-client.ts';
import { readTlsFiles } from '../../src/host/tls-files.ts';
import { CMD, OPT, REP } from '../../src/nbd/constants.ts';
import { FIRST_STATE, need, step } from '../../src/nbd/handshake.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { ServedTls } from '../tls/served-tls.ts';
import { infoData, metaData, type OptionReply, optionBytes, TestClient } from './client.ts';

const authority = new Authority();
afterAll(() => authority[Symbol.dispose]());
const certs = authority.directory('guest');
const psk = authority.pskFile('keys', { alice: pskKey('a') });
const files: TlsFiles = { certs, psk };

const types = (replies: readonly OptionReply[]) => replies.map(({ type }) => type);
const text = (reply: OptionReply | undefined) => new TextDecoder().decode(reply?.data);

/** STARTTLS, and the client inside. */
async function secured(client: TestClient): Promise<TestClient> {
  expect(types(await client.option(OPT.STARTTLS))).toEqual([REP.ACK]);
  const { stream } = await (await openClientTls({ certs })).secure(client.stream);
  return new TestClient(stream);
}

describe('doc/proto.md, "TLS"', () => {
  test('SELECTIVETLS: everything is served in the clear, and inside of TLS', async () => {
    await using served = await ServedTls.start({ files });
    const plain = await served.greeted();
    expect(types(await plain.option(OPT.GO, infoData('disk'))).at(-1)).toBe(REP.ACK);
    const inside = await secured(await served.greeted());
    expect(types(await inside.option(OPT.GO, infoData('disk'))).at(-1)).toBe(REP.ACK);
    const payload = Uint8Array.of(1, 2, 3);
    expect(await inside.request({ type: CMD.WRITE, offset: 5, payload })).toMatchObject({
      errno: 0,
    });
    expect([...(await inside.read(4, 5))]).toEqual([0, 1, 2, 3, 0]);
    expect(served.opened).toEqual([undefined, { kind: 'certificate', commonName: 'guest' }]);
    const proofs = served.server.connections().map(({ proof }) => proof);
    expect(proofs).toEqual([undefined, { kind: 'certificate', commonName: 'guest' }]);
  });

  test('FORCEDTLS: in the clear there is STARTTLS and ABORT, and nothing else', async () => {
    await using served = await ServedTls.start({ files, required: true });
    const client = await served.greeted();
    for (const [option, data] of [
      [OPT.LIST],
      [OPT.INFO, infoData('disk')],
      [OPT.GO, infoData('disk')],
      [OPT.STRUCTURED_REPLY],
      [OPT.EXTENDED_HEADERS],
      [OPT.LIST_META_CONTEXT, metaData('disk')],
      [OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation')],
      [OPT.GO, infoData('no-such-export')],
      [0x1234],
      [OPT.LIST_META_CONTEXT, new Uint8Array(900_000)],
      [0x1234, new Uint8Array(2 * 1024 * 1024)],
    ] as const) {
      const replies = await client.option(option, data);
      expect(types(replies), `option ${option}`).toEqual([REP.ERR_TLS_REQD]);
      expect(text(replies[0])).toMatch(/TLS first/);
    }
    const inside = await secured(client);
    expect(types(await inside.option(OPT.LIST))).toEqual([REP.SERVER, REP.ACK]);

    const leaving = await served.greeted();
    expect(types(await leaving.option(OPT.ABORT))).toEqual([REP.ACK]);
    await leaving.gone;
  });

  test('FORCEDTLS: EXPORT_NAME, which cannot be answered with an error, ends the connection', async () => {
    await using served = await ServedTls.start({ files, required: true });
    const client = await served.greeted();
    client.send(optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode('disk')));
    expect(await client.rest()).toHaveLength(0);
    expect(served.opened).toEqual([]);
  });

  test('STARTTLS has no data, and comes once', async () => {
    await using served = await ServedTls.start({ files });
    const client = await served.greeted();
    expect(types(await client.option(OPT.STARTTLS, new Uint8Array(3)))).toEqual([REP.ERR_INVALID]);
    const inside = await secured(client);
    expect(types(await inside.option(OPT.STARTTLS))).toEqual([REP.ERR_INVALID]);
    expect(types(await inside.option(OPT.GO, infoData('disk'))).at(-1)).toBe(REP.ACK);
  });

  test('a client without fixed newstyle has no STARTTLS', async () => {
    await using served = await ServedTls.start({ files });
    const client = await TestClient.connect(served.net, served.address);
    await client.greet(0);
    client.send(optionBytes(OPT.STARTTLS));
    expect(await client.rest()).toHaveLength(0);
  });

  test('what was agreed in the clear is forgotten', async () => {
    await using served = await ServedTls.start({ files });
    const client = await served.greeted();
    await client.option(OPT.STRUCTURED_REPLY);
    await client.option(OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation'));
    const inside = await secured(client);
    // Structured replies are not agreed: SET_META_CONTEXT says so, and replies are simple.
    const selecting = await inside.option(
      OPT.SET_META_CONTEXT,
      metaData('disk', 'base:allocation'),
    );
    expect(types(selecting)).toEqual([REP.ERR_INVALID]);
    await inside.option(OPT.GO, infoData('disk'));
    const request = { type: CMD.READ, offset: 0, length: 16 };
    expect(await inside.request(request)).toMatchObject({ structured: false, errno: 0 });
    const status = { type: CMD.BLOCK_STATUS, offset: 0, length: 4096 };
    expect((await inside.request(status)).errno).not.toBe(0);
  });
});

describe('downgrade and injection', () => {
  test('an option that came along with STARTTLS ends the connection unanswered', async () => {
    await using served = await ServedTls.start({ files });
    for (const followers of [
      [optionBytes(OPT.STRUCTURED_REPLY)],
      [optionBytes(OPT.GO, infoData('disk'))],
      [Uint8Array.of(0x16)],
    ]) {
      const client = await served.greeted();
      client.send(Buffer.concat([optionBytes(OPT.STARTTLS), ...followers]));
      expect(await client.rest()).toHaveLength(0);
    }
    expect(served.named('nbd.handshake-refused').map(({ why }) => why)).toEqual(
      Array.from({ length: 3 }, () => 'plaintext after STARTTLS'),
    );
    expect(served.opened).toEqual([]);
  });

  test('an option between STARTTLS and the hello ends the connection', async () => {
    await using served = await ServedTls.start({ files });
    const client = await served.greeted();
    await client.option(OPT.STARTTLS);
    client.send(optionBytes(OPT.GO, infoData('disk')));
    await client.gone;
    expect(served.named('nbd.tls-refused')).toHaveLength(1);
    expect(served.opened).toEqual([]);
  });

  test('bytes in the clear after the TLS handshake end the connection', async () => {
    await using served = await ServedTls.start({ files });
    const client = await served.greeted();
    expect(types(await client.option(OPT.STARTTLS))).toEqual([REP.ACK]);
    const { certificate: material } = await readTlsFiles({ certs }, 'client');
    assert(client.stream instanceof NodeStream && material !== undefined);
    const under = client.stream.giveUp();
    const inside = connect({ ...certificateOptions(material, 'localhost'), socket: under });
    await once(inside, 'secureConnect');
    under.write(optionBytes(OPT.GO, infoData('disk'))); // past TLS, which knows nothing of it
    const [error] = await once(inside, 'error');
    expect(String(error)).toMatch(/alert/);
    expect(served.opened).toEqual([]);
  });
});

describe('time and ends', () => {
  test('the clock of the handshake goes on through STARTTLS: silence after it is cut off', async () => {
    const limits = { handshakeMs: 300, sweepMs: 20 };
    await using served = await ServedTls.start({ files, limits });
    const silent = await served.greeted();
    await silent.option(OPT.STARTTLS);
    await silent.gone;
    const inside = await secured(await served.greeted());
    await inside.gone;
    expect(served.named('nbd.handshake-timeout')).toHaveLength(2);
    expect(served.named('nbd.tls-refused')).toHaveLength(0);
  });

  test('a client that goes in the middle of the TLS handshake leaves nothing behind', async () => {
    await using served = await ServedTls.start({ files });
    for (const leave of ['end', 'destroy'] as const) {
      const client = await served.greeted();
      await client.option(OPT.STARTTLS);
      client.stream[leave]();
      await client.gone;
    }
    const client = await served.greeted();
    client.send(optionBytes(OPT.STARTTLS));
    client.stream.end();
    await client.gone;
    expect(served.opened).toEqual([]);
    // Draining settles at once if no connection is left over.
    await served.server.drain(60_000);
  });

  test('a server that stops answers inside of TLS too', async () => {
    await using served = await ServedTls.start({ files });
    const attached = await secured(await served.greeted());
    await attached.option(OPT.GO, infoData('disk'));
    attached.stream.pause();
    const inside = await secured(await served.greeted());
    const drained = served.server.drain(60_000);
    expect(types(await inside.option(OPT.LIST))).toEqual([REP.ERR_SHUTDOWN]);
    attached.stream.resume();
    await drained;
  });
});

test('FORCEDTLS: of a large option in the clear nothing is kept', () => {
  const flags = Uint8Array.of(0, 0, 0, 3);
  for (const [tls, kept] of [
    ['required', false],
    ['offered', true],
  ] as const) {
    const now = { limits: NBD_LIMITS, stopping: false, tls, followed: false };
    const greeted = step(FIRST_STATE, flags, now).state;
    const header = optionBytes(OPT.LIST_META_CONTEXT, new Uint8Array(0), 900_000);
    const wanted = need(step(greeted, header, now).state);
    expect(wanted === 900_000, tls).toBe(kept);
    expect(wanted <= NBD_LIMITS.optionAssuredBytes, tls).toBe(!kept);
  }
});

describe('many at a time', () => {
  test('take turns with TLS, and all come in', async () => {
    await using served = await ServedTls.start({ files, limits: { tlsHandshakesMax: 2 } });
    const clients = await Promise.all(Array.from({ length: 24 }, () => served.greeted()));
    const inside = await Promise.all(clients.map(secured));
    for (const client of inside) {
      expect(types(await client.option(OPT.GO, infoData('disk'))).at(-1)).toBe(REP.ACK);
    }
    expect(served.server.stats()).toMatchObject({ handshakes: 0, evicted: 0 });
  });

  test('that do not go on with theirs leave when others wait', async () => {
    const limits = { tlsHandshakesMax: 2, tlsTurnMs: 100, sweepMs: 20 };
    await using served = await ServedTls.start({ files, limits });
    const silent = await Promise.all(Array.from({ length: 2 }, () => served.greeted()));
    for (const client of silent)
      expect(types(await client.option(OPT.STARTTLS))).toEqual([REP.ACK]);
    expect(served.server.stats().evicted).toBe(0);
    const inside = await secured(await served.greeted());
    expect(types(await inside.option(OPT.GO, infoData('disk'))).at(-1)).toBe(REP.ACK);
    await silent[0]?.gone;
    expect(served.server.stats()).toMatchObject({ handshakes: 1, evicted: 1 });
    expect(served.log).toContainEqual({
      name: 'nbd.handshakes-full',
      facts: expect.objectContaining({ handshakesMax: 2, tls: true }),
    });
  });

  test('that wait for their turn end with the server', async () => {
    const served = await ServedTls.start({ files, limits: { tlsHandshakesMax: 1 } });
    const clients = await Promise.all(Array.from({ length: 3 }, () => served.greeted()));
    for (const client of clients) await client.option(OPT.STARTTLS);
    expect(served.server.stats().handshakes).toBe(3);
    await served[Symbol.asyncDispose]();
    await Promise.all(clients.map(({ gone }) => gone));
  });
});
