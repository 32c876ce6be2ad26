import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../..');
export const SHEEP = join(ROOT, 'bin', 'sheep');
export const COLLIE = join(ROOT, 'bin', 'collie');

/** What a command that ended has said. */
export interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface StartOptions extends RunOptions {
  readonly command?: string;
  readonly stdio?: readonly 'pipe'[];
}

/** Runs a command to its end, whatever that is. */
export function run(
  command: string,
  args: readonly string[],
  { cwd, environment }: RunOptions = {},
): Promise<Ended> {
  return new Promise((settle) => {
    const child = execFile(
      command,
      [...args],
      { cwd, env: { ...process.env, ...environment }, maxBuffer: 2 ** 26 },
      (_error, out, err) => settle({ status: child.exitCode, out, err }),
    );
  });
}

/** The same, where anything but success is a failure of the test. */
export async function succeed(command: string, args: readonly string[], options: RunOptions = {}) {
  const ended = await run(command, args, options);
  if (ended.status === 0) return ended.out;
  throw new Error(`${command} ${args.join(' ')} ended with ${ended.status}: ${ended.err}`);
}

/** A daemon as a user runs it: a process of its own. */
export class Daemon implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly #ended: Promise<[number | null, NodeJS.Signals | null]>;
  #out = '';
  #err = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    this.#ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    child.stdout?.on('data', (chunk) => {
      this.#out += chunk;
    });
    child.stderr?.on('data', (chunk) => {
      this.#err += chunk;
    });
  }

  /** Starts one and waits for its ready line. @throws Error with what it said instead */
  static async start(args: readonly string[], options: StartOptions = {}): Promise<Daemon> {
    const daemon = Daemon.spawn(args, options);
    await daemon.#ready();
    return daemon;
  }

  /** Starts one, and waits for nothing. */
  static spawn(
    args: readonly string[],
    { cwd, environment, command = SHEEP, stdio = [] }: StartOptions = {},
  ): Daemon {
    const child = spawn(command, [...args], {
      cwd,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe', ...stdio],
    });
    return new Daemon(child);
  }

  get out(): string {
    return this.#out;
  }

  get err(): string {
    return this.#err;
  }

  /** What it logged, event by event. */
  get log(): Record<string, unknown>[] {
    const lines = this.#err.split('\n').filter((line) => line.startsWith('{'));
    return lines.map((line) => JSON.parse(line));
  }

  /** Where it serves NBD, by its ready line. */
  get nbd(): string {
    return /^sheep: ready, nbd (\S+?),? /.exec(this.#out)?.[1] ?? '';
  }

  /** Settles with the exit status once it has ended. */
  async ended(): Promise<number | null> {
    return (await this.#ended)[0];
  }

  stop(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal);
    return this.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await this.stop('SIGKILL');
  }

  async #ready(): Promise<void> {
    while (!this.#out.includes('\n')) {
      const { stdout } = this.child;
      const next = stdout && once(stdout, 'data');
      const ended = this.#ended.then(() => 'ended' as const);
      if ((await Promise.race([next, ended])) !== 'ended') continue;
      throw new Error(`sheep ended instead of starting: ${this.#err || this.#out}`);
    }
  }
}
