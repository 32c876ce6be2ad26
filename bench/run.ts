/** `npm run bench`: see USAGE in options.ts. Measures dist/, which the npm script builds first. */
import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { compare } from './compare.ts';
import { door } from './door.ts';
import { fairness } from './fairness.ts';
import { farm } from './farm.ts';
import { flushWays } from './flush-ways.ts';
import { describeMachine, machineLine } from './machine.ts';
import { memory } from './memory.ts';
import { type Options, parseOptions, USAGE } from './options.ts';
import { packs } from './packs.ts';
import { Interrupted, type Scope, withScope } from './scope.ts';
import { slices } from './slices.ts';
import { snapshots } from './snapshots.ts';
import { report } from './table.ts';
import { tls } from './tls.ts';

const ROOT = resolve(import.meta.dirname, '..');
const say = (line: string) => console.error(line);

/** What a scenario gives: text for people, and what is kept. */
interface Outcome {
  readonly text: string;
  readonly results: unknown;
}

async function runScenario(scope: Scope, options: Options): Promise<Outcome> {
  switch (options.scenario) {
    case 'compare': {
      const results = await compare(scope, options, say);
      return { text: report(results), results };
    }
    case 'memory': {
      const { rows, text } = await memory(scope, options, say);
      return { text, results: rows };
    }
    case 'fairness': {
      const { rows, text } = await fairness(scope, options, say);
      return { text, results: rows };
    }
    case 'snapshots': {
      const { rows, text } = await snapshots(scope, options, say);
      return { text, results: rows };
    }
    case 'door': {
      const { rows, text } = await door(scope, options, say);
      return { text, results: rows };
    }
    case 'tls': {
      const { rows, text } = await tls(scope, options, say);
      return { text, results: rows };
    }
    case 'farm': {
      const { rows, text } = await farm(scope, options, say);
      return { text, results: rows };
    }
    case 'slices': {
      const { rows, text } = await slices(scope, options, say);
      return { text, results: rows };
    }
    case 'packs': {
      const { rows, text } = await packs(scope, options, say);
      return { text, results: rows };
    }
    case 'flush': {
      const { rows, text } = await flushWays(scope, options, say);
      return { text, results: rows };
    }
  }
}

/** The commit that is measured; `-changed` if the files are not quite it. */
function commit(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' }).trim();
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no') !== '';
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? '-changed' : ''}`;
  } catch {
    return 'unknown';
  }
}

async function main(): Promise<number> {
  let options: Options | 'help';
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return 2;
  }
  if (options === 'help') {
    console.log(USAGE);
    return 0;
  }
  const { scenario, directory } = options;
  const machine = describeMachine(directory);
  const version = commit();
  say(machineLine(machine));
  if (machine.fileSystem === 'tmpfs')
    say('tmpfs: a flush costs nothing here, so neither says much');
  try {
    const { text, results } = await withScope(directory, (scope) => runScenario(scope, options));
    console.log(`${machineLine(machine)}; commit ${version}\n\n${text}`);
    const path = options.json ?? join(ROOT, 'bench/results', `${scenario}-${version}.json`);
    await mkdir(dirname(path), { recursive: true });
    // Where it ran is nobody's business; what was asked for is.
    const { directory: _place, json: _file, images, ...asked } = options;
    const date = new Date().toISOString();
    const kept = {
      scenario,
      commit: version,
      date,
      machine,
      options: { ...asked, images: images.map((path) => basename(path)) },
    };
    await writeFile(path, `${JSON.stringify({ ...kept, results }, null, 2)}\n`);
    say(`kept in ${path}`);
    return 0;
  } catch (error) {
    if (error instanceof Interrupted) {
      say(`stopped by ${error.message}`);
      return 130;
    }
    say(error instanceof Error ? error.message : String(error));
    return 1;
  }
}

process.exit(await main());
