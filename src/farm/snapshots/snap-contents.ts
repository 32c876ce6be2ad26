import { NAME_BYTES } from '../../base/content.ts';
import { parseJson } from '../identity.ts';
import { checkVersion, damaged } from './pack-format.ts';

const SNAP_VERSION = 2;

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
  /** The vid of its nearest ancestor that is in this snap too, and stands before it; 0: none is. */
  readonly parent: number;
  /** Name of the VDI, and tag of its snapshot; '': it is the working VDI of that name. */
  readonly name: string;
  readonly snapshot: string;
  /** When that state was frozen, wall time: a store of VDIs that was set back gives vids anew. */
  readonly snapshotMs: number;
  /** When the VDI was made; of a snapshot `snapshotMs`. */
  readonly createdMs: number;
  /** Who might attach it: rules of vdi/access-rules.ts. */
  readonly allow: readonly string[];
  readonly sizeBytes: number;
  readonly objectBytes: number;
  /** Name of its trunk; zeroes: the whole disk reads as zeroes. */
  readonly root: Uint8Array;
}

/** A node of the cluster as it was, for people. */
export interface SnapNode {
  readonly nodeId: string;
  /** Of the program that it ran. */
  readonly version: string;
  /** Its folder, and where it served. */
  readonly store: string;
  readonly nbd: readonly string[];
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
  /** Of the cluster; none in a backup. */
  readonly nodes: readonly SnapNode[];
  /** Parents first; each vid once. */
  readonly disks: readonly SnapDisk[];
}

export function encodeSnap({ log, epoch, timeMs, tag, nodes, disks }: Snap): Uint8Array {
  const value = {
    ...{ version: SNAP_VERSION, log, epoch, timeMs, tag },
    nodes: nodes.map(({ nodeId, version, store, nbd }) => ({ nodeId, version, store, nbd })),
    disks: disks.map(encodeDisk),
  };
  return new TextEncoder().encode(JSON.stringify(value));
}

/** The same disk is the same bytes: its fields in this order, none more. */
function encodeDisk(disk: SnapDisk) {
  const { clusterId, family, vid, parent, name, snapshot, snapshotMs, createdMs } = disk;
  const { allow, sizeBytes, objectBytes } = disk;
  return {
    ...{ clusterId, family, vid, parent, name, snapshot, snapshotMs, createdMs },
    ...{ allow, sizeBytes, objectBytes, root: Buffer.from(disk.root).toString('hex') },
  };
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function decodeSnap(bytes: Uint8Array, id: string): Snap {
  const place = `snap ${id}`;
  const value = parseJson(new TextDecoder().decode(bytes), place);
  const { version, log, epoch, timeMs, tag, nodes, disks } = value;
  checkVersion(place, version, SNAP_VERSION);
  if (log !== 'user' && log !== 'sys') throw damaged(place, 'it is of no log');
  if (!isCount(epoch) || !isCount(timeMs) || typeof tag !== 'string') {
    throw damaged(place, 'it does not say what a snap says');
  }
  if (!Array.isArray(nodes) || !Array.isArray(disks)) {
    throw damaged(place, 'it does not say what a snap says');
  }
  const snap: Snap = {
    ...{ log, epoch, timeMs, tag },
    nodes: nodes.map((node: unknown) => decodeNode(node, place)),
    disks: disks.map((disk: unknown) => decodeDisk(disk, place)),
  };
  checkOrder(snap.disks, place);
  return snap;
}

function decodeNode(value: unknown, place: string): SnapNode {
  const { nodeId, version, store, nbd } = fieldsOf<SnapNode>(value);
  if (typeof nodeId !== 'string' || typeof version !== 'string' || typeof store !== 'string') {
    throw damaged(place, 'it does not say of which nodes it is');
  }
  if (!isTexts(nbd)) throw damaged(place, 'it does not say where its nodes served');
  return { nodeId, version, store, nbd };
}

function decodeDisk(value: unknown, place: string): SnapDisk {
  const bad = () => damaged(place, 'it does not say what disk it is of');
  const { clusterId, family, vid, parent, name, snapshot, snapshotMs, createdMs, ...more } =
    fieldsOf<SnapDisk>(value);
  const { allow, sizeBytes, objectBytes, root } = more;
  if (typeof clusterId !== 'string' || typeof name !== 'string') throw bad();
  if (typeof snapshot !== 'string' || typeof root !== 'string') throw bad();
  if (!isCount(family) || !isCount(vid) || !isCount(parent) || !isTexts(allow)) throw bad();
  if (!isCount(snapshotMs) || !isCount(createdMs)) throw bad();
  if (!isCount(sizeBytes) || !isCount(objectBytes)) throw bad();
  if (!/^([0-9a-f]{2})+$/.test(root) || root.length !== NAME_BYTES * 2) throw bad();
  return {
    ...{ clusterId, family, vid, parent, name, snapshot, snapshotMs, createdMs },
    ...{ allow, sizeBytes, objectBytes, root: new Uint8Array(Buffer.from(root, 'hex')) },
  };
}

/** Whoever follows parents neither runs in circles nor into nothing. */
function checkOrder(disks: readonly SnapDisk[], place: string): void {
  const before = new Set<number>();
  for (const { vid, parent } of disks) {
    if (before.has(vid)) throw damaged(place, `it names vid ${vid} twice`);
    if (parent !== 0 && !before.has(parent)) {
      throw damaged(place, `the parent of vid ${vid} does not stand before it`);
    }
    before.add(vid);
  }
}

function fieldsOf<T>(value: unknown): Partial<Record<keyof T, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<keyof T, unknown>) : {};
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
