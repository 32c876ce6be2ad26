import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { findTool } from './tools.ts';
import { output, unpack } from './vm/debian.ts';

/** From here on QEMU speaks extended headers. */
const FIRST = [8, 2] as const;
const CACHE = resolve(import.meta.dirname, '../node_modules/.cache/newer-qemu');
const TOOLS = 'usr/bin';

/**
 * The directory of a `qemu-img` and `qemu-io` that speak extended headers: the system's if it is new
 * enough, else that of Debian's backports, downloaded and unpacked below node_modules/.cache, never
 * installed; its libraries are those that qemu-utils of the system needs too.
 * @throws Error where there is none to be had
 */
export function newerQemu(): string {
  const system = findTool('qemu-img');
  if (system !== undefined && isNew(system)) return join(system, '..');
  const cached = join(CACHE, TOOLS);
  if (!existsSync(cached)) download();
  const found = join(cached, 'qemu-img');
  if (!isNew(found)) throw new Error(`${found} is no newer QEMU`);
  return cached;
}

/**
 * For a test: `describe.skipIf(!hasNewerQemu())`.
 * @throws Error where CI is set: there a test that does not run is a failure
 */
export function hasNewerQemu(): boolean {
  try {
    newerQemu();
    return true;
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    return false;
  }
}

function isNew(path: string): boolean {
  const [, major = 0, minor = 0] = /version (\d+)\.(\d+)/.exec(output(path, ['--version'])) ?? [];
  const [wantedMajor, wantedMinor] = FIRST;
  return (
    Number(major) > wantedMajor || (Number(major) === wantedMajor && Number(minor) >= wantedMinor)
  );
}

/** Lists of packages are kept apart from the system's: they hold backports, which nobody asked for. */
function download(): void {
  mkdirSync(join(CACHE, '..'), { recursive: true });
  const scratch = mkdtempSync(`${CACHE}-`);
  try {
    for (const path of ['sources', 'lists/partial', 'cache/archives/partial', 'debs', 'root']) {
      mkdirSync(join(scratch, path), { recursive: true });
    }
    const suite = `${codename()}-backports`;
    writeFileSync(
      join(scratch, 'sources/backports.list'),
      `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian ${suite} main\n`,
    );
    const options = [
      'Dir::Etc::SourceList=/dev/null',
      `Dir::Etc::SourceParts=${scratch}/sources`,
      `Dir::State::Lists=${scratch}/lists`,
      `Dir::Cache=${scratch}/cache`,
      'APT::Sandbox::User=root',
    ].flatMap((option) => ['-o', option]);
    output('apt-get', [...options, 'update']);
    unpack([`qemu-utils/${suite}`], join(scratch, 'debs'), join(scratch, 'root'), options);
    renameSync(join(scratch, 'root'), CACHE);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function codename(): string {
  const name = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  if (name === undefined) throw new Error('this is no Debian, and its QEMU is an old one');
  return name;
}
