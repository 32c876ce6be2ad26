import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { tidy } from '../../scripts/tidy.ts';
import { complaints } from '../../scripts/tidy-check.ts';
import { ENTRIES, FORBIDDEN, LINES_MAX } from '../../scripts/tidy-rules.ts';

/** Sources that keep every rule but what `files` break: both entries need everything in `files`. */
function about(files: Record<string, string>, reachedByTests: string[] = []): string[] {
  const needed = Object.keys(files).map((path) => `import '../${path}';`);
  // Only what the entries may import is imported by them; the rest counts as reached all the same.
  const sources = new Map(Object.entries({ ...files }));
  for (const entry of ENTRIES) sources.set(entry, needed.join('\n'));
  return complaints(sources, reachedByTests).filter(
    (sentence) => !ENTRIES.some((entry) => sentence.startsWith(entry)),
  );
}

describe('the canary: a file that breaks a rule is named with its line', () => {
  test.for<[title: string, path: string, text: string, expected: string]>([
    [
      'a domain folder that imports another',
      'nbd/a.ts',
      "\nimport { x } from '../vdi/b.ts';",
      'nbd/a.ts:2: nbd/ may not import vdi/ (vdi/b.ts)',
    ],
    [
      'an import of types only is an import too',
      'farm/a.ts',
      "import type { X } from '../host/b.ts';",
      'farm/a.ts:1: farm/ may not import host/ (host/b.ts)',
    ],
    [
      'a re-export',
      'base/a.ts',
      "export * from '../contracts/b.ts';",
      'base/a.ts:1: base/ may not import contracts/ (contracts/b.ts)',
    ],
    [
      'an import over many lines',
      'cluster/a.ts',
      "import {\n  x,\n  y,\n} from '../cache/b.ts';",
      'cluster/a.ts:1: cluster/ may not import cache/ (cache/b.ts)',
    ],
    [
      'a dynamic import',
      'app/a.ts',
      "const x = await import('../host/b.ts');",
      'app/a.ts:1: app/ may not import host/ (host/b.ts)',
    ],
    [
      'an import for its effect',
      'vdi/a.ts',
      "import '../nbd/b.ts';",
      'vdi/a.ts:1: vdi/ may not import nbd/ (nbd/b.ts)',
    ],
    [
      'a worker of another folder',
      'farm/a.ts',
      'new Worker(new URL(`../host/b${ending}`, import.meta.url));',
      'farm/a.ts:1: farm/ may not import host/ (host/b.ts)',
    ],
    [
      'a file outside src/',
      'nbd/a.ts',
      "import { x } from '../../test/nbd/wire.ts';",
      'nbd/a.ts:1: ../test/nbd/wire.ts lies outside src/',
    ],
    [
      'a package in the wrong folder',
      'vdi/a.ts',
      "import pino from 'pino';",
      'vdi/a.ts:1: only host/ may import the package pino',
    ],
    [
      'a part of a package in the wrong folder',
      'nbd/a.ts',
      "import { x } from 'zod/v4';",
      'nbd/a.ts:1: only config/ may import the package zod',
    ],
    [
      'a package of the tests',
      'base/a.ts',
      "import fc from 'fast-check';",
      'base/a.ts:1: src/ may not import the package fast-check',
    ],
    [
      'a package with a scope',
      'app/a.ts',
      "import x from '@fastify/static/lib';",
      'app/a.ts:1: src/ may not import the package @fastify/static',
    ],
    [
      "a module of Node's I/O in a domain folder",
      'farm/a.ts',
      "import { open } from 'node:fs/promises';",
      'farm/a.ts:1: farm/ may not import node:fs/promises',
    ],
    [
      'a module of which only types may be used',
      'app/a.ts',
      "import { createServer } from 'node:http';",
      'app/a.ts:1: app/ may import node:http for its types only',
    ],
    ['an unknown folder', 'lib/a.ts', '', 'lib/a.ts: src/ has no folder "lib"'],
    ['no folder at all', 'a.ts', '', 'a.ts: src/ has no folder ""'],
    ['an empty name', 'vdi/name-utils.ts', '', 'a name that does not say what is inside'],
    ['an index', 'vdi/index.ts', '', 'a name that does not say what is inside'],
    ['a long file', 'vdi/a.ts', '\n'.repeat(LINES_MAX + 1), `vdi/a.ts: ${LINES_MAX + 1} lines`],
  ])('%s', ([, path, text, expected]) => {
    expect(about({ [path]: text })).toEqual([expect.stringContaining(expected)]);
  });

  test('a circle of imports', () => {
    const files = {
      'vdi/a.ts': "import './b.ts';",
      'vdi/b.ts': "import './c.ts';",
      'vdi/c.ts': "import type { A } from './a.ts';",
    };
    expect(about(files)).toEqual([
      'vdi/a.ts: imports itself by way of vdi/b.ts, vdi/c.ts, vdi/a.ts',
    ]);
  });

  test('a file that nothing needs', () => {
    const sources = new Map([
      ['cli/sheep.ts', "import '../app/sheep.ts';"],
      ['cli/collie.ts', ''],
      ['app/sheep.ts', ''],
      ['app/dead.ts', ''],
      ['sim/world.ts', "import './queue.ts';"],
      ['sim/queue.ts', ''],
      ['sim/dead.ts', ''],
    ]);
    expect(complaints(sources, ['sim/world.ts', 'app/dead.ts'])).toEqual([
      'app/dead.ts: neither sheep nor collie needs it',
      'sim/dead.ts: no test needs it',
    ]);
  });
});

