import { buildIfStale } from './prepare.mjs';

/** Global set-up of the suites that run dist/: a test of a stale build would prove nothing. */
export default function setup(): void {
  if (buildIfStale() === 'failed') throw new Error('dist/ could not be built from src/');
}
