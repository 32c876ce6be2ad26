import { SheepError } from '../base/errors.ts';

const UNITS_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `0s`, `90s`, `5m`, `1h`, `2d` in milliseconds. @throws SheepError `ERR_BAD_INPUT` */
export function parseDuration(text: string, option: string): number {
  const [, digits, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (digits !== undefined) return Number(digits) * (UNITS_MS[unit] as number);
  const message = `${option} takes a number with s, m, h or d behind it, as in 90m, and not "${text}"`;
  throw new SheepError('ERR_BAD_INPUT', message, { [option]: text });
}
