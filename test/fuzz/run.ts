import fc from 'fast-check';
import { MiB } from '../../src/base/units.ts';
import { scratch } from '../cluster/scratch.ts';
import { cases } from './arbitraries.ts';
import { type Case, caseToJson, SURFACES, type Surface } from './cases.ts';
import { play } from './play.ts';
import { type Held, pause, Sheep } from './sheep.ts';
import { Steady } from './steady.ts';

/** Of each batch, so many at each surface. */
const AT_ONCE: Readonly<Record<Surface, number>> = {
  tcp: 8,
  unix: 6,
  psk: 3,
  certificate: 3,
  'nbd tls': 3,
  token: 3,
  'no token': 2,
  admin: 3,
  'https token': 3,
  'https no token': 1,
  'https tls': 3,
  settings: 60,
  config: 1,
};
/** A sheep that has to start costs more than all others of a batch: it does so in some only. */
const CONFIG_EVERY = 16;
/** Before anything is counted, what starting up has opened is closed. */
const QUIET_MS = 300;
/** What a sheep may come to hold under all this, its open objects included. */
const RESIDENT_MAX_BYTES = 512 * MiB;
const FILES_MAX = 2_000;
/** After the last connection of a batch is gone, everything of it is let go within this. */
const SETTLED_MS = 20_000;
/** The same for one round of the steady client. */
const PROGRESS_MS = 20_000;

export interface FuzzOptions {
  readonly seed: number;
  readonly seconds: number;
  /** Told after each batch. */
  readonly progress?: (sum: Sum) => void;
}

export interface Sum {
  readonly batches: number;
  readonly cases: number;
  /** Verified writes and reads of the client beside them. */
  readonly steadyRounds: number;
  readonly residentMaxBytes: number;
  readonly held: Held;
}

/** What must not be, and what led to it: the smallest part of the last batch that does so again. */
export class Found extends Error {
  override readonly name = 'Found';
  readonly cases: readonly Case[];
  constructor(cause: unknown, led: readonly Case[]) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(why, { cause });
    this.cases = led;
  }
  /** The cases as test/fuzz-corpus has them. */
  get text(): string {
    return `${JSON.stringify(this.cases.map(caseToJson), null, 2)}\n`;
  }
}

/** One sheep, attacked for a time with cases drawn from the seed. @throws Found */
export async function runFuzz(options: FuzzOptions): Promise<Sum> {
  const endMs = performance.now() + options.seconds * 1000;
  await using attack = await Attack.start();
  for (let batch = 0; performance.now() < endMs; batch += 1) {
    const surfaces = SURFACES.filter((at) => at !== 'config' || batch % CONFIG_EVERY === 0);
    const all = drawn(surfaces, mixed(options.seed, batch), attack.token);
    try {
      await attack.batch(all);
    } catch (error) {
      throw error instanceof Found ? error : new Found(error, await smallest(all));
    }
    options.progress?.(attack.sum);
  }
  return await attack.end();
}

/** Each case alone, one after the other, against one sheep. @throws Found */
export async function replay(kept: readonly Case[]): Promise<void> {
  await using attack = await Attack.start();
  for (const one of kept) {
    try {
      await attack.batch([one]);
    } catch (error) {
      throw error instanceof Found ? error : new Found(error, [one]);
    }
  }
  await attack.end();
}

/** The cases of one batch, all surfaces mixed. */
function drawn(surfaces: readonly Surface[], seed: number, token: string): Case[] {
  return surfaces.flatMap((at, index) =>
    fc.sample(cases(at, token), { seed: mixed(seed, index), numRuns: AT_ONCE[at] }),
  );
}

/** Another seed for each step: neighbours have nothing in common. */
function mixed(seed: number, step: number): number {
  let value = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(step + 1, 0xc2b2ae35);
  value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d);
  return value ^ (value >>> 13);
}

/** The half that fails by itself, and of that the half, as long as there is one. */
async function smallest(all: readonly Case[]): Promise<readonly Case[]> {
  if (all.length === 1) return all;
  const middle = Math.ceil(all.length / 2);
  for (const half of [all.slice(0, middle), all.slice(middle)]) {
    if (await fails(half)) return await smallest(half);
  }
  return all;
}

