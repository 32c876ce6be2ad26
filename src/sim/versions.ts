/**
 * What a piece of state was, back to what is certain to survive: the last in the chain. Chains are
 * never altered, so that any number of disks share them.
 */
export interface Version<T> {
  readonly value: T;
  /** Number of the change that made it, counted over the whole disk. */
  readonly change: number;
  readonly older?: Version<T>;
}

/** A state that cannot fall back. */
export function certain<T>(value: T): Version<T> {
  return { value, change: 0 };
}

/**
 * After a sync that covered all changes up to `covered`: what was older than the newest of those
 * cannot come back. Changes up to `doubtful` were dropped by a sync that failed; they are never
 * covered, only those that came after.
 */
export function afterSync<T>(newest: Version<T>, covered: number, doubtful: number): Version<T> {
  const later: Version<T>[] = [];
  let version = newest;
  while (version.change > covered && version.older) {
    later.push(version);
    version = version.older;
  }
  if (!version.older || version.change <= doubtful) return newest;
  let kept: Version<T> = { value: version.value, change: version.change };
  for (const { value, change } of later.toReversed()) kept = { value, change, older: kept };
  return kept;
}

/** The state that is `age` steps older than the newest. */
export function versionOfAge<T>(newest: Version<T>, age: number): T {
  let version = newest;
  for (let step = 0; step < age && version.older; step += 1) version = version.older;
  return version.value;
}

/** How many states there are to fall back to, the newest included. */
export function countVersions(newest: Version<unknown>): number {
  let count = 1;
  for (let version = newest; version.older; version = version.older) count += 1;
  return count;
}
