import { isFault, SheepError } from '../base/errors.ts';
import { VID_MAX, type Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { DeviceInfo } from '../contracts/block-device.ts';
import { checkObjectCount, parseObjectSize, parseVdiName, SIZE_BYTES_MAX } from './names.ts';

/**
 * `making`: it has no name yet, its empty disk is being written. `ready`: it has one. `deleting`:
 * its name is free again, its objects are being removed.
 */
export type VolumeState = (typeof STATES)[number];
const STATES = ['making', 'ready', 'deleting'] as const;

/** What the coordinator keeps of one VDI. */
export interface VolumeRecord {
  readonly name: string;
  readonly vid: Vid;
  /** The vid of the root of its family; its own for one made with `create`. */
  readonly family: Vid;
  /** 1 block to 1 PiB, whole blocks. */
  readonly sizeBytes: number;
  /** A power of two from 1 MiB to 64 MiB. */
  readonly objectBytes: number;
  /** Grows by one each time the VDI gets an owner; 0 before the first. At most 2^32 - 1. */
  readonly attachEpoch: number;
  /** Wall time of its creation in milliseconds since 1970. */
  readonly createdMs: number;
  readonly state: VolumeState;
}

/** What a client is told of the disk. */
export function deviceInfo(record: VolumeRecord): DeviceInfo {
  return { sizeBytes: record.sizeBytes, readOnly: false, description: `VDI ${record.name}` };
}

/** Format of the record's JSON text; FORMATS.md. */
const RECORD_VERSION = 1;

const FIELDS = [
  'version',
  'name',
  'vid',
  'family',
  'sizeBytes',
  'objectBytes',
  'attachEpoch',
  'createdMs',
  'state',
] as const;
type Field = (typeof FIELDS)[number];

export function encodeRecord(record: VolumeRecord): Uint8Array {
  const { name, vid, family, sizeBytes, objectBytes, attachEpoch, createdMs, state } = record;
  const fields: Record<Field, string | number> = {
    version: RECORD_VERSION,
    name,
    vid,
    family,
    sizeBytes,
    objectBytes,
    attachEpoch,
    createdMs,
    state,
  };
  return new TextEncoder().encode(JSON.stringify(fields));
}

/**
 * Strict: no field too many, none missing, each in its range.
 * @param from  for messages: the key under which the bytes stood
 * @throws SheepError `ERR_VERSION` for a newer record, `ERR_CORRUPT` for what is no record
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
    if (!FIELDS.some((known) => known === field)) throw damaged(from, field, 'unknown');
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
    sizeBytes: number('sizeBytes', BLOCK_BYTES, SIZE_BYTES_MAX),
    objectBytes: number('objectBytes', 1, 2 ** 32),
    attachEpoch: number('attachEpoch', 0, 2 ** 32 - 1),
    createdMs: number('createdMs', 0, Number.MAX_SAFE_INTEGER),
    state,
  };
  checkRules(record, from);
  return record;
}

/** The rules that held when it was made, by the same words. */
function checkRules(record: VolumeRecord, from: string): void {
  if (record.sizeBytes % BLOCK_BYTES !== 0) throw damaged(from, 'sizeBytes', record.sizeBytes);
  try {
    parseVdiName(record.name);
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
