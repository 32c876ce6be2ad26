import { describeError, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { PassedAddresses } from '../config/load.ts';
import {
  notifyServiceManager,
  passedSockets,
  unixSocketPath,
  watchdogMs,
} from '../host/systemd.ts';

/** The name by which a unit says that a socket is for collie. */
const ADMIN_NAME = 'admin';

/**
 * What the sockets are for that a service manager passed on: one that is called `admin` for collie,
 * every other for NBD. @throws SheepError `ERR_BAD_INPUT`
 */
export function passedAddresses(): PassedAddresses {
  const sockets = passedSockets(process.env, process.pid);
  const addresses = (admin: boolean) =>
    sockets.filter(({ name }) => (name === ADMIN_NAME) === admin).map(({ fd }) => `fd:${fd}`);
  for (const { fd, name } of sockets) {
    // Over TCP collie has to show the token, and that is decided by the address.
    if (name !== ADMIN_NAME || unixSocketPath(fd) !== undefined) continue;
    throw new SheepError(
      'ERR_BAD_INPUT',
      `the socket that is passed on as '${ADMIN_NAME}' (file descriptor ${fd}) is no unix socket; ` +
        'for collie over TCP use --admin',
      { fd },
    );
  }
  return { nbd: addresses(false), admin: addresses(true) };
}

/** Tells the service manager how the daemon is, where it asked; from the first word on, that it lives. */
export class ServiceManager {
  readonly #log: Log;
  #failed = false;

  constructor(log: Log) {
    this.#log = log;
    const everyMs = watchdogMs(process.env, process.pid);
    // A loop that does not turn does not send it: that is what the manager wants to know.
    if (everyMs !== undefined) setInterval(() => this.tell('WATCHDOG=1'), everyMs).unref();
  }

  tell(state: string): void {
    try {
      notifyServiceManager(process.env, state);
    } catch (error) {
      if (this.#failed) return;
      this.#failed = true;
      this.#log.event('warn', 'sheep.manager-not-told', { cause: describeError(error) });
    }
  }
}
