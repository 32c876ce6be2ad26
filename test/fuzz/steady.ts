import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd, type NbdClient } from '../../src/nbd/client/connect.ts';
import { type Sheep, STEADY } from './sheep.ts';

const PART_BYTES = 64 * 1024;
const PARTS = STEADY.sizeBytes / PART_BYTES;
/** Each request is answered within this, whatever others do. */
const ANSWER_MS = 20_000;

/**
 * A client who does nothing wrong: it writes and reads its own VDI all the time, and what it reads is
 * what it wrote last. Other clients are none of its business, and it must not feel them.
 */
export class Steady implements AsyncDisposable {
  readonly #client: NbdClient;
  readonly #stopping = new AbortController();
  readonly #over: Promise<void>;
  /** What was last written to each part, as the byte that fills it. */
  readonly #model = new Uint8Array(PARTS);
  #failure: unknown;
  rounds = 0;

  private constructor(client: NbdClient) {
    this.#client = client;
    this.#over = this.#run().catch((error: unknown) => {
      this.#failure = error;
    });
  }

  static async start(sheep: Sheep): Promise<Steady> {
    const net = await openNodeNet();
    return new Steady(await connectNbd(net, `unix:${sheep.nbdSocket}`, STEADY.name));
  }

  /** @throws Error with what went wrong, if anything has */
  check(): void {
    if (this.#failure !== undefined) {
      throw new Error('another client feels it', { cause: this.#failure });
    }
  }

  async #run(): Promise<void> {
    const bytes = new Uint8Array(PART_BYTES);
    while (!this.#stopping.signal.aborted) {
      const { rounds } = this;
      const [written, read] = [(rounds * 7919) % PARTS, (rounds * 104_729 + 5) % PARTS];
      const value = (rounds % 250) + 1;
      const signal = AbortSignal.timeout(ANSWER_MS);
      const durable = rounds % 32 === 0;
      await this.#client.write(written * PART_BYTES, bytes.fill(value), { durable, signal });
      this.#model[written] = value;
      await this.#client.read(read * PART_BYTES, bytes, { signal });
      const expected = this.#model[read];
      const wrong = bytes.findIndex((byte) => byte !== expected);
      if (wrong >= 0) throw new Error(`byte ${read * PART_BYTES + wrong} is not what was written`);
      this.rounds += 1;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#over;
    await this.#client[Symbol.asyncDispose]();
  }
}
