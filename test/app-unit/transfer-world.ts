import { open, readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { Attached } from '../app/bad-luck-store.ts';
import { scratch } from '../cluster/scratch.ts';
import { collie, type Said, startTestSheep, type TestSheep } from './test-sheep.ts';

/** A run of one value in a file: place, length, value. */
type Run = readonly [number, number, number];

/** A sheep in this process, collie with it, and files beside its store. */
export class TransferWorld implements AsyncDisposable {
  readonly path: string;
  readonly nbd: string;
  readonly #sheep: TestSheep;
  readonly #owned: AsyncDisposable;

  private constructor(path: string, nbd: string, sheep: TestSheep, owned: AsyncDisposable) {
    this.path = path;
    this.nbd = nbd;
    this.#sheep = sheep;
    this.#owned = owned;
  }

  static async open(): Promise<TransferWorld> {
    await using opening = new AsyncDisposableStack();
    const { path } = opening.use(await scratch());
    const nbd = `unix:${path}/nbd.sock`;
    const sheep = opening.use(await startTestSheep(`${path}/store`, { nbd: [nbd] }));
    return new TransferWorld(path, nbd, sheep, opening.move());
  }

  run(...words: readonly string[]): Promise<Said> {
    return collie(['-a', this.#sheep.socket, ...words]);
  }
  /** What a command that must succeed says with `--json`. */
  async json(...words: readonly string[]): Promise<Record<string, unknown>> {
    const said = await this.run('--json', ...words);
    expect(said, said.err).toMatchObject({ status: 0 });
    return JSON.parse(said.out);
  }
  /** Names of all VDIs and snapshots. */
  async names(): Promise<string[]> {
    type Listed = { export: string }[];
    const listed = await this.json('vdi', 'list');
    const { vdis, snapshots } = listed as { vdis: Listed; snapshots: Listed };
    return [...vdis, ...snapshots].map((vdi) => vdi.export).sort();
  }

  /** A file with these runs in it, and holes between them. */
  async makeFile(name: string, sizeBytes: number, runs: readonly Run[]): Promise<string> {
    await using file = await open(`${this.path}/${name}`, 'w');
    await file.truncate(sizeBytes);
    for (const [at, length, value] of runs) {
      await file.write(new Uint8Array(length).fill(value), 0, length, at);
    }
    return `${this.path}/${name}`;
  }
  /** All bytes of an export. */
  async bytesOf(name: string): Promise<Buffer> {
    const file = `${this.path}/bytes-of-${name}`;
    await this.json('vdi', 'export', name, file);
    return readFile(file);
  }
  async expectSame(name: string, bytes: Uint8Array): Promise<void> {
    expect(Buffer.compare(await this.bytesOf(name), bytes)).toBe(0);
  }

  /** Writes as a client does, who then goes. */
  async write(name: string, at: number, length: number, value: number): Promise<void> {
    await using client = await Attached.to(this.nbd, name);
    expect(await client.write(at, length, value)).toBe(0);
  }
  async trim(name: string, at: number, length: number): Promise<void> {
    await using client = await Attached.to(this.nbd, name);
    expect(await client.trim(at, length)).toBe(0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.#owned[Symbol.asyncDispose]());
  }
}
