import type { CodecName, HashName } from '../base/content.ts';
import { SheepError } from '../base/errors.ts';

/** How a store of snapshots names and keeps content, as far as somebody says it. */
export interface WantedShape {
  readonly hash?: HashName;
  readonly codec?: CodecName;
}

const WORDS: Readonly<Record<string, readonly string[]>> = {
  hash: ['sha256', 'sha1'] satisfies HashName[],
  codec: ['zstd', 'zlib', 'none'] satisfies CodecName[],
};

/**
 * `hash=sha1,codec=zlib`, or one of them; empty: neither is said.
 * @throws SheepError `ERR_BAD_INPUT`
 */
export function parseShape(text: string): WantedShape {
  const shape: Record<string, string> = {};
  for (const pair of text === '' ? [] : text.split(',')) {
    const [key = '', value = '', ...more] = pair.split('=');
    if (!Object.hasOwn(WORDS, key) || shape[key] !== undefined || more.length > 0)
      throw wrong(text);
    if (WORDS[key]?.includes(value) !== true) throw wrong(text);
    shape[key] = value;
  }
  return shape as WantedShape;
}

function wrong(text: string): SheepError {
  const known = Object.entries(WORDS).map(([key, values]) => `${key}=${values.join('|')}`);
  const message = `give ${known.join(' and ')}, joined by a comma, not ${JSON.stringify(text)}`;
  return new SheepError('ERR_BAD_INPUT', message, { text });
}
