/**
 * `npm run shipped`: writes what packaging/ has that follows from the sources: the schema of the
 * configuration file and the manual pages. Tests hold them against the sources.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { configJsonSchema } from '../src/config/schema.ts';
import { manualPages } from './man/pages.ts';

const ROOT = resolve(import.meta.dirname, '..');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

const files = {
  'sheep.schema.json': `${JSON.stringify(configJsonSchema(), null, 2)}\n`,
  ...Object.fromEntries(
    Object.entries(await manualPages(version)).map(([name, text]) => [`man/${name}`, text]),
  ),
};
for (const [name, text] of Object.entries(files)) {
  writeFileSync(join(ROOT, 'packaging', name), text);
}
