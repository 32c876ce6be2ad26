import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const SCRIPT = join(import.meta.dirname, '../../scripts/test.mjs');

function start(...args: string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  return { status, said: `${stdout}${stderr}` };
}

describe('npm test', () => {
  test('on an old Node says which one it needs, before it loads anything', () => {
    const versions = JSON.stringify({ node: '20.1.0' });
    const pretend = `Object.defineProperty(process, 'versions', { value: ${versions} })`;
    const { status, said } = start('--import', `data:text/javascript,${pretend}`, SCRIPT);
    expect(status).toBe(1);
    expect(said).toContain('The tests need Node 24, this is 20.1.0.');
  });

  test('refuses a suite that does not exist, and names those that do', () => {
    const { status, said } = start(SCRIPT, '--only', 'unit,uint');
    expect(status).toBe(2);
    expect(said).toContain('no suite "uint"; there are check, unit,');
  });
});