describe('what would make two runs of one world differ', () => {
  const uses: Record<string, string> = {
    'Date.now': 'const now = Date.now();',
    'new Date()': 'const now = new Date();',
    performance: 'performance.now();',
    setTimeout: 'setTimeout(f, 1);',
    setInterval: 'const start = setInterval;',
    setImmediate: 'setImmediate(f);',
    process: 'process.nextTick(f);',
    'AbortSignal.timeout': 'const signal = AbortSignal.timeout(5);',
    'Math.random': 'Math.floor(Math.random() * 6);',
    'crypto.random': "import { randomBytes } from 'node:crypto';",
    FinalizationRegistry: 'const r = new FinalizationRegistry(f);',
    console: "console.log('x');",
    fetch: 'await fetch(url);',
    globalThis: 'globalThis.setTimeout(f, 1);',
  };

  test('every rule has its canary', () => {
    expect(Object.keys(uses).sort()).toEqual(FORBIDDEN.map(({ name }) => name).sort());
  });

  test.for(Object.entries(uses))('%s', ([name, use]) => {
    const expected = expect.stringContaining(`:2: ${name} is of the real world`);
    expect(about({ 'vdi/a.ts': `const text = \`\${1}\`;\n${use}` })).toContainEqual(expected);
    expect(about({ 'app/a.ts': `// first\n${use}` })).toContainEqual(expected);
    expect(about({ 'host/a.ts': use })).toEqual([]);
  });

  test('it is seen inside a template', () => {
    expect(about({ 'vdi/a.ts': 'const text = `at ${Date.now()}`;' })).toHaveLength(1);
  });

  test.for([
    '// Date.now() would not do\n/* nor Math.random() */',
    "const text = 'console.log is not for us';",
    'const text = `setTimeout`;',
    'socket.setTimeout(5);',
    'interface Timers { setTimeout: number; console?: string }',
    'const day = new Date(wallMs).toISOString();',
    'this.#process.push(1);',
  ])('not a use: %s', (text) => {
    expect(about({ 'vdi/a.ts': text })).toEqual([]);
  });
});

test('what the rules allow is not complained about', () => {
  const files = {
    'base/a.ts': "import assert from 'node:assert';",
    'contracts/a.ts': "import type { X } from '../base/a.ts';",
    'farm/a.ts': "import { crc32 } from 'node:zlib';\nimport { LRUCache } from 'lru-cache';",
    'config/a.ts': "import { z } from 'zod';",
    'host/a.ts': "import { open } from 'node:fs';\nimport pino from 'pino';",
    'app/a.ts': "import type { Server } from 'node:http';\nimport '../farm/a.ts';",
    'sim/a.ts': 'setImmediate(f);',
  };
  expect(about(files, ['sim/a.ts'])).toEqual([]);
});

test('tidy saw every file of src/', () => {
  const names = readdirSync(join(import.meta.dirname, '../../src'), {
    recursive: true,
    withFileTypes: true,
  });
  const files = names.filter((entry) => entry.isFile() && entry.name.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(0);
  expect(tidy().files).toBeGreaterThanOrEqual(files.length);
});
