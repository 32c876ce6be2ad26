import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { caseFromJson } from './cases.ts';
import { Found, replay, runFuzz } from './run.ts';

const noCertificates = !hasTool('openssl');
const CORPUS = resolve(import.meta.dirname, '../fuzz-corpus');
const seed = Number(process.env['SEEDS']?.split(',')[0] ?? Math.floor(Math.random() * 2 ** 27));

test.skipIf(noCertificates)(
  'what was found once does no harm any more',
  { timeout: 120_000 },
  async () => {
    const kept = readdirSync(CORPUS).flatMap((name) =>
      JSON.parse(readFileSync(join(CORPUS, name), 'utf8')).map(caseFromJson),
    );
    expect(kept.length).toBeGreaterThan(0);
    for (const { why } of kept) expect(why).toBeTruthy();
    await replay(kept);
  },
);

test.skipIf(noCertificates)(
  `ten seconds of anything, from seed ${seed}: a sheep lives, and others do not feel it`,
  {
    timeout: 180_000,
  },
  async () => {
    const { cases, steadyRounds } = await runFuzz({ seed, seconds: 10 }).catch((error: unknown) => {
      throw error instanceof Found ? new Error(`${error.message}\n${error.text}`) : error;
    });
    expect(cases).toBeGreaterThan(100);
    expect(steadyRounds).toBeGreaterThan(10);
  },
);
