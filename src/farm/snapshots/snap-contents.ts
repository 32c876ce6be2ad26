import { NAME_BYTES } from '../../base/content.ts';
import { SheepError } from '../../base/errors.ts';
import { parseJson } from '../identity.ts';
import { damaged } from './pack-format.ts';

const SNAP_VERSION = 1;

/** The files of the logs: snaps that people asked for, and those of epochs. */
export const SNAP_LOGS = { user: 'user_snap', sys: 'sys_snap' } as const;
export type SnapLogName = keyof typeof SNAP_LOGS;

/** One disk as it was, in a snap. */
export interface SnapDisk {
  /** Of the cluster that it was a VDI of; a UUID. */
  readonly clusterId: string;
  /** The family that it belonged to, and the frozen vid that was read. */
  readonly family: number;
  readonly vid: number;
  /** Name of the VDI, and tag of its snapshot that was read. */
  readonly name: string;
  readonly snapshot: string;
  /** When that snapshot was taken, wall time: a store of VDIs that was set back gives vids anew. */
  readonly snapshotMs: number;
  readonly sizeBytes: number;
  readonly objectBytes: number;
  /** Name of its trunk; zeroes: the whole disk reads as zeroes. */
  readonly root: Uint8Array;
}

/** What a `snap` object says: which disks there were, and when. */
export interface Snap {
  /** Where its line stands. */
  readonly log: SnapLogName;
  readonly epoch: number;
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  /** As people call it; empty: it has no name. */
  readonly tag: string;
  readonly disks: readonly SnapDisk[];
}

export function encodeSnap({ log, epoch, timeMs, tag, disks }: Snap): Uint8Array {
  const value = {
    ...{ version: SNAP_VERSION, log, epoch, timeMs, tag },
    disks: disks.map(encodeDisk),
  };
  return new TextEncoder().encode(JSON.stringify(value));
}

/** The same disk is the same bytes: its fields in this order, none more. */
function encodeDisk(disk: SnapDisk) {
  const { clusterId, family, vid, name, snapshot, snapshotMs, sizeBytes, objectBytes } = disk;
  const facts = { clusterId, family, vid, name, snapshot, snapshotMs, sizeBytes, objectBytes };
  return { ...facts, root: Buffer.from(disk.root).toString('hex') };
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function decodeSnap(bytes: Uint8Array, id: string): Snap {
  const place = `snap ${id}`;
  const value = parseJson(new TextDecoder().decode(bytes), place);
  const { version, log, epoch, timeMs, tag, disks } = value;
  if (version !== SNAP_VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `${place} is of version ${version}, this program knows version ${SNAP_VERSION}; ` +
        'use the one that made it',
      { found: String(version), known: SNAP_VERSION },
    );
  }
  if (log !== 'user' && log !== 'sys') throw damaged(place, 'it is of no log');
  if (!isCount(epoch) || !isCount(timeMs) || typeof tag !== 'string' || !Array.isArray(disks)) {
    throw damaged(place, 'it does not say what a snap says');
  }
  return {
    ...{ log, epoch, timeMs, tag },
    disks: disks.map((disk: unknown) => decodeDisk(disk, place)),
  };
}

function decodeDisk(value: unknown, place: string): SnapDisk {
  const bad = () => damaged(place, 'it does not say what disk it is of');
  if (typeof value !== 'object' || value === null) throw bad();
  const { clusterId, family, vid, name, snapshot, snapshotMs, sizeBytes, objectBytes, root } =
    value as Partial<Record<keyof SnapDisk, unknown>>;
  if (typeof clusterId !== 'string' || typeof name !== 'string') throw bad();
  if (typeof snapshot !== 'string' || typeof root !== 'string') throw bad();
  if (
    !isCount(family) ||
    !isCount(vid) ||
    !isCount(snapshotMs) ||
    !isCount(sizeBytes) ||
    !isCount(objectBytes)
  ) {
    throw bad();
  }
  if (!/^([0-9a-f]{2})+$/.test(root) || root.length !== NAME_BYTES * 2) throw bad();
  const facts = { clusterId, family, vid, name, snapshot, snapshotMs, sizeBytes, objectBytes };
  return { ...facts, root: new Uint8Array(Buffer.from(root, 'hex')) };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
