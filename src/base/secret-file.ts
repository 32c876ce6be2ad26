/** Who may do what with a file, as the system keeps it. */
export interface Permissions {
  /** The permission bits alone, 0 to 0o7777. */
  readonly mode: number;
  /** The number of the user whose file it is. */
  readonly uid: number;
  /** That is the user of this process. */
  readonly own: boolean;
}

const ROOT = 0;
const GROUP_READS = 0o040;
const OTHERS_READ = 0o004;
/** All that others may have of a file of ours; what root gives to our group, the group may read. */
const OF_OTHERS = 0o077;
const OF_OTHERS_BUT_READING_GROUP = 0o037;

/**
 * Why a file is no place for a secret, and what to do; undefined if it is one. As with ssh a file of
 * our own is for nobody else; root's may be for our group as well, because that is how a daemon gets
 * to read it. Of anybody else's that one could change it and read it.
 * @param path  for the command that mends it
 */
export function exposure(path: string, { mode, uid, own }: Permissions): string | undefined {
  if (!own && uid !== ROOT) {
    return `it belongs to user ${uid}, who could change it; first: chown it to root or to who runs this`;
  }
  const right = own ? '600' : '640';
  if ((mode & (own ? OF_OTHERS : OF_OTHERS_BUT_READING_GROUP)) === 0) return undefined;
  const octal = `0${mode.toString(8).padStart(3, '0')}`;
  const whom = whoElse(mode, own);
  return `its mode is ${octal}, so ${whom}; first: chmod ${right} '${path}'`;
}

function whoElse(mode: number, own: boolean): string {
  if ((mode & OTHERS_READ) !== 0) return 'everybody on this machine may read it';
  if (own && (mode & GROUP_READS) !== 0) return 'its group may read it';
  return 'others may change it';
}
