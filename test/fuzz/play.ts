import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { OPT } from '../../src/nbd/constants.ts';
import { optionBytes } from '../nbd/client.ts';
import type { Case, Surface } from './cases.ts';
import { playSettings } from './settings.ts';
import { pause, type Sheep } from './sheep.ts';

/** A connection that we have closed is closed by the other side within this, or it is stuck. */
const CLOSED_MS = 15_000;
/** Between two parts. */
const PART_MS = 2;
/** A connection that is to be reset has so long for what it was sent. */
const RESET_MS = 5;

const GREETING_BYTES = 18;
const OPTION_REPLY_BYTES = 20;

/** What is left to do when the other cases of a batch are over too. */
export type Rest = () => Promise<void>;

/** Does what the case says. @throws Error if it shows something that must not be */
export async function play(one: Case, sheep: Sheep): Promise<Rest> {
  if (one.at === 'settings' || one.at === 'config') {
    await playSettings(one, sheep.directory);
    return async () => undefined;
  }
  const stream = await open(one.at, sheep);
  const closed = new Promise<void>((resolve) => stream.once('close', resolve));
  stream.on('error', () => undefined); // the other side may close whenever it likes
  if (one.deaf) stream.pause();
  else stream.resume();
  for (const part of one.parts) {
    if (stream.destroyed) break;
    stream.write(part);
    await pause(PART_MS);
  }
  if (one.end === 'hold') {
    return async () => {
      stream.destroy();
      await closed;
    };
  }
  if (one.end === 'reset' || one.deaf) {
    await pause(RESET_MS);
    stream.destroy();
  } else {
    stream.end();
  }
  return () => closedInTime(closed, stream, one);
}

/** The connection must go: the other side has been told that no more comes. */
async function closedInTime(closed: Promise<void>, stream: Duplex, one: Case): Promise<void> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), CLOSED_MS);
  const outcome = await Promise.race([
    closed.then(() => 'closed' as const),
    new Promise<'late'>((resolve) => late.signal.addEventListener('abort', () => resolve('late'))),
  ]);
  clearTimeout(timer);
  stream.destroy();
  if (outcome === 'late') throw new Error(`a connection at '${one.at}' is stuck`);
}

async function open(at: Exclude<Surface, 'settings' | 'config'>, sheep: Sheep): Promise<Duplex> {
  const at127 = (port: number) => connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  switch (at) {
    case 'tcp':
      return at127(sheep.nbdPort);
    case 'unix':
      return connect({ path: sheep.nbdSocket, allowHalfOpen: true });
    case 'psk':
    case 'certificate': {
      const socket = await beforeTls(connect({ host: '127.0.0.1', port: sheep.nbdPort }));
      return await insideTls(socket, sheep.proof(at));
    }
    case 'nbd tls':
      return await beforeTls(at127(sheep.nbdPort));
    case 'token':
    case 'no token':
      return at127(sheep.adminPort);
    case 'admin':
      return connect({ path: sheep.adminSocket, allowHalfOpen: true });
    case 'https token':
    case 'https no token': {
      const socket = connect({ host: '127.0.0.1', port: sheep.httpsPort });
      return await insideTls(socket, sheep.proof('certificate'));
    }
    case 'https tls':
      return at127(sheep.httpsPort);
  }
}

/** The client's flags and STARTTLS as they should be, and the answer: then it is the turn of TLS. */
async function beforeTls(socket: Socket): Promise<Socket> {
  const answered = received(socket, GREETING_BYTES + OPTION_REPLY_BYTES);
  socket.write(Buffer.concat([Uint8Array.of(0, 0, 0, 3), optionBytes(OPT.STARTTLS)]));
  if (!(await answered)) throw new Error('no TLS: closed instead');
  return socket;
}

/** The case comes after the handshake. */
async function insideTls(socket: Socket, proof: ConnectionOptions): Promise<Duplex> {
  const secure = connectTls({ ...proof, socket });
  const failed = await new Promise<Error | undefined>((settle) => {
    secure.once('secureConnect', () => settle(undefined)).once('error', settle);
  });
  if (failed !== undefined) throw new Error(`no TLS: ${failed.message}`, { cause: failed });
  return secure;
}

/** True when so many bytes have come, false when the connection is gone before. */
function received(socket: Socket, bytes: number): Promise<boolean> {
  return new Promise((settle) => {
    let length = 0;
    const take = (chunk: Buffer) => {
      length += chunk.length;
      if (length < bytes) return;
      socket.off('data', take);
      settle(true);
    };
    socket.on('data', take);
    socket.on('error', () => settle(false));
    socket.on('close', () => settle(false));
  });
}
