import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** What the tests need besides Node, and the Debian package that has it. */
const TOOLS = {
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'nbd-client': 'nbd-client',
  nbdkit: 'nbdkit',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdsh: 'python3-libnbd',
  fio: 'fio',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  losetup: 'mount',
  'qemu-system-x86_64': 'qemu-system-x86',
  zsh: 'zsh',
  mandoc: 'mandoc',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  'systemd-analyze': 'systemd',
  'systemd-socket-activate': 'systemd',
  'systemd-sysusers': 'systemd',
  ip: 'iproute2',
  openssl: 'openssl',
} as const satisfies Record<string, string>;

export type Tool = keyof typeof TOOLS;

/** Where a user's PATH may not lead but Debian puts administrators' tools. */
const DIRECTORIES = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];

/** The full path of a command, or undefined. */
export function findTool(name: string, directories = DIRECTORIES): string | undefined {
  return directories
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * For a test: `test.skipIf(!hasTool('fio'))`. Skipped by name where a person has not installed it.
 * @throws Error where CI is set: there a test that does not run is a failure
 */
export function hasTool(name: Tool): boolean {
  if (findTool(name) !== undefined) return true;
  if (process.env['CI'] === 'true') throw new Error(`${name} is missing (package ${TOOLS[name]})`);
  return false;
}

const missingTools = () => (Object.keys(TOOLS) as Tool[]).filter((name) => !findTool(name));

/**
 * Installs what is missing where this is root's to do, else says how to get it.
 * @returns the tools that are still missing
 */
export function provideTools(say: (line: string) => void): readonly Tool[] {
  const missing = missingTools();
  if (missing.length === 0) return [];
  const packages = [...new Set(missing.map((name) => TOOLS[name]))].sort();
  const install = ['install', '-y', '--no-install-recommends', ...packages];
  const apt = findTool('apt-get');
  if (apt === undefined || process.getuid?.() !== 0) {
    say(`Missing for the tests: ${missing.join(', ')}.`);
    say(
      apt === undefined
        ? `Install what your system calls ${packages.join(', ')} (Debian's names).`
        : `To get them: sudo apt-get ${install.join(' ')}`,
    );
    return missing;
  }
  say(`Installing for the tests: ${packages.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [['update', '-q'], install]) {
    const { status } = spawnSync(apt, args, { env, stdio: ['ignore', 2, 2] });
    if (status !== 0) say(`apt-get ${args.join(' ')} failed`);
  }
  return missingTools();
}
