import { describeError } from '../base/errors.ts';
import type { Address } from '../contracts/net.ts';

/** What a sheep knows of itself that could be wrong. */
export interface HealthFacts {
  readonly insecure: readonly Address[];
  /** Whole days for which the certificate is good, once these are few. */
  readonly expiresInDays?: number | undefined;
  readonly checksums: boolean;
  readonly space: {
    readonly totalBytes: number;
    readonly freeBytes: number;
    readonly reservedBytes: number;
  };
  /** Why the directory of VDIs cannot be read, if it cannot. */
  readonly directoryError?: unknown;
  /** Why what was loaded from a snapshot of the cluster cannot get its names, if it cannot. */
  readonly namingError?: unknown;
  /** Why nothing can be made stable any more, after a failed sync. */
  readonly storeError?: unknown;
}

export interface Problem {
  readonly code:
    | 'insecure-network'
    | 'certificate-expires'
    | 'checksums-off'
    | 'space-low'
    | 'space-full'
    | 'directory'
    | 'load-not-named'
    | 'store';
  /** A warning is served with; with an error something is not served. */
  readonly level: 'warning' | 'error';
  /** What it is and what to do, in a sentence. */
  readonly message: string;
}

export interface Health {
  readonly status: 'ok' | 'warning' | 'error';
  readonly problems: readonly Problem[];
}

const SPACE_WARNING = 0.85;

/** Decides what is worth telling; the worst of it is the status. */
export function healthOf(facts: HealthFacts): Health {
  const problems: Problem[] = [];
  const add = (code: Problem['code'], level: Problem['level'], message: string) =>
    problems.push({ code, level, message });
  if (facts.insecure.length > 0) {
    add(
      'insecure-network',
      'warning',
      `anybody in the network can use ${facts.insecure.join(', ')} (--insecure-network)`,
    );
  }
  if (facts.expiresInDays !== undefined) {
    const when = facts.expiresInDays < 0 ? 'has expired' : `expires in ${facts.expiresInDays} days`;
    add(
      'certificate-expires',
      facts.expiresInDays < 0 ? 'error' : 'warning',
      `the certificate of this sheep ${when}: put a new one in its place, then collie node reload`,
    );
  }
  if (!facts.checksums) {
    add(
      'checksums-off',
      'warning',
      'blocks written now carry no checksum, so damage to them is not found (--checksums=off)',
    );
  }
  const { totalBytes, freeBytes, reservedBytes } = facts.space;
  if (freeBytes <= reservedBytes) {
    add(
      'space-full',
      'error',
      `the disk is full: ${freeBytes} bytes free, ${reservedBytes} of them reserved; ` +
        'delete VDIs, trim inside the guests, or add space',
    );
  } else if (freeBytes < totalBytes * (1 - SPACE_WARNING)) {
    const used = Math.round((1 - freeBytes / totalBytes) * 100);
    add('space-low', 'warning', `${used} % of the disk is used; writes fail when it is full`);
  }
  if (facts.directoryError !== undefined) {
    add('directory', 'error', describeError(facts.directoryError));
  }
  if (facts.namingError !== undefined) {
    const cause = describeError(facts.namingError);
    add(
      'load-not-named',
      'error',
      'what was loaded from a snapshot of the cluster is whole, but cannot get its names, and its ' +
        `VDIs wait until it has: ${cause}; it is tried again and again, and by the next start`,
    );
  }
  if (facts.storeError !== undefined) add('store', 'error', describeError(facts.storeError));
  const levels = problems.map((problem) => problem.level);
  const status = levels.includes('error') ? 'error' : levels.includes('warning') ? 'warning' : 'ok';
  return { status, problems };
}
