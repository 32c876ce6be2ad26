import { describe, expect, test } from 'vitest';
import type { StatsView } from '../../src/app/admin-views.ts';
import { type Durations, Histogram, NO_DURATIONS } from '../../src/base/histogram.ts';
import { GiB, MiB } from '../../src/base/units.ts';
import { topLines, topSample } from '../../src/cli/top-sample.ts';

const took = (...durationsMs: number[]): Durations => {
  const histogram = new Histogram();
  for (const durationMs of durationsMs) histogram.add(durationMs);
  return histogram.snapshot();
};

type Connection = StatsView['connections'][number];
const connection = (fields: Partial<Connection>): Connection => ({
  ...{ client: '10.0.0.7:4711', transport: 'tcp', exportName: 'root', readOnly: false },
  ...{ attachedAtMs: 1, requests: 0, readBytes: 0, writtenBytes: 0, inFlight: 0, untakenBytes: 0 },
  ...fields,
});

const stats = (fields: Partial<StatsView>): StatsView => ({
  upMs: 10_000,
  process: {
    ...{ residentBytes: 100 * MiB, heapBytes: 0, cpuMs: 1000, loopDelays: NO_DURATIONS },
    eventLoopDelayMs: { p50: 0, p99: 0, max: 0 },
  },
  farm: {
    openObjects: 12,
    objectOpens: 12,
    listedObjects: 3,
    waitingChanges: 0,
    unsyncedBytes: 5 * MiB,
    journalBytes: 0,
  },
  space: { totalBytes: 100 * GiB, freeBytes: 40 * GiB, reservedBytes: 0 },
  diskSyncs: NO_DURATIONS,
  clusterSnapshots: { running: [], counts: [] },
  connections: [],
  events: [],
  nbd: { exports: [], handshakes: 0, accepted: 0, refused: 0, evicted: 0, acceptFailures: 0 },
  ...fields,
});

const counted = (command: string, durations: Durations, bytes: number, errors = 0) => ({
  ...{ command, durations, bytes },
  errors: errors > 0 ? [{ errno: 5, count: errors }] : [],
});

const nbd = (exports: StatsView['nbd']['exports']): Pick<StatsView, 'nbd'> => ({
  nbd: { ...stats({}).nbd, exports },
});

const before = stats({
  ...nbd([{ exportName: 'root', commands: [counted('READ', took(1, 1), 8192, 1)] }]),
  connections: [connection({ requests: 2, readBytes: 8192 })],
});
const after = stats({
  upMs: 12_000,
  process: { ...before.process, cpuMs: 2500, loopDelays: took(0.5) },
  diskSyncs: took(2),
  ...nbd([
    {
      exportName: 'root',
      commands: [
        counted('READ', took(1, 1, 4, 4, 4, 4), 8192 + 4 * 4096, 3),
        counted('WRITE', took(8, 8), 2 * MiB),
      ],
    },
    { exportName: 'old', commands: [counted('READ', NO_DURATIONS, 0)] },
    { exportName: 'idle', commands: [] },
  ]),
  connections: [
    connection({ requests: 8, readBytes: 8192 + 4 * 4096, writtenBytes: 2 * MiB, inFlight: 32 }),
    connection({ client: 'unix:/run/nbd', exportName: 'idle', untakenBytes: 3000 }),
  ],
});

describe('a sample of collie top', () => {
  test('has the rates of the time between two looks', () => {
    const { exports, clients, ...rest } = topSample(before, after);
    expect(rest).toMatchObject({ seconds: 2, cpuPercent: 75, openObjects: 12 });
    expect(exports).toMatchObject([
      {
        ...{ export: 'root', clients: 1, reads: 2, writes: 1, flushes: 0, errors: 1 },
        ...{ readBytes: 8192, writtenBytes: MiB, inFlight: 32 },
      },
      { export: 'idle', clients: 1, reads: 0 },
    ]);
    const { p50, p99 } = exports[0]!.latencyMs;
    expect(p50).toBeGreaterThan(3);
    expect(p50).toBeLessThanOrEqual(5);
    expect(p99).toBeGreaterThan(6.5);
    expect(clients).toMatchObject([
      { client: '10.0.0.7:4711', requests: 3, readBytes: 8192, writtenBytes: MiB },
      { client: 'unix:/run/nbd', requests: 0, untakenBytes: 3000 },
    ]);
  });

  test('of a sheep that was started anew is one since its start', () => {
    const { seconds, exports } = topSample({ ...before, upMs: 99_000 }, after);
    expect(seconds).toBe(12);
    expect(exports[0]).toMatchObject({ reads: 0.5 });
  });

  test('of nothing has no number that is none', () => {
    const empty = stats({});
    const text = JSON.stringify(topSample(empty, empty));
    expect(text).not.toMatch(/null|NaN|Infinity/);
    expect(topLines(topSample(empty, empty), { columns: 80, rows: 24 }).join('\n')).not.toContain(
      'NaN',
    );
  });
});

describe('the screen of collie top', () => {
  const sample = topSample(before, after);

  test('shows exports and clients, the busiest first', () => {
    expect(topLines(sample, { columns: 200, rows: 50 })).toEqual([
      'sheep up 12 s   cpu 75 %   memory 100 MiB   loop delay 0.480 / 0.511 ms',
      'space 100 GiB, 40 GiB free   not yet on disk 5 MiB   open objects 12   syncs 1.9 / 2.0 ms',
      '',
      expect.stringMatching(/^EXPORT {2}CLIENTS {2}READS\/S/),
      expect.stringMatching(/^root +1 +2\.0 +1\.0 +0\.0 +8 KiB +1 MiB +4\.0 +8\.2 +32 +1\.0$/),
      expect.stringMatching(/^idle +1 +0\.0 +0\.0 +0\.0 +0 B +0 B +- +- +0 +0\.0$/),
      '',
      expect.stringMatching(/^CLIENT +EXPORT +REQUESTS\/S/),
      expect.stringMatching(/^10\.0\.0\.7:4711 +root +3\.0 +8 KiB +1 MiB +32 +0 B$/),
      expect.stringMatching(/^unix:\/run\/nbd +idle +0\.0 +0 B +0 B +0 +2\.9 KiB$/),
    ]);
  });

  test('never is larger than the terminal', () => {
    const lines = topLines(sample, { columns: 40, rows: 8 });
    expect(lines).toHaveLength(7);
    expect(lines.at(-1)).toBe('...');
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(40);
  });

  test('moves no cursor because of a name', () => {
    const named = { ...sample, exports: [{ ...sample.exports[0]!, export: 'a\u001b[2Jb' }] };
    const text = topLines(named, { columns: 200, rows: 50 }).join('');
    expect(text).not.toMatch(/\p{Cc}/u);
  });
});
