import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES, roundDown, roundUp } from '../../src/base/units.ts';
import type { BlockDevice, Extent } from '../../src/contracts/block-device.ts';
import type { Completion } from '../../src/contracts/call.ts';

export interface DeviceWorld extends AsyncDisposable {
  /** Never written; at least 64 blocks, and a whole number of them. */
  readonly device: BlockDevice;
  /** The same disk, opened anew after the device was disposed. */
  reopen(): Promise<BlockDevice>;
  /** The same disk as a device that refuses changes; absent where there are none such. */
  openReadOnly?(): Promise<BlockDevice>;
}

const PLAIN = { durable: false };
const DURABLE = { durable: true };
const ZERO = { durable: false, keepAllocated: false, fastOnly: false };
const B = BLOCK_BYTES;

/**
 * What any BlockDevice must do: every sentence of contracts/block-device.ts.
 * @param readOnly  whether there are devices of this kind that refuse changes
 */
export function blockDeviceContract(
  name: string,
  open: () => Promise<DeviceWorld>,
  { readOnly = true } = {},
): void {
  if (readOnly) readOnlyContract(name, open);
  describe(`${name} is a BlockDevice`, () => {
    test('never-written bytes read as zero', async () => {
      await using world = await open();
      expect(isZero(await read(world.device, 0, 8 * B))).toBe(true);
      const { sizeBytes } = world.device.info;
      expect(isZero(await read(world.device, sizeBytes - 3, 3))).toBe(true);
    });

    test('a settled write is what the next read shows, and its neighbours stay', async () => {
      await using world = await open();
      await world.device.write(3 * B, filled(2 * B, 7), DURABLE);
      const shown = await read(world.device, 2 * B, 4 * B);
      expect(isZero(shown.subarray(0, B))).toBe(true);
      expect(shown.subarray(B, 3 * B)).toEqual(filled(2 * B, 7));
      expect(isZero(shown.subarray(3 * B))).toBe(true);
    });

    test('any offset and length from one byte on is served', async () => {
      await using world = await open();
      const { device } = world;
      const model = new Uint8Array(16 * B);
      const ranges: [number, number][] = [
        [0, 1],
        [1, 3],
        [B - 1, 2],
        [B + 5, 2 * B],
        [3 * B - 7, B + 14],
        [5 * B, B - 1],
        [7 * B + 1, B - 1],
        [16 * B - 1, 1],
      ];
      for (const [index, [at, length]] of ranges.entries()) {
        const bytes = filled(length, index + 1);
        model.set(bytes, at);
        await device.write(at, bytes, PLAIN);
        expect(await read(device, 0, model.length)).toEqual(model);
        expect(await read(device, at, length)).toEqual(bytes);
      }
    });

    test('the first and the last byte of the disk can be written', async () => {
      await using world = await open();
      const { sizeBytes } = world.device.info;
      await world.device.write(0, Uint8Array.of(1), PLAIN);
      await world.device.write(sizeBytes - 1, Uint8Array.of(2), PLAIN);
      expect(await read(world.device, 0, 2)).toEqual(Uint8Array.of(1, 0));
      expect(await read(world.device, sizeBytes - 2, 2)).toEqual(Uint8Array.of(0, 2));
    });

    test('what was written, trimmed and zeroed is still so after closing and opening', async () => {
      await using world = await open();
      await world.device.write(0, filled(8 * B, 5), PLAIN);
      await world.device.writeZeroes(B, B, ZERO);
      await world.device.trim(3 * B, B, PLAIN);
      await world.device.flush();
      await world.device[Symbol.asyncDispose]();
      await using again = await world.reopen();
      const expected = filled(8 * B, 5)
        .fill(0, B, 2 * B)
        .fill(0, 3 * B, 4 * B);
      expect(await read(again, 0, 8 * B)).toEqual(expected);
    });

    test('writes in flight to different blocks all land', async () => {
      await using world = await open();
      const writes = Array.from({ length: 32 }, (_, index) =>
        world.device.write(index * B, filled(B, index + 1), PLAIN),
      );
      await Promise.all(writes);
      const shown = await read(world.device, 0, 32 * B);
      for (let index = 0; index < 32; index += 1) {
        expect(shown.subarray(index * B, (index + 1) * B)).toEqual(filled(B, index + 1));
      }
    });

    test('of overlapping writes in flight each block shows one of them', async () => {
      await using world = await open();
      const writes = Array.from({ length: 8 }, (_, index) =>
        world.device.write(index * B, filled(8 * B, index + 1), PLAIN),
      );
      await Promise.all(writes);
      for (let block = 0; block < 15; block += 1) {
        const shown = await read(world.device, block * B, B);
        const value = shown[0] ?? 0;
        expect(value).toBeGreaterThan(block < 8 ? 0 : block - 7);
        expect(value).toBeLessThanOrEqual(block + 1);
        expect(shown).toEqual(filled(B, value));
      }
    });

    test('parts of one block, written at once, do not undo each other', async () => {
      await using world = await open();
      const writes = Array.from({ length: 16 }, (_, index) =>
        world.device.write(5 * B + index * 256, filled(256, index + 1), PLAIN),
      );
      await Promise.all(writes);
      const expected = new Uint8Array(B).map((_, at) => Math.floor(at / 256) + 1);
      expect(await read(world.device, 5 * B, B)).toEqual(expected);
    });

    test('a buffer is the caller’s again once the operation is settled', async () => {
      await using world = await open();
      const bytes = filled(2 * B, 9);
      await world.device.write(0, bytes, PLAIN);
      bytes.fill(1);
      const into = await read(world.device, 0, 2 * B);
      expect(into).toEqual(filled(2 * B, 9));
      into.fill(2);
      expect(await read(world.device, 0, 2 * B)).toEqual(filled(2 * B, 9));
    });

    test('a buffer may be a part of a larger one, and only that part is touched', async () => {
      await using world = await open();
      const large = filled(4 * B, 3);
      await world.device.write(B, large.subarray(B, 2 * B), PLAIN);
      await world.device.read(0, large.subarray(B, 3 * B));
      expect(large.subarray(0, B)).toEqual(filled(B, 3));
      expect(isZero(large.subarray(B, 2 * B))).toBe(true);
      expect(large.subarray(2 * B)).toEqual(filled(2 * B, 3));
    });

    test('zeroed bytes read as zero, to the byte, and the bytes around them stay', async () => {
      await using world = await open();
      await world.device.write(0, filled(16 * B, 4), PLAIN);
      await world.device.writeZeroes(B + 100, 3 * B, ZERO);
      await world.device.writeZeroes(8 * B + 1, 2, ZERO);
      const expected = filled(16 * B, 4).fill(0, B + 100, 4 * B + 100);
      expected.fill(0, 8 * B + 1, 8 * B + 3);
      expect(await read(world.device, 0, 16 * B)).toEqual(expected);
    });

    test('zeroing that keeps the space reads as zero and is no hole', async () => {
      await using world = await open();
      await world.device.write(0, filled(8 * B, 4), PLAIN);
      await world.device.writeZeroes(0, 4 * B, { ...ZERO, keepAllocated: true });
      expect(isZero(await read(world.device, 0, 4 * B))).toBe(true);
      for (const extent of await extents(world.device, 0, 4 * B)) expect(extent.hole).toBe(false);
    });

    test('a fast zero is refused and changes nothing, or it is done', async () => {
      await using world = await open();
      const { device } = world;
      await device.write(0, filled(8 * B, 6), PLAIN);
      for (const [at, length] of [
        [10, 20],
        [B, 2 * B],
        [4 * B + 1, 2 * B],
      ] as const) {
        const before = await read(device, 0, 8 * B);
        const refused = await failure(() =>
          device.writeZeroes(at, length, { ...ZERO, fastOnly: true }),
        );
        if (refused === undefined) before.fill(0, at, at + length);
        else expect(refused).toMatchObject({ code: 'ERR_NOT_FAST' });
        expect(await read(device, 0, 8 * B)).toEqual(before);
      }
    });

    test('whole trimmed blocks read as zero, parts of blocks stay', async () => {
      await using world = await open();
      await world.device.write(0, filled(16 * B, 8), PLAIN);
      await world.device.trim(B + 1, 4 * B, PLAIN);
      await world.device.trim(10 * B + 5, 100, DURABLE);
      const expected = filled(16 * B, 8).fill(0, 2 * B, 5 * B);
      expect(await read(world.device, 0, 16 * B)).toEqual(expected);
    });

    test('never-written bytes can be trimmed and zeroed, also all of them and twice', async () => {
      await using world = await open();
      const { device } = world;
      const { sizeBytes } = device.info;
      for (let time = 0; time < 2; time += 1) {
        await device.trim(0, sizeBytes, PLAIN);
        await device.writeZeroes(0, sizeBytes, ZERO);
      }
      expect(isZero(await read(device, 0, 8 * B))).toBe(true);
      await device.write(4 * B, filled(B, 1), PLAIN);
      await device.trim(0, sizeBytes, DURABLE);
      expect(isZero(await read(device, 0, 8 * B))).toBe(true);
    });

    test('trimmed and zeroed blocks can be written again', async () => {
      await using world = await open();
      await world.device.write(0, filled(4 * B, 1), PLAIN);
      await world.device.trim(0, 2 * B, PLAIN);
      await world.device.writeZeroes(2 * B, 2 * B, ZERO);
      await world.device.write(B, filled(2 * B, 2), PLAIN);
      const expected = new Uint8Array(4 * B).fill(2, B, 3 * B);
      expect(await read(world.device, 0, 4 * B)).toEqual(expected);
    });

    test('extents cover what was asked, consecutively, and neighbours differ', async () => {
      await using world = await open();
      await world.device.write(2 * B, filled(2 * B, 1), PLAIN);
      await world.device.write(8 * B, filled(B, 1), PLAIN);
      for (const [at, length] of [
        [0, 64 * B],
        [1, 5 * B],
        [2 * B, 1],
        [0, B],
      ] as const) {
        const found = await extents(world.device, at, length);
        let left = length;
        for (const [index, extent] of found.entries()) {
          expect(extent.length).toBeGreaterThan(0);
          left -= extent.length;
          const next = found[index + 1];
          if (next !== undefined)
            expect([next.hole, next.zero]).not.toEqual([extent.hole, extent.zero]);
        }
        expect(left).toBe(0);
      }
    });

    test('an extent that is said to be zero reads as zero', async () => {
      await using world = await open();
      const { device } = world;
      await device.write(B, filled(3 * B, 1), PLAIN);
      await device.writeZeroes(2 * B, B, ZERO);
      await device.trim(3 * B, B, PLAIN);
      let at = 0;
      for (const extent of await extents(device, 0, 64 * B)) {
        if (extent.zero) expect(isZero(await read(device, at, extent.length))).toBe(true);
        at += extent.length;
      }
    });

    test('never-written space is a hole, written space is none', async () => {
      await using world = await open();
      expect(await extents(world.device, 32 * B, 8 * B)).toEqual([
        { length: 8 * B, hole: true, zero: true },
      ]);
      await world.device.write(0, filled(4 * B, 1), PLAIN);
      const [first] = await extents(world.device, 0, 4 * B);
      expect(first).toMatchObject({ hole: false, zero: false });
    });

    test('no more extents are told than asked for, and at least one', async () => {
      await using world = await open();
      for (let block = 0; block < 16; block += 2) {
        await world.device.write(block * B, filled(B, 1), PLAIN);
      }
      for (const countMax of [1, 2, 5]) {
        const found = await world.device.extents(0, 64 * B, countMax);
        expect(found.length).toBeLessThanOrEqual(countMax);
        expect(found.length).toBeGreaterThan(0);
      }
    });

    test('each context that it names describes what was asked, and no other one', async () => {
      await using world = await open();
      const { device } = world;
      for (let block = 0; block < 16; block += 3) {
        await device.write(block * B, filled(B, 1), PLAIN);
      }
      for (const context of device.info.contexts ?? []) {
        for (const [at, length] of [
          [0, 64 * B],
          [1, 5 * B],
          [3 * B, 1],
        ] as const) {
          const whole = (await device.describe?.(context, at, length, 1_000)) ?? [];
          expect(whole.reduce((sum, one) => sum + one.length, 0)).toBe(length);
          for (const [index, { flags }] of whole.entries()) {
            expect(whole[index + 1]?.flags).not.toBe(flags);
          }
          const first = await device.describe?.(context, at, length, 1);
          expect(first).toEqual(whole.slice(0, 1));
        }
      }
      const unknown = device.describe?.('x:unknown', 0, B, 1) ?? Promise.reject(new Error('none'));
      await expect(unknown).rejects.toThrow();
    });

    test('what is known to be zero without waiting reads as zero', async () => {
      await using world = await open();
      const { device } = world;
      await device.write(B, filled(B, 1), PLAIN);
      for (const [at, length] of [
        [0, B],
        [0, 2 * B],
        [B, 1],
        [32 * B, 8 * B],
      ] as const) {
        if (device.zeroNow?.(at, length)) expect(isZero(await read(device, at, length))).toBe(true);
      }
      expect(device.zeroNow?.(B, B) ?? false).toBe(false);
    });

    test('a prefetch changes nothing', async () => {
      await using world = await open();
      await world.device.write(0, filled(B, 1), PLAIN);
      await world.device.prefetch(0, world.device.info.sizeBytes);
      expect(await read(world.device, 0, B)).toEqual(filled(B, 1));
    });

    test('flushing all, a range, and nothing written settles', async () => {
      await using world = await open();
      await world.device.flush();
      await world.device.write(0, filled(B, 1), PLAIN);
      await world.device.flush({ range: { at: 0, length: B } });
      await Promise.all([world.device.flush(), world.device.flush(), world.device.flush()]);
    });

    test('any order of operations leaves what a plain array would hold', async () => {
      await using world = await open();
      const size = 64 * B;
      const model = new Uint8Array(size);
      await fc.assert(
        fc.asyncProperty(fc.array(operations(size), { maxLength: 12 }), async (steps) => {
          for (const step of steps) {
            apply(model, step);
            await run(world.device, step);
          }
          expect(Buffer.compare(await read(world.device, 0, size), model)).toBe(0);
        }),
        { numRuns: 40 },
      );
    });
  });
}

