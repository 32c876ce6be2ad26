import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findTool, type Tool } from '../tools.ts';
import { newestKernel, output, sources, unpack } from './debian.ts';
import { modulesInOrder } from './modules.ts';
import { cpio, type Entry, type Tree, writeTree } from './tree.ts';

/** What a guest is started from, as absolute paths. */
export interface GuestFiles {
  readonly kernel: string;
  readonly initramfs: string;
  /** A directory with a root file system that boots with the two above, for `mke2fs -d`. */
  readonly root: string;
}

const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/guest');
/** With what they depend on: the disks and the network that QEMU shows, and the NBD client. */
const MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'nbd'];
/** The programs that busybox does not have (its own mke2fs knows no ext4). */
const PROGRAMS: readonly Tool[] = ['mkfs.ext4', 'e2fsck', 'nbd-client'];

/** Of this folder, what decides how the guest is built. */
const SOURCES = ['guest-files.ts', 'tree.ts', 'modules.ts', 'init.sh'];

/**
 * Builds what a guest is started from, or finds it built from the same packages, programs and
 * sources. Needs root only if apt has no lists yet.
 * @throws Error with what is missing
 */
export function provideGuestFiles(say: (line: string) => void): GuestFiles {
  if (process.arch !== 'x64') throw new Error('the guest is built on x86-64 only');
  const packages = [kernelInLists(say), 'busybox-static'];
  const scratch = mkdtempSync(join(tmpdir(), 'sheepdog-guest-'));
  try {
    const programs = programFiles();
    const hash = createHash('sha256').update(sources(packages, scratch));
    for (const [path, entry] of programs) hash.update(path).update(bytesOf(entry));
    for (const name of SOURCES) hash.update(readFileSync(join(import.meta.dirname, name)));
    const built = join(CACHE, hash.digest('hex').slice(0, 16));
    if (!existsSync(built)) {
      say(`Building a guest from ${packages.join(', ')} (once per version)`);
      unpack(packages, scratch, join(scratch, 'unpacked'));
      build(join(scratch, 'unpacked'), programs, built);
    }
    return {
      kernel: join(built, 'kernel'),
      initramfs: join(built, 'initramfs'),
      root: join(built, 'root'),
    };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Where apt knows no packages, root may fetch the lists. */
function kernelInLists(say: (line: string) => void): string {
  if (findTool('apt-get') === undefined) {
    throw new Error('its kernel is a package of Debian, and there is no apt on this machine');
  }
  try {
    return newestKernel();
  } catch (error) {
    if (process.getuid?.() !== 0) {
      throw new Error('apt does not know its kernel; try: sudo apt-get update', { cause: error });
    }
    say('Updating the lists of apt');
    output('apt-get', ['update', '-q']);
    return newestKernel();
  }
}

/** The programs of this machine and the libraries that the loader would give them. */
function programFiles(): Tree {
  const files = new Map<string, Entry>();
  for (const name of PROGRAMS) {
    const path = findTool(name);
    if (path === undefined) throw new Error(`${name} is missing`);
    const libraries = output('ldd', [path]).matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm);
    for (const from of [path, ...[...libraries].map(([, library = '']) => library)]) {
      const to = from === path ? `sbin/${name}` : from.slice(1);
      files.set(to, { type: 'file', bytes: readFileSync(from), mode: 0o755 });
    }
  }
  return files;
}

const bytesOf = (entry: Entry) => (entry.type === 'file' ? entry.bytes : new Uint8Array(0));

/** Where a package has it: below usr/ since Debian 13. */
const within = (unpacked: string, path: string) =>
  [join(unpacked, 'usr', path), join(unpacked, path)].find(existsSync) ?? join(unpacked, path);

/** Makes the directory `built`, whole or not at all, in place of those of other versions. */
function build(unpacked: string, programs: Tree, built: string): void {
  const kernels = within(unpacked, 'lib/modules');
  const [version = ''] = readdirSync(kernels);
  const directories = ['dev', 'proc', 'sys', 'tmp', 'mnt', 'srv', 'sbin', 'usr/bin', 'usr/sbin'];
  const file = (path: string, mode = 0o755): Entry => {
    return { type: 'file', bytes: readFileSync(path), mode };
  };
  const system: [string, Entry][] = [
    ...directories.map((path): [string, Entry] => [path, { type: 'directory' }]),
    ['bin/busybox', file(within(unpacked, 'bin/busybox'))],
    ['bin/sh', { type: 'link', to: 'busybox' }],
    ...programs,
  ];
  const init = file(join(import.meta.dirname, 'init.sh'));
  const modules = modulesInOrder(join(kernels, version), MODULES);
  const initramfs: [string, Entry][] = modules.map(({ name, bytes }, index) => [
    `lib/modules/${String(index).padStart(2, '0')}-${name}.ko`,
    { type: 'file', bytes, mode: 0o644 },
  ]);
  rmSync(CACHE, { recursive: true, force: true });
  const draft = `${built}.draft`;
  mkdirSync(join(draft, 'root'), { recursive: true });
  const kernel = readFileSync(join(unpacked, 'boot', `vmlinuz-${version}`));
  writeFileSync(join(draft, 'kernel'), kernel);
  writeFileSync(join(draft, 'initramfs'), cpio(new Map([...system, ...initramfs, ['init', init]])));
  writeTree(new Map([...system, ['sbin/init', init]]), join(draft, 'root'));
  renameSync(draft, built);
}
