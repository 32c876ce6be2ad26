import { GiB, MiB } from '../src/base/units.ts';
import { type FioJob, type FioResult, runFio, runTogether } from './fio.ts';
import type { Options } from './options.ts';
import { forgetPages } from './page-cache.ts';
import type { Scope } from './scope.ts';
import { startSheep } from './servers.ts';
import { table } from './table.ts';

const WRITTEN_BYTES = 8 * GiB;
const HOT_BYTES = 1 * GiB;
const COLD_BYTES = 4 * GiB;
/** Longer than any writer takes; the job that ends first ends the others. */
const UNTIL_THE_OTHER_ENDS = 3600;

interface Row {
  readonly what: string;
  readonly result: FioResult;
  readonly loopDelayMs?: number;
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

  say('hot reads alone');
  await warmUp();
  rows.push({ what: 'hot reads alone', result: await runFio(scope.children, hot) });

  say('hot reads beside a writer of 8 GiB');
  const writer = { ...whole, uri: server.uriOf('written'), pattern: 'write' };
  const beside = { ...hot, seconds: UNTIL_THE_OTHER_ENDS };
  const [written, read] = await runTogether(scope.children, [writer, beside]);
  rows.push({ what: 'a writer of 8 GiB, 1 MiB at depth 8', result: present(written) });
  rows.push({ what: 'hot reads beside it', result: present(read) });

  say('hot reads beside cold reads');
  const cold = await forgetPages();
  await warmUp();
  const coldJob: FioJob = { ...small, uri: server.uriOf('cold'), depth: 32, seconds };
  const [coldRead, hotRead] = await runTogether(scope.children, [coldJob, hot]);
  rows.push({
    what: cold ? 'cold reads at depth 32' : 'reads at depth 32 (only root can make them cold)',
    result: present(coldRead),
  });
  rows.push({ what: 'hot reads beside them', result: present(hotRead) });

  await scope.children.stop(server.child);
  const head = ['4 KiB reads at depth 1', '/s', 'mean ms', '99 % ms', '99.9 % ms'];
  const cells = rows.map(({ what, result }) => {
    const { mean, p99, p999 } = result.latencyUs;
    const times = [mean, p99, p999].map((us) => (us / 1000).toFixed(2));
    return [what, result.requestsPerSecond.toFixed(0), ...times];
  });
  return { rows, text: table(head, cells) };
}

function present(result: FioResult | undefined): FioResult {
  if (result === undefined) throw new Error('fio did not report every job');
  return result;
}
