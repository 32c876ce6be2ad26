import type { Vid } from '../base/ids.ts';
import type { VolumeRecord } from '../vdi/record.ts';

/**
 * What is held for snapshots of the cluster and may be let go: what the newest of them does not need,
 * and what no working VDI stems from, because nothing will be compared with it again.
 * @param all  every record there is
 */
export function unneeded(
  all: readonly VolumeRecord[],
  isNeeded: (held: VolumeRecord) => boolean,
): VolumeRecord[] {
  const byVid = new Map(all.map((record) => [record.vid, record]));
  const below = new Set<Vid>();
  for (const { state, parent } of all) {
    if (state !== 'ready' && state !== 'making') continue;
    for (let vid = parent; vid !== 0 && !below.has(vid); vid = byVid.get(vid)?.parent ?? 0) {
      below.add(vid);
    }
  }
  return all.filter(
    (record) => record.state === 'held' && !(below.has(record.vid) && isNeeded(record)),
  );
}
