import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { findTool } from '../../scripts/tools.ts';

/** Another server of NBD as a child process; disposing ends it. */
export class ForeignServer implements AsyncDisposable {
  readonly #child: ChildProcess;
  #printed = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr?.on('data', (text) => {
      this.#printed += String(text);
    });
  }

  /**
   * Started, and listening at `socket`.
   * @param tool  a name, or the path of one
   */
  static async start(
    tool: string,
    args: readonly string[],
    socket: string,
  ): Promise<ForeignServer> {
    const child = spawn(findTool(tool) ?? tool, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const server = new ForeignServer(child);
    await once(child, 'spawn');
    while (!(await listens(socket))) {
      if (child.exitCode !== null) throw new Error(`${tool} ${args.join(' ')}: ${server.#printed}`);
    }
    return server;
  }

  /** nbdkit with a plugin and filters, at a unix socket. */
  static nbdkit(socket: string, ...plugin: readonly string[]): Promise<ForeignServer> {
    return ForeignServer.start('nbdkit', ['-f', '-U', socket, ...plugin], socket);
  }
  /** qemu-nbd with an image, as export `disk`. */
  static qemuNbd(socket: string, ...image: readonly string[]): Promise<ForeignServer> {
    const args = ['-t', '-e', '8', '-k', socket, '-x', 'disk', ...image];
    return ForeignServer.start('qemu-nbd', args, socket);
  }

  /** Gone at once, in the middle of whatever it does. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** The path is there a moment before anybody listens. */
async function listens(socket: string): Promise<boolean> {
  const knock = createConnection(socket);
  const heard = await new Promise<boolean>((answer) => {
    knock.once('connect', () => answer(true)).once('error', () => answer(false));
  });
  knock.destroy();
  if (!heard) await new Promise((done) => setTimeout(done, 10));
  return heard;
}
