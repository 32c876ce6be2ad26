import { readdirSync, readFileSync } from 'node:fs';
import { join, matchesGlob } from 'node:path';
import { expect, test } from 'vitest';
import { CHECK_BUDGET_MINUTES, SUITES } from '../../scripts/suites.ts';
import config from '../../vitest.config.ts';

const ROOT = join(import.meta.dirname, '../..');

interface Project {
  readonly test: { readonly name: string; readonly include: readonly string[] };
}
const projects = (config.test?.projects ?? []) as unknown as readonly Project[];

test('npm test runs every project, each once', () => {
  expect(SUITES.map(({ name }) => name).sort()).toEqual(
    projects.map((one) => one.test.name).sort(),
  );
});

test('every test file belongs to exactly one project', () => {
  const files = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(test|spec)\.[cm]?[jt]sx?$/.test(name))
    .map((name) => `test/${name}`);
  expect(files.length).toBeGreaterThan(0);
  const owners = (file: string) =>
    projects.filter((one) => one.test.include.some((glob) => matchesGlob(file, glob)));
  expect(files.filter((file) => owners(file).length !== 1)).toEqual([]);
});

test('CONTRIBUTING.md tells each budget', () => {
  const text = readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `(\w+)`\s*\|.*\| (\d+) min\s*\|$/gm)];
  expect(rows.map(([, name, minutes]) => [name, Number(minutes)])).toEqual([
    ['check', CHECK_BUDGET_MINUTES],
    ...SUITES.map(({ name, budgetMinutes }) => [name, budgetMinutes]),
  ]);
});
