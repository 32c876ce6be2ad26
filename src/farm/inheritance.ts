import { assert } from '../base/assert.ts';
import { isFault, SheepError } from '../base/errors.ts';
import { formatOid, type ObjectName, objectKey, type Vid } from '../base/ids.ts';
import { BLOCK_BYTES } from '../base/units.ts';
import type { ObjectExtent, ObjectStore } from '../contracts/object-store.ts';
import type { ActivityLog } from './activity-log.ts';
import { HOLE, INHERITED, isZero, UNPROVEN } from './checksums.ts';
import { ENTRY, packBlocks } from './journal-format.ts';
import type { OpenObject } from './open-object.ts';
import type { OpenSet } from './open-set.ts';
import { type BlockRun, Origins } from './origins.ts';

export interface InheritanceParts {
  readonly open: OpenSet;
  /** As `LiveObjects.loadNow`. */
  readonly loadNow: (name: ObjectName, key: number | string) => OpenObject | undefined;
  readonly activity: ActivityLog;
  /** Whose gates are passed inside the gate of the object that inherits: never the other way round. */
  readonly store: Pick<ObjectStore, 'read' | 'extents' | 'sources'>;
  /** Opens an object, inside its gate. */
  readonly load: (name: ObjectName) => Promise<OpenObject>;
}

/** What is done differently with objects that have origins. */
export class Inheritance {
  readonly #parts: InheritanceParts;

  constructor(parts: InheritanceParts) {
    this.#parts = parts;
  }

  /** As `OpenObject.readNow`. @throws SheepError `ERR_CORRUPT` */
  readNow(object: OpenObject, at: number, into: Uint8Array): boolean {
    const end = at + into.length;
    if (Math.floor(at / BLOCK_BYTES) === Math.floor((end - 1) / BLOCK_BYTES)) {
      return this.#runNow(object, at, into);
    }
    for (let from = at; from < end; ) {
      // Nobody is at its gate: an origin that was opened for it may have taken its place.
      if (object.closed) return false;
      const to = endOfRun(object, from, end);
      const whole = from === at && to === end;
      if (!this.#runNow(object, from, whole ? into : into.subarray(from - at, to - at))) {
        return false;
      }
      from = to;
    }
    return true;
  }

