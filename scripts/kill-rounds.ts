/**
 * `npm run kills -- [rounds] [seed]`: kills a real sheep under stamped writes, many times on one
 * store, and holds what is left against the crash contract; exits with 1 where it is broken.
 */
import { MiB } from '../src/base/units.ts';
import { runKillRounds } from '../test/crash/kill-rounds.ts';
import setup from './built.ts';

const rounds = Number(process.argv[2] ?? 50);
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31));
setup();
console.log(`${rounds} rounds from seed ${seed}`);
let done = 0;
for await (const round of runKillRounds({ seed, rounds })) {
  done += 1;
  const { writes, writtenBytes, zeroes, trims, flushes, unanswered } = round;
  const written = `${writes} writes (${Math.round(writtenBytes / MiB)} MiB), ${zeroes} zeroes`;
  const all = `${written}, ${trims} trims, ${flushes} flushes, ${unanswered} unanswered`;
  const restart = `ready after ${Math.round(round.restartMs)} ms`;
  const checked = `${round.checkedBlocks} blocks, ${round.violations.length} wrong`;
  console.log(`${done}: ${all}; ${round.story}; ${restart}; ${checked}`);
  for (const violation of round.violations.slice(0, 10)) console.log(`  ${violation}`);
  if (round.violations.length > 0) process.exitCode = 1;
}
