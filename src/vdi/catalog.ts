import { SheepError } from '../base/errors.ts';
import { formatVid, VID_MAX, type Vid } from '../base/ids.ts';
import type { Coordinator, Entry, Swap } from '../contracts/coordinator.ts';
import { DecodedRecords } from './decoded-records.ts';
import { isId, parseExportName, type SnapshotRef } from './names.ts';
import { encodeRecord, type VolumeRecord } from './record.ts';

/** The keys of the directory in the coordinator; FORMATS.md. */
export const KEYS = {
  /** The vid that the next VDI gets, in decimal. */
  nextVid: 'vdi/next-vid',
  /** One for each name in use: the vid of the working VDI in 8 hex digits. */
  names: 'vdi/names/',
  /** One for each snapshot, `NAME@TAG`: its vid in 8 hex digits. */
  tags: 'vdi/tags/',
  /** One for each vid, also while it is being made or deleted: its record. */
  records: 'vdi/records/',
  /** The vids of what was made elsewhere and is getting its names: arrivals.ts. */
  arriving: 'vdi/arriving',
} as const;

export function nameKey(name: string): string {
  return KEYS.names + name;
}
export function tagKey(name: string, tag: string): string {
  return `${KEYS.tags}${name}@${tag}`;
}
export function recordKey(vid: Vid): string {
  return KEYS.records + formatVid(vid);
}

/** The record as it is to be, if it is still at `revision` (0n: not there). */
export function written(record: VolumeRecord, revision: bigint): Swap {
  return { key: recordKey(record.vid), revision, value: encodeRecord(record) };
}

/** What a key of a name or of a tag says. */
export function encodeVid(vid: Vid): Uint8Array {
  return new TextEncoder().encode(formatVid(vid));
}

/** A record as it was read, with what a change of it depends on. */
export interface Found {
  readonly record: VolumeRecord;
  /** Of the record. */
  readonly revision: bigint;
  /** Of the key that leads to it: its name, or its name and tag. */
  readonly keyRevision: bigint;
}

/** The vid that nobody has. */
const NO_VID = 0;
/**
 * What there is, read from the coordinator at each call: names and tags to vids to records. A name,
 * tag or ID that is not there is looked up by the same steps as one that is, so that whoever may not
 * know of a VDI does not learn of it from how long he waited. (A record is decoded when it is first
 * read as it is now, and not again.)
 */
export class Catalog {
  readonly #coordinator: Coordinator;
  readonly #decoded = new DecodedRecords();

  constructor(coordinator: Coordinator) {
    this.#coordinator = coordinator;
  }

  /** Every working VDI, in order of names. */
  async list(): Promise<VolumeRecord[]> {
    return inState('ready', await this.all());
  }

  /** Every snapshot, or those of one VDI, in order of names and of age. */
  async snapshots(name?: string): Promise<VolumeRecord[]> {
    const snapshots = inState('snapshot', await this.all());
    return name === undefined ? snapshots : snapshots.filter((record) => record.name === name);
  }

  /** Every working VDI, then every snapshot, each with the access rules that count for it. */
  async served(): Promise<VolumeRecord[]> {
    const all = await this.all();
    const working = inState('ready', all);
    const rules = new Map(working.map(({ name, allow }) => [name, allow]));
    const followed = inState('snapshot', all).map((snapshot) => {
      return { ...snapshot, allow: rules.get(snapshot.name) ?? snapshot.allow };
    });
    return [...working, ...followed];
  }

  /** What is frozen for snapshots of the cluster, oldest first. */
  async held(): Promise<VolumeRecord[]> {
    return (await this.all()).filter(({ state }) => state === 'held');
  }

  /** Every record of a family, in every state, oldest first. */
  async family(family: Vid): Promise<VolumeRecord[]> {
    return (await this.all()).filter((record) => record.family === family);
  }

  /** Every record in every state, oldest first. */
  async all(): Promise<VolumeRecord[]> {
    const { entries } = await this.#coordinator.list(KEYS.records);
    return this.#decoded.all(entries);
  }

  /**
   * Its parents, the nearest first, also those that are being deleted: as they are now, whatever the
   * caller's copy of the record says. One that is forgotten has handed its children on to its own
   * parent before: so whoever meets a gap begins again.
   */
  async ancestors(record: VolumeRecord): Promise<VolumeRecord[]> {
    let gap: Vid = 0;
    for (;;) {
      const found: VolumeRecord[] = [];
      let vid = ((await this.read(record.vid))?.record ?? record).parent;
      while (vid !== 0) {
        const ancestor = (await this.read(vid))?.record;
        if (ancestor === undefined) break;
        found.push(ancestor);
        vid = ancestor.parent;
      }
      // The same gap again is no change under way: the record itself is gone, or the directory torn.
      if (vid === 0 || vid === gap) return found;
      gap = vid;
    }
  }

  /** The working VDI of this name; undefined if there is none. */
  async find(name: string): Promise<VolumeRecord | undefined> {
    return (await this.findNamed(name))?.record;
  }

  /** @throws SheepError `ERR_NOT_FOUND` */
  async info(name: string): Promise<VolumeRecord> {
    return (await this.getNamed(name)).record;
  }

  /** @param snapshot  its tag, or its ID in decimal */
  async findSnapshot(name: string, snapshot: string): Promise<VolumeRecord | undefined> {
    return (await this.findTagged({ name, snapshot }))?.record;
  }

  /** @throws SheepError `ERR_NOT_FOUND` */
  async snapshotInfo(ref: SnapshotRef): Promise<VolumeRecord> {
    return (await this.getTagged(ref)).record;
  }

