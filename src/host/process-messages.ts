import type { WorkRequest } from './cpu-work.ts';
import type { SharedPlace } from './shared-memory.ts';

/** Where a process that works inherits the memory of its jobs. */
export const SHARED_FD = 3;

/** Of jobs: it is shared and does not go through the socket, only where it is. */
const MEMORY: readonly string[] = ['bytes', 'stored', 'into'] satisfies Memory[];
type Memory = 'bytes' | 'stored' | 'into';
type Sent<Job> = { readonly [key in keyof Job]: key extends Memory ? SharedPlace : Job[key] };
type SentAs<Request> = Request extends { readonly job: infer Job }
  ? Omit<Request, 'job'> & { readonly job: Sent<Job> }
  : never;
/** A `WorkRequest` on its way to another process. */
export type SentRequest = SentAs<WorkRequest>;

export function writePlaces(
  request: WorkRequest,
  placeOf: (bytes: Uint8Array) => SharedPlace,
): SentRequest {
  return withMemory(request, placeOf) as SentRequest;
}

export function readPlaces(
  request: SentRequest,
  pieceAt: (place: SharedPlace) => Uint8Array,
): WorkRequest {
  return withMemory(request, pieceAt) as WorkRequest;
}

/** The same request, with the memory of its job told in another way. */
function withMemory<From>(request: { readonly job: object }, as: (memory: From) => unknown) {
  const told = Object.entries(request.job).map(([key, value]) => {
    return MEMORY.includes(key) ? [key, as(value)] : [key, value];
  });
  return { ...request, job: Object.fromEntries(told) };
}
