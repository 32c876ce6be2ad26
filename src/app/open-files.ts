import { SheepError } from '../base/errors.ts';
import { NBD_LIMITS } from '../nbd/limits.ts';

/** Neither clients nor objects: the admin API's connections, journal, coordinator, Node itself. */
const OTHERS = 192;
/** With fewer files a daemon would live from hand to mouth. */
const FILES_MIN = 512;

/** How many of the files that a process may have open are whose. */
export interface FileShares {
  /** NBD clients, in handshake or attached. */
  readonly connections: number;
  /** Open objects, and those that wait for a sync. */
  readonly objects: number;
}

/**
 * Shares out what the process may have open, so that neither clients nor objects find none left:
 * a failed open of an object would be a client's I/O error.
 * @throws SheepError `ERR_LIMIT` if it is too little for a daemon
 */
export function shareFiles(filesMax: number): FileShares {
  if (filesMax < FILES_MIN) {
    throw new SheepError(
      'ERR_LIMIT',
      `this process may have ${filesMax} files open, and needs ${FILES_MIN}; ` +
        "raise 'ulimit -n', or LimitNOFILE= of its service",
      { filesMax },
    );
  }
  const free = filesMax - OTHERS;
  const connections = Math.min(NBD_LIMITS.connectionsMax, Math.floor(free / 4));
  return { connections, objects: free - connections };
}
