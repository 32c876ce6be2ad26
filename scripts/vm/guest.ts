import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { GuestFiles } from './guest-files.ts';

export interface GuestOptions {
  /** A directory of the caller's for what the kernel of this guest says. */
  readonly directory: string;
  /** More arguments for QEMU: disks, as a user writes them. */
  readonly devices: readonly string[];
  /** The disk to boot, such as `/dev/vda`; absent: the initramfs is all there is. */
  readonly root?: string;
  /** Ends the guest at once when it is aborted. */
  readonly signal: AbortSignal;
}

/** What a script in the guest has said and come to. */
interface Ended {
  readonly status: number;
  readonly out: string;
}

interface Waiting {
  readonly pattern: RegExp;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * A Linux in QEMU, without KVM, that runs scripts which we send over a serial port (see init.sh).
 * The disks are what its user makes of them; the host's loopback is 10.0.2.2.
 */
export class Guest implements AsyncDisposable {
  readonly #qemu: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #console: string;
  /** What QEMU said of itself. */
  #err = '';
  /** Lines that came since the last script was sent. */
  #lines: string[] = [];
  #waiting: Waiting[] = [];
  #scripts = 0;
  /** The last script has ended, so no line comes. */
  #idle = false;

  private constructor(qemu: ChildProcess, console: string) {
    this.#qemu = qemu;
    this.#console = console;
    this.#ended = once(qemu, 'close').finally(() => this.#fail());
    this.#ended.catch(() => undefined);
    qemu.stderr?.on('data', (chunk) => {
      this.#err += chunk;
    });
    // A guest that is gone does not read: `#fail` tells those who wait.
    qemu.stdin?.on('error', () => undefined);
    if (qemu.stdout) createInterface(qemu.stdout).on('line', (line) => this.#take(line));
  }

  /** Starts one and waits until it takes scripts. @throws Error with what it said instead */
  static async start(files: GuestFiles, options: GuestOptions): Promise<Guest> {
    const console = join(options.directory, `console-${performance.now()}.log`);
    const args = [...MACHINE, ...boot(files, options.root), ...ports(console), ...options.devices];
    // Ends with us, however we end.
    const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...args], {
      signal: options.signal,
      killSignal: 'SIGKILL',
      stdio: 'pipe',
    });
    const guest = new Guest(qemu, console);
    // Whoever waited is not asked any more, so what it waited for is told here.
    options.signal.addEventListener('abort', () => process.stderr.write(guest.#lastWords()));
    await guest.seen(/^guest: ready$/);
    return guest;
  }

  /** Runs a script to its end, whatever that is; it stops at the first command that fails. */
  async run(script: string): Promise<Ended> {
    const number = ++this.#scripts;
    const end = new RegExp(`^(.*)guest: ${number} ended (\\d+)$`);
    this.#lines = [];
    this.#idle = false;
    const ended = this.seen(end);
    this.#qemu.stdin?.write(`${number} ${Buffer.from(script).toString('base64')}\n`);
    await ended;
    const [, rest = '', status = ''] = end.exec(this.#lines.pop() ?? '') ?? [];
    const out = [...this.#lines, rest].join('\n');
    return { status: Number(status), out };
  }

  /** The same, where anything but success is a failure of the test. */
  async succeed(script: string): Promise<string> {
    const { status, out } = await this.run(script);
    if (status === 0) return out;
    throw new Error(`in the guest, status ${status}:\n${script}\n${this.#lastWords()}`);
  }

  /**
   * Settles once the script that runs now has printed such a line.
   * @throws Error if the script or QEMU ends before
   */
  seen(pattern: RegExp): Promise<void> {
    if (this.#lines.some((line) => pattern.test(line))) return Promise.resolve();
    return new Promise((resolve, reject) => {
      if (this.#gone || this.#idle) return reject(this.#failure());
      this.#waiting.push({ pattern, resolve, reject });
    });
  }

  /** What the kernel has said. */
  get console(): string {
    return existsSync(this.#console) ? readFileSync(this.#console, 'latin1') : '';
  }

  /** Unmounts, and turns the machine off as its user would. @throws Error if QEMU does not end well */
  async powerOff(): Promise<void> {
    this.run('umount -a -r -t ext4; poweroff -f').catch(() => undefined);
    await this.#ended;
    if (this.#qemu.exitCode !== 0) throw this.#failure();
  }

  /** Pulls the plug. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#qemu.kill('SIGKILL');
    await this.#ended.catch(() => undefined);
  }

  get #gone(): boolean {
    return this.#qemu.exitCode !== null || this.#qemu.signalCode !== null;
  }

  #take(line: string): void {
    this.#lines.push(line);
    const now = this.#waiting.filter(({ pattern }) => pattern.test(line));
    this.#waiting = this.#waiting.filter((one) => !now.includes(one));
    for (const { resolve } of now) resolve();
    this.#idle = /guest: \d+ ended \d+$/.test(line);
    if (this.#idle) this.#fail();
  }

  #fail(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { reject } of waiting) reject(this.#failure());
  }

  #failure(): Error {
    const { exitCode, signalCode } = this.#qemu;
    const what = this.#gone ? `QEMU ended with ${signalCode ?? exitCode}` : 'the script ended';
    return new Error(`${what}\n${this.#lastWords()}`);
  }

  #lastWords(): string {
    const console = this.console.split('\n').slice(-40);
    return `${[...console, this.#err, ...this.#lines.slice(-50)].join('\n')}\n`;
  }
}

/** The same machine everywhere: nothing but what is named, and no reboot that hides a panic. */
const MACHINE = [
  ...['-machine', 'pc,accel=tcg', '-cpu', 'max', '-m', '256', '-smp', '1'],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
  ...['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
];

function boot({ kernel, initramfs }: GuestFiles, root?: string): string[] {
  const words = ['console=ttyS0', 'panic=-1', 'random.trust_cpu=on'];
  if (root !== undefined) words.push(`root=${root}`);
  return ['-kernel', kernel, '-initrd', initramfs, '-append', words.join(' ')];
}

/** The first serial port is the kernel's, the second takes scripts and gives what they print. */
function ports(console: string): string[] {
  const devices = ['console', 'scripts'].flatMap((id) => ['-device', `isa-serial,chardev=${id}`]);
  const file = `file,id=console,path=${console}`;
  return ['-chardev', file, '-chardev', 'stdio,id=scripts,signal=off', ...devices];
}
