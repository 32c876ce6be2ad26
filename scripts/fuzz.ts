/**
 * `npm run fuzz -- --seconds N [--seed S]`: random and mutated sessions against a sheep of dist/, by
 * NBD over TCP, unix socket and TLS, by its admin API there too, half handshakes of TLS, and random
 * settings; exits with 1 if it crashed, complained, got stuck or kept what it should have let go. What
 * led to it is written to a file, which goes into test/fuzz-corpus.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { MiB } from '../src/base/units.ts';
import { Found, runFuzz, type Sum } from '../test/fuzz/run.ts';
import setup from './built.ts';

const PROGRESS_MS = 10_000;

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string' } },
});
const seconds = wholeNumber('seconds', values.seconds);
const seed = wholeNumber('seed', values.seed ?? String(Math.floor(Math.random() * 2 ** 27)));

setup();
console.log(`${seconds} s from seed ${seed}`);
const startMs = performance.now();
let toldMs = startMs;
try {
  const sum = await runFuzz({ seed, seconds, progress });
  console.log(`done: ${text(sum)}; nothing found`);
} catch (error) {
  if (!(error instanceof Found)) throw error;
  const file = `fuzz-${seed}.json`;
  writeFileSync(file, error.text);
  console.error(error.cause);
  console.log(`found: ${error.message}; ${error.cases.length} cases that lead to it: ${file}`);
  process.exitCode = 1;
}

function progress(sum: Sum): void {
  if (performance.now() < toldMs + PROGRESS_MS) return;
  toldMs = performance.now();
  console.log(`${Math.round((toldMs - startMs) / 1000)} s: ${text(sum)}`);
}

function text({ batches, cases, steadyRounds, residentMaxBytes, held }: Sum): string {
  const resident = `${Math.round(held.residentBytes / MiB)} MiB resident`;
  const most = `at most ${Math.round(residentMaxBytes / MiB)}`;
  const open = `${held.sockets} sockets, ${held.files} files`;
  const beside = `${steadyRounds} verified rounds beside them`;
  return `${cases} cases in ${batches} batches, ${beside}; ${resident}, ${most}; ${open}`;
}

function wholeNumber(name: string, value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value);
  console.error(`--${name} takes a whole number, not '${value}'`);
  process.exit(2);
}
