import { posix } from 'node:path';
import { codeOnly, importsOf, lineAt } from './import-scan.ts';
import {
  AHEAD,
  EMPTY_NAMES,
  ENTRIES,
  FORBIDDEN,
  LINES_MAX,
  MAY_IMPORT,
  NODE_MODULES,
  PACKAGE_FOLDERS,
  REAL_WORLD,
  TEST_FOLDERS,
} from './tidy-rules.ts';

/** Text by path, relative to src/. */
export type Sources = ReadonlyMap<string, string>;
/** Paths relative to src/, by path. */
type Graph = ReadonlyMap<string, readonly string[]>;

const folderOf = (path: string) => path.slice(0, Math.max(path.indexOf('/'), 0));

/**
 * Everything in `sources` that breaks a rule of tidy-rules.ts, a sentence each.
 * @param reachedByTests  paths relative to src/ that files of test/ import
 */
export function complaints(sources: Sources, reachedByTests: readonly string[]): string[] {
  const graph = new Map<string, string[]>();
  const found: string[] = [];
  for (const [path, text] of sources) {
    const imports = importsOf(text).filter(({ from }) => from.startsWith('.'));
    graph.set(
      path,
      imports.map(({ from }) => posix.join(posix.dirname(path), from)),
    );
    found.push(...aboutFile(path, text), ...aboutImports(path, text), ...aboutGlobals(path, text));
  }
  return [...found, ...cycles(graph), ...unreached(graph, reachedByTests)];
}

function aboutFile(path: string, text: string): string[] {
  const found: string[] = [];
  const folder = folderOf(path);
  if (!Object.hasOwn(MAY_IMPORT, folder)) {
    found.push(`${path}: src/ has no folder "${folder}" (scripts/tidy-rules.ts lists them)`);
  }
  const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
  if (lines > LINES_MAX) {
    found.push(`${path}: ${lines} lines; above ${LINES_MAX} a file has two nouns in it`);
  }
  if (EMPTY_NAMES.test(path)) found.push(`${path}: a name that does not say what is inside`);
  return found;
}

function aboutImports(path: string, text: string): string[] {
  const folder = folderOf(path);
  return importsOf(text).flatMap(({ from, typeOnly, line }) => {
    const problem = from.startsWith('.')
      ? relativeProblem(folder, posix.join(posix.dirname(path), from))
      : from.startsWith('node:')
        ? nodeProblem(folder, from, typeOnly)
        : packageProblem(folder, from);
    return problem === undefined ? [] : [`${path}:${line}: ${problem}`];
  });
}

function relativeProblem(folder: string, target: string): string | undefined {
  const other = folderOf(target);
  if (target.startsWith('..')) return `${target} lies outside src/`;
  if (other === folder || (MAY_IMPORT[folder] ?? []).includes(other)) return undefined;
  return `${folder}/ may not import ${other}/ (${target})`;
}

function nodeProblem(folder: string, module: string, typeOnly: boolean): string | undefined {
  const allowed = NODE_MODULES[folder] ?? { use: [] };
  if (allowed === 'any' || allowed.use.includes(module)) return undefined;
  if (!(allowed.typesOnly ?? []).includes(module)) return `${folder}/ may not import ${module}`;
  return typeOnly ? undefined : `${folder}/ may import ${module} for its types only`;
}

function packageProblem(folder: string, from: string): string | undefined {
  const depth = from.startsWith('@') ? 2 : 1;
  const name = from.split('/').slice(0, depth).join('/');
  const folders = PACKAGE_FOLDERS[name];
  if (folders === undefined) return `src/ may not import the package ${name}`;
  if (folders.includes(folder)) return undefined;
  return `only ${folders.join('/, ')}/ may import the package ${name}`;
}

function aboutGlobals(path: string, text: string): string[] {
  const folder = folderOf(path);
  if (REAL_WORLD.includes(folder)) return [];
  const code = codeOnly(text);
  return FORBIDDEN.filter(({ allowedIn }) => !allowedIn?.includes(folder)).flatMap(
    ({ name, pattern, instead }) =>
      [...code.matchAll(pattern)].map(
        ({ index }) => `${path}:${lineAt(code, index)}: ${name} is of the real world; ${instead}`,
      ),
  );
}

/** One sentence per circle of imports, types included. */
function cycles(graph: Graph): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    const since = trail.indexOf(path);
    if (since >= 0) {
      found.push(
        `${path}: imports itself by way of ${[...trail.slice(since + 1), path].join(', ')}`,
      );
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) walk(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) walk(path, []);
  return found;
}

function unreached(graph: Graph, reachedByTests: readonly string[]): string[] {
  const reach = (starts: readonly string[]): Set<string> => {
    const reached = new Set<string>();
    const open = [...starts];
    for (let path = open.pop(); path !== undefined; path = open.pop()) {
      if (reached.has(path)) continue;
      reached.add(path);
      open.push(...(graph.get(path) ?? []));
    }
    return reached;
  };
  const [byEntries, byTests] = [reach(ENTRIES), reach(reachedByTests)];
  const ahead = reach(AHEAD);
  return [...graph.keys()].flatMap((path) => {
    const forTests = TEST_FOLDERS.includes(folderOf(path));
    if (AHEAD.includes(path) && byEntries.has(path)) {
      return [`${path}: is needed by now; take it out of AHEAD`];
    }
    if ((forTests ? byTests : byEntries).has(path) || ahead.has(path)) return [];
    return [`${path}: ${forTests ? 'no test' : 'neither sheep nor collie'} needs it`];
  });
}
