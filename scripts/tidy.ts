/** `npm run tidy`: the architecture as a test. The rules stand in tidy-rules.ts. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, relative, resolve } from 'node:path';
import { importsOf } from './import-scan.ts';
import { complaints, type Sources } from './tidy-check.ts';

const ROOT = resolve(import.meta.dirname, '..');

function readSources(directory: string): Sources {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  const paths = names.filter((name) => name.endsWith('.ts')).sort();
  return new Map(paths.map((path) => [path, readFileSync(join(directory, path), 'utf8')]));
}

/** What the files of `directory` import of src/; paths relative to src/. */
function reachedFrom(directory: string): string[] {
  return [...readSources(directory)].flatMap(([path, text]) =>
    importsOf(text)
      .filter(({ from }) => from.startsWith('.'))
      .map(({ from }) => relative(join(ROOT, 'src'), join(directory, posix.dirname(path), from)))
      .filter((target) => !target.startsWith('..')),
  );
}

/** How many files of src/ were looked at, and what was found. */
export function tidy(): { readonly files: number; readonly found: readonly string[] } {
  const sources = readSources(join(ROOT, 'src'));
  return { files: sources.size, found: complaints(sources, reachedFrom(join(ROOT, 'test'))) };
}

if (import.meta.main) {
  const { files, found } = tidy();
  for (const sentence of found) console.error(`src/${sentence}`);
  console.log(`tidy: ${files} files, ${found.length} complaints`);
  if (files === 0 || found.length > 0) process.exitCode = 1;
}
