import { describeError, isDamage, SheepError } from '../../base/errors.ts';
import type { SnapDisk } from '../../farm/snapshots/snap-contents.ts';
import { parseTag, parseVdiName } from '../../vdi/names.ts';
import { exportName } from '../../vdi/record.ts';
import type { BackupEntry, BackupStore } from './store.ts';

/** A snapshot of one VDI in a store. */
export interface Backup {
  readonly entry: BackupEntry;
  readonly disk: SnapDisk;
}

/** What a log names and a store does not hold as it was. */
export interface LostBackup {
  readonly entry: BackupEntry;
  /** One sentence. */
  readonly flaw: string;
}

export interface Backups {
  /** In the order in which they were made. */
  readonly sound: readonly Backup[];
  readonly lost: readonly LostBackup[];
}

/** Digits of an ID that people are shown, and as many more as it takes to tell it from others. */
const ID_DIGITS = 8;

/** The backups of a store: snaps of its users' log that are of one disk. */
export async function backupsIn(store: BackupStore): Promise<Backups> {
  const sound: Backup[] = [];
  const lost: LostBackup[] = [];
  for (const entry of store.snaps('user')) {
    try {
      const { nodes, disks } = await store.readSnap(entry.name);
      const [disk, ...others] = disks;
      // What has nodes is of a cluster, also if that had only one VDI.
      if (disk === undefined || others.length > 0 || nodes.length > 0) continue;
      checkWords(entry, disk);
      sound.push({ entry, disk });
    } catch (error) {
      if (!isDamage(error)) throw error;
      lost.push({ entry, flaw: describeError(error) });
    }
  }
  return { sound, lost };
}

/** What is shown to people is what a VDI, a snapshot or a backup can be called. */
function checkWords({ tag }: BackupEntry, { name, snapshot }: SnapDisk): void {
  try {
    parseVdiName(name);
    parseTag(snapshot);
    if (tag !== '') parseTag(tag);
  } catch (cause) {
    throw new SheepError('ERR_CORRUPT', 'it is of what no VDI can be called', {}, cause);
  }
}

/** A backup as JSON. */
export interface BackupView {
  readonly id: string;
  /** What it was called when it was made; mostly ''. */
  readonly tag: string;
  /** When it was made, in wall milliseconds since 1970. */
  readonly timeMs: number;
  /** `NAME@TAG`: the snapshot that it is of, when that was taken, and where it lived. */
  readonly source: string;
  readonly snapshotMs: number;
  readonly clusterId: string;
  readonly vid: number;
  readonly sizeBytes: number;
  readonly objectBytes: number;
}

export function viewOf(backup: Backup): BackupView {
  const { id, tag, timeMs } = backup.entry;
  const { snapshotMs, clusterId, vid, sizeBytes, objectBytes } = backup.disk;
  const source = sourceOf(backup);
  return { id, tag, timeMs, source, snapshotMs, clusterId, vid, sizeBytes, objectBytes };
}

/** `NAME@TAG`: the snapshot that it is of. */
export function sourceOf({ disk: { name, snapshot } }: Backup): string {
  return exportName({ name, tag: snapshot });
}

/** One VDI of one cluster: what retention counts as one, and what a person means by its name. */
export function diskOf({ disk: { clusterId, name } }: Backup): string {
  return `${clusterId} ${name}`;
}

/** `text`, if a backup may be called so: as a snapshot. @throws SheepError `ERR_BAD_INPUT` */
export function backupTag(text: string | undefined): string {
  return text === undefined ? '' : parseTag(text);
}

/** The beginning of its ID by which it is known among these. */
export function shortId(entries: readonly BackupEntry[], { id }: BackupEntry): string {
  const isTaken = (digits: number) =>
    entries.some((other) => other.id !== id && other.id.startsWith(id.slice(0, digits)));
  let digits = ID_DIGITS;
  while (isTaken(digits)) digits += 1;
  return id.slice(0, digits);
}

/**
 * The one backup that `text` names: the beginning of its ID, or its tag.
 * @throws SheepError `ERR_NOT_FOUND`, `ERR_BAD_INPUT` if several are meant, `ERR_CORRUPT` if it is lost
 */
export function findBackup(backups: Backups, text: string): Backup {
  const { id } = findEntry(backups, text);
  const found = backups.sound.find(({ entry }) => entry.id === id);
  if (found !== undefined) return found;
  const flaw = backups.lost.find(({ entry }) => entry.id === id)?.flaw;
  throw new SheepError('ERR_CORRUPT', `backup ${id} is lost: ${flaw}`, { backup: id });
}

/** The same, also if it is lost. @throws SheepError `ERR_NOT_FOUND`, `ERR_BAD_INPUT` */
export function findEntry({ sound, lost }: Backups, text: string): BackupEntry {
  const entries = [...sound, ...lost].map(({ entry }) => entry);
  const start = text.toLowerCase();
  const [first, ...others] = entries.filter(
    ({ id, tag }) => text !== '' && (tag === text || id.startsWith(start)),
  );
  if (first === undefined) {
    const message = `there is no backup '${text}'; collie backup list shows what there is`;
    throw new SheepError('ERR_NOT_FOUND', message, { text });
  }
  if (others.length === 0) return first;
  const ids = [first, ...others].map((entry) => shortId(entries, entry));
  const message = `'${text}' may be any of ${ids.join(', ')}; give one of these`;
  throw new SheepError('ERR_BAD_INPUT', message, { text });
}
