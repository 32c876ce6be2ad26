import { inject } from 'vitest';
import { findTool, hasTool } from '../../scripts/tools.ts';
import { Guest } from '../../scripts/vm/guest.ts';
import type { GuestFiles } from '../../scripts/vm/guest-files.ts';
import { COLLIE, Daemon, succeed } from '../app/daemon.ts';
import { scratch } from '../cluster/scratch.ts';

const files = inject('guest');

/** For `describe.skipIf`: this machine cannot run a guest (and need not, outside of CI). */
export const noGuest = !hasTool('qemu-system-x86_64') || !hasTool('setpriv') || files === null;

/** A store with a daemon on it that can be killed and started again, and guests. */
export interface World extends AsyncDisposable {
  /** For whatever the test makes; gone with it. */
  readonly path: string;
  /** What guests are started from. */
  readonly files: GuestFiles;
  /** The daemon that runs now. */
  readonly daemon: Daemon;
  /** Its port on the loopback, the same in every life. */
  readonly port: number;
  readonly socket: string;
  /** What the daemon logged as an error, in all its lives. */
  readonly errors: Record<string, unknown>[];
  start(): Promise<void>;
  /** Settles with its exit status, null if it was killed. */
  stop(signal: NodeJS.Signals): Promise<number | null>;
  collie(...words: string[]): Promise<string>;
  guest(options: { devices: readonly string[]; root?: string }): Promise<Guest>;
}

/**
 * @param vdis    as `sheep --vdi` takes them, `NAME:SIZE`
 * @param signal  of the test: ends its guests when it has taken too long
 * @param options of the daemon, besides
 */
export async function world(
  vdis: readonly string[],
  signal: AbortSignal,
  options: readonly string[] = [],
): Promise<World> {
  if (files === null) throw new Error('there is no guest on this machine');
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const socket = `${path}/nbd`;
  const admin = `unix:${path}/admin`;
  const errors: Record<string, unknown>[] = [];
  const start = (port: number) => {
    const addresses = ['-n', `127.0.0.1:${port}`, '-n', `unix:${socket}`, '--admin', admin];
    const made = vdis.flatMap((vdi) => ['--vdi', vdi]);
    return Daemon.start([`${path}/store`, ...addresses, ...made, ...options]);
  };
  let daemon = await start(0);
  const port = Number(daemon.nbd.split(':')[1]);
  const stop = async (how: NodeJS.Signals) => {
    const status = await daemon.stop(how);
    errors.push(...daemon.log.filter(({ level }) => level === 'error'));
    return status;
  };
  owned.defer(async () => void (await stop('SIGKILL')));
  return {
    path,
    files,
    port,
    socket,
    errors,
    get daemon() {
      return daemon;
    },
    async start() {
      daemon = await start(port);
    },
    stop,
    collie: (...words) => succeed(COLLIE, ['-a', admin, ...words]),
    guest: (options) => Guest.start(files, { ...options, directory: path, signal }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Of the host; a user's PATH may not lead to those of an administrator. */
export const tool = (name: string) => findTool(name) ?? name;

/** For tools of the host. */
export const uri = (it: World, name: string) => `nbd+unix:///${name}?socket=${it.socket}`;

/** `-drive`, as the README has it. */
export function drive(address: string): string[] {
  const options = 'format=raw,if=virtio,cache=writeback,discard=unmap';
  return ['-drive', `file=nbd:${address},${options}`];
}

/** `-blockdev`, reconnecting; the guest sees the same disk. */
export function blockdev(server: string, name: string): string[] {
  const node = `driver=nbd,node-name=disk,${server},export=${name},reconnect-delay=60`;
  return [
    ...['-blockdev', `${node},discard=unmap`],
    ...['-device', 'virtio-blk-pci,drive=disk,write-cache=on'],
  ];
}

/** An empty file system with blocks of this size, mounted. */
export const make = (disk: string, blockBytes = 4096) =>
  `mkfs.ext4 -q -b ${blockBytes} ${disk}; mount -t ext4 ${disk} /srv`;

/** Files of different sizes, and links; `spare` can go. */
export const FILL = `
  mkdir /srv/small
  for file in $(seq 1 200); do echo "file $file" >/srv/small/$file; done
  cp -a /bin /sbin /srv
  dd if=/dev/urandom of=/srv/large bs=1M count=4 2>/dev/null
  dd if=/dev/urandom of=/srv/spare bs=1M count=12 2>/dev/null
  sync`;

/** Of everything in the file system that is mounted. */
export const CHECKSUMS = 'cd /srv; find . -type f | sort | xargs sha256sum';

/** Replays the journal, as a mount would (1: changed), and then fails if anything is amiss. */
export const check = (disk: string) => `e2fsck -p ${disk} || [ $? = 1 ]; e2fsck -f -n ${disk}`;
