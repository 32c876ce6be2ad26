import { isFault, SheepError } from '../base/errors.ts';
import { VID_MAX, type Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { ObjectWriteCall } from '../contracts/object-store.ts';
import { canonicalRules } from './access-rules.ts';
import {
  checkObjectCount,
  parseObjectSize,
  parseTag,
  parseVdiName,
  SIZE_BYTES_MAX,
} from './names.ts';

/**
 * `making`: it has no name yet, its inode is being written. `ready`: it is the working VDI of its
 * name. `snapshot`: frozen under a tag, never to be changed again. `deleting`: its name or tag is
 * free again, and of its objects only those are kept that others of the family read. `held`: frozen
 * without a tag, for a snapshot of the cluster. `released`: it was held, and is as one that is deleted.
 */
export type VolumeState = (typeof STATES)[number];
const STATES = ['making', 'ready', 'snapshot', 'deleting', 'held', 'released'] as const;

/** What the coordinator keeps of one vid: a working VDI or a snapshot. */
export interface VolumeRecord {
  /** Of the VDI; a snapshot keeps the name of the VDI it was taken of. */
  readonly name: string;
  readonly vid: Vid;
  /** The vid of the root of its family; its own for one made with `create`. */
  readonly family: Vid;
  /** The snapshot it was grown from; 0: none. One that was deleted is skipped once it is gone. */
  readonly parent: Vid | 0;
  /** Of a snapshot, also while it is deleted, or made under its tag (arrivals.ts); else ''. */
  readonly tag: string;
  /** 1 block to 1 PiB, whole blocks. */
  readonly sizeBytes: number;
  /** Not 0: it had this size, and what lies behind `sizeBytes` may not all be cleared away yet. */
  readonly shrunkFromBytes: number;
  /** A power of two from 1 MiB to 64 MiB. */
  readonly objectBytes: number;
  /** Grows by one each time the VDI gets an owner; 0 before the first. At most 2^32 - 1. */
  readonly attachEpoch: number;
  /** Wall time of its creation in milliseconds since 1970. */
  readonly createdMs: number;
  /** Who may attach it: access-rules.ts. A snapshot's own count only while its VDI is gone. */
  readonly allow: readonly string[];
  readonly state: VolumeState;
  /** Of a snapshot that was loaded: `CLUSTERID/VID`, the one that it is, as long as `createdMs` fits. */
  readonly origin?: string;
}

/** Whether all that it reads is kept. */
export function isLive({ state }: Pick<VolumeRecord, 'state'>): boolean {
  return state === 'ready' || state === 'snapshot' || state === 'held';
}

/** Whether it is only there for what others of its family read of it. */
export function isLeaving({ state }: Pick<VolumeRecord, 'state'>): boolean {
  return state === 'deleting' || state === 'released';
}

/** `NAME`, of a snapshot `NAME@TAG`: under which it is exported, and what people call it. */
export function exportName({ name, tag }: Pick<VolumeRecord, 'name' | 'tag'>): string {
  return tag === '' ? name : `${name}@${tag}`;
}

/** The only slot epoch there is on one machine: its map never changes. */
const LOCAL_EPOCH = 1;

/** The call of everything that this owner writes: under his stamp, and not yet durable. */
export function plainCall({ attachEpoch }: VolumeRecord): ObjectWriteCall {
  const stamp = Object.freeze({ epoch: LOCAL_EPOCH, attachEpoch });
  return Object.freeze({ stamp, durable: false });
}

/** Format of the record's JSON text; FORMATS.md. */
const RECORD_VERSION = 4;

const FIELDS = [
  'version',
  'name',
  'vid',
  'family',
  'parent',
  'tag',
  'sizeBytes',
  'shrunkFromBytes',
  'objectBytes',
  'attachEpoch',
  'createdMs',
  'allow',
  'state',
] as const;
type Field = (typeof FIELDS)[number] | 'origin';

/** Names a disk for ever, wherever it is loaded to. */
export function originOf({ clusterId, vid }: { clusterId: string; vid: Vid }): string {
  return `${clusterId}/${vid}`;
}

/** Whether this may be such a name. */
export function isOrigin(text: string): boolean {
  return ORIGIN.test(text);
}
const ORIGIN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\/[1-9]\d{0,9}$/;

export function encodeRecord(record: VolumeRecord): Uint8Array {
  const { origin } = record;
  const fields: Partial<Record<Field, string | number | readonly string[]>> = {
    version: RECORD_VERSION,
    name: record.name,
    vid: record.vid,
    family: record.family,
    parent: record.parent,
    tag: record.tag,
    sizeBytes: record.sizeBytes,
    shrunkFromBytes: record.shrunkFromBytes,
    objectBytes: record.objectBytes,
    attachEpoch: record.attachEpoch,
    createdMs: record.createdMs,
    allow: record.allow,
    state: record.state,
    ...(origin !== undefined && { origin }),
  };
  return new TextEncoder().encode(JSON.stringify(fields));
}

/**
 * Strict: no field too many, none missing but for an origin, each in its range.
 * @param from  for messages: the key under which the bytes stood
 * @throws SheepError `ERR_VERSION` for a record of another version, `ERR_CORRUPT` for what is no record
 */
export function decodeRecord(bytes: Uint8Array, from: string): VolumeRecord {
  const fields = parseFields(bytes, from);
  const { version } = fields;
  if (version !== RECORD_VERSION) {
    if (typeof version !== 'number') throw damaged(from, 'version', version);
    throw new SheepError(
      'ERR_VERSION',
      `the volume record ${from} has format version ${version}, this sheep reads ` +
        `${RECORD_VERSION}; use the sheep that wrote it`,
      { version, supported: RECORD_VERSION },
    );
  }
  for (const field of Object.keys(fields)) {
    const isKnown = field === 'origin' || FIELDS.some((known) => known === field);
    if (!isKnown) throw damaged(from, field, 'unknown');
  }
  const number = (field: Field, min: number, max: number): number => {
    const value = fields[field];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) {
      return value;
    }
    throw damaged(from, field, value);
  };
  const text = (field: Field): string => {
    const value = fields[field];
    if (typeof value === 'string') return value;
    throw damaged(from, field, value);
  };
  const state = STATES.find((known) => known === fields['state']);
  if (state === undefined) throw damaged(from, 'state', fields['state']);
  const record: VolumeRecord = {
    name: text('name'),
    vid: number('vid', 1, VID_MAX),
    family: number('family', 1, VID_MAX),
    parent: number('parent', 0, VID_MAX),
    tag: text('tag'),
    sizeBytes: number('sizeBytes', BLOCK_BYTES, SIZE_BYTES_MAX),
    shrunkFromBytes: number('shrunkFromBytes', 0, SIZE_BYTES_MAX),
    objectBytes: number('objectBytes', 1, 2 ** 32),
    attachEpoch: number('attachEpoch', 0, 2 ** 32 - 1),
    createdMs: number('createdMs', 0, Number.MAX_SAFE_INTEGER),
    allow: rules(fields['allow'], from),
    state,
    ...(fields['origin'] !== undefined && { origin: text('origin') }),
  };
  checkRules(record, from);
  return record;
}

