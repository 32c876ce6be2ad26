import { setTimeout } from 'node:timers/promises';
import { Command, CommanderError } from 'commander';
import { isFault } from '../base/errors.ts';
import { adminClient, printable } from './admin-client.ts';
import type { Collie } from './collie-command.ts';
import { completionCommand } from './collie-completion.ts';
import { eventsCommand } from './collie-events.ts';
import { emptyGroups, fillGroup } from './collie-groups.ts';
import { topCommand } from './collie-top.ts';
import type { Terminal } from './output.ts';
import { Progress } from './progress.ts';
import { programVersion } from './version.ts';

/** Of a terminal that does not tell its size, or says 0. */
const COLUMNS_DEFAULT = 80;
const ROWS_DEFAULT = 24;

/** What the process gives: arguments, environment, and where to print. */
export interface CollieWorld {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether somebody watches what is printed as an error, and in how many columns. */
  readonly watched: boolean;
  readonly columns: () => number;
  /** The size of the terminal that `out` writes to; undefined: it is none. */
  readonly screen: () => { columns: number; rows: number } | undefined;
  /** Milliseconds that never run back. */
  readonly nowMs: () => number;
  readonly sleep: (durationMs: number) => Promise<void>;
}

interface GlobalOptions {
  readonly address?: string;
  readonly json?: true;
  readonly tlsCerts?: string;
  readonly tlsHostname?: string;
  readonly insecureNetwork?: true;
}

function credentialsOf(options: GlobalOptions, world: CollieWorld) {
  const { tlsCerts, tlsHostname, insecureNetwork } = options;
  return {
    environment: world.environment,
    ...(tlsCerts !== undefined && { certs: tlsCerts }),
    ...(tlsHostname !== undefined && { hostname: tlsHostname }),
    networkTrusted: insecureNetwork === true,
  };
}

