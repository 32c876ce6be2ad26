import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/**
 * The bytes of a format as they were first written, kept as text: one line for each 16 bytes that
 * are not all zero (offset, then hex digits), and at the end the length. A format that has changed
 * gets a new version and a new file; a golden file never changes.
 *
 * A file that is missing is made from the bytes at hand, and its test fails until somebody has
 * looked at it and committed it.
 * @param name  such as `object-file-v1`; what the test encodes says how the bytes are made
 * @returns the stored bytes
 */
export function golden(name: string, made: Uint8Array): Uint8Array<ArrayBuffer> {
  const path = new URL(`${name}.hex`, import.meta.url);
  if (!existsSync(path)) {
    if (process.env['CI'] !== 'true') writeFileSync(path, toText(made));
    throw new Error(`test/golden/${name}.hex was missing; look at it, then commit it`);
  }
  return fromText(readFileSync(path, 'utf8'));
}

const LINE_BYTES = 16;

function toText(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += LINE_BYTES) {
    const line = bytes.subarray(at, at + LINE_BYTES);
    if (line.every((byte) => byte === 0)) continue;
    const words = Buffer.from(line).toString('hex').match(/.{1,8}/g) ?? [];
    lines.push(`${offset(at)}: ${words.join(' ')}`);
  }
  return `${[...lines, `${offset(bytes.length)}.`].join('\n')}\n`;
}

function fromText(text: string): Uint8Array<ArrayBuffer> {
  const lines = text.trimEnd().split('\n');
  const end = /^([0-9a-f]{8})\.$/.exec(lines.pop() ?? '')?.[1];
  if (end === undefined) throw new Error('a golden file ends with its length');
  const bytes = new Uint8Array(Number.parseInt(end, 16));
  for (const line of lines) {
    const [at, words] = line.split(': ');
    bytes.set(Buffer.from((words ?? '').replaceAll(' ', ''), 'hex'), Number.parseInt(at ?? '', 16));
  }
  return bytes;
}

function offset(at: number): string {
  return at.toString(16).padStart(8, '0');
}