/** Whoever meets a rule that is not as it was written lets nobody in. */
function rules(value: unknown, from: string): readonly string[] {
  const texts = Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
  try {
    const canonical = canonicalRules(texts);
    if (JSON.stringify(canonical) === JSON.stringify(value)) return canonical;
  } catch (cause) {
    if (!isFault(cause, 'ERR_BAD_INPUT')) throw cause;
  }
  throw damaged(from, 'allow', value);
}

/** The rules that held when it was made, by the same words. */
function checkRules(record: VolumeRecord, from: string): void {
  const { name, tag, state, sizeBytes, shrunkFromBytes, origin } = record;
  if (sizeBytes % BLOCK_BYTES !== 0) throw damaged(from, 'sizeBytes', sizeBytes);
  if (shrunkFromBytes !== 0 && shrunkFromBytes <= sizeBytes) {
    throw damaged(from, 'shrunkFromBytes', shrunkFromBytes);
  }
  const mayBeTagged = state === 'deleting' || state === 'making';
  const tagged = mayBeTagged ? tag !== '' : state === 'snapshot';
  if (tagged !== (tag !== '')) throw damaged(from, 'tag', tag);
  if (origin !== undefined && !(tagged && isOrigin(origin))) {
    throw damaged(from, 'origin', origin);
  }
  try {
    parseVdiName(name);
    if (tagged) parseTag(tag);
    parseObjectSize(String(record.objectBytes));
    checkObjectCount(record.sizeBytes, record.objectBytes);
  } catch (cause) {
    if (!isFault(cause, 'ERR_BAD_INPUT')) throw cause;
    throw new SheepError('ERR_CORRUPT', `the volume record ${from} is damaged`, {}, cause);
  }
}

function parseFields(bytes: Uint8Array, from: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new SheepError('ERR_CORRUPT', `the volume record ${from} is not JSON`, {}, cause);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new SheepError('ERR_CORRUPT', `the volume record ${from} is not a JSON object`);
}

function damaged(from: string, field: string, value: unknown): SheepError {
  const shown = JSON.stringify(value)?.slice(0, 100) ?? 'absent';
  return new SheepError('ERR_CORRUPT', `the volume record ${from} has a wrong ${field}: ${shown}`, {
    field,
  });
}
