import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** How long a server gets to flush and end before it is killed. */
const STOP_MS = 20_000;

/** Of what a command said before it failed. */
const SAID_MAX = 1000;

/** Every process that a benchmark started; none outlives it. */
export class Children implements AsyncDisposable {
  readonly #alive = new Set<ChildProcess>();

  /** Starts a server; what it says on stderr appears if it ends with an error. */
  start(command: string, args: readonly string[]): ChildProcess {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#alive.add(child);
    child.once('close', () => this.#alive.delete(child));
    return child;
  }

  /** Runs a command to its end. @returns what it wrote to stdout. @throws Error with its stderr */
  async run(command: string, args: readonly string[]): Promise<string> {
    const child = this.start(command, args);
    const [out, err] = [collect(child.stdout), collect(child.stderr)];
    const [status, signal] = await once(child, 'close');
    if (status === 0) return out();
    const how = signal === null ? `status ${status}` : String(signal);
    const said = (err() || out()).slice(0, SAID_MAX);
    throw new Error(`${command} ${args.join(' ')}: ${how}\n${said}`);
  }

  /** SIGTERM, and SIGKILL for what does not follow it. */
  async stop(child: ChildProcess): Promise<void> {
    if (!this.#alive.has(child)) return;
    const ended = once(child, 'close');
    const patience = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    child.kill('SIGTERM');
    await ended;
    clearTimeout(patience);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#alive].map((child) => this.stop(child)));
  }
}

/** Reads a stream to its end; the function gives what came so far. */
export function collect(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = [];
  stream?.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}
