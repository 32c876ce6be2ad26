import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { COLLIE, Daemon, ROOT, run } from './daemon.ts';

/** The commands of docs/SECURITY.md, in their order, as somebody would type them who follows it. */

interface Step {
  readonly kind: 'done' | 'refused' | 'stop';
  readonly lines: readonly string[];
}

const page = readFileSync(join(ROOT, 'docs/SECURITY.md'), 'utf8');
const steps: Step[] = [...page.matchAll(/(?:<!-- (refused|stop) -->\n)?```sh\n(.*?)```/gs)].map(
  ([_all, kind, lines]) => ({
    kind: (kind ?? 'done') as Step['kind'],
    lines: (lines ?? '').trimEnd().split('\n'),
  }),
);

const folder = mkdtempSync(join(tmpdir(), 'sheepdog-page-'));
let daemon: Daemon | undefined;
afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** The page's machine is this one, and its ports are free ones. */
function here(line: string): string {
  const port = (pattern: RegExp) => pattern.exec(daemon?.out ?? '')?.[1] ?? '0';
  return line
    .replaceAll('/srv/sheep', join(folder, 'store'))
    .replaceAll('store.lan', 'localhost')
    .replaceAll('10.0.0.5', '127.0.0.1')
    .replace(/10809/g, port(/nbd 0\.0\.0\.0:(\d+)/))
    .replace(/7001/g, port(/https:\/\/0\.0\.0\.0:(\d+)/));
}

async function follow({ kind, lines }: Step): Promise<void> {
  if (kind === 'stop') expect(await daemon?.stop('SIGTERM')).toBe(0);
  // A daemon stays in front of whoever starts it; the lines behind it are for another shell.
  const starts = lines.findIndex((line) => line.startsWith('sheep '));
  const shells = starts < 0 ? [lines] : [lines.slice(0, starts), lines.slice(starts + 1)];
  for (const [place, shell] of shells.entries()) {
    if (place === 1) {
      daemon = undefined;
      const args = here(lines[starts]!).split(' ').slice(1);
      daemon = await Daemon.start(args, { cwd: folder });
    }
    if (shell.length === 0) continue;
    const path = `${dirname(COLLIE)}:${process.env['PATH']}`;
    const script = ['set -euo pipefail', ...shell.map(here)].join('\n');
    const ended = await run('bash', ['-c', script], { cwd: folder, environment: { PATH: path } });
    if (kind === 'refused') expect(ended.status, ended.out).not.toBe(0);
    else expect(ended, ended.err).toMatchObject({ status: 0 });
  }
}

const tools = ['openssl', 'qemu-img', 'nbdinfo'] as const;
describe.skipIf(!tools.every(hasTool))('docs/SECURITY.md', () => {
  test('works from the first line to the last', { timeout: 60_000 }, async () => {
    expect(steps.length).toBeGreaterThan(8);
    for (const step of steps) await follow(step);
    expect(await daemon?.stop('SIGTERM')).toBe(0);
  });
});
