import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { buildIfStale, installIfStale } from '../../scripts/prepare.mjs';

let root: string;
const write = (path: string, text: string) => writeFileSync(join(root, path), text);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'sheepdog-prepare-'));
  for (const directory of ['node_modules', 'src', 'src/base']) mkdirSync(join(root, directory));
  write('package.json', '{}');
  write('package-lock.json', '{}');
  write('tsconfig.json', '{}');
  write('src/base/a.ts', 'export const a = 1;');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('packages', () => {
  test('are installed once, and again when the lock changed', () => {
    expect(installIfStale(root, () => true)).toBe('done');
    expect(installIfStale(root, () => false)).toBe('fresh');
    write('package-lock.json', '{"changed":true}');
    expect(installIfStale(root, () => true)).toBe('done');
  });

  test('are installed again after an install that failed, and after node_modules was removed', () => {
    expect(installIfStale(root, () => false)).toBe('failed');
    expect(installIfStale(root, () => true)).toBe('done');
    rmSync(join(root, 'node_modules'), { recursive: true });
    const install = () => {
      mkdirSync(join(root, 'node_modules'));
      return true;
    };
    expect(installIfStale(root, install)).toBe('done');
  });
});

test('the Node of the packages is linked where npm left that out', () => {
  const own = `node_modules/node-linux-${process.arch}/bin`;
  const install = () => {
    for (const path of [own, 'node_modules/.bin']) mkdirSync(join(root, path), { recursive: true });
    write(`${own}/node`, 'ours');
    return true;
  };
  installIfStale(root, install);
  expect(readFileSync(join(root, 'node_modules/.bin/node'), 'utf8')).toBe('ours');
});

describe('dist', () => {
  /** A compiler that writes one file of this name. */
  const emit = (name: string) => (_root: string, outDir: string) => {
    mkdirSync(outDir);
    writeFileSync(join(outDir, name), name);
    return true;
  };
  const files = () => readdirSync(join(root, 'dist')).filter((name) => name !== '.stamp');

  test.for<[string, () => void]>([
    ['a source changed', () => write('src/base/a.ts', 'export const a = 2;')],
    ['a source came', () => write('src/base/b.ts', '')],
    ['a source went', () => rmSync(join(root, 'src/base/a.ts'))],
    ['the compiler options changed', () => write('tsconfig.json', '{"strict":true}')],
    ['it was removed', () => rmSync(join(root, 'dist'), { recursive: true })],
  ])('is built again when %s, and what has no source any more is gone', ([, change]) => {
    expect(buildIfStale(root, emit('one.js'))).toBe('done');
    expect(buildIfStale(root, emit('two.js'))).toBe('fresh');
    expect(files()).toEqual(['one.js']);
    change();
    expect(buildIfStale(root, emit('two.js'))).toBe('done');
    expect(files()).toEqual(['two.js']);
  });

  test('stays as it was when the build fails, and is tried again', () => {
    buildIfStale(root, emit('one.js'));
    write('src/base/a.ts', 'no TypeScript');
    const broken = (_root: string, outDir: string) => {
      emit('half.js')(_root, outDir);
      return false;
    };
    expect(buildIfStale(root, broken)).toBe('failed');
    expect(readFileSync(join(root, 'dist/one.js'), 'utf8')).toBe('one.js');
    expect(existsSync(join(root, 'dist/half.js'))).toBe(false);
    expect(buildIfStale(root, emit('two.js'))).toBe('done');
  });

  test('leaves nothing beside itself', () => {
    buildIfStale(root, emit('one.js'));
    write('src/base/a.ts', '');
    buildIfStale(root, emit('two.js'));
    expect(readdirSync(root).filter((name) => name.startsWith('.build'))).toEqual([]);
  });
});
