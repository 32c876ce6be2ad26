import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Debian's packages by way of apt and dpkg: downloaded and unpacked, never installed. */

const KERNEL = 'linux-image-cloud-amd64';

/** What a command printed. @throws Error with what it said, if it fails or does not exist */
export function output(command: string, args: readonly string[], cwd = '/'): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim();
  throw new Error(`${command} ${args.join(' ')} failed: ${why}`);
}

/** The newest kernel for virtual machines: KERNEL itself is empty and depends on it. */
export function newestKernel(): string {
  const depends = output('apt-cache', ['depends', KERNEL]);
  const name = /Depends: (linux-image-\S+-cloud-amd64)/.exec(depends)?.[1];
  if (name === undefined) throw new Error(`${KERNEL} depends on no kernel:\n${depends}`);
  return name;
}

/** One line per package: where it is, its file with the version in its name, its digest. */
export function sources(packages: readonly string[], scratch: string): string {
  return output('apt-get', ['download', '--print-uris', ...packages], scratch);
}

/**
 * Downloads the packages to `scratch` and unpacks them below `into`.
 * @param options  of apt-get: where it finds them, if not where the system does
 */
export function unpack(
  packages: readonly string[],
  scratch: string,
  into: string,
  options: readonly string[] = [],
): void {
  output('apt-get', [...options, 'download', ...packages], scratch);
  for (const name of readdirSync(scratch).filter((one) => one.endsWith('.deb'))) {
    output('dpkg-deb', ['--extract', join(scratch, name), into]);
  }
}
