import { giveTable, NO_TABLE, takeTable } from './tables.ts';
import { ValueRuns } from './value-runs.ts';

/** A table is folded up where its runs take at most a quarter of it: two words each. */
const FOLDED_SHARE = 8;

/** One entry for each block of an object, see checksums.ts: folded up while nobody changes it. */
export class BlockTable {
  readonly #blocks: number;
  #table: Uint32Array<ArrayBuffer> | undefined;
  #folded: ValueRuns | undefined;

  /** @param table  of `takeTable`; kept */
  constructor(table: Uint32Array<ArrayBuffer>) {
    this.#blocks = table.length;
    this.#table = table;
    this.fold();
  }

  of(block: number): number {
    const table = this.#table;
    return (table === undefined ? this.#folded?.of(block) : table[block]) as number;
  }

  /** To be changed; not to be kept over a wait. */
  get entries(): Uint32Array<ArrayBuffer> {
    this.unfold();
    return this.#table as Uint32Array<ArrayBuffer>;
  }

  unfold(): void {
    if (this.#folded === undefined) return;
    this.#table = this.#folded.fill(takeTable(this.#blocks));
    this.#folded = undefined;
  }

  /** Where that saves something. */
  fold(): void {
    if (this.#table === undefined) return;
    this.#folded = ValueRuns.ifFew(this.#table, this.#blocks / FOLDED_SHARE);
    if (this.#folded === undefined) return;
    giveTable(this.#table);
    this.#table = undefined;
  }

  get heldBytes(): number {
    return this.#folded?.byteLength ?? this.entries.buffer.byteLength;
  }

  copyTo(entries: Uint32Array): void {
    if (this.#folded !== undefined) this.#folded.fill(entries);
    else entries.set(this.entries);
  }

  /** Nobody may use it any more: nothing can be proven by it. */
  close(): void {
    if (this.#table !== undefined) giveTable(this.#table);
    this.#table = NO_TABLE;
    this.#folded = undefined;
  }
}
