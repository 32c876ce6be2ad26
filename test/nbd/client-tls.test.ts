import { afterAll, describe, expect, test } from 'vitest';
import type { Tls } from '../../src/contracts/tls.ts';
import { openClientTls } from '../../src/host/node-tls-client.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import { OPT, REP } from '../../src/nbd/constants.ts';
import { Authority, pskKey } from '../tls/authority.ts';
import { ServedTls } from '../tls/served-tls.ts';
import { MemoryNet } from './memory-net.ts';
import { greetingBytes, optionReplyBytes } from './scripted-server.ts';

const authority = new Authority();
afterAll(() => authority[Symbol.dispose]());
const certs = authority.directory('guest');
const psk = authority.pskFile('keys', { alice: pskKey('a') });

const connect = (served: ServedTls, tls?: Tls) =>
  connectNbd(served.net, served.address, 'disk', { ...(tls !== undefined && { tls }) });

describe('our client, where TLS is asked of it', () => {
  test.for([
    ['certificates', { certs }, { kind: 'certificate', commonName: 'guest' }],
    ['a key', { psk }, { kind: 'psk', user: 'alice' }],
  ] as const)('writes and reads with %s', async ([, files, proof]) => {
    await using served = await ServedTls.start({ files: { certs, psk }, required: true });
    await using device = await connect(served, await openClientTls(files));
    const written = new Uint8Array(300_000).map((_, at) => at % 253);
    await device.write(5000, written, { durable: true });
    const read = new Uint8Array(written.length);
    await device.read(5000, read);
    expect(Buffer.compare(read, written)).toBe(0);
    expect(served.opened).toEqual([proof]);
  });

  test('does not speak to a server without TLS, nor to one that it does not believe', async () => {
    using stranger = new Authority('Somebody Else');
    await using served = await ServedTls.start({ files: { certs } });
    const tls = await openClientTls({ certs: stranger.directory('guest') });
    await expect(connect(served, tls)).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
    expect(served.opened).toEqual([]);
  });

  test('is told what a server wants that insists on TLS', async () => {
    await using served = await ServedTls.start({ files: { certs }, required: true });
    await expect(connect(served)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringContaining('wants TLS first'),
      facts: { reply: 'ERR_TLS_REQD' },
    });
  });
});

describe('downgrades', () => {
  const tls: Tls = {
    secure: async () => {
      throw new Error('nobody may get so far');
    },
  };
  test.for([
    ['a server that refuses', optionReplyBytes(OPT.STARTTLS, REP.ERR_POLICY), 'ERR_FORBIDDEN'],
    ['one that does not know it', optionReplyBytes(OPT.STARTTLS, REP.ERR_UNSUP), 'ERR_UNSUPPORTED'],
    [
      'plaintext behind the agreement',
      Buffer.concat([optionReplyBytes(OPT.STARTTLS, REP.ACK), optionReplyBytes(11, REP.ACK)]),
      'ERR_BAD_FRAME',
    ],
    ['an answer to what was not asked', optionReplyBytes(OPT.STARTTLS, REP.INFO), 'ERR_BAD_FRAME'],
  ] as const)('%s ends it: nothing more is asked', async ([, answer, code]) => {
    const net = new MemoryNet();
    const gone = Promise.withResolvers<void>();
    let heardBytes = 0;
    await using listener = await net.listen('memory:0', (stream) => {
      stream.start({
        received: (chunk) => {
          heardBytes += chunk.length;
        },
        ended: () => stream.end(),
        closed: () => gone.resolve(),
      });
      stream.write(Buffer.concat([greetingBytes(), answer]));
    });
    const opening = connectNbd(net, listener.address, 'disk', { tls });
    await expect(opening).rejects.toMatchObject({ code });
    await gone.promise;
    // Client flags and STARTTLS at most: no name of an export went out.
    expect(heardBytes).toBeLessThanOrEqual(4 + 16);
  });
});
