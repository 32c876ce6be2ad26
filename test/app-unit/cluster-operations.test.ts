import { describe, expect, test } from 'vitest';
import { Operations } from '../../src/app/cluster-snapshots/operations.ts';
import { progressLines } from '../../src/app/progress-lines.ts';
import { SheepError } from '../../src/base/errors.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import type { LogEvent } from './test-sheep.ts';

const clock = nodeClock();

function world() {
  const events: LogEvent[] = [];
  const log = {
    event: (level: LogEvent['level'], name: string, facts: LogEvent['facts'] = {}) =>
      void events.push({ level, name, facts }),
  };
  return { events, operations: new Operations(clock, log) };
}

/** Says how far it is, and goes on when it is told to; or ends with the reason of its signal. */
function work() {
  const go = Promise.withResolvers<void>();
  let ended = false;
  const lines = (call: { readonly signal: AbortSignal }) =>
    progressLines(clock, call, async ({ signal }, progress: (done: Done) => void) => {
      progress({ doneBytes: 1, totalBytes: 4 });
      const aborted = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
      try {
        await Promise.race([go.promise, aborted]);
        progress({ doneBytes: 4, totalBytes: 4 });
        return 'all of it';
      } finally {
        await clock.yield();
        ended = true;
      }
    });
  return { lines, go, isOver: () => ended };
}
interface Done {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

async function drain<T>(lines: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

describe('progress as lines', () => {
  test('is told at once, then the latest, then the result', async () => {
    const { lines, go } = work();
    const told = lines({ signal: new AbortController().signal });
    expect(await told.next()).toEqual({
      ...{ done: false, value: { is: 'progress', doneBytes: 1, totalBytes: 4 } },
    });
    go.resolve();
    expect(await drain(told)).toEqual([
      { is: 'progress', doneBytes: 4, totalBytes: 4 },
      { is: 'end', result: 'all of it' },
    ]);
  });

  test('of work that fails ends with its error', async () => {
    const lines = progressLines(clock, {}, async () => {
      throw new Error('no');
    });
    await expect(lines.next()).rejects.toThrow('no');
  });

  test('whoever leaves waits until the work has stopped', async () => {
    const { lines, isOver } = work();
    const told = lines({ signal: new AbortController().signal });
    await told.next();
    expect(isOver()).toBe(false);
    await told.return(undefined);
    expect(isOver()).toBe(true);
  });
});

describe('operations on snapshots of the cluster', () => {
  test('that change something wait for nobody: the second is told what runs', async () => {
    const { operations, events } = world();
    const { lines, go } = work();
    const first = operations.run({ operation: 'save', tag: 'monday' }, {}, lines);
    await first.next();
    const second = operations.run({ operation: 'load', tag: 'x' }, {}, work().lines);
    await expect(second.next()).rejects.toMatchObject({
      ...{ code: 'ERR_BUSY', message: expect.stringContaining("'monday' is being saved") },
    });
    // A check goes on beside.
    const check = work();
    check.go.resolve();
    await drain(operations.run({ operation: 'check' }, {}, check.lines));
    expect(operations.stats().running).toMatchObject([{ operation: 'save', doneBytes: 1 }]);
    go.resolve();
    await drain(first);
    expect(operations.stats().running).toEqual([]);
    expect(operations.stats().counts).toContainEqual({
      ...{ operation: 'save', results: { done: 1, failed: 0, aborted: 0 }, bytes: 4 },
      tookMs: expect.any(Number),
    });
    expect(events.map(({ name }) => name)).toEqual([
      ...['cluster.snapshot-begun', 'cluster.snapshot-begun'],
    ]);
    const third = work();
    third.go.resolve();
    await drain(operations.run({ operation: 'gc' }, {}, third.lines));
  });

  test('one whose reader stops at its result was done', async () => {
    const { operations } = world();
    const { lines, go } = work();
    go.resolve();
    for await (const line of operations.run({ operation: 'gc' }, {}, lines)) {
      if (line.is === 'end') break;
    }
    const [counted] = operations.stats().counts.filter(({ operation }) => operation === 'gc');
    expect(counted?.results).toEqual({ done: 1, failed: 0, aborted: 0 });
  });

  test('one whose caller is gone is aborted, and told', async () => {
    const { operations, events } = world();
    const lines = operations.run({ operation: 'delete', tag: 't' }, {}, work().lines);
    await lines.next();
    await lines.return(undefined);
    expect(events.at(-1)).toMatchObject({
      ...{ level: 'warn', name: 'cluster.snapshot-aborted' },
      facts: { operation: 'delete', tag: 't', cause: 'whoever asked for it is gone' },
    });
  });

  test.for<[unknown, string]>([
    [new SheepError('ERR_CORRUPT', 'it is damaged'), 'error'],
    [new SheepError('ERR_EXISTS', 'there is one'), 'warn'],
    [new Error('a mistake'), 'error'],
  ])('%s is told as what it is', async ([error, level]) => {
    const { operations, events } = world();
    const failing = operations.run({ operation: 'save', tag: 't' }, {}, (call) =>
      progressLines(clock, call, async () => {
        throw error;
      }),
    );
    await expect(failing.next()).rejects.toBe(error);
    expect(events.at(-1)).toMatchObject({ level, name: 'cluster.snapshot-failed' });
    expect(operations.stats()).toMatchObject({ running: [] });
  });

  test('are all over once they are disposed, and none begins after it', async () => {
    const { operations, events } = world();
    const { lines, isOver } = work();
    const running = operations.run({ operation: 'save', tag: 't' }, {}, lines);
    await running.next();
    const rest = drain(running);
    const [, told] = await Promise.allSettled([operations[Symbol.asyncDispose](), rest]);
    expect(told).toMatchObject({ reason: { code: 'ERR_SHUTDOWN' } });
    expect(isOver()).toBe(true);
    expect(events.at(-1)?.name).toBe('cluster.snapshot-aborted');
    const late = operations.run({ operation: 'check' }, {}, work().lines);
    await expect(late.next()).rejects.toMatchObject({ code: 'ERR_SHUTDOWN' });
  });
});
