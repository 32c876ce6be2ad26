/** Where the admin API has snapshots of the cluster. */
export const SNAPSHOTS = '/v1/cluster/snapshots';
/** The argument of the commands on one of them. */
export const TAG = ['<tag>', 'what it is called'] as const;

export function pathOfTag(tag: string): string {
  return `${SNAPSHOTS}/${encodeURIComponent(tag.toWellFormed())}`;
}
