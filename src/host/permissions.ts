import type { Stats } from 'node:fs';
import type { Permissions } from '../base/secret-file.ts';

/** Of a file of this machine. */
export function permissionsOf({ mode, uid }: Pick<Stats, 'mode' | 'uid'>): Permissions {
  return { mode: mode & 0o7777, uid, own: uid === process.geteuid?.() };
}
