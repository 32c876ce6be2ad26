import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { scratch } from '../cluster/scratch.ts';
import { http } from './http.ts';
import { parseMetrics } from './prometheus.ts';
import { startTestSheep } from './test-sheep.ts';

/** docs/OPERATIONS.md is held against the program. */

const ROOT = resolve(import.meta.dirname, '../..');
const page = readFileSync(join(ROOT, 'docs/OPERATIONS.md'), 'utf8');
/** The cells of each row of a table that begins with a name in code. */
const rows = [...page.matchAll(/^\| `([^`]+)` \|(.*)\|$/gm)].map(([, name, cells]) => ({
  name: name!,
  cells: cells!.split('|').map((cell) => cell.trim()),
}));

/** Every event that the sources name, with its level where that stands beside it. */
function eventsInSource(): Map<string, Set<string>> {
  const events = new Map<string, Set<string>>();
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    const text = readFileSync(join(ROOT, 'src', file), 'utf8');
    const calls =
      /\b(?:(?:event|once|tell)\((?:[^'();]|'(debug|info|warn|error)')*?|event: )'([a-z]+\.[a-z-]+)'/g;
    for (const [, level, name] of text.matchAll(calls)) {
      const levels = events.get(name!) ?? new Set();
      if (level !== undefined) levels.add(level);
      events.set(name!, levels);
    }
  }
  return events;
}

describe('docs/OPERATIONS.md', () => {
  const LEVELS = /^(?:debug|info|warn|error)(?:, (?:debug|info|warn|error))*$/;
  const told = rows.filter(({ cells }) => LEVELS.test(cells[0] ?? ''));

  test('has each event of the program once, and no other', () => {
    const names = told.map(({ name }) => name);
    expect(names.toSorted()).toEqual([...eventsInSource().keys()].toSorted());
    expect(new Set(names).size).toBe(names.length);
  });

  test('has the level of each event', () => {
    const events = eventsInSource();
    for (const { name, cells } of told) {
      const levels = cells[0]!.split(', ');
      for (const level of events.get(name) ?? []) expect(levels, name).toContain(level);
    }
  });

  test('has each metric once with its labels, and no other', async () => {
    await using directory = await scratch();
    await using sheep = await startTestSheep(directory.path);
    const metrics = parseMetrics((await http(sheep.socket, 'GET', '/metrics')).text);
    const names = rows
      .map(({ name }) => name)
      .filter((name) => /^(?:sheepdog|process)_/.test(name));
    expect(names.toSorted()).toEqual(metrics.map(({ name }) => name).toSorted());
    for (const { name, samples, type } of metrics) {
      const { cells } = rows.find((row) => row.name === name)!;
      if (type === 'histogram') expect(cells[1]).toMatch(/^histogram/);
      const labels = Object.keys(samples[0]?.labels ?? {}).filter((label) => label !== 'le');
      if (samples.length > 0) expect(cells[0], name).toBe(labels.join(', '));
    }
  });
});
