import type { CodecName, HashName } from '../../base/content.ts';
import { SheepError } from '../../base/errors.ts';
import type { Disk } from '../../contracts/disk.ts';
import type { Random } from '../../contracts/seams.ts';
import { isUuid, parseJson, randomUuid } from '../identity.ts';
import { readText, replaceText } from '../whole-file.ts';
import { SNAPSHOT_LIMITS } from './limits.ts';
import { checkVersion, damaged } from './pack-format.ts';

const STORE_VERSION = 1;
const FILE = 'farm.json';

/** How a store names and keeps content; chosen when it is made. */
export interface StoreShape {
  readonly hash: HashName;
  readonly codec: CodecName;
  /** Into how long pieces disks are cut: a power of two. */
  readonly sliceBytes: number;
}

/** Who a store is, for ever. */
export interface StoreIdentity extends StoreShape {
  /** A random UUID. */
  readonly storeId: string;
}

export const DEFAULT_SHAPE: StoreShape = {
  hash: 'sha256',
  codec: 'zstd',
  sliceBytes: 64 * 1024,
};

/** What may lie in the folder of a store that is being made. */
const BEFORE_IDENTITY: ReadonlySet<string> = new Set([
  ...['lock', 'packs', 'sys_snap', 'user_snap', `${FILE}.draft`, 'lost+found'],
]);

/**
 * Who the store in this folder is; undefined if there is none and may be made one.
 * @throws SheepError `ERR_VERSION` with both versions, `ERR_CORRUPT`, `ERR_BAD_INPUT` for a folder
 * that holds something else
 */
export async function findIdentity(
  disk: Disk,
  directory: string,
): Promise<StoreIdentity | undefined> {
  const path = `${directory}/${FILE}`;
  const text = await readText(disk, path);
  if (text !== undefined) return parseStoreIdentity(text, path);
  await refuseHeadless(disk, directory);
  const names = await disk.list(directory);
  const stranger = names.find((name) => !BEFORE_IDENTITY.has(name));
  if (stranger !== undefined) {
    throw new SheepError(
      'ERR_BAD_INPUT',
      `${directory} is no store of snapshots (it has no ${FILE}) and not empty: it holds ` +
        `${stranger}; give the folder of a store, or an empty one`,
      { directory },
    );
  }
  return undefined;
}

/** A store that has lost its identity must not be taken for one that is being made. */
async function refuseHeadless(disk: Disk, directory: string): Promise<void> {
  const packs = await disk.list(`${directory}/packs`);
  if (packs.length === 0) return;
  throw new SheepError(
    'ERR_CORRUPT',
    `${directory} holds packs of snapshots, but no ${FILE}; put that file back`,
    { directory },
  );
}

/** All else of the store is stable by now: with this it is one. */
export async function makeIdentity(
  disk: Disk,
  directory: string,
  shape: StoreShape,
  random: Random,
): Promise<StoreIdentity> {
  const identity = { storeId: randomUuid(random), ...checked(shape) };
  const text = JSON.stringify({ formatVersion: STORE_VERSION, ...identity }, null, 2);
  await replaceText(disk, `${directory}/${FILE}`, `${text}\n`);
  return identity;
}

/** @throws SheepError `ERR_CORRUPT`, `ERR_VERSION` */
export function parseStoreIdentity(text: string, path: string): StoreIdentity {
  const { formatVersion, storeId, hash, codec, sliceBytes } = parseJson(text, path);
  if (typeof formatVersion !== 'number') throw damaged(path, 'formatVersion is not a number');
  checkVersion(path, formatVersion, STORE_VERSION);
  if (!isUuid(storeId)) throw damaged(path, 'storeId is not a UUID');
  if (hash !== 'sha256' && hash !== 'sha1') throw damaged(path, 'its hash is none that is known');
  if (codec !== 'zstd' && codec !== 'zlib' && codec !== 'none') {
    throw damaged(path, 'its codec is none that is known');
  }
  if (typeof sliceBytes !== 'number' || !isSliceBytes(sliceBytes)) {
    throw damaged(path, 'sliceBytes is not the length of a slice');
  }
  return { storeId, hash, codec, sliceBytes };
}

function checked(shape: StoreShape): StoreShape {
  const { hash, codec, sliceBytes } = shape;
  if (isSliceBytes(sliceBytes)) return { hash, codec, sliceBytes };
  const { sliceBytesMin, sliceBytesMax } = SNAPSHOT_LIMITS;
  throw new SheepError(
    'ERR_BAD_INPUT',
    `a slice is a power of two from ${sliceBytesMin} to ${sliceBytesMax} bytes, not ${sliceBytes}`,
    { sliceBytes },
  );
}

function isSliceBytes(value: number): boolean {
  const { sliceBytesMin, sliceBytesMax } = SNAPSHOT_LIMITS;
  return value >= sliceBytesMin && value <= sliceBytesMax && Number.isInteger(Math.log2(value));
}
