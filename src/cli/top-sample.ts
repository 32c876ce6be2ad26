import type { StatsView } from '../app/admin-views.ts';
import { type Durations, NO_DURATIONS, quantileMs, since, together } from '../base/histogram.ts';
import { cutToWidth, formatBytes, formatDuration, table } from './output.ts';

/** What happened between two looks at a sheep. Rates are per second. */
export interface TopSample {
  readonly upMs: number;
  /** The time between the two. */
  readonly seconds: number;
  readonly cpuPercent: number;
  readonly residentBytes: number;
  readonly loopDelayMs: Quantiles;
  readonly freeBytes: number;
  readonly totalBytes: number;
  readonly unsyncedBytes: number;
  readonly openObjects: number;
  readonly syncMs: Quantiles;
  /** Those with clients or requests, the busiest first. */
  readonly exports: readonly TopExport[];
  readonly clients: readonly TopClient[];
}

/** In milliseconds; absent where nothing was measured. */
export interface Quantiles {
  readonly p50?: number;
  readonly p99?: number;
}

export interface TopExport {
  readonly export: string;
  readonly clients: number;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly errors: number;
  /** Of requests of every kind. */
  readonly latencyMs: Quantiles;
  readonly inFlight: number;
}

export interface TopClient {
  readonly client: string;
  readonly export: string;
  readonly requests: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly inFlight: number;
  /** Replies that it has not taken. */
  readonly untakenBytes: number;
}

type Commands = StatsView['nbd']['exports'][number]['commands'];

/** Pure; a sheep that was started anew in between is seen from its start on. */
export function topSample(earlier: StatsView, after: StatsView): TopSample {
  const before = after.upMs > earlier.upMs ? earlier : undefined;
  const seconds = (after.upMs - (before?.upMs ?? 0)) / 1000 || 1;
  const { process, farm, space } = after;
  const cpuMs = process.cpuMs - (before?.process.cpuMs ?? 0);
  return {
    upMs: after.upMs,
    seconds,
    cpuPercent: cpuMs / seconds / 10,
    residentBytes: process.residentBytes,
    loopDelayMs: quantilesOf(since(before?.process.loopDelays ?? NO_DURATIONS, process.loopDelays)),
    freeBytes: space.freeBytes,
    totalBytes: space.totalBytes,
    unsyncedBytes: farm.unsyncedBytes,
    openObjects: farm.openObjects,
    syncMs: quantilesOf(since(before?.diskSyncs ?? NO_DURATIONS, after.diskSyncs)),
    exports: exportsOf(before, after, seconds),
    clients: clientsOf(before, after, seconds),
  };
}

function exportsOf(before: StatsView | undefined, after: StatsView, seconds: number): TopExport[] {
  const rows = after.nbd.exports.map(({ exportName, commands }) => {
    const old = before?.nbd.exports.find((one) => one.exportName === exportName)?.commands ?? [];
    const clients = after.connections.filter((one) => one.exportName === exportName);
    const grown = (value: (commands: Commands) => number) =>
      Math.max(0, value(commands) - value(old)) / seconds;
    const durations = commands.map(({ command, durations: now }) => ({
      command,
      durations: since(durationsOf(old, command), now),
    }));
    const rate = (name: string) =>
      (durations.find(({ command }) => command === name)?.durations.count ?? 0) / seconds;
    const bytes = (name: string) =>
      grown((all) => all.find(({ command }) => command === name)?.bytes ?? 0);
    return {
      ...{ export: exportName, clients: clients.length },
      ...{ reads: rate('READ'), writes: rate('WRITE'), flushes: rate('FLUSH') },
      ...{ readBytes: bytes('READ'), writtenBytes: bytes('WRITE') },
      errors: grown((all) => sumOf(all.flatMap(({ errors }) => errors.map(({ count }) => count)))),
      latencyMs: quantilesOf(together(durations.map((one) => one.durations))),
      inFlight: sumOf(clients.map(({ inFlight }) => inFlight)),
    };
  });
  const load = ({ reads, writes, flushes }: TopExport) => reads + writes + flushes;
  return rows
    .filter((row) => row.clients > 0 || load(row) > 0)
    .toSorted((a, b) => load(b) - load(a) || a.export.localeCompare(b.export));
}

