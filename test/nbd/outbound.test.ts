import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../src/contracts/net.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import { type Held, Outbound } from '../../src/nbd/outbound.ts';
import { SlabPool } from '../../src/nbd/slabs.ts';

const limits = { ...NBD_LIMITS, slabBytes: 100, gatherBytes: 60, slabsIdleMax: 4, slabsMax: 1000 };

/** A stream that is done with a write when the test says so, and reads its bytes only then. */
class LateStream implements Pick<ByteStream, 'write'> {
  readonly #writes: { bytes: Uint8Array; done: (() => void) | undefined }[] = [];
  readonly taken: number[] = [];
  count = 0;

  write(bytes: Uint8Array, done?: () => void): void {
    this.count += 1;
    this.#writes.push({ bytes, done });
  }
  take(count = this.#writes.length): void {
    for (const { bytes, done } of this.#writes.splice(0, count)) {
      this.taken.push(...bytes);
      done?.();
    }
  }
}

const world = () => {
  const stream = new LateStream();
  const pool = new SlabPool(limits);
  let freed = 0;
  const outbound = new Outbound(stream as unknown as ByteStream, pool, limits, () => {
    freed += 1;
  });
  const frame = (value: number, length: number): number => {
    const at = outbound.reserve(length);
    outbound.slab.bytes.fill(value, at, at + length);
    return at;
  };
  return { stream, pool, outbound, frame, freed: () => freed };
};

describe('replies on their way out', () => {
  test('those of one chunk leave in one write', () => {
    const { stream, outbound, frame } = world();
    for (let value = 1; value <= 5; value += 1) frame(value, 10);
    expect(stream.count).toBe(0);
    outbound.flush();
    outbound.flush();
    expect(stream.count).toBe(1);
    stream.take();
    expect(stream.taken).toHaveLength(50);
  });

  test('when many have gathered the first leave, so that the client can go to work', () => {
    const { stream, frame } = world();
    for (let value = 1; value <= 8; value += 1) frame(value, 10);
    expect(stream.count).toBe(1);
  });

  test('a reply that is taken back is not sent', () => {
    const { stream, outbound, frame } = world();
    frame(1, 10);
    outbound.cancel(frame(2, 20));
    frame(3, 5);
    outbound.flush();
    stream.take();
    expect(stream.taken).toEqual([...Array(10).fill(1), ...Array(5).fill(3)]);
  });

  test('memory is used again, the latest first, and not before the stream is done with it', () => {
    const { stream, pool, outbound, frame, freed } = world();
    frame(1, 10);
    const { slab } = outbound;
    outbound.flush();
    frame(2, 10);
    expect(outbound.slab).not.toBe(slab);
    outbound.flush();
    expect([pool.lent, freed()]).toEqual([2, 0]);
    stream.take(1);
    expect([pool.lent, freed()]).toEqual([1, 1]);
    frame(3, 10);
    expect(outbound.slab).toBe(slab);
  });

  test('what one has of the shared memory counts for all; an assured part is everybody’s', () => {
    const few = { ...limits, slabsAssured: 2, slabsSharedMax: 5, slabsMax: 4 };
    const pool = new SlabPool(few);
    const stream = new LateStream() as unknown as ByteStream;
    const one = new Outbound(stream, pool, few, () => undefined);
    const other = new Outbound(stream, pool, few, () => undefined);
    const fill = (outbound: Outbound) => {
      outbound.reserve(100);
      outbound.flush();
    };
    const told: boolean[] = [];
    for (let count = 0; count < 4; count += 1) {
      told.push(one.full);
      fill(one);
    }
    expect([...told, one.full]).toEqual([false, false, false, false, true]);
    fill(other);
    expect(other.full).toBe(false);
    fill(other);
    expect(other.full).toBe(true);
  });

  test('all together have no more than a total, above which each may have one', () => {
    const few = { ...limits, slabsAssured: 4, slabsSharedMax: 6, slabsMax: 8, slabsTotalMax: 6 };
    const pool = new SlabPool(few);
    const stream = new LateStream();
    const [one, other, third] = Array.from(
      { length: 3 },
      () => new Outbound(stream as unknown as ByteStream, pool, few, () => undefined),
    ) as [Outbound, Outbound, Outbound];
    for (let count = 0; count < 4; count += 1) {
      one.reserve(100);
      one.flush();
    }
    expect([other.mayTake(2), other.mayTake(3)]).toEqual([true, false]);
    other.claim();
    other.claim();
    expect([one.full, other.full, third.full]).toEqual([true, true, false]);
    third.reserve(100);
    third.flush();
    expect([third.full, pool.lent]).toEqual([true, 7]);
    stream.take();
    other.unclaim();
    other.unclaim();
    expect([one.full, other.full, third.full, pool.lent]).toEqual([false, false, false, 0]);
  });

  const action = fc.oneof(
    fc.record({ do: fc.constant('now' as const), length: fc.integer({ min: 1, max: 100 }) }),
    fc.record({ do: fc.constant('wait' as const), length: fc.integer({ min: 1, max: 100 }) }),
    fc.record({ do: fc.constantFrom('settle' as const, 'drop' as const), which: fc.nat(20) }),
    fc.record({ do: fc.constant('flush' as const) }),
    fc.record({ do: fc.constant('take' as const), count: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ do: fc.constant('close' as const) }),
  );

  test('every reply leaves once, whole, the complete ones in order; all memory comes back', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), fc.boolean(), (actions, mayClose) => {
        const { stream, pool, outbound, frame } = world();
        const [sent, waiting]: [number[], { held: Held; value: number; length: number }[]] = [
          [],
          [],
        ];
        const expected = new Map<number, number>();
        let value = 0;
        let closed = false;
        const settle = ({ held, value: mark, length }: (typeof waiting)[number]) => {
          held.slab.bytes.fill(mark, held.from, held.to);
          outbound.sendHeld(held);
          if (!closed) expected.set(mark, length);
        };
        for (const next of actions) {
          if (next.do === 'now') {
            value += 1;
            frame(value, next.length);
            if (!closed) expected.set(value, next.length);
            sent.push(value);
          } else if (next.do === 'wait') {
            value += 1;
            waiting.push({
              held: outbound.hold(frame(0, next.length)),
              value,
              length: next.length,
            });
          } else if (next.do === 'settle' || next.do === 'drop') {
            const [one] = waiting.splice(next.which % Math.max(1, waiting.length), 1);
            if (one !== undefined && next.do === 'settle') settle(one);
            else if (one !== undefined) outbound.dropHeld(one.held);
          } else if (next.do === 'flush') outbound.flush();
          else if (next.do === 'take') stream.take(next.count);
          else if (mayClose && !closed) {
            outbound.flush();
            outbound.close();
            closed = true;
          }
        }
        for (const one of waiting) settle(one);
        outbound.flush();
        stream.take();
        expect(pool.lent).toBe(0);
        const runs = runsOf(stream.taken);
        expect(new Map(runs)).toEqual(expected);
        expect(runs).toHaveLength(expected.size);
        const now = runs.map(([mark]) => mark).filter((mark) => sent.includes(mark));
        expect(now).toEqual(sent.filter((mark) => expected.has(mark)));
      }),
      { numRuns: 1000 },
    );
  });
});

/** Runs of equal bytes; each reply of the test is one, because no two have the same byte. */
function runsOf(bytes: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const byte of bytes) {
    const last = runs.at(-1);
    if (last?.[0] === byte) last[1] += 1;
    else runs.push([byte, 1]);
  }
  return runs;
}
