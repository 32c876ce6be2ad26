import { GiB, KiB, MiB, PiB, TiB } from '../base/units.ts';

/** Where a command tells its result. */
export interface Terminal {
  /** A line for people. */
  line(text: string): void;
  /** What `--json` prints instead. */
  json(value: unknown): void;
}

/** A count or a size, or that there is none. */
const NUMBER = /^(?:-|\d+(?:\.\d+)?(?: [KMGTP]?i?B)?)$/;

/** Columns as wide as they need to be, two spaces apart; numbers stand at the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const lines = [head, ...rows];
  const widths = head.map((_, column) =>
    Math.max(...lines.map((line) => widthOf(line[column] ?? ''))),
  );
  const numeric = head.map(
    (_, column) => rows.length > 0 && rows.every((row) => NUMBER.test(row[column] ?? '')),
  );
  return lines.map((line) =>
    line
      .map((cell, column) => {
        const padding = ' '.repeat((widths[column] ?? 0) - widthOf(cell));
        return numeric[column] === true ? padding + cell : cell + padding;
      })
      .join('  ')
      .trimEnd(),
  );
}

/** `name: value`, the values below each other. */
export function fields(pairs: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...pairs.map(([name]) => name.length)) + 1;
  return pairs.map(([name, value]) => `${`${name}:`.padEnd(width)} ${value}`.trimEnd());
}

const UNITS = [
  [PiB, 'PiB'],
  [TiB, 'TiB'],
  [GiB, 'GiB'],
  [MiB, 'MiB'],
  [KiB, 'KiB'],
] as const;

/** `8 GiB`, `1.5 TiB`, `512 B`. */
export function formatBytes(bytes: number): string {
  const [unit, name] = UNITS.find(([size]) => bytes >= size) ?? [1, 'B'];
  return `${Number((bytes / unit).toFixed(1))} ${name}`;
}

/** `2026-11-20 12:30:01`, in UTC. */
export function formatTime(wallMs: number): string {
  const date = new Date(wallMs);
  // No calendar goes so far; whoever forged it shall not keep the rest of a list from being shown.
  if (Number.isNaN(date.getTime())) return `${wallMs} ms`;
  return date
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, '');
}

/** `3 d 4 h`, `5 h 6 min`, `7 min 8 s`, `9 s`. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.floor(durationMs / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  const shown = first < 0 ? parts.slice(3) : parts.slice(first, first + 2);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}

/** As much of a line as fits into so many columns. */
export function cutToWidth(text: string, columns: number): string {
  if (text.length * 2 <= columns) return text;
  let [cut, width] = ['', 0];
  for (const character of text) {
    width += widthOf(character);
    if (width > columns) break;
    cut += character;
  }
  return cut;
}

/** Columns on a terminal: East Asian characters and emoji take two, combining marks none. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    if (/\p{M}/u.test(character)) continue;
    width +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]|\p{Emoji_Presentation}/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return width;
}
