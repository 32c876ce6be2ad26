import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A tree of files in memory: the path of each from the root (no slash in front) to what it is. */
export type Tree = ReadonlyMap<string, Entry>;

export type Entry =
  | { readonly type: 'directory' }
  | { readonly type: 'file'; readonly bytes: Uint8Array; readonly mode: number }
  | { readonly type: 'link'; readonly to: string };

/** The tree with each parent directory before what is in it. */
function ordered(tree: Tree): [string, Entry][] {
  const all = new Map(tree);
  for (const path of tree.keys()) {
    for (let up = dirname(path); up !== '.'; up = dirname(up)) {
      if (!all.has(up)) all.set(up, { type: 'directory' });
    }
  }
  return [...all].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Writes the tree below the directory `root`, which must exist. */
export function writeTree(tree: Tree, root: string): void {
  for (const [path, entry] of ordered(tree)) {
    const to = join(root, path);
    switch (entry.type) {
      case 'directory':
        mkdirSync(to);
        break;
      case 'file':
        writeFileSync(to, entry.bytes, { mode: entry.mode });
        break;
      case 'link':
        symlinkSync(entry.to, to);
        break;
    }
  }
}

const FILE_TYPES = { directory: 0o040000, file: 0o100000, link: 0o120000 } as const;
const encoder = new TextEncoder();

/**
 * The tree as a cpio archive of the kind "newc", which the kernel unpacks as its first file system;
 * everything belongs to root. Format: Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export function cpio(tree: Tree): Uint8Array {
  const members = ordered(tree).map(([path, entry], index) => member(path, entry, index + 1));
  return Buffer.concat([...members.flat(), ...trailer()]);
}

function member(path: string, entry: Entry, inode: number): Uint8Array[] {
  switch (entry.type) {
    case 'directory':
      return record(path, FILE_TYPES.directory | 0o755, new Uint8Array(0), inode);
    case 'file':
      return record(path, FILE_TYPES.file | entry.mode, entry.bytes, inode);
    case 'link':
      return record(path, FILE_TYPES.link | 0o777, encoder.encode(entry.to), inode);
  }
}

const trailer = () => record('TRAILER!!!', 0, new Uint8Array(0), 0);

/** Header, name with a zero behind it, content; each of the latter two ends at a multiple of 4. */
function record(path: string, mode: number, bytes: Uint8Array, inode: number): Uint8Array[] {
  const [owner, group, links, time, device, checksum] = [0, 0, 1, 0, 0, 0];
  const fields = [
    ...[inode, mode, owner, group, links, time, bytes.length],
    ...[device, device, device, device, Buffer.byteLength(path) + 1, checksum],
  ];
  const numbers = fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  const head = encoder.encode(`070701${numbers}${path}\0`);
  return [head, padding(head.length), bytes, padding(bytes.length)];
}

const padding = (length: number) => new Uint8Array(-length & 3);