  #runNow(object: OpenObject, at: number, into: Uint8Array): boolean {
    const first = Math.floor(at / BLOCK_BYTES);
    const { kind, index } = object.name;
    if (object.entryOf(first) !== INHERITED) {
      const end = Math.ceil((at + into.length) / BLOCK_BYTES);
      for (let block = first; block < end; block += 1) if (isUnsure(object, block)) return false;
      return object.readNow(at, into);
    }
    const vid = object.origins?.vidOf(first) ?? 0;
    const key = objectKey(kind, vid, index);
    const { open, loadNow } = this.#parts;
    const origin = open.findReadable(key) ?? loadNow({ ...object.name, vid }, key);
    if (origin === undefined) return false;
    return origin.origins === undefined ? origin.readNow(at, into) : this.readNow(origin, at, into);
  }

  /**
   * Whatever it takes, with or without origins; whoever calls is inside the gate of the object.
   * @throws SheepError `ERR_CORRUPT`, `ERR_IO`
   */
  async readAny(object: OpenObject, at: number, into: Uint8Array): Promise<void> {
    if (object.origins === undefined) {
      if (!object.readNow(at, into)) await object.read(at, into);
      return;
    }
    const end = at + into.length;
    await makeSure(object, Math.floor(at / BLOCK_BYTES), Math.ceil(end / BLOCK_BYTES));
    for (let from = at; from < end; ) {
      const to = endOfRun(object, from, end);
      const piece = into.subarray(from - at, to - at);
      if (!this.#runNow(object, from, piece)) await this.#run(object, from, piece);
      from = to;
    }
  }

  /**
   * The same, with every block proven by its bytes, whatever is known of it; also those of its own
   * file that stand for something inherited.
   */
  async readAnew(object: OpenObject, at: number, into: Uint8Array): Promise<void> {
    const end = at + into.length;
    object.verified.clear();
    await makeSure(object, Math.floor(at / BLOCK_BYTES), Math.ceil(end / BLOCK_BYTES));
    await object.read(at, into);
    for (let from = at; from < end; ) {
      const to = endOfRun(object, from, end);
      const block = Math.floor(from / BLOCK_BYTES);
      if (object.entryOf(block) === INHERITED) {
        const origin = originOf(object, block);
        const piece = into.subarray(from - at, to - at);
        const read = () => this.#parts.store.read(origin, from, piece, { proveAnew: true });
        await present(object, origin, read);
      }
      from = to;
    }
  }

  async #run(object: OpenObject, at: number, into: Uint8Array): Promise<void> {
    const block = Math.floor(at / BLOCK_BYTES);
    if (object.entryOf(block) !== INHERITED) return object.read(at, into);
    const origin = originOf(object, block);
    await present(object, origin, () => this.#parts.store.read(origin, at, into));
  }

  /** What is inherited is what the origin says it is. */
  extents(
    object: OpenObject,
    at: number,
    length: number,
  ): readonly ObjectExtent[] | Promise<readonly ObjectExtent[]> {
    const runs: (() => readonly ObjectExtent[] | Promise<readonly ObjectExtent[]>)[] = [];
    const end = at + length;
    for (let from = at; from < end; ) {
      const to = endOfRun(object, from, end);
      runs.push(this.#extentsOfRun(object, from, to - from));
      from = to;
    }
    // Only now, because an origin that is opened may take the place of this object.
    const parts = runs.map((found) => found());
    const waits = parts.some((part) => part instanceof Promise);
    if (!waits) return joined((parts as (readonly ObjectExtent[])[]).flat());
    return Promise.all(parts).then((all) => joined(all.flat()));
  }

  /** What needs nothing of the object any more. */
  #extentsOfRun(
    object: OpenObject,
    at: number,
    length: number,
  ): () => readonly ObjectExtent[] | Promise<readonly ObjectExtent[]> {
    const block = Math.floor(at / BLOCK_BYTES);
    if (object.entryOf(block) !== INHERITED) {
      const own = object.extents(at, length);
      return () => own;
    }
    const origin = originOf(object, block);
    return () => {
      const found = this.#parts.store.extents(origin, at, length);
      return found instanceof Promise ? present(object, origin, () => found) : found;
    };
  }

  /**
   * What an object made over that of `parent` inherits: undefined if there is nothing.
   * @throws SheepError `ERR_MISSING`, `ERR_CORRUPT`
   */
  async originsFor(
    name: ObjectName,
    parent: Vid,
    objectBytes: number,
  ): Promise<Origins | undefined> {
    assert(parent !== name.vid, 'nothing inherits from itself');
    const above = { ...name, vid: parent };
    const { objectBytes: parentBytes } = await this.#parts.load(above);
    if (parentBytes !== objectBytes) {
      const oids = [formatOid(above), formatOid(name)];
      throw new SheepError(
        'ERR_CORRUPT',
        `object ${oids[0]} is of ${parentBytes} bytes, and ${oids[1]}, which is to inherit from it, of ${objectBytes}`,
        { parentBytes, objectBytes },
      );
    }
    return Origins.of(await this.#parts.store.sources(above));
  }

  /** How many blocks take new space because a range that is zeroed meets only a part of them. */
  partsIn(object: OpenObject, at: number, length: number): number {
    const last = at + length - 1;
    const cut = new Set<number>();
    if (at % BLOCK_BYTES !== 0) cut.add(Math.floor(at / BLOCK_BYTES));
    if ((last + 1) % BLOCK_BYTES !== 0) cut.add(Math.floor(last / BLOCK_BYTES));
    return [...cut].filter((block) => object.entryOf(block) === INHERITED).length;
  }

  /** To be awaited before whole blocks are written: the journal says which of them become zero. */
  async beforeWrite(object: OpenObject, at: number, from: Uint8Array): Promise<void> {
    const runs = object.origins?.zeroesIn(at / BLOCK_BYTES, from) ?? [];
    if (runs.length > 0) await this.#disinherit(object, runs);
  }

  /** To be awaited before whole blocks are zeroed. */
  async beforeZero(object: OpenObject, at: number, length: number): Promise<void> {
    const { origins } = object;
    const end = (at + length) / BLOCK_BYTES;
    for (let first = at / BLOCK_BYTES; first < end; first += 1) {
      if (origins === undefined || origins.vidOf(first) === 0) continue;
      return this.#disinherit(object, [{ first, end }]);
    }
  }

  /**
   * In memory it is so in the turn of the append: a sync of the file that makes the entry void has
   * written the origins without these. The change that follows, even if it fails, has them written.
   */
  #disinherit(object: OpenObject, runs: readonly BlockRun[]): Promise<void> {
    const { name, stamp, objectBytes } = object;
    const stable = this.#parts.activity.log(
      runs.map((run) => ({
        ...{ name, stamp, objectBytes, sum: 0 },
        ...{ type: ENTRY.zeroed, detail: packBlocks(run) },
      })),
      [],
    );
    for (const { first, end } of runs) {
      object.origins?.clear(first, end);
      for (let block = first; block < end; block += 1) {
        if (object.entryOf(block) === INHERITED) object.table[block] = HOLE;
      }
    }
    return stable;
  }
}

