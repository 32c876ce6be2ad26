import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { answerTo, type WorkRequest } from '../../src/host/cpu-work.ts';
import { type WorkerEvents, type WorkerKind, WorkerPool } from '../../src/host/worker-pool.ts';

/** A worker that does nothing by itself. */
class Hand {
  readonly requests: WorkRequest[] = [];
  readonly events: WorkerEvents;
  constructor(events: WorkerEvents) {
    this.events = events;
  }
  /** Does the first job that it was sent. */
  work(): void {
    const request = this.requests.shift();
    if (request !== undefined) this.events.answered(answerTo(request));
  }
}

/** Workers of which the test says what becomes of them. */
function hands(startSpare = false) {
  const all = { usual: [] as Hand[], spare: [] as Hand[], refused: 0 };
  const startIn = (list: Hand[]) => (events: WorkerEvents) => {
    if (all.refused > 0) {
      all.refused -= 1;
      throw new Error('ENOMEM: no room for it');
    }
    const hand = new Hand(events);
    list.push(hand);
    return {
      post: (request: WorkRequest) => void hand.requests.push(request),
      ref: () => undefined,
      unref: () => undefined,
      end: async () => events.ended('it was ended'),
    };
  };
  const kind: WorkerKind = {
    ...{ one: 'a hand', helps: false },
    memory: (bytes) => new Uint8Array(bytes),
    giveBack: () => undefined,
    start: startIn(all.usual),
    ...(startSpare && { startSpare: startIn(all.spare) }),
    end: async () => undefined,
  };
  return { all, pool: new WorkerPool(2, kind) };
}
const ask = (pool: WorkerPool) =>
  pool.name({ hash: 'sha256', type: 'data', sliceBytes: 4096, bytes: pool.memory(4096).fill(1) });

beforeEach(
  () => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] }),
);
afterEach(() => void vi.useRealTimers());
const MESSAGE = 'a hand to hash and compress could not be started: ENOMEM: no room for it';

describe('where a worker cannot be started', () => {
  test('jobs that nobody can do fail, none is done later, and after a second it is tried again', async () => {
    const { all, pool } = hands();
    all.refused = 1;
    await expect(ask(pool)).rejects.toMatchObject({ code: 'ERR_IO', message: MESSAGE });
    await expect(ask(pool)).rejects.toMatchObject({ code: 'ERR_IO', message: MESSAGE });
    expect(all.usual).toEqual([]);
    vi.advanceTimersByTime(1_000);
    const job = ask(pool);
    expect(all.usual[0]?.requests).toHaveLength(1);
    all.usual[0]?.work();
    expect(await job).toHaveLength(32);
  });

  test('beside others, they go on without it', async () => {
    const { all, pool } = hands();
    const jobs = [1, 2, 3, 4].map(() => ask(pool));
    all.usual[0]?.work();
    vi.advanceTimersByTime(100);
    all.refused = 1;
    for (let turn = 0; turn < 4; turn += 1) all.usual[0]?.work();
    await Promise.all(jobs);
    expect(all).toMatchObject({ refused: 0, usual: [{}] });
  });

  test('what it was sent is done by another', async () => {
    const { all, pool } = hands();
    const jobs = [1, 2, 3, 4, 5, 6].map(() => ask(pool));
    all.usual[0]?.work();
    vi.advanceTimersByTime(100);
    all.usual[0]?.work();
    const [first, second] = all.usual;
    expect(second?.requests).toHaveLength(2);
    second?.events.failed(new Error('EAGAIN: no place for a process'));
    while ((first?.requests.length ?? 0) > 0) first?.work();
    await Promise.all(jobs);
    expect(all.usual).toHaveLength(2);
  });
});

test('one that ends before its first answer is not followed by the next at once', async () => {
  const { all, pool } = hands();
  const jobs = [1, 2, 3].map(() => ask(pool));
  all.usual[0]?.events.ended('no such program');
  all.usual[0]?.events.ended('no such program');
  const message = 'a hand that hashes and compresses died: no such program';
  for (const job of jobs) await expect(job).rejects.toMatchObject({ code: 'ERR_IO', message });
  expect(all.usual).toHaveLength(1);
});

describe('with a spare one', () => {
  test('it works for half a minute where a job waits for more than a second', async () => {
    const { all, pool } = hands(true);
    const jobs = [1, 2, 3, 4].map(() => ask(pool));
    vi.advanceTimersByTime(900);
    expect(all.spare).toEqual([]);
    vi.advanceTimersByTime(600);
    expect(all.spare[0]?.requests).toHaveLength(2);
    while ((all.spare[0]?.requests.length ?? 0) > 0) all.spare[0]?.work();
    while ((all.usual[0]?.requests.length ?? 0) > 0) all.usual[0]?.work();
    await Promise.all(jobs);
    const late = ask(pool);
    expect(all.spare[0]?.requests).toHaveLength(1);
    all.spare[0]?.work();
    await late;
    vi.advanceTimersByTime(30_000);
    const later = ask(pool);
    expect(all.usual[0]?.requests).toHaveLength(1);
    all.usual[0]?.work();
    await later;
    await pool[Symbol.asyncDispose]();
  });

  test('where it cannot be started, the others do what they can', async () => {
    const { all, pool } = hands(true);
    const jobs = [1, 2, 3].map(() => ask(pool));
    all.refused = 100;
    vi.advanceTimersByTime(5_000);
    while ((all.usual[0]?.requests.length ?? 0) > 0) all.usual[0]?.work();
    await Promise.all(jobs);
    await pool[Symbol.asyncDispose]();
  });

  test('one that has not answered for a minute is ended, with its jobs', async () => {
    const { pool } = hands(true);
    const job = ask(pool);
    const failed = expect(job).rejects.toMatchObject({
      code: 'ERR_IO',
      message: 'a hand that hashes and compresses died: it was ended',
    });
    vi.advanceTimersByTime(61_000);
    await failed;
    await pool[Symbol.asyncDispose]();
  });
});
