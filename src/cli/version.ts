import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The version in package.json, which lies beside src/ and dist/. */
export function programVersion(): string {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8');
  const { version }: { version: string } = JSON.parse(text);
  return version;
}