/** For each block the vid whose object holds it, 0 for a hole; inside the gate of the object. */
export async function sourcesOf(object: OpenObject): Promise<Uint32Array> {
  await makeSure(object, 0, object.blocks);
  return sourcesNow(object);
}

/** The same, of an object that has nothing unsure. */
export function sourcesNow(object: OpenObject): Uint32Array {
  return Uint32Array.from({ length: object.blocks }, (_, block) => sourceOf(object, block));
}

export function hasUnsure(object: OpenObject): boolean {
  if (object.origins === undefined) return false;
  for (let block = 0; block < object.blocks; block += 1) if (isUnsure(object, block)) return true;
  return false;
}

function sourceOf(object: OpenObject, block: number): Vid {
  const entry = object.entryOf(block);
  if (entry === HOLE) return 0;
  return entry === INHERITED ? (object.origins?.vidOf(block) ?? 0) : object.name.vid;
}

function originOf(object: OpenObject, block: number): ObjectName {
  return { ...object.name, vid: sourceOf(object, block) };
}

/** Where the bytes from `at` on begin to come from another object; at most `end`. */
function endOfRun(object: OpenObject, at: number, end: number): number {
  const first = Math.floor(at / BLOCK_BYTES);
  const inherited = object.entryOf(first) === INHERITED;
  const vid = sourceOf(object, first);
  let block = first + 1;
  while (block * BLOCK_BYTES < end && (object.entryOf(block) === INHERITED) === inherited) {
    if (inherited && sourceOf(object, block) !== vid) break;
    block += 1;
  }
  return Math.min(end, block * BLOCK_BYTES);
}

/**
 * It carries no sum, so only its bytes tell whether it holds data or, where they are zero, inherits:
 * after a write that broke off, and all that was written without checksums.
 */
function isUnsure(object: OpenObject, block: number): boolean {
  const { origins, verified } = object;
  return (
    object.entryOf(block) === UNPROVEN &&
    origins !== undefined &&
    origins.vidOf(block) !== 0 &&
    !verified.has(block)
  );
}

/** Looks at the unsure ones of these blocks; whoever calls keeps writers out. */
async function makeSure(object: OpenObject, first: number, end: number): Promise<void> {
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (let block = first; block < end; block += 1) {
    if (!isUnsure(object, block)) continue;
    await object.read(block * BLOCK_BYTES, bytes);
    if (isZero(bytes)) object.table[block] = INHERITED;
  }
}

/** An origin that is not there is damage of the object that needs it. */
async function present<T>(
  object: OpenObject,
  origin: ObjectName,
  use: () => T | Promise<T>,
): Promise<T> {
  try {
    return await use();
  } catch (error) {
    if (!isFault(error, 'ERR_MISSING')) throw error;
    const [oid, missing] = [formatOid(object.name), formatOid(origin)];
    throw new SheepError(
      'ERR_CORRUPT',
      `object ${oid} is damaged: what it inherits from object ${missing} is not in the store`,
      { oid, missing },
    );
  }
}

/** Neighbours with the same content in one. */
function joined(extents: readonly ObjectExtent[]): ObjectExtent[] {
  const out: { length: number; content: ObjectExtent['content'] }[] = [];
  for (const { length, content } of extents) {
    const last = out.at(-1);
    if (last?.content === content) last.length += length;
    else out.push({ length, content });
  }
  return out;
}
