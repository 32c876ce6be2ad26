import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { output } from './debian.ts';

/** A kernel module, ready to be loaded. */
export interface Module {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** `nbd.ko.xz` and `crc32c-intel.ko` are known to the kernel as nbd and crc32c_intel. */
const nameOf = (path: string) =>
  basename(path)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');

/**
 * The modules that `wanted` (names with underscores) come to, each after those it depends on;
 * what is built into the kernel is left out.
 * @param directory  lib/modules/VERSION of the kernel's package
 * @throws Error if the package does not have one
 */
export function modulesInOrder(directory: string, wanted: readonly string[]): Module[] {
  const found = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  const paths = new Map(
    found.filter((path) => /\.ko(\.xz)?$/.test(path)).map((path) => [nameOf(path), path]),
  );
  const builtIn = readFileSync(join(directory, 'modules.builtin'), 'utf8').trim().split('\n');
  const have = new Set(builtIn.map(nameOf));
  const modules: Module[] = [];
  const take = (name: string): void => {
    if (have.has(name)) return;
    have.add(name);
    const path = paths.get(name);
    if (path === undefined) throw new Error(`the kernel in ${directory} has no module ${name}`);
    const bytes = load(join(directory, path));
    for (const other of dependencies(bytes)) take(other);
    modules.push({ name, bytes });
  };
  for (const name of wanted) take(name);
  return modules;
}

function load(path: string): Uint8Array {
  if (path.endsWith('.ko')) return readFileSync(path);
  output('xz', ['--decompress', path]);
  return readFileSync(path.replace(/\.xz$/, ''));
}

/** What depmod would read: the strings of the section .modinfo are NAME=VALUE, each with a zero. */
function dependencies(bytes: Uint8Array): string[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const names = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? '';
  return names
    .split(',')
    .filter((name) => name !== '')
    .map((name) => name.replaceAll('-', '_'));
}
