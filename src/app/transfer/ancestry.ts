import { SheepError } from '../../base/errors.ts';
import { exportName, type VolumeRecord } from '../../vdi/record.ts';

/**
 * Refuses two states of which the later does not stem from the earlier: nobody keeps what changed
 * between them. The metadata context that tells the changes names a tag alone, and means the nearest
 * snapshot below that has it; a farther one cannot be asked for.
 * @param all  every VDI and snapshot there is, also those that are being deleted
 * @throws SheepError `ERR_BAD_INPUT`
 */
export function checkStemsFrom(
  all: readonly VolumeRecord[],
  later: VolumeRecord,
  earlier: VolumeRecord,
): void {
  const byVid = new Map(all.map((record) => [record.vid, record]));
  const [to, from] = [exportName(later), exportName(earlier)];
  const refusal = (why: string) => {
    const message = `what changed from '${from}' to '${to}' is not known: ${why}`;
    return new SheepError('ERR_BAD_INPUT', message, { from, to });
  };
  let nearer: VolumeRecord | undefined;
  let below = byVid.get(later.parent);
  while (below !== undefined && below.vid !== earlier.vid) {
    if (below.state === 'snapshot' && below.tag === earlier.tag) nearer ??= below;
    below = byVid.get(below.parent);
  }
  if (below === undefined) {
    throw refusal("the one was not made from the other; 'collie vdi tree' shows what was");
  }
  if (nearer !== undefined) {
    throw refusal(`between them is '${exportName(nearer)}', which has the same tag`);
  }
}