  /** @throws SheepError `ERR_NOT_FOUND` */
  async getNamed(name: string): Promise<Found> {
    const found = await this.findNamed(name);
    if (found !== undefined) return found;
    throw new SheepError(
      'ERR_NOT_FOUND',
      `there is no VDI '${name}'; 'collie vdi list' shows those that exist`,
      { name },
    );
  }

  /** @throws SheepError `ERR_NOT_FOUND` */
  async getTagged(ref: SnapshotRef): Promise<Found> {
    const found = await this.findTagged(ref);
    if (found !== undefined) return found;
    const { name, snapshot } = ref;
    const what = isId(snapshot) ? `with the ID ${snapshot}` : `'${snapshot}'`;
    throw new SheepError(
      'ERR_NOT_FOUND',
      `the VDI '${name}' has no snapshot ${what}; 'collie vdi list' shows those that exist`,
      { name, snapshot },
    );
  }

  /** For changes: a working VDI with the revisions of its keys. */
  findNamed(name: string): Promise<Found | undefined> {
    return this.#follow(
      nameKey(name),
      (record) => record.state === 'ready' && record.name === name,
    );
  }

  /** The same of a snapshot. */
  async findTagged({ name, snapshot }: SnapshotRef): Promise<Found | undefined> {
    const is = (record: VolumeRecord) => record.state === 'snapshot' && record.name === name;
    if (!isId(snapshot)) {
      return this.#follow(
        tagKey(name, snapshot),
        (record) => is(record) && record.tag === snapshot,
      );
    }
    const vid = Number(snapshot);
    const found = await this.read(vid >= 1 && vid <= VID_MAX ? vid : NO_VID);
    const tag = found !== undefined && is(found.record) ? found.record.tag : '';
    return this.#follow(tagKey(name, tag), (record) => record.vid === vid);
  }

  /**
   * The access rules of an export; undefined if there is none of this name.
   * @param text  `NAME`, `NAME@TAG` or `NAME@ID`
   * @throws SheepError `ERR_BAD_INPUT` if nothing can have this name
   */
  async rulesFor(text: string): Promise<readonly string[] | undefined> {
    const { name, snapshot } = parseExportName(text);
    const own = snapshot === undefined ? undefined : await this.findSnapshot(name, snapshot);
    const working = await this.find(name);
    if (snapshot === undefined) return working?.allow;
    return own && (working ?? own).allow;
  }

  /** Those that count for a record: a snapshot follows its VDI, as long as there is one. */
  async rulesOf(record: VolumeRecord): Promise<readonly string[]> {
    if (record.state !== 'snapshot') return record.allow;
    return ((await this.find(record.name)) ?? record).allow;
  }

  /** The record of a vid. */
  async read(vid: Vid): Promise<Omit<Found, 'keyRevision'> | undefined> {
    const key = recordKey(vid);
    const entry = await this.#coordinator.get(key);
    if (entry !== undefined) return { record: this.#decoded.of(entry), revision: entry.revision };
    this.#decoded.forget(key);
    return undefined;
  }

  /** What is decided to arrive and may not have its names yet: see arrivals.ts. */
  async arriving(): Promise<{ readonly vids: Vid[]; readonly revision: bigint } | undefined> {
    const entry = await this.#coordinator.get(KEYS.arriving);
    return entry && { vids: decodeVids(entry), revision: entry.revision };
  }

  /** The record to which a key of a name or of a tag leads. */
  async #follow(key: string, fits: (record: VolumeRecord) => boolean): Promise<Found | undefined> {
    for (;;) {
      const named = await this.#coordinator.get(key);
      const vid = named === undefined ? NO_VID : decodeVid(named, 16);
      const found = await this.read(vid);
      if (named === undefined) return undefined;
      if (found !== undefined && fits(found.record)) {
        return { ...found, keyRevision: named.revision };
      }
      // Either it was changed between the two reads, or the directory is damaged: the key tells.
      const again = await this.#coordinator.get(key);
      if (again?.revision !== named.revision) continue;
      throw new SheepError('ERR_CORRUPT', `${key} leads to no fitting record`, {
        key,
        record: recordKey(vid),
      });
    }
  }
}

/** In order of names, and of age. */
function inState(state: VolumeRecord['state'], records: readonly VolumeRecord[]): VolumeRecord[] {
  return records
    .filter((record) => record.state === state)
    .sort((a, b) => (a.name === b.name ? a.vid - b.vid : a.name < b.name ? -1 : 1));
}

/** The vid under a key. @throws SheepError `ERR_CORRUPT` */
export function decodeVid(entry: Entry, radix: 10 | 16): number {
  const text = new TextDecoder().decode(entry.value);
  const vid = Number.parseInt(text, radix);
  const written = radix === 10 ? String(vid) : formatVid(vid);
  if (written === text && vid >= 1 && vid <= VID_MAX + 1) return vid;
  throw new SheepError('ERR_CORRUPT', `the volume id under ${entry.key} is damaged`, {
    key: entry.key,
    value: text.slice(0, 40),
  });
}

/** What the key of arrivals says. */
export function encodeVids(vids: readonly Vid[]): Uint8Array {
  return new TextEncoder().encode(vids.map(formatVid).join(' '));
}

/** @throws SheepError `ERR_CORRUPT` */
function decodeVids({ key, value }: Entry): Vid[] {
  const text = new TextDecoder().decode(value);
  const vids = text.split(' ').map((digits) => Number.parseInt(digits, 16));
  const sound = vids.every((vid) => vid >= 1 && vid <= VID_MAX);
  if (sound && vids.map(formatVid).join(' ') === text) return vids;
  throw new SheepError('ERR_CORRUPT', `what ${key} says is damaged`, { key });
}
