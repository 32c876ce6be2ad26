import type { Children } from './children.ts';

/** One direction of a job in fio's JSON; the fields that we read. */
interface Direction {
  readonly total_ios: number;
  readonly iops: number;
  readonly bw_bytes: number;
  readonly clat_ns: {
    readonly mean: number;
    readonly max: number;
    readonly percentile?: Readonly<Record<string, number>>;
  };
}
interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: Direction;
    readonly write: Direction;
    readonly sync: { readonly total_ios: number };
  }[];
}

export interface FioJob {
  readonly uri: string;
  readonly pattern: string;
  readonly blockBytes: number;
  readonly depth: number;
  readonly connections?: number;
  readonly fsync?: number;
  /** Runs so long, over and over; absent: once over the whole disk. */
  readonly seconds?: number;
  /** The first so many bytes of the disk only; absent: all of it. */
  readonly sizeBytes?: number;
  readonly extra?: readonly string[];
}

export interface FioResult {
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Reads, writes and flushes. */
  readonly requests: number;
  readonly latencyUs: {
    readonly mean: number;
    readonly p50: number;
    readonly p99: number;
    readonly p999: number;
    readonly max: number;
  };
}

function jobArguments(job: FioJob, name: string): string[] {
  const { uri, pattern, blockBytes, depth, connections = 1, fsync, seconds, sizeBytes } = job;
  const args = [`--name=${name}`, '--ioengine=nbd', `--uri=${uri}`, `--rw=${pattern}`];
  args.push(`--bs=${blockBytes}`, `--iodepth=${depth}`, `--numjobs=${connections}`);
  args.push('--new_group', '--group_reporting', '--randrepeat=0', '--norandommap');
  args.push('--random_generator=tausworthe64', '--percentile_list=50:99:99.9');
  if (fsync !== undefined) args.push(`--fsync=${fsync}`);
  if (seconds !== undefined) args.push('--time_based', `--runtime=${seconds}`);
  if (sizeBytes !== undefined) args.push(`--size=${sizeBytes}`);
  // Each connection has its own part of the disk, else the first reads for all the others.
  if (connections > 1 && !pattern.startsWith('rand')) {
    args.push(`--offset_increment=${Math.floor(100 / connections)}%`);
  }
  return [...args, ...(job.extra ?? [])];
}

/** One job to its end. */
export async function runFio(children: Children, job: FioJob): Promise<FioResult> {
  const [result] = await runTogether(children, [job]);
  if (result === undefined) throw new Error('fio reported no job');
  return result;
}

/** Several jobs at the same time, until the first of them ends. */
export async function runTogether(
  children: Children,
  jobs: readonly FioJob[],
): Promise<FioResult[]> {
  const each = jobs.flatMap((job, index) => jobArguments(job, `job${index}`));
  const text = await children.run('fio', [
    '--output-format=json',
    '--exitall',
    '--exit_what=all',
    ...each,
  ]);
  // fio may say something before the report.
  const report = JSON.parse(text.slice(text.indexOf('{'))) as FioReport;
  return report.jobs.map(resultOf);
}

function resultOf({ error, read, write, sync }: FioReport['jobs'][number]): FioResult {
  if (error !== 0) throw new Error(`fio: error ${error}`);
  const main = read.total_ios > 0 ? read : write;
  const at = (share: string) => (main.clat_ns.percentile?.[share] ?? Number.NaN) / 1000;
  return {
    requestsPerSecond: read.iops + write.iops,
    bytesPerSecond: read.bw_bytes + write.bw_bytes,
    requests: read.total_ios + write.total_ios + sync.total_ios,
    latencyUs: {
      mean: main.clat_ns.mean / 1000,
      p50: at('50.000000'),
      p99: at('99.000000'),
      p999: at('99.900000'),
      max: main.clat_ns.max / 1000,
    },
  };
}
