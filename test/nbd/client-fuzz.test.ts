import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import type { NbdLimits } from '../../src/nbd/limits.ts';
import { pattern, Served } from './served.ts';

const SIZE = 1 << 20;
/** Each operation has a region of its own: together they do not overlap, whatever order they take. */
const REGION = 48 * 1024;
const PLAIN = { durable: false, keepAllocated: false, fastOnly: false };

interface Operation {
  readonly kind: 'write' | 'zero' | 'read' | 'trim';
  readonly skip: number;
  readonly length: number;
  readonly durable: boolean;
  /** Turns after which it is aborted; 0: never. */
  readonly abortAfter: number;
}
const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom('write', 'zero', 'read', 'trim'),
  skip: fc.nat(9000),
  length: fc.integer({ min: 1, max: REGION - 9000 }),
  durable: fc.boolean(),
  abortAfter: fc.oneof(fc.constant(0), fc.constant(0), fc.nat(60)),
});

const sizes: fc.Arbitrary<Partial<NbdLimits>> = fc.constantFrom(
  {},
  { blockMinBytes: 512 },
  { blockMinBytes: 4096 },
  { blockMinBytes: 65_536, blockPreferredBytes: 65_536 },
  { requestsMax: 3 },
);

test('all at once, some aborted, some failing: each has its own effect or none, and all settle', async () => {
  const run = async (
    operations: readonly Operation[],
    limits: Partial<NbdLimits>,
    chunkBytes: number,
    how: readonly number[],
  ) => {
    let turn = 0;
    let failing = true;
    await using served = await Served.start({
      sizeBytes: SIZE,
      limits,
      chunkBytes,
      before: () => {
        turn += 1;
        const what = how[turn % how.length] ?? 0;
        if (what === 9 && failing) throw new SheepError('ERR_IO', 'on purpose');
        return what === 0 || what === 9 ? undefined : served.turns(what);
      },
    });
    await using client = await connectNbd(served.net, served.server.addresses[0] ?? '', 'disk');
    const before = pattern(SIZE, 5);
    failing = false;
    await client.write(0, before, PLAIN);
    failing = true;
    const outcomes = await Promise.allSettled(
      operations.map(async ({ kind, skip, length, durable, abortAfter }, index) => {
        const at = index * REGION + skip;
        const controller = new AbortController();
        const call = { ...PLAIN, durable, signal: controller.signal };
        const into = new Uint8Array(length);
        const bytes = pattern(length, index + 100);
        const work =
          kind === 'read'
            ? client.read(at, into, call)
            : kind === 'write'
              ? client.write(at, bytes, call)
              : kind === 'zero'
                ? client.writeZeroes(at, length, call)
                : client.trim(at, length, call);
        if (abortAfter > 0) {
          void served
            .turns(abortAfter)
            .then(() => controller.abort(new SheepError('ERR_SHUTDOWN', 'enough')));
        }
        await work;
        if (kind === 'read') expect(into).toEqual(before.slice(at, at + length));
      }),
    );
    failing = false;
    const shown = new Uint8Array(SIZE);
    await client.read(0, shown);
    const model = before.slice();
    for (const [index, { kind, skip, length }] of operations.entries()) {
      const [at, outcome] = [index * REGION + skip, outcomes[index]];
      const [from, to] = [index * REGION, (index + 1) * REGION];
      if (outcome?.status === 'rejected') {
        expect(outcome.reason).toMatchObject({ code: expect.stringMatching(/ERR_(IO|SHUTDOWN)/) });
        // Its blocks are old or new; those of others are none of its business.
        model.set(shown.subarray(at, at + length), at);
        if (kind === 'trim') model.set(shown.subarray(from, to), from);
      } else if (kind === 'write') model.set(pattern(length, index + 100), at);
      else if (kind === 'zero') model.fill(0, at, at + length);
      else if (kind === 'trim') {
        const first = Math.ceil(at / 4096) * 4096;
        const last = Math.floor((at + length) / 4096) * 4096;
        if (first < last) model.fill(0, first, last);
      }
    }
    expect(Buffer.compare(shown, model)).toBe(0);
    expect(served.fatal).toEqual([]);
  };
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { minLength: 1, maxLength: 20 }),
      sizes,
      fc.constantFrom(500, 4096, 300_000),
      fc.array(fc.constantFrom(0, 0, 0, 1, 40, 9), { minLength: 1, maxLength: 7 }),
      run,
    ),
    { numRuns: 60 },
  );
}, 60_000);
