import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import {
  ADMIN_TCP_DEFAULT,
  DIRECTORY_DEFAULT,
  NBD_DEFAULT,
  SLOW_REQUEST_MS_DEFAULT,
} from '../config/defaults.ts';
import { SHELLS, type Shell } from './completion/shell-names.ts';

/** What a command line of `sheep` says. */
export interface SheepArguments {
  /** By the names of config/schema.ts, to be checked there. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly configPath?: string;
  /** What is asked for instead of a daemon. */
  readonly instead?: 'check-config' | 'config-schema' | Shell;
  /** Gets the ready line, and is closed. */
  readonly readyFd?: number;
  /** Whether to print, after the ready line, how to go on; absent: on a terminal. */
  readonly hints?: boolean;
}

/** Where commander writes; tests collect it. */
export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/**
 * Reads the arguments of `sheep`.
 * @throws CommanderError after it has written why to `output`; `exitCode` 0 after `--help`, else 2
 */
export function parseSheepArguments(
  args: readonly string[],
  version: string,
  output: Output,
): SheepArguments {
  const command = sheepCommand(version, output);
  try {
    command.parse(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode === 0) throw error;
    throw new CommanderError(2, error.code, error.message);
  }
  const options: Record<string, unknown> = command.opts();
  const { config, checkConfig, configSchema, completion, readyFd, hints, vdi, ...settings } =
    options;
  const configPath = config ?? checkConfig;
  const [directory] = command.args;
  return {
    settings: {
      ...settings,
      ...(vdi !== undefined && { vdis: vdi }),
      ...(directory !== undefined && { directory }),
    },
    ...(typeof configPath === 'string' && { configPath }),
    ...(checkConfig !== undefined && { instead: 'check-config' }),
    ...(configSchema === true && { instead: 'config-schema' }),
    ...(isShell(completion) && { instead: completion }),
    ...(typeof readyFd === 'number' && { readyFd }),
    ...(typeof hints === 'boolean' && { hints }),
  };
}

/** The options of `sheep`, for whoever reads them, completes them or describes them. */
export function sheepCommand(version: string, output: Output): Command {
  return new Command('sheep')
    .description('Serves virtual disks over NBD from a store on this machine.')
    .argument('[DIR]', `the store; made at the first start (default: ${DIRECTORY_DEFAULT})`)
    .option('-c, --cluster <driver>', 'local: this sheep alone (default: local)')
    .option(
      '-n, --nbd <address>',
      `where NBD is served: host:port, [v6]:port or unix:/path; repeatable (default: ${NBD_DEFAULT})`,
      collect,
    )
    .option('--nbd-group <group>', 'group of the unix sockets for NBD')
    .option('--nbd-mode <mode>', 'permission bits of these sockets in octal (default: 600)')
    .option(
      '--admin <address>',
      `where collie is served; repeatable (default: unix:DIR/admin.sock and ${ADMIN_TCP_DEFAULT})`,
      collect,
    )
    .option('--vdi <name:size>', 'make this VDI if it does not exist; repeatable', collect)
    .addOption(
      new Option(
        '--format [shape]',
        'make the store of cluster snapshots: hash=sha256|sha1,codec=zstd|zlib|none',
      ).preset(''),
    )
    .option(
      '--tls-certs <dir>',
      'offer TLS: ca-cert.pem, server-cert.pem, server-key.pem are in DIR',
    )
    .option('--tls-psk <file>', 'offer TLS to who has a key: lines of USER:HEX-KEY are in FILE')
    .option('--tls-require', 'serve NBD to nobody outside of TLS')
    .option('--insecure-network', 'serve also where other machines can reach it without proof')
    .option('--checksums <on|off>', 'whether blocks that are written get a checksum (default: on)')
    .option(
      '--slow-request <ms>',
      `log requests that take this long or longer; 0: none (default: ${SLOW_REQUEST_MS_DEFAULT})`,
      wholeNumber,
    )
    .option('--config <file>', 'JSON with the settings above; flags beat it')
    .addOption(
      new Option(
        '--check-config <file>',
        'tell what is wrong with such a file and with the flags beside it, and start nothing',
      ).conflicts('config'),
    )
    .option('--config-schema', 'print the JSON schema of such a file')
    .option('--log-level <level>', 'debug, info, warn or error (default: info)')
    .option('--ready-fd <n>', 'write the ready line to this file descriptor, then close it', readFd)
    .option('--hints', 'print how to attach a VDI once ready (default: on a terminal)')
    .option('--no-hints', 'do not print it')
    .addOption(
      new Option('--completion <shell>', 'print what makes this shell complete options').choices(
        SHELLS,
      ),
    )
    .version(version, '-V, --version')
    .helpOption('-h, --help', 'show this')
    .addHelpText('after', HELP_AFTER)
    .showHelpAfterError("(see 'sheep --help')")
    .allowExcessArguments(false)
    .configureOutput({
      writeOut: output.out,
      writeErr: output.err,
      outputError: (text, write) => write(text.replace(/^error:/, 'sheep:')),
    })
    .exitOverride();
}

const HELP_AFTER = `
Sizes: bytes, or with k, M, G, T, P (or KiB to PiB), all in 1024.
Ready: one line with the real addresses on standard output; also in DIR/sheep.json, and told to
systemd where it asked (NOTIFY_SOCKET), as is every so often that it lives (WATCHDOG_USEC). Sockets
that systemd passes on (LISTEN_FDS) are served: one with FileDescriptorName=admin to collie, which
must be a unix socket, every other as NBD.
TLS: with --tls-certs a client must show a certificate that the authority in ca-cert.pem issued and
that ca-crl.pem, where there is one, does not list; with --tls-psk, a key. Both may be given. The
names of the files are those of QEMU and libvirt.
Signals: SIGTERM and SIGINT finish what is under way (30 s at most), flush and stop; a second one,
2 s later or more, stops at once. SIGHUP reads certificates and keys again, as collie node reload
does; where it means that the terminal was closed, it stops like SIGTERM.
Exit status: 0 stopped as asked, 1 failed, 2 wrong usage.

Examples:
  sheep --vdi demo:8G                      a store in ./sheepdog-data with a VDI of 8 GiB
  sheep /srv/sheep -n unix:/run/nbd.sock   another store, NBD on a unix socket only
`;

function isShell(value: unknown): value is Shell {
  return SHELLS.some((shell) => shell === value);
}

/** Each use of a repeatable option adds to the list. */
function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

/** What is no number is refused where every setting is checked. */
function wholeNumber(text: string): number | string {
  return /^\d{1,15}$/.test(text) ? Number(text) : text;
}

function readFd(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Give the number of an open file descriptor.');
}