function readOnlyContract(name: string, open: () => Promise<DeviceWorld>): void {
  test(`${name}, read-only, refuses every change and still shows the disk`, async () => {
    await using world = await open();
    await world.device.write(0, filled(B, 3), DURABLE);
    await world.device[Symbol.asyncDispose]();
    await using device = await world.openReadOnly?.();
    if (device === undefined) throw new Error('the world opens no read-only device');
    expect(device.info.readOnly).toBe(true);
    const refused = { code: 'ERR_READ_ONLY' };
    expect(await failure(() => device.write(0, filled(B, 4), PLAIN))).toMatchObject(refused);
    expect(await failure(() => device.writeZeroes(0, B, ZERO))).toMatchObject(refused);
    expect(await failure(() => device.trim(0, B, PLAIN))).toMatchObject(refused);
    expect(await read(device, 0, B)).toEqual(filled(B, 3));
    await device.flush();
  });
}

interface Step {
  readonly kind: 'write' | 'zero' | 'trim';
  readonly at: number;
  readonly length: number;
  readonly value: number;
}

function operations(size: number): fc.Arbitrary<Step> {
  const place = fc.oneof(
    fc.nat(size - 1),
    fc.nat(size / B - 1).map((block) => block * B),
  );
  return fc
    .record({
      kind: fc.constantFrom('write' as const, 'zero' as const, 'trim' as const),
      at: place,
      length: fc.oneof(fc.integer({ min: 1, max: 3 * B }), fc.constantFrom(B, 2 * B, 4 * B)),
      value: fc.integer({ min: 1, max: 255 }),
    })
    .map((step) => ({ ...step, length: Math.min(step.length, size - step.at) }));
}

