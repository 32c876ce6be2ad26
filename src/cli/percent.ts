import { SheepError } from '../base/errors.ts';

/** The value of `--sample`; all of it without one. @throws SheepError `ERR_BAD_INPUT` */
export function percentOf(sample: string | undefined): number {
  if (sample === undefined) return 100;
  const percent = Number(sample);
  if (/^\d+(?:\.\d+)?$/.test(sample) && percent > 0 && percent <= 100) return percent;
  const message = `--sample takes how many of a hundred, above 0 and up to 100, and not "${sample}"`;
  throw new SheepError('ERR_BAD_INPUT', message, { sample });
}
