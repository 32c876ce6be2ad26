/**
 * `npm run cuts -- [worlds] [first seed]`: stops many recorded worlds at 10 moments each and holds
 * what is left against the crash contract; prints each seed that breaks it and exits with 1 then.
 */
import { runPowerCuts } from '../test/crash/power-cut-run.ts';

const worlds = Number(process.argv[2] ?? 1000);
const first = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31));
let cuts = 0;
let broken = 0;
console.log(`${worlds} worlds from seed ${first} on`);
for (let seed = first; seed < first + worlds; seed += 1) {
  const run = await runPowerCuts({ seed, cuts: 10, steps: 60 });
  cuts += run.cuts;
  if (run.violations.length === 0) continue;
  broken += 1;
  console.log(run.violations.join('\n'));
}
console.log(`${cuts} stops, ${broken} worlds broken`);
process.exitCode = broken === 0 ? 0 : 1;