function apply(model: Uint8Array, { kind, at, length, value }: Step): void {
  if (kind === 'write') model.fill(value, at, at + length);
  else if (kind === 'zero') model.fill(0, at, at + length);
  else if (roundUp(at, B) < roundDown(at + length, B)) {
    model.fill(0, roundUp(at, B), roundDown(at + length, B));
  }
}

async function run(device: BlockDevice, { kind, at, length, value }: Step): Promise<void> {
  if (kind === 'write') await device.write(at, filled(length, value), PLAIN);
  else if (kind === 'zero') await device.writeZeroes(at, length, ZERO);
  else await device.trim(at, length, PLAIN);
}

async function read(device: BlockDevice, at: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xa5);
  await device.read(at, into);
  return into;
}

/** All extents of a range, however many a call gives; joined where calls met. */
async function extents(device: BlockDevice, at: number, length: number): Promise<Extent[]> {
  const found: Extent[] = [];
  for (let done = 0; done < length; ) {
    const portion = await device.extents(at + done, length - done, 1_000);
    for (const extent of portion) done += extent.length;
    expect(done).toBeLessThanOrEqual(length);
    found.push(...portion);
  }
  return found;
}

/** How an operation fails, at once or later; undefined if it does not. */
async function failure(start: () => Completion): Promise<unknown> {
  try {
    await start();
    return undefined;
  } catch (error) {
    return error;
  }
}

function filled(length: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(value);
}
function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
