import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { ByteStream, Loan, Net } from '../../src/contracts/net.ts';

/** A net under test, an address of a kind that it knows, and how to have neither left over. */
export interface NetWorld extends AsyncDisposable {
  readonly net: Net;
  /** A free address; a new one each time. */
  address(): string;
}

/** What any Net must do. */
export function netContract(name: string, open: () => Promise<NetWorld>): void {
  describe(`${name} is a Net`, () => {
    const connected = async (world: NetWorld): Promise<[Recorder, Recorder]> => {
      const accepted = Promise.withResolvers<ByteStream>();
      const listener = await world.net.listen(world.address(), accepted.resolve);
      const near = new Recorder(await world.net.dial(listener.address));
      const far = new Recorder(await accepted.promise);
      await listener[Symbol.asyncDispose]();
      return [near, far];
    };

    test('what one side writes the other receives, in order', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      for (let value = 0; value < 200; value += 1) near.stream.write(Uint8Array.of(value));
      await far.until(() => far.length === 200);
      expect([...far.bytes()]).toEqual(Array.from({ length: 200 }, (_, value) => value));
    });

    test('both sides may write at once, and much', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      const much = new Uint8Array(3_000_000).map((_, at) => at % 251);
      near.stream.write(much);
      far.stream.write(much);
      await Promise.all([near, far].map((side) => side.until(() => side.length === much.length)));
      expect(Buffer.compare(near.bytes(), much)).toBe(0);
      expect(Buffer.compare(far.bytes(), much)).toBe(0);
    });

    test('done is called after write has returned, and what was written counts as unsent until then', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      far.stream.pause();
      let done = 0;
      const portion = new Uint8Array(1_000_000);
      for (let count = 0; count < 8; count += 1) near.stream.write(portion, () => (done += 1));
      expect(done).toBe(0);
      expect(near.stream.unsentBytes).toBeGreaterThan(0);
      far.stream.resume();
      await far.until(() => far.length === 8_000_000);
      await near.until(() => done === 8);
      expect(near.stream.unsentBytes).toBe(0);
    });

    test('an empty write is done after what was written before it, and nothing arrives for it', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      far.stream.pause();
      const order: string[] = [];
      const done = (name: string) => () => void order.push(name);
      near.stream.write(new Uint8Array(4_000_000), done('before'));
      near.stream.write(new Uint8Array(0), done('empty'));
      near.stream.write(Uint8Array.of(1), done('behind'));
      far.stream.resume();
      await far.until(() => far.length === 4_000_001);
      await near.until(() => order.length === 3);
      expect(order).toEqual(['before', 'empty', 'behind']);
    });

    test('a chunk is not empty, and stays as it is while it is held', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      const loans: Loan[] = [];
      const held: { chunk: Uint8Array; copy: Uint8Array }[] = [];
      far.onChunk = (chunk, loan) => {
        expect(chunk.length).toBeGreaterThan(0);
        if (held.length === 4) return;
        loan.hold();
        loans.push(loan);
        held.push({ chunk, copy: chunk.slice() });
      };
      const much = new Uint8Array(2_000_000).map((_, at) => at % 241);
      for (let at = 0; at < much.length; at += 50_000) {
        near.stream.write(much.subarray(at, at + 50_000));
      }
      await far.until(() => far.length === much.length);
      expect(held.length).toBeGreaterThan(0);
      for (const { chunk, copy } of held) expect(Buffer.compare(chunk, copy)).toBe(0);
      for (const loan of loans) loan.release();
      expect(Buffer.compare(far.bytes(), much)).toBe(0);
    });

    test('a stream of which too many chunks are held reads on when they are released', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      const loans: Loan[] = [];
      far.onChunk = (_, loan) => {
        loan.hold();
        loans.push(loan);
      };
      const portion = new Uint8Array(300_000);
      for (let count = 0; count < 40; count += 1) near.stream.write(portion);
      while (far.length < 12_000_000) {
        await far.until(() => loans.length > 0);
        await far.turns(5);
        expect(loans.length).toBeLessThanOrEqual(16);
        for (const loan of loans.splice(0)) loan.release();
      }
      expect(far.length).toBe(12_000_000);
    });

    test('nothing is received while paused, everything after', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      near.stream.write(Uint8Array.of(1));
      await far.until(() => far.length === 1);
      far.stream.pause();
      near.stream.write(Uint8Array.of(2));
      await far.turns(20);
      expect(far.length).toBe(1);
      far.stream.resume();
      await far.until(() => far.length === 2);
      expect([...far.bytes()]).toEqual([1, 2]);
    });

    test('a pause from inside of received takes effect at once', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      far.onChunk = () => far.stream.pause();
      for (let count = 0; count < 40; count += 1) near.stream.write(new Uint8Array(100_000));
      await far.until(() => far.chunks === 1);
      await far.turns(20);
      expect(far.chunks).toBe(1);
      far.onChunk = undefined;
      far.stream.resume();
      await far.until(() => far.length === 4_000_000);
    });

    test('end sends what is waiting; the other side may still answer; then both are closed', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      near.stream.write(new Uint8Array(1_000_000));
      near.stream.end();
      await far.until(() => far.ended);
      expect(far.length).toBe(1_000_000);
      expect(near.closed).toBe(false);
      far.stream.write(Uint8Array.of(7, 8));
      await near.until(() => near.length === 2);
      far.stream.end();
      await near.until(() => near.ended && near.closed);
      await far.until(() => far.closed);
      expect([...near.bytes()]).toEqual([7, 8]);
      expect([near.cause, far.cause]).toEqual([undefined, undefined]);
    });

    test('destroy closes at once on both sides, and every write is done', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      far.stream.pause();
      let done = 0;
      for (let count = 0; count < 8; count += 1) {
        near.stream.write(new Uint8Array(1_000_000), () => (done += 1));
      }
      near.stream.destroy();
      near.stream.write(Uint8Array.of(1), () => (done += 1));
      await near.until(() => near.closed && done === 9);
      expect(near.stream.unsentBytes).toBe(0);
      far.stream.resume();
      await far.until(() => far.ended || far.closed);
      far.stream.destroy();
      await far.until(() => far.closed);
    });

    test('nothing is told after closed, and closed once', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      for (let count = 0; count < 20; count += 1) near.stream.write(new Uint8Array(10_000));
      far.onChunk = () => far.stream.destroy();
      await far.until(() => far.closed);
      const { chunks } = far;
      await far.turns(20);
      expect([far.chunks, far.timesClosed]).toEqual([chunks, 1]);
      near.stream.destroy();
      await near.until(() => near.closed);
    });

    test('disposing a listener ends the listening and no connection', async () => {
      await using world = await open();
      const [near, far] = await connected(world); // its listener is disposed already
      near.stream.write(Uint8Array.of(5));
      await far.until(() => far.length === 1);
      const listener = await world.net.listen(world.address(), () => undefined);
      await listener[Symbol.asyncDispose]();
      await expect(world.net.dial(listener.address)).rejects.toMatchObject({ code: 'ERR_IO' });
    });

    test('dialling that is aborted, before or meanwhile, ends with the reason', async () => {
      await using world = await open();
      const streams: Recorder[] = [];
      const accept = (stream: ByteStream) => void streams.push(new Recorder(stream));
      await using listener = await world.net.listen(world.address(), accept);
      const controller = new AbortController();
      const { signal } = controller;
      const reason = new Error('enough');
      const dialling = world.net.dial(listener.address, { signal });
      controller.abort(reason);
      await expect(dialling).rejects.toBe(reason);
      await expect(world.net.dial(listener.address, { signal })).rejects.toBe(reason);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
      // Who was dialled sees nobody, or somebody who leaves; others are served.
      const last = new Recorder(await world.net.dial(listener.address));
      last.stream.write(Uint8Array.of(9));
      await last.until(() => streams.some((one) => one.length === 1));
      for (const one of streams) {
        if (one.length === 0) await one.until(() => one.ended || one.closed);
        one.stream.destroy();
      }
      await last.until(() => last.ended || last.closed);
      last.stream.destroy();
    });

    test('aborting after the dialling leaves the stream as it is', async () => {
      await using world = await open();
      const accepted = Promise.withResolvers<ByteStream>();
      await using listener = await world.net.listen(world.address(), accepted.resolve);
      const controller = new AbortController();
      const near = new Recorder(
        await world.net.dial(listener.address, { signal: controller.signal }),
      );
      const far = new Recorder(await accepted.promise);
      controller.abort();
      near.stream.write(Uint8Array.of(7));
      await far.until(() => far.length === 1);
      near.stream.destroy();
      await far.until(() => far.ended || far.closed);
      far.stream.destroy();
    });

    test('an address in use is refused, and can be used again afterwards', async () => {
      await using world = await open();
      const listener = await world.net.listen(world.address(), () => undefined);
      const again = world.net.listen(listener.address, () => undefined);
      await expect(again).rejects.toMatchObject({ code: 'ERR_BUSY' });
      await listener[Symbol.asyncDispose]();
      const later = await world.net.listen(listener.address, () => undefined);
      expect(later.address).toBe(listener.address);
      await later[Symbol.asyncDispose]();
    });

    test('what is no address is refused', async () => {
      await using world = await open();
      for (const bad of ['', 'nowhere', 'unix:', 'host:99x']) {
        const listening = world.net.listen(bad, () => undefined);
        await expect(listening, bad).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
      }
    });

    test('a stream knows its transport and has a name for its peer', async () => {
      await using world = await open();
      const [near, far] = await connected(world);
      expect(near.stream.transport).toBe(far.stream.transport);
      expect(far.stream.peerName).not.toBe('');
    });
  });
}

/** Keeps what a stream tells. */
class Recorder {
  readonly stream: ByteStream;
  onChunk: ((chunk: Uint8Array, loan: Loan) => void) | undefined;
  readonly #received: Uint8Array[] = [];
  length = 0;
  chunks = 0;
  ended = false;
  timesClosed = 0;
  cause: Error | undefined;

  constructor(stream: ByteStream) {
    this.stream = stream;
    stream.start({
      received: (chunk, loan) => {
        this.#received.push(chunk.slice());
        this.length += chunk.length;
        this.chunks += 1;
        this.onChunk?.(chunk, loan);
      },
      ended: () => {
        this.ended = true;
      },
      closed: (cause) => {
        this.timesClosed += 1;
        this.cause = cause;
      },
    });
  }

  get closed(): boolean {
    return this.timesClosed > 0;
  }
  bytes(): Uint8Array {
    return Buffer.concat(this.#received);
  }
  /** Turns of the event loop until `truth`; the test's time limit is the limit. */
  async until(truth: () => boolean): Promise<void> {
    while (!truth()) await this.turns(1);
  }
  async turns(count: number): Promise<void> {
    for (let turn = 0; turn < count; turn += 1) await new Promise((done) => setImmediate(done));
  }
}
