import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CHECK_BUDGET_MINUTES, CHECKS, SUITES, type Suite } from './suites.ts';
import { describeTally, sum, type Tally, tallyOf } from './tally.ts';
import { provideTools } from './tools.ts';
import { provideGuestFiles } from './vm/guest-files.ts';

const ROOT = resolve(import.meta.dirname, '..');
const NAMES = ['check', ...SUITES.map(({ name }) => name)];
/** A suite that hangs is stopped after so many times its budget. */
const PATIENCE = 3;

interface Outcome {
  readonly name: string;
  readonly what: string;
  readonly tally: Tally;
  readonly tookMs: number;
  readonly budgetMinutes: number;
}

const say = (line: string) => console.log(line);

let running: ChildProcess | undefined;

/** Ends what runs now with all that it started: a worker in an endless loop hears no SIGTERM. */
function killRunning(): void {
  if (running?.pid === undefined) return;
  try {
    process.kill(-running.pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** Runs a command of node_modules/.bin in a process group of its own; true if it ended well. */
function run(command: readonly string[], timeoutMs: number): Promise<boolean> {
  const [name = '', ...args] = command;
  const path = `${join(ROOT, 'node_modules', '.bin')}:${process.env['PATH']}`;
  return new Promise((settle) => {
    running = spawn(name, args, {
      cwd: ROOT,
      env: { ...process.env, PATH: path },
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
    });
    const patience = setTimeout(() => {
      say(`${name} is stopped after ${timeoutMs / 1000} s`);
      killRunning();
    }, timeoutMs);
    const end = (passed: boolean) => {
      clearTimeout(patience);
      running = undefined;
      settle(passed);
    };
    running.once('error', (error) => {
      say(`${name} did not start: ${error.message}`);
      end(false);
    });
    running.once('exit', (status) => end(status === 0));
  });
}

const timeoutMs = (budgetMinutes: number) => budgetMinutes * PATIENCE * 60_000;

async function runChecks(): Promise<Tally> {
  const tallies: Tally[] = [];
  for (const { name, command } of CHECKS) {
    const passed = await run(command, timeoutMs(CHECK_BUDGET_MINUTES));
    say(`${passed ? 'passed' : 'FAILED'}: ${name}`);
    tallies.push({ passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 });
  }
  return sum(tallies);
}

async function runSuite({ name, budgetMinutes }: Suite, scratch: string): Promise<Tally> {
  const report = join(scratch, `${name}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const command = ['vitest', 'run', '--project', name, ...reporters];
  const clean = await run(command, timeoutMs(budgetMinutes));
  return tallyOf(readIfThere(report), clean);
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

async function timed(
  suite: Pick<Suite, 'name' | 'what' | 'budgetMinutes'>,
  work: () => Promise<Tally>,
): Promise<Outcome> {
  say(`\n── ${suite.name}: ${suite.what}`);
  const start = performance.now();
  const tally = await work();
  const tookMs = performance.now() - start;
  const late = tookMs > suite.budgetMinutes * 60_000;
  return { ...suite, tookMs, tally: late ? { ...tally, failed: tally.failed + 1 } : tally };
}

function report({ name, tookMs, budgetMinutes, tally }: Outcome): string {
  const took = `${(tookMs / 1000).toFixed(1)} s of ${budgetMinutes} min`;
  const late = tookMs > budgetMinutes * 60_000 ? '  OVER ITS BUDGET: counted as a failure' : '';
  return `${name.padEnd(10)}${took.padEnd(18)}${describeTally(tally)}${late}`;
}

/** Which of NAMES `--only a,b` asks for; all of them without it. */
function chosen(): readonly string[] {
  const { values } = parseArgs({ options: { only: { type: 'string' } } });
  if (values.only === undefined) return NAMES;
  const asked = values.only.split(',');
  const unknown = asked.filter((name) => !NAMES.includes(name));
  if (unknown.length > 0) {
    throw new Error(`no suite "${unknown.join(', ')}"; there are ${NAMES.join(', ')}`);
  }
  return asked;
}

/** Gets what the suites need besides Node, where that can be done. @returns what is missing */
function provide(suites: readonly Suite[]): readonly string[] {
  const has = (wanted: (name: string) => boolean) => suites.some(({ name }) => wanted(name));
  const missing = has((name) => name !== 'unit') ? provideTools(say) : [];
  if (!has((name) => name === 'vm')) return missing;
  try {
    provideGuestFiles(say);
    return missing;
  } catch (error) {
    say(`No guest can be built: ${error instanceof Error ? error.message : error}`);
    return [...missing, 'the guest'];
  }
}

/** Every gate, one after the other. @returns the exit status: 0 if nothing failed, 2 wrong usage */
export async function runGates(): Promise<number> {
  let names: readonly string[];
  try {
    names = chosen();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 2;
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      killRunning();
      process.exit(1);
    });
  }
  const suites = SUITES.filter(({ name }) => names.includes(name));
  const missing = provide(suites);
  if (missing.length > 0 && process.env['CI'] === 'true') {
    say(`CI is set, and these tools are missing: ${missing.join(', ')}`);
    return 1;
  }
  const scratch = mkdtempSync(join(tmpdir(), 'sheepdog-tests-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  const outcomes: Outcome[] = [];
  if (names.includes('check')) {
    const check = { name: 'check', what: 'checks', budgetMinutes: CHECK_BUDGET_MINUTES };
    outcomes.push(await timed(check, runChecks));
  }
  for (const suite of suites) outcomes.push(await timed(suite, () => runSuite(suite, scratch)));
  say('');
  for (const outcome of outcomes) say(report(outcome));
  if (missing.length > 0) say(`Tests that need these were skipped: ${missing.join(', ')}`);
  const total = sum(outcomes.map(({ tally }) => tally));
  say(`\n${describeTally(total)}`);
  return total.failed === 0 ? 0 : 1;
}
