/** Of the pages: when what stands here was last changed. */
export const DATE = '2026-11-20';

/** What a manual page says and no help text does. */
export interface Prose {
  readonly what: string;
  readonly synopsis: string;
  readonly description: readonly string[];
  /** Sections of terms with what they are, behind those that come from the help. */
  readonly lists: Readonly<Record<string, readonly (readonly [term: string, text: string])[]>>;
  readonly seeAlso: string;
}

export const SHEEP: Prose = {
  what: 'serve virtual disks over NBD',
  synopsis: '[options] [DIR]',
  description: [
    'sheep keeps virtual disks (VDIs) in the folder DIR of this machine and serves them to virtual ' +
      'machines, the Linux kernel and any other client of the NBD protocol. A VDI is thin, cut into ' +
      'objects of 4 MiB, each with checksums, and can have snapshots and clones. collie(1) makes ' +
      'and removes VDIs and tells how the daemon is.',
    'What a client has flushed survives a power cut; what has been answered survives a kill of the ' +
      'daemon. After either, the next start proves what was being written.',
    'The same settings can stand in a file of JSON, by their names without dashes: see --config, ' +
      '--check-config and --config-schema. Passwords and keys come from files, never from the ' +
      'command line.',
  ],
  lists: {
    environment: [
      ['NOTIFY_SOCKET', 'Where a service manager is told READY=1, STOPPING=1 and WATCHDOG=1.'],
      ['WATCHDOG_USEC, WATCHDOG_PID', 'How often it wants to hear that the daemon lives.'],
      ['LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES', 'Sockets that it has opened: see NOTES.'],
      ['UV_THREADPOOL_SIZE', 'Threads for what waits for the disk; 8 if it is not set.'],
    ],
    files: [
      ['DIR/store.json', 'What the store is; written once.'],
      ['DIR/sheep.json', 'Where the daemon serves, while it runs.'],
      ['DIR/admin.sock', 'The socket for collie, of the user who runs the daemon.'],
      ['DIR/admin.token', 'What collie must show over TCP; only that user can read it.'],
      ['DIR/obj', 'The objects, one file each.'],
    ],
  },
  seeAlso: 'collie(1), nbd-client(8), qemu-nbd(8), systemd.service(5), systemd.socket(5)',
};

export const COLLIE: Prose = {
  what: 'look after virtual disks and the sheep that serve them',
  synopsis: '[options] command [subcommand] [arguments]',
  description: [
    'collie asks a running sheep(8) to make, list, copy, check and remove VDIs, their snapshots and ' +
      'clones, and shows what the daemon does. It talks to the admin API, over a unix socket or TCP; ' +
      'disks are read and written over NBD.',
    'What deletes or moves has --dry-run. With --json every command prints JSON for programs.',
  ],
  lists: {
    environment: [
      ['COLLIE_TOKEN_FILE', 'The file with the token for a sheep that is reached over TCP.'],
    ],
    files: [
      ['./sheepdog-data/admin.sock', 'Where a sheep is looked for if no -a is given.'],
      ['./sheepdog-data/admin.token', 'The token, if COLLIE_TOKEN_FILE names no other.'],
    ],
  },
  seeAlso: 'sheep(8), nbd-client(8), qemu-img(1), nbdcopy(1)',
};
