import { describe, expect, test } from 'vitest';
import { healthOf } from '../../src/app/health.ts';
import { SheepError } from '../../src/base/errors.ts';

const space = { totalBytes: 1000, freeBytes: 500, reservedBytes: 20 };
const well = { insecure: [], checksums: true, space };

describe('health', () => {
  test('is ok when nothing is wrong', () => {
    expect(healthOf(well)).toEqual({ status: 'ok', problems: [] });
  });

  test('names the addresses that anybody in the network can use', () => {
    const health = healthOf({ ...well, insecure: ['0.0.0.0:10809'] });
    expect(health).toMatchObject({
      status: 'warning',
      problems: [{ code: 'insecure-network', message: expect.stringContaining('0.0.0.0:10809') }],
    });
  });

  test('a certificate that ends soon is a warning, one that has ended an error', () => {
    expect(healthOf({ ...well, expiresInDays: 3 })).toMatchObject({
      status: 'warning',
      problems: [
        { code: 'certificate-expires', message: expect.stringMatching(/in 3 days.*reload/) },
      ],
    });
    expect(healthOf({ ...well, expiresInDays: -1 })).toMatchObject({
      status: 'error',
      problems: [{ message: expect.stringMatching(/has expired/) }],
    });
  });

  test('warns while checksums are off', () => {
    expect(healthOf({ ...well, checksums: false })).toMatchObject({
      status: 'warning',
      problems: [{ code: 'checksums-off' }],
    });
  });

  test.for<[number, string, string[]]>([
    [151, 'ok', []],
    [149, 'warning', ['space-low']],
    [21, 'warning', ['space-low']],
    [20, 'error', ['space-full']],
    [0, 'error', ['space-full']],
  ])('with %i of 1000 bytes free is %s', ([freeBytes, status, codes]) => {
    const health = healthOf({ ...well, space: { ...space, freeBytes } });
    expect(health.status).toBe(status);
    expect(health.problems.map((problem) => problem.code)).toEqual(codes);
  });

  test('is an error when the directory cannot be read, whatever else is wrong', () => {
    const directoryError = new SheepError('ERR_IO', 'the log is broken');
    const health = healthOf({ ...well, checksums: false, directoryError });
    expect(health.status).toBe('error');
    expect(health.problems.at(-1)).toMatchObject({
      code: 'directory',
      message: 'the log is broken',
    });
  });

  test('is an error while what was loaded cannot get its names', () => {
    const namingError = new SheepError('ERR_NO_SPACE', 'the disk is full');
    expect(healthOf({ ...well, namingError })).toMatchObject({
      status: 'error',
      problems: [{ code: 'load-not-named', message: expect.stringContaining('the disk is full') }],
    });
  });

  test('is an error after a failed sync, in the words of the store', () => {
    const storeError = new SheepError('ERR_LOST', 'a sync failed');
    expect(healthOf({ ...well, storeError })).toMatchObject({
      status: 'error',
      problems: [{ code: 'store', message: 'a sync failed' }],
    });
  });
});
