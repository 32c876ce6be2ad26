import { describe, expect, test } from 'vitest';
import { type CheckStep, checkDevice, type Flaw } from '../../src/app/check-device.ts';
import { type FaultCode, SheepError } from '../../src/base/errors.ts';
import { KiB, MiB, TiB } from '../../src/base/units.ts';
import type { BlockDevice, Extent } from '../../src/contracts/block-device.ts';

interface Broken {
  readonly at: number;
  readonly length: number;
  readonly code?: FaultCode;
  readonly oid?: string;
}

/** A disk in objects of 1 MiB, of which `objects` are there, and `broken` fails to be read. */
function disk(sizeBytes: number, objects: readonly number[], broken: readonly Broken[] = []) {
  const calls = { reads: 0, readBytes: 0, extents: 0 };
  const failing = (at: number, length: number) =>
    broken.find((range) => range.at < at + length && at < range.at + range.length);
  const fail = ({ code = 'ERR_CORRUPT', oid, at }: Broken) =>
    new SheepError(code, `object ${oid} is bad from ${at} on`, oid === undefined ? {} : { oid });
  const device: Pick<BlockDevice, 'info' | 'read' | 'extents'> = {
    info: { sizeBytes, readOnly: true, description: '' },
    read: (at, into) => {
      calls.reads += 1;
      calls.readBytes += into.length;
      const range = failing(at, into.length);
      if (range !== undefined) throw fail(range);
    },
    extents: (at, length): Extent[] => {
      calls.extents += 1;
      const range = failing(at, 1);
      if (range?.oid?.startsWith('1')) throw fail(range);
      const index = Math.floor(at / MiB);
      if (objects.includes(index)) return [{ length, hole: false, zero: false }];
      const next = Math.min(...objects.filter((one) => one > index)) * MiB;
      return [{ length: Math.min(at + length, next) - at, hole: true, zero: true }];
    },
  };
  return { device: device as BlockDevice, calls };
}

async function checked(device: BlockDevice) {
  const flaws: Flaw[] = [];
  let last: CheckStep | undefined;
  let paces = 0;
  const pace = async () => {
    paces += 1;
  };
  for await (const step of checkDevice(device, MiB, pace)) {
    flaws.push(...step.flaws);
    expect(step.readBytes).toBeGreaterThanOrEqual(last?.readBytes ?? 0);
    last = step;
  }
  return { flaws, last, paces };
}

const oid = (index: number, kind = '0') => `${kind}${index.toString(16).padStart(15, '0')}`;

describe('a check of a disk', () => {
  test('reads every object, and nothing else, up to an end within one', async () => {
    const { device, calls } = disk(5 * MiB + 8 * KiB, [1, 2, 5]);
    const { flaws, last, paces } = await checked(device);
    expect(flaws).toEqual([]);
    expect(last).toEqual({ objects: 3, readBytes: 2 * MiB + 8 * KiB, flaws: [] });
    expect(calls.readBytes).toBe(2 * MiB + 8 * KiB);
    expect(paces).toBeGreaterThanOrEqual(calls.reads);
  });

  test('of a petabyte without objects is over at once', async () => {
    const { device, calls } = disk(1024 * TiB, [7, 2 ** 29]);
    expect((await checked(device)).last?.readBytes).toBe(2 * MiB);
    expect(calls.extents).toBeLessThan(20);
    const empty = disk(4 * KiB, []);
    expect((await checked(empty.device)).last).toEqual({ objects: 0, readBytes: 0, flaws: [] });
  });

  test('skips the larger holes in objects, and reads the smaller ones along', async () => {
    const { device } = disk(4 * MiB, []);
    const reads: number[][] = [];
    const data = [0, 8 * KiB, 100 * KiB, 104 * KiB, MiB - 4 * KiB, MiB, 3 * MiB];
    const striped: BlockDevice = {
      ...device,
      read: (at, into) => void reads.push([at, at + into.length]),
      extents: (at, length, countMax) => {
        const out: Extent[] = [];
        for (let from = at; from < at + length && out.length < countMax; from += 4 * KiB) {
          const hole = !data.includes(from);
          const last = out.at(-1);
          if (last?.hole === hole) out[out.length - 1] = { ...last, length: last.length + 4 * KiB };
          else out.push({ length: 4 * KiB, hole, zero: hole });
        }
        return out;
      },
    };
    const { last } = await checked(striped);
    expect(reads).toEqual([
      [0, 12 * KiB],
      [100 * KiB, 108 * KiB],
      [MiB - 4 * KiB, MiB],
      [MiB, MiB + 4 * KiB],
      [3 * MiB, 3 * MiB + 4 * KiB],
    ]);
    expect(last).toEqual({ objects: 3, readBytes: 32 * KiB, flaws: [] });
  });

  test('names the blocks that fail, joined over the pieces that are read', async () => {
    const at = 256 * KiB - 4 * KiB;
    const { device } = disk(4 * MiB, [0, 3], [{ at, length: 8 * KiB, oid: oid(0) }]);
    expect((await checked(device)).flaws).toEqual([
      {
        ...{ kind: 'damaged', at, length: 8 * KiB, object: oid(0) },
        message: `object ${oid(0)} is bad from ${at} on`,
      },
    ]);
  });

  test('tells damage, a missing object and an unreadable one apart, up to the last block', async () => {
    const broken: Broken[] = [
      { at: 0, length: MiB, code: 'ERR_MISSING', oid: oid(0) },
      { at: MiB, length: MiB, code: 'ERR_MISSING', oid: oid(1) },
      { at: 2 * MiB, length: 4 * KiB, code: 'ERR_IO' },
      { at: 2 * MiB + 4 * KiB, length: 4 * KiB, oid: oid(2) },
      { at: 3 * MiB - 4 * KiB, length: 4 * KiB, code: 'ERR_VERSION' },
    ];
    const { device } = disk(3 * MiB, [0, 1, 2], broken);
    expect((await checked(device)).flaws).toMatchObject([
      { kind: 'missing', at: 0, length: MiB, object: oid(0) },
      { kind: 'missing', at: MiB, length: MiB, object: oid(1) },
      { kind: 'unreadable', at: 2 * MiB, length: 4 * KiB },
      { kind: 'damaged', at: 2 * MiB + 4 * KiB, length: 4 * KiB, object: oid(2) },
      { kind: 'unreadable', at: 3 * MiB - 4 * KiB, length: 4 * KiB },
    ]);
  });

  test('does not look at each block of what an inode that is lost would name', async () => {
    const lost: Broken = { at: MiB, length: 32 * MiB, code: 'ERR_MISSING', oid: oid(1, '1') };
    const { device, calls } = disk(34 * MiB, [0, 33], [lost]);
    expect((await checked(device)).flaws).toMatchObject([
      { kind: 'missing', at: MiB, length: 32 * MiB, object: oid(1, '1') },
    ]);
    expect(calls.reads).toBeLessThan(32 + 8 + 1);
  });

  test.for<FaultCode>(['ERR_SHUTDOWN', 'ERR_LIMIT'])('ends with %s: that is no flaw', (code) => {
    const { device } = disk(MiB, [0], [{ at: 0, length: MiB, code }]);
    return expect(checked(device)).rejects.toMatchObject({ code });
  });
});
