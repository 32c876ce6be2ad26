import type { Compressed, CompressJob, Flaw, NameJob, ProveJob } from '../base/content.ts';

/** What a thread is started with. */
export interface WorkerData {
  /** To whoever else wants the processors. */
  readonly yields: boolean;
}
/** What a thread is sent. */
export type WorkRequest = { readonly number: number } & (
  | { readonly kind: 'name'; readonly job: NameJob }
  | { readonly kind: 'compress'; readonly job: CompressJob }
  | { readonly kind: 'prove'; readonly job: ProveJob }
);
export type WorkResult = Uint8Array | Compressed[] | (Flaw | undefined)[];
/** What it answers. */
export type WorkAnswer = {
  readonly number: number;
  /** Others have lately wanted the processor that the thread yields to them. */
  readonly crowded: boolean;
} & ({ readonly result: WorkResult } | { readonly failure: string });