async function fails(some: readonly Case[]): Promise<boolean> {
  await using attack = await Attack.start();
  try {
    await attack.batch(some);
    return false;
  } catch {
    return true;
  }
}

/** A sheep with its steady client, and what is looked at after each batch. */
class Attack implements AsyncDisposable {
  readonly #owned: AsyncDisposableStack;
  readonly #sheep: Sheep;
  readonly #steady: Steady;
  readonly #before: Held;
  #held: Held;
  #batches = 0;
  #cases = 0;
  #residentMaxBytes = 0;

  private constructor(owned: AsyncDisposableStack, sheep: Sheep, steady: Steady, before: Held) {
    this.#owned = owned;
    this.#sheep = sheep;
    this.#steady = steady;
    this.#before = before;
    this.#held = before;
  }

  static async start(): Promise<Attack> {
    await using opening = new AsyncDisposableStack();
    const { path } = opening.use(await scratch());
    const sheep = opening.use(await Sheep.start(path));
    const steady = opening.use(await Steady.start(sheep));
    await sheep.clients(); // what the first request needs for good is there from now on
    await pause(QUIET_MS);
    const before = await sheep.held();
    return new Attack(opening.move(), sheep, steady, before);
  }

  get token(): string {
    return this.#sheep.token;
  }
  get sum(): Sum {
    return {
      batches: this.#batches,
      cases: this.#cases,
      steadyRounds: this.#steady.rounds,
      residentMaxBytes: this.#residentMaxBytes,
      held: this.#held,
    };
  }

  /**
   * Plays all at once, then looks whether all is as it was.
   * @throws Found if it is known which case it was, else Error
   */
  async batch(all: readonly Case[]): Promise<void> {
    const rests = await Promise.allSettled(all.map((one) => play(one, this.#sheep)));
    const ends = await Promise.allSettled(
      rests.map(async (rest) => {
        if (rest.status === 'rejected') throw rest.reason;
        await rest.value();
      }),
    );
    this.#batches += 1;
    this.#cases += all.length;
    this.#checkLog();
    for (const [index, outcome] of ends.entries()) {
      if (outcome.status === 'rejected')
        throw new Found(outcome.reason, all.slice(index, index + 1));
    }
    await this.#checkProgress();
    await this.#checkHeld();
    this.#checkLog();
  }

  /** Stops the sheep as an operator does. @throws Error if it does not end well */
  async end(): Promise<Sum> {
    const { sum } = this;
    await this.#steady[Symbol.asyncDispose]();
    const status = await this.#sheep.stop();
    this.#checkLog(true);
    if (status !== 0) throw new Error(`sheep ended with ${status}`);
    return sum;
  }

  #checkLog(stopped = false): void {
    const { complaints } = this.#sheep;
    if (complaints.length > 0) throw new Error(`sheep complains: ${complaints.join('\n')}`);
    if (!stopped && !this.#sheep.alive) throw new Error('sheep is gone');
  }

  async #checkProgress(): Promise<void> {
    const { rounds } = this.#steady;
    const lateMs = performance.now() + PROGRESS_MS;
    for (;;) {
      this.#steady.check();
      if (this.#steady.rounds > rounds) return;
      if (performance.now() > lateMs) throw new Error('another client waits without end');
      await pause(5);
    }
  }

  /** Nobody but the steady client is attached, and no socket is left of those who were. */
  async #checkHeld(): Promise<void> {
    const lateMs = performance.now() + SETTLED_MS;
    for (;;) {
      const clients = await this.#sheep.clients();
      const held = await this.#sheep.held();
      this.#held = held;
      const settled = clients === 1 && held.sockets <= this.#before.sockets;
      if (settled) break;
      if (performance.now() > lateMs) {
        throw new Error(
          `${clients} clients and ${held.sockets} sockets are left, not 1 and ${this.#before.sockets}`,
        );
      }
      await pause(20);
    }
    const { residentBytes, files } = this.#held;
    this.#residentMaxBytes = Math.max(this.#residentMaxBytes, residentBytes);
    if (residentBytes > RESIDENT_MAX_BYTES) throw new Error(`${residentBytes} bytes are resident`);
    if (files > FILES_MAX) throw new Error(`${files} files are open`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}
