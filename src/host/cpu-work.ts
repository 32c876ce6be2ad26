import {
  type Compressed,
  type CompressJob,
  contentWork,
  type Flaw,
  type NameJob,
  type ProveJob,
} from '../base/content.ts';

/** What a worker of a pool is sent. */
export type WorkRequest = { readonly number: number } & (
  | { readonly kind: 'name'; readonly job: NameJob }
  | { readonly kind: 'compress'; readonly job: CompressJob }
  | { readonly kind: 'prove'; readonly job: ProveJob }
);
export type WorkResult = Uint8Array | Compressed[] | (Flaw | undefined)[];
/** What it answers. */
export type WorkAnswer = { readonly number: number } & (
  | { readonly result: WorkResult }
  | { readonly failure: string }
);

/** Does what is asked for, at once. */
export function answerTo(request: WorkRequest): WorkAnswer {
  const { number } = request;
  try {
    return { number, result: resultOf(request) };
  } catch (error) {
    return { number, failure: error instanceof Error ? error.message : String(error) };
  }
}

function resultOf({ kind, job }: WorkRequest): WorkResult {
  switch (kind) {
    case 'name':
      return contentWork.name(job);
    case 'compress':
      return contentWork.compress(job);
    case 'prove':
      return contentWork.prove(job);
  }
}
