import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished } from 'vitest';
import { findTool } from '../../scripts/tools.ts';
import { type TestStore, testStore } from './bad-luck-store.ts';
import { COLLIE, type Daemon, type Ended, run, succeed } from './daemon.ts';

/** A store with a daemon, and what people do to it with collie and a shell. */
export class World implements AsyncDisposable {
  readonly it: TestStore;
  daemon: Daemon;

  private constructor(it: TestStore, daemon: Daemon) {
    this.it = it;
    this.daemon = daemon;
  }

  static async open(folder?: AsyncDisposable & { readonly path: string }): Promise<World> {
    const it = await testStore(folder);
    return new World(it, await it.start());
  }

  get path(): string {
    return this.it.path;
  }

  collie(...words: readonly string[]): Promise<Ended> {
    return this.it.collie(...words);
  }
  /** What a command that must succeed says with `--json`. */
  async json(...words: readonly string[]): Promise<Record<string, unknown>> {
    const said = await this.collie('--json', ...words);
    expect(said, said.err).toMatchObject({ status: 0 });
    return JSON.parse(said.out);
  }
  /** A line of shell in which `$collie` is collie with this sheep; fails if any part of it does. */
  shell(line: string): Promise<Ended> {
    const environment = { collie: `${COLLIE} -a ${this.it.adminSocket}` };
    return run('bash', ['-o', 'pipefail', '-c', line], { cwd: this.path, environment });
  }
  uri(name: string): string {
    return `nbd+unix:///${name}?socket=${this.it.nbdSocket.replace('unix:', '')}`;
  }
  /** Names of VDIs and snapshots. */
  async names(): Promise<string[]> {
    const { vdis, snapshots } = (await this.json('vdi', 'list')) as Record<
      'vdis' | 'snapshots',
      { export: string }[]
    >;
    return [...vdis, ...snapshots].map((vdi) => vdi.export).sort();
  }
  /** The export has exactly these bytes, as qemu-img sees both. */
  async expectSame(file: string, name: string): Promise<void> {
    const raw = ['-f', 'raw', '-F', 'raw'];
    await succeed(findTool('qemu-img') ?? 'qemu-img', ['compare', ...raw, file, this.uri(name)]);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
    await this.it[Symbol.asyncDispose]();
  }
}

/** A collie that is fed by hand. */
export function feed(world: World, ...words: readonly string[]): ChildProcess {
  const child = spawn(COLLIE, ['-a', world.it.adminSocket, ...words]);
  child.stdin.on('error', () => undefined); // it may go before it has taken everything
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}
/** What it has said, once it is gone. */
export async function ended(child: ChildProcess): Promise<Ended> {
  const [out, err, [status]] = await Promise.all([
    child.stdout === null ? '' : text(child.stdout),
    child.stderr === null ? '' : text(child.stderr),
    once(child, 'close'),
  ]);
  return { status, out, err };
}
