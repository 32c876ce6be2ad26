import { quantileMs, since } from '../src/base/histogram.ts';
import { GiB, MiB } from '../src/base/units.ts';
import { loopDelays } from './admin.ts';
import { type FioJob, type FioResult, runFio, runTogether } from './fio.ts';
import type { Options } from './options.ts';
import { forgetPages } from './page-cache.ts';
import type { Scope } from './scope.ts';
import { adminSocket, startSheep } from './servers.ts';
import { table } from './table.ts';

const WRITTEN_BYTES = 8 * GiB;
const HOT_BYTES = 1 * GiB;
const COLD_BYTES = 4 * GiB;
/** Longer than any writer takes; the job that ends first ends the others. */
const UNTIL_THE_OTHER_ENDS = 3600;

interface Row {
  readonly what: string;
  readonly result: FioResult;
  /** How late the daemon's timers came at most meanwhile. */
  readonly loopDelayMs: number;
}

/** What one client's small reads feel of another client. */
export async function fairness(
  scope: Scope,
  { seconds }: Options,
  say: (line: string) => void,
): Promise<{ rows: Row[]; text: string }> {
  const server = await startSheep(scope, 'fairness', [
    ['hot', HOT_BYTES],
    ['cold', COLD_BYTES],
    ['written', WRITTEN_BYTES],
  ]);
  const whole = { blockBytes: MiB, depth: 8 };
  const small = { pattern: 'randread', blockBytes: 4096 };
  const hot: FioJob = { ...small, uri: server.uriOf('hot'), depth: 1, seconds };
  const warmUp = () =>
    runFio(scope.children, { ...whole, uri: server.uriOf('hot'), pattern: 'read' });
  for (const vdi of ['hot', 'cold']) {
    say(`filling ${vdi}`);
    const job = { ...whole, uri: server.uriOf(vdi), pattern: 'write', extra: ['--end_fsync=1'] };
    await runFio(scope.children, job);
  }
  const rows: Row[] = [];
  const socket = adminSocket(scope, 'fairness');
  const together = async (named: readonly (readonly [what: string, job: FioJob])[]) => {
    for (const [what] of named) say(what);
    const before = await loopDelays(socket);
    const jobs = named.map(([, job]) => job);
    const results = await runTogether(scope.children, jobs);
    const loopDelayMs = quantileMs(since(before, await loopDelays(socket)), 1) ?? 0;
    for (const [index, result] of results.entries()) {
      rows.push({ what: named[index]?.[0] ?? '', result, loopDelayMs });
    }
  };

  await warmUp();
  await together([['hot reads alone', hot]]);

  const writer = { ...whole, uri: server.uriOf('written'), pattern: 'write' };
  await together([
    ['a writer of 8 GiB, 1 MiB at depth 8', writer],
    ['hot reads beside it', { ...hot, seconds: UNTIL_THE_OTHER_ENDS }],
  ]);

  const emptied = await forgetPages();
  await warmUp();
  await together([
    [
      emptied ? 'cold reads at depth 32' : 'reads at depth 32 (only root can make them cold)',
      { ...small, uri: server.uriOf('cold'), depth: 32, seconds },
    ],
    ['hot reads beside them', hot],
  ]);

  await scope.children.stop(server.child);
  const head = ['4 KiB reads at depth 1', '/s', 'mean ms', '99 % ms', '99.9 % ms', 'loop late ms'];
  const cells = rows.map(({ what, result, loopDelayMs }) => {
    const { mean, p99, p999 } = result.latencyUs;
    const times = [mean, p99, p999].map((us) => (us / 1000).toFixed(2));
    return [what, result.requestsPerSecond.toFixed(0), ...times, `${Math.ceil(loopDelayMs)}`];
  });
  return { rows, text: table(head, cells) };
}
