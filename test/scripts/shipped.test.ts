import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { notesOf } from '../../scripts/man/notes.ts';
import { manualPages } from '../../scripts/man/pages.ts';
import { Roff } from '../../scripts/man/roff.ts';
import { hasTool } from '../../scripts/tools.ts';

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const { version, man } = JSON.parse(readFileSync(file('package.json'), 'utf8'));
const pages = await manualPages(version);

describe.for(Object.keys(pages))('%s', (name) => {
  test('is what the options and their help say today; npm run shipped writes it', () => {
    expect(readFileSync(file(`packaging/man/${name}`), 'utf8')).toBe(pages[name]);
    expect(man).toContain(`packaging/man/${name}`);
  });

  test.skipIf(!hasTool('mandoc'))('is without fault to mandoc', () => {
    const path = file(`packaging/man/${name}`);
    const { status, stdout, stderr } = spawnSync('mandoc', ['-Tlint', '-Wwarning', path]);
    expect({ status, said: `${stdout}${stderr}` }).toEqual({ status: 0, said: '' });
  });
});

test.skipIf(!hasTool('mandoc'))('every option stands in the page as it is typed', () => {
  const path = file('packaging/man/sheep.8');
  const text = `${spawnSync('mandoc', ['-Tascii', '-Owidth=200', path]).stdout}`;
  const plain = text.replaceAll(/.[\b]/g, '');
  for (const option of ['-n, --nbd <address>', '--config-schema', '--no-hints']) {
    expect(plain).toMatch(new RegExp(`^ +${option}`, 'm'));
  }
});

test('text that would be a request of the format is none', () => {
  const page = new Roff('x', 1, '2026-01-01', 's', 'm').section('a').paragraph('.so a\\b -c "d"');
  expect(page.toString().split('\n').slice(-2, -1)).toEqual(['\\&.so a\\eb \\-c \\(dqd\\(dq']);
});

test('notes are read by their labels and indentation', () => {
  const help = '\nSizes: bytes, or\nmore.\nPlain words\nin two lines.\n\nExamples:\n  a  b\n  c\n';
  expect(notesOf(help)).toEqual([
    { kind: 'text', label: 'Sizes', text: 'bytes, or more. Plain words in two lines.' },
    { kind: 'literal', label: 'Examples', lines: ['a  b', 'c'] },
  ]);
});