function clientsOf(before: StatsView | undefined, after: StatsView, seconds: number): TopClient[] {
  type One = StatsView['connections'][number];
  const idOf = ({ client, exportName, attachedAtMs }: One) =>
    `${client} ${exportName} ${attachedAtMs}`;
  // Clients of one unix socket have one name: those that came in the same millisecond go together.
  const old = Map.groupBy(before?.connections ?? [], idOf);
  const rows = [...Map.groupBy(after.connections, idOf)].map(([id, some]): TopClient => {
    const grown = (value: (one: One) => number) =>
      Math.max(0, sumOf(some.map(value)) - sumOf((old.get(id) ?? []).map(value))) / seconds;
    const { client, exportName } = some[0] as One;
    return {
      ...{ client, export: exportName },
      requests: grown((one) => one.requests),
      readBytes: grown((one) => one.readBytes),
      writtenBytes: grown((one) => one.writtenBytes),
      inFlight: sumOf(some.map((one) => one.inFlight)),
      untakenBytes: sumOf(some.map((one) => one.untakenBytes)),
    };
  });
  return rows.toSorted((a, b) => b.requests - a.requests || a.client.localeCompare(b.client));
}

function durationsOf(commands: Commands, name: string): Durations {
  return commands.find(({ command }) => command === name)?.durations ?? NO_DURATIONS;
}

function quantilesOf(durations: Durations): Quantiles {
  const [p50, p99] = [quantileMs(durations, 0.5), quantileMs(durations, 0.99)];
  return { ...(p50 !== undefined && { p50 }), ...(p99 !== undefined && { p99 }) };
}

const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

/** A screen of so many columns and rows. Pure. */
export function topLines(sample: TopSample, screen: { columns: number; rows: number }): string[] {
  const { exports, clients } = sample;
  const rate = (value: number) => value.toFixed(value < 10 ? 1 : 0);
  const both = ({ p50, p99 }: Quantiles) => `${milliseconds(p50)} / ${milliseconds(p99)} ms`;
  const head = [
    [
      `sheep up ${formatDuration(sample.upMs)}`,
      `cpu ${sample.cpuPercent.toFixed(0)} %`,
      `memory ${formatBytes(sample.residentBytes)}`,
      `loop delay ${both(sample.loopDelayMs)}`,
    ],
    [
      `space ${formatBytes(sample.totalBytes)}, ${formatBytes(sample.freeBytes)} free`,
      `not yet on disk ${formatBytes(sample.unsyncedBytes)}`,
      `open objects ${sample.openObjects}`,
      `syncs ${both(sample.syncMs)}`,
    ],
  ].map((parts) => parts.join('   '));
  const exportHead = [
    'READS/S',
    'WRITES/S',
    'FLUSHES/S',
    'READ/S',
    'WRITTEN/S',
    'P50 MS',
    'P99 MS',
  ];
  const exportRows = exports.map((one) => [
    ...[one.export, `${one.clients}`, rate(one.reads), rate(one.writes), rate(one.flushes)],
    ...[formatBytes(one.readBytes), formatBytes(one.writtenBytes)],
    ...[milliseconds(one.latencyMs.p50), milliseconds(one.latencyMs.p99)],
    ...[`${one.inFlight}`, rate(one.errors)],
  ]);
  const clientHead = ['REQUESTS/S', 'READ/S', 'WRITTEN/S', 'IN FLIGHT', 'NOT TAKEN'];
  const clientRows = clients.map((one) => [
    ...[one.client, one.export, rate(one.requests)],
    ...[formatBytes(one.readBytes), formatBytes(one.writtenBytes)],
    ...[`${one.inFlight}`, formatBytes(one.untakenBytes)],
  ]);
  const lines = [
    ...head,
    '',
    ...table(['EXPORT', 'CLIENTS', ...exportHead, 'IN FLIGHT', 'ERRORS/S'], exportRows),
    '',
    ...table(['CLIENT', 'EXPORT', ...clientHead], clientRows),
  ];
  // The cursor has the last row.
  const rows = screen.rows - 1;
  const shown = lines.length > rows ? [...lines.slice(0, rows - 1), '...'] : lines;
  return shown.map((line) => cutToWidth(line.replace(/\p{Cc}/gu, ' '), screen.columns));
}

function milliseconds(value: number | undefined): string {
  if (value === undefined) return '-';
  return value.toFixed(value < 1 ? 3 : value < 100 ? 1 : 0);
}
