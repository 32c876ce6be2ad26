import { readFileSync } from 'node:fs';

/** The version in package.json, which lies beside src/ and dist/. */
export function programVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  const { version }: { version: string } = JSON.parse(text);
  return version;
}
