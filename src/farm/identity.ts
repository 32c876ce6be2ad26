import { SheepError } from '../base/errors.ts';
import type { Disk } from '../contracts/disk.ts';
import type { Random } from '../contracts/seams.ts';
import { readText, replaceText } from './whole-file.ts';

/** Of the whole store: object files and journal carry versions of their own. */
const STORE_VERSION = 1;

/** Who this store is. Both ids are random UUIDs, made with the store. */
export interface Identity {
  readonly formatVersion: number;
  readonly clusterId: string;
  readonly nodeId: string;
}

/** What a store's folder may hold before it has an identity: an interrupted first start, what mkfs
 * puts into every new file system, and the snapshots of a cluster that is gone, to be loaded here. */
const BEFORE_FORMAT: ReadonlySet<string> = new Set([
  ...['lock', 'store.json.draft', 'lost+found', 'farm'],
]);

/**
 * Reads `store.json`, or makes it in a folder that is new or empty.
 * @throws SheepError `ERR_VERSION` with both versions, `ERR_CORRUPT`, `ERR_BAD_INPUT` for a folder
 * that holds something else; nothing is touched then
 */
export async function openIdentity(
  disk: Disk,
  directory: string,
  random: Random,
): Promise<Identity> {
  const path = `${directory}/store.json`;
  const text = await readText(disk, path);
  if (text !== undefined) return parseIdentity(text, path);
  await refuseStrangers(disk, directory);
  const identity = {
    formatVersion: STORE_VERSION,
    clusterId: randomUuid(random),
    nodeId: randomUuid(random),
  };
  await writeIdentity(disk, directory, identity);
  return identity;
}

/**
 * Without changing anything.
 * @throws SheepError `ERR_BAD_INPUT` for a folder that is no store and holds something else
 */
export async function refuseStrangers(disk: Disk, directory: string): Promise<void> {
  const names = await disk.list(directory);
  const stranger = names.find((name) => !BEFORE_FORMAT.has(name));
  if (stranger === undefined || names.includes('store.json')) return;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `${directory} is not a store (it has no store.json) and not empty: it holds ${stranger}; ` +
      'give the folder of a store, or an empty one',
    { directory },
  );
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function parseIdentity(text: string, path: string): Identity {
  const value = parseJson(text, path);
  const { formatVersion, clusterId, nodeId } = value;
  if (typeof formatVersion !== 'number') throw corrupt(path, 'formatVersion is not a number');
  if (formatVersion !== STORE_VERSION) {
    throw new SheepError(
      'ERR_VERSION',
      `the store ${path} is of format ${formatVersion}, this sheep knows format ${STORE_VERSION}; ` +
        'start the sheep that made it',
      { found: formatVersion, known: STORE_VERSION },
    );
  }
  if (!isUuid(clusterId)) throw corrupt(path, 'clusterId is not a UUID');
  if (!isUuid(nodeId)) throw corrupt(path, 'nodeId is not a UUID');
  return { formatVersion, clusterId, nodeId };
}

/** @throws SheepError `ERR_CORRUPT` */
export function parseJson(text: string, path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch (cause) {
    throw corrupt(path, 'it is not JSON', cause);
  }
  throw corrupt(path, 'it is not a JSON object');
}

async function writeIdentity(disk: Disk, directory: string, identity: Identity): Promise<void> {
  await replaceText(disk, `${directory}/store.json`, `${JSON.stringify(identity, null, 2)}\n`);
}

/** A random (version 4) UUID, RFC 9562 section 5.4. */
export function randomUuid(random: Random): string {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export function isUuid(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
}

function corrupt(path: string, why: string, cause?: unknown): SheepError {
  return new SheepError('ERR_CORRUPT', `${path} is damaged: ${why}`, { path }, cause);
}
