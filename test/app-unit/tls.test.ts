import { expect, test } from 'vitest';
import { expiresSoon } from '../../src/app/tls.ts';
import type { ServerTls } from '../../src/contracts/tls.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const NOW_MS = 1_800_000_000_000;

/** What is left of a certificate with so many days to go. */
function left(days: number): number | undefined {
  const certificate = { subject: 'CN=x', expiresAtMs: NOW_MS + days * DAY_MS, revocations: false };
  const tls: Pick<ServerTls, 'state'> = { state: { certificate } };
  return expiresSoon(tls, NOW_MS);
}

test('a certificate is worth a word two weeks before it ends, and afterwards', () => {
  expect([365, 14, 13.5, 1, 0.5, 0, -0.5, -10].map(left)).toEqual([
    ...[undefined, undefined, 13, 1, 0, 0, -1, -10],
  ]);
});

test('without certificates there is nothing to say', () => {
  expect(expiresSoon(undefined, NOW_MS)).toBeUndefined();
  expect(expiresSoon({ state: { pskUsers: 2 } }, NOW_MS)).toBeUndefined();
});
