import type { WorkRequest } from './cpu-work.ts';
import type { SharedPlace } from './shared-memory.ts';

/** Where a process that works inherits the memory of its jobs. */
export const SHARED_FD = 3;

/** Memory that is shared does not go through the socket, only where it is. */
type Sent<Job> = {
  readonly [key in keyof Job]: key extends 'bytes' | 'stored' | 'into' ? SharedPlace : Job[key];
};
type SentAs<Request> = Request extends { readonly job: infer Job }
  ? Omit<Request, 'job'> & { readonly job: Sent<Job> }
  : never;
/** A `WorkRequest` on its way to another process. */
export type SentRequest = SentAs<WorkRequest>;

export function writePlaces(
  request: WorkRequest,
  placeOf: (bytes: Uint8Array) => SharedPlace,
): SentRequest {
  if (request.kind === 'prove') {
    const { stored, into, ...job } = request.job;
    return { ...request, job: { ...job, stored: placeOf(stored), into: placeOf(into) } };
  }
  if (request.kind === 'name') {
    return { ...request, job: { ...request.job, bytes: placeOf(request.job.bytes) } };
  }
  return { ...request, job: { ...request.job, bytes: placeOf(request.job.bytes) } };
}

export function readPlaces(
  request: SentRequest,
  pieceAt: (place: SharedPlace) => Uint8Array,
): WorkRequest {
  if (request.kind === 'prove') {
    const { stored, into, ...job } = request.job;
    return { ...request, job: { ...job, stored: pieceAt(stored), into: pieceAt(into) } };
  }
  if (request.kind === 'name') {
    return { ...request, job: { ...request.job, bytes: pieceAt(request.job.bytes) } };
  }
  return { ...request, job: { ...request.job, bytes: pieceAt(request.job.bytes) } };
}