/** One command of `collie`. @returns its exit status: 0 done, 1 failed, 2 wrong usage */
export async function runCollie(args: readonly string[], world: CollieWorld): Promise<0 | 1 | 2> {
  let status: 0 | 1 = 0;
  const { program } = collieProgram(world, () => {
    status = 1;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    world.err(`collie: ${printable(error)}\n`);
    return isFault(error, 'ERR_BAD_INPUT') ? 2 : 1;
  }
}

/** `collie`. */
export interface CollieProgram {
  /** What is below a group of commands is loaded when a command line names the group. */
  readonly program: Command;
  /** Loads all of it. */
  readonly whole: () => Promise<Command>;
}

/** All commands of `collie`. @param fail  called if the one that runs has failed */
export function collieProgram(world: CollieWorld, fail: () => void): CollieProgram {
  const program = new Command('collie');
  const options = (): GlobalOptions => program.opts();
  const out: Terminal = {
    line: (text) => world.out(`${text}\n`),
    json: (value) => world.out(`${JSON.stringify(value, null, 2)}\n`),
  };
  const { watched, columns, nowMs } = world;
  const stream = { watched, columns, write: world.err };
  // The address is known only once the arguments have been read.
  const admin = () => adminClient(options().address, credentialsOf(options(), world));
  const collie: Collie = {
    call: (method, path, body) => admin().call(method, path, body),
    lines: (method, path, each, body) => admin().lines(method, path, each, body),
    messages: (path, each) => admin().messages(path, each),
    out,
    json: () => options().json === true,
    show: (value, people) => (options().json === true ? out.json(value) : people(out)),
    screen: world.screen,
    sleep: world.sleep,
    progress: (label, format) =>
      new Progress({ stream, nowMs, label, ...(format !== undefined && { format }) }),
    warn: (text) => world.err(`collie: ${printable(text)}\n`),
    fail,
  };
  const fill = async (command: Command, named: string) => {
    await fillGroup(command, collie, named);
    settle(command, world);
  };
  const whole = async () => {
    for (const command of program.commands) await fill(command, '');
    return program;
  };
  program
    .description('Looks after VDIs and the sheep that serve them.')
    .option('-a, --address <address>', 'a sheep: unix:/path, host:port or https://host:port')
    .option('--json', 'print JSON, for programs')
    .option('--tls-certs <dir>', 'for TLS: ca-cert.pem, client-cert.pem, client-key.pem are in DIR')
    .option('--tls-psk <file>', 'for NBD inside TLS, instead: lines of USER:HEX-KEY are in FILE')
    .option('--tls-user <user>', 'whose key of that file, if it holds several')
    .option('--tls-hostname <name>', 'for whom the certificate of the sheep is, if not its address')
    .option('--insecure-network', 'show the token to host:port also where others may read it')
    .version(programVersion(), '-V, --version')
    .addHelpText('after', HELP_AFTER)
    .hook('preSubcommand', ({ args: [, named = ''] }, command) => fill(command, named));
  const single = [eventsCommand(collie), topCommand(collie), completionCommand(world.out, whole)];
  for (const command of [...emptyGroups(), ...single]) program.addCommand(command);
  settle(program, world);
  return { program, whole };
}

const HELP_AFTER = `
All commands:
  cluster info | health | check [--sample PERCENT] | shutdown
  cluster snapshot save TAG | list | show TAG | delete TAG [--dry-run] | gc [--dry-run]
  cluster snapshot load TAG [--vdi NAME] [--as NEW] [--replace] [--dry-run]
  node list | info | reload
  vdi create NAME SIZE [--object-size SIZE] [--allow RULE,...]
  vdi list [NAME] | tree | info NAME[@TAG]
  vdi snapshot -s TAG NAME | clone -s TAG SOURCE NAME | rollback -s TAG NAME [--dry-run]
  vdi resize NAME SIZE [--dry-run] | delete [-s TAG] NAME [--dry-run] | check NAME[@TAG]
  vdi import FILE NAME [--size SIZE] [--raw] | export NAME[@TAG] FILE [--from TAG]
  vdi diff NAME@TAG NAME[@TAG] | map NAME[@TAG]
  backup create NAME@TAG --to DIR [--tag TAG] [--prove] | list DIR | show DIR ID
  backup verify DIR [ID] [--sample PERCENT] | restore DIR ID NAME [--overwrite]
  backup delete DIR ID [--dry-run]
  backup prune DIR --keep-last N --keep-daily N --keep-weekly N --keep-monthly N [--dry-run]
  vdi set NAME allow=RULE,... [--dry-run]
  events [--since-start] | top [--interval SECONDS] [--count N]
  completion bash|zsh

Without -a the sheep is looked for at unix:./sheepdog-data/admin.sock, then at 127.0.0.1:7001.
Over TCP collie shows the token in the file that COLLIE_TOKEN_FILE names, or in
./sheepdog-data/admin.token.
A snapshot is also meant by NAME@TAG instead of -s TAG NAME, and by its ID instead of its TAG.
Sizes: bytes, or with k, M, G, T, P (or KiB to PiB), all in 1024.
Exit status: 0 done, 1 failed, 2 wrong usage.
`;

/** Every command throws instead of ending the process, and prints where it is told to. */
function settle(command: Command, world: CollieWorld): void {
  command
    .exitOverride()
    .configureOutput({
      writeOut: world.out,
      writeErr: world.err,
      outputError: (text, write) => write(text.replace(/^error:/, 'collie:')),
    })
    .helpOption('-h, --help', 'show this')
    .helpCommand(false)
    .showHelpAfterError(`(see '${fullName(command)} --help')`)
    .allowExcessArguments(false);
  for (const child of command.commands) settle(child, world);
}

function fullName(command: Command): string {
  const { parent } = command;
  return parent === null ? command.name() : `${fullName(parent)} ${command.name()}`;
}

export async function main(args: readonly string[]): Promise<void> {
  // A reader that has seen enough (`collie vdi list | head`) is no failure.
  process.stdout.on('error', () => process.exit(0));
  process.exitCode = await runCollie(args, {
    environment: process.env,
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    watched: process.stderr.isTTY === true,
    columns: () => process.stderr.columns || COLUMNS_DEFAULT,
    screen: () => {
      const { isTTY, columns, rows } = process.stdout;
      if (isTTY !== true) return undefined;
      return { columns: columns || COLUMNS_DEFAULT, rows: rows || ROWS_DEFAULT };
    },
    nowMs: () => performance.now(),
    sleep: (durationMs) => setTimeout(durationMs),
  });
}
