import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findTool } from '../../scripts/tools.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sheepdog-tools-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('a tool is a file that may be run, in the first directory that has one', () => {
  const path = join(directory, 'fio');
  expect(findTool('fio', [directory])).toBeUndefined();
  writeFileSync(path, '');
  chmodSync(path, 0o644);
  expect(findTool('fio', [directory])).toBeUndefined();
  chmodSync(path, 0o755);
  expect(findTool('fio', ['', '/nowhere', directory])).toBe(path);
});
