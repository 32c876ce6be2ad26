import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ConnectionOptions } from 'node:tls';
import type { StatsView } from '../../src/app/admin-views.ts';
import { SHEEP } from '../app/daemon.ts';
import { Authority } from '../tls/authority.ts';
import { FUZZED } from './arbitraries.ts';

export const STEADY = { name: 'steady', sizeBytes: 16 * 1024 * 1024 } as const;
/** The directory of certificates. */
const CERTS = 'fuzz';
const PSK = { user: 'fuzz', key: '000102030405060708090a0b0c0d0e0f' } as const;

/** What a process holds, as the kernel counts it. */
export interface Held {
  readonly sockets: number;
  readonly files: number;
  readonly residentBytes: number;
}

/** A daemon under attack: where its doors are, what it holds, and what it says that it must not. */
export class Sheep implements AsyncDisposable {
  readonly directory: string;
  readonly #authority: Authority;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #ready = '';
  #complaints: string[] = [];
  #over = false;
  token = '';

  private constructor(directory: string, authority: Authority, child: ChildProcess) {
    this.directory = directory;
    this.#authority = authority;
    this.#child = child;
    this.#ended = once(child, 'close').then(() => {
      this.#over = true;
    });
    if (child.stdout) createInterface(child.stdout).on('line', (line) => (this.#ready ||= line));
    if (child.stderr) createInterface(child.stderr).on('line', (line) => this.#listen(line));
  }

  /** @throws Error if it does not start */
  static async start(directory: string): Promise<Sheep> {
    const authority = new Authority();
    const keys = authority.pskFile('keys.psk', { [PSK.user]: PSK.key });
    const certs = authority.directory(CERTS);
    const child = spawn(
      SHEEP,
      [
        join(directory, 'store'),
        ...['-n', '127.0.0.1:0', '-n', `unix:${directory}/nbd`],
        ...['--tls-psk', keys, '--tls-certs', certs],
        ...['--admin', '127.0.0.1:0', '--admin', `unix:${directory}/admin`],
        // Inside of TLS is only what others can reach: here with a certificate that is ours alone.
        ...['--admin', '0.0.0.0:0'],
        ...['--vdi', `${FUZZED.name}:${FUZZED.sizeBytes}`],
        ...['--vdi', `${STEADY.name}:${STEADY.sizeBytes}`],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const sheep = new Sheep(directory, authority, child);
    while (sheep.#ready === '' && !sheep.#over) await pause(20);
    if (sheep.#ready === '') {
      await sheep[Symbol.asyncDispose]();
      throw new Error(`sheep did not start: ${sheep.complaints.join('\n')}`);
    }
    sheep.token = (await readFile(join(directory, 'store/admin.token'), 'utf8')).trim();
    return sheep;
  }

  get alive(): boolean {
    return !this.#over;
  }
  /** Errors in its log, and whatever it said that is no log, since the last look. */
  get complaints(): string[] {
    return this.#complaints.splice(0);
  }
  get nbdPort(): number {
    return Number(/nbd 127\.0\.0\.1:(\d+)/.exec(this.#ready)?.[1]);
  }
  get adminPort(): number {
    return Number(/admin 127\.0\.0\.1:(\d+)/.exec(this.#ready)?.[1]);
  }
  get httpsPort(): number {
    return Number(/https:\/\/0\.0\.0\.0:(\d+)/.exec(this.#ready)?.[1]);
  }
  get nbdSocket(): string {
    return join(this.directory, 'nbd');
  }
  get adminSocket(): string {
    return join(this.directory, 'admin');
  }
  /** What a client of NBD needs to be let into TLS. */
  proof(by: 'psk' | 'certificate'): ConnectionOptions {
    const file = (name: string) => readFileSync(join(this.#authority.folder, CERTS, name));
    if (by === 'certificate') {
      const [cert, key] = [file('client-cert.pem'), file('client-key.pem')];
      return { ca: file('ca-cert.pem'), cert, key, servername: 'localhost' };
    }
    return {
      pskCallback: () => ({ identity: PSK.user, psk: Buffer.from(PSK.key, 'hex') }),
      ciphers: 'PSK:ECDHE-PSK:TLS_AES_128_GCM_SHA256',
      checkServerIdentity: () => undefined,
    };
  }

  async held(): Promise<Held> {
    const folder = `/proc/${this.#pid}/fd`;
    const names = await readdir(folder);
    const targets = await Promise.all(
      names.map((name) => readlink(join(folder, name)).catch(() => 'gone')),
    );
    const sockets = targets.filter((target) => target.startsWith('socket:')).length;
    const status = await readFile(`/proc/${this.#pid}/status`, 'utf8');
    const residentBytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
    return { sockets, files: targets.length - sockets, residentBytes };
  }

  /** How many clients it says are attached. */
  async clients(): Promise<number> {
    const asked = request({ socketPath: this.adminSocket, path: '/v1/stats', agent: false });
    asked.end();
    const [answer] = await once(asked, 'response');
    let text = '';
    for await (const chunk of answer) text += chunk;
    return (JSON.parse(text) as Pick<StatsView, 'connections'>).connections.length;
  }

  /** As an operator stops it. @returns how it ended */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    await this.#ended;
    return this.#child.exitCode;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) this.#child.kill('SIGKILL');
    await this.#ended;
    this.#authority[Symbol.dispose]();
  }

  get #pid(): number {
    return this.#child.pid ?? 0;
  }

  #listen(line: string): void {
    if (!line.startsWith('{') || line.includes('"level":"error"')) this.#complaints.push(line);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resume) => setTimeout(resume, ms));
}
