import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault } from '../../../src/base/errors.ts';
import type { ObjectName, Stamp } from '../../../src/base/ids.ts';
import { findSnap } from '../../../src/farm/snapshots/find-snap.ts';
import {
  compareOids,
  decodeStaleList,
  encodeStaleList,
  type StaleObject,
} from '../../../src/farm/snapshots/stale-list.ts';
import { mayGo, type VerifiedCopy } from '../../../src/farm/snapshots/stale-rules.ts';
import type { SnapEntry } from '../../../src/farm/snapshots/store.ts';
import { golden } from '../../golden/golden.ts';

const stamps = fc.record({ epoch: fc.nat(4), attachEpoch: fc.nat(4) });
const CONTENT = new Uint8Array(32).fill(1);
const OTHER = new Uint8Array(32).fill(2);
const name: ObjectName = { kind: 0, vid: 42, index: 7, slot: 3 };

/** The rule for one object, with what the cluster knows of it. */
function may(stamp: Stamp, epoch: number, clean: number, copy?: VerifiedCopy): boolean {
  return mayGo(epoch, { name, stamp }, CONTENT, {
    cleanUpTo: (slot) => (slot === name.slot ? clean : 0),
    verifiedElsewhere: (asked) => (compareOids(asked, name) === 0 ? copy : undefined),
  });
}

describe('what an epoch left behind may go', () => {
  test('if its slot is clean and a newer copy is elsewhere: both, and never one alone', () => {
    const at3 = { epoch: 3, attachEpoch: 5 };
    const newer = { stamp: { epoch: 4, attachEpoch: 5 } };
    expect(may(at3, 6, 6, newer)).toBe(true);
    expect(may(at3, 6, 9, newer)).toBe(true);
    expect(may(at3, 6, 5, newer)).toBe(false);
    expect(may(at3, 6, 6)).toBe(false);
    expect(may(at3, 6, 6, { stamp: { epoch: 3, attachEpoch: 6 } })).toBe(true);
  });

  test('not for a copy of the same stamp, which may lack its last writes, nor for an older one', () => {
    const at3 = { epoch: 3, attachEpoch: 5 };
    for (const stamp of [at3, { epoch: 3, attachEpoch: 4 }, { epoch: 2, attachEpoch: 9 }]) {
      expect(may(at3, 6, 6, { stamp })).toBe(false);
      expect(may(at3, 6, 6, { stamp, content: OTHER })).toBe(false);
    }
  });

  test('for a copy of the very same content, whatever its stamp', () => {
    const copy = { stamp: { epoch: 1, attachEpoch: 1 }, content: CONTENT.slice() };
    expect(may({ epoch: 3, attachEpoch: 5 }, 6, 6, copy)).toBe(true);
  });

  test('in every other case stays', () => {
    fc.assert(
      fc.property(
        ...([stamps, fc.nat(5), fc.nat(5), fc.option(stamps), fc.boolean()] as const),
        (stamp, epoch, clean, elsewhere, same) => {
          const copy = elsewhere && { stamp: elsewhere, content: same ? CONTENT : OTHER };
          const place = (one: Stamp) => one.epoch * 100 + one.attachEpoch;
          const expected =
            clean >= epoch && copy !== null && (same || place(copy.stamp) > place(stamp));
          expect(may(stamp, epoch, clean, copy ?? undefined)).toBe(expected);
        },
      ),
    );
  });
});

const names = fc.record({
  kind: fc.constantFrom(0 as const, 1 as const),
  vid: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  index: fc.nat(2 ** 28 - 1),
  slot: fc.nat(1023),
});
const lists = fc
  .uniqueArray(names, { comparator: (a, b) => compareOids(a, b) === 0, maxLength: 20 })
  .chain((all) =>
    fc.tuple(
      ...all.toSorted(compareOids).map((each) =>
        fc.record({
          name: fc.constant(each),
          stamp: fc.record({ epoch: fc.nat(2 ** 32 - 1), attachEpoch: fc.nat(2 ** 32 - 1) }),
          bytes: fc.integer({ min: 1, max: 2 ** 26 }),
        }),
      ),
    ),
  );

describe('the list of what an epoch left behind', () => {
  test('keeps its golden bytes', () => {
    const list: StaleObject[] = [
      { name, stamp: { epoch: 5, attachEpoch: 3 }, bytes: 4 * 2 ** 20 },
      {
        name: { kind: 1, vid: 42, index: 0, slot: 1023 },
        stamp: { epoch: 4, attachEpoch: 2 },
        bytes: 2 ** 16,
      },
    ];
    const made = encodeStaleList(list);
    const stored = golden('stale-list-v1', made);
    expect(made).toEqual(stored);
    expect(decodeStaleList(stored, 'a list')).toEqual(list);
  });

  test('comes back as it was', () => {
    fc.assert(
      fc.property(lists, (list) => {
        expect(decodeStaleList(encodeStaleList(list), 'a list')).toEqual(list);
      }),
    );
  });

  test('of any other bytes is damage or another version, and said so', () => {
    const list = encodeStaleList([{ name, stamp: { epoch: 5, attachEpoch: 3 }, bytes: 4096 }]);
    const refused = (bytes: Uint8Array) => {
      try {
        decodeStaleList(bytes, 'the list of snap 12');
        return undefined;
      } catch (error) {
        if (isFault(error, 'ERR_CORRUPT') || isFault(error, 'ERR_VERSION')) return error.message;
        throw error;
      }
    };
    for (let length = 0; length < list.length; length += 1) {
      expect(refused(list.subarray(0, length))).toMatch(/^the list of snap 12/);
    }
    expect(refused(Buffer.concat([list, list]))).toMatch(/length/);
    const twice = Buffer.concat([list, list.subarray(8)]);
    twice.writeUInt32BE(2, 4);
    expect(refused(twice)).toMatch(/ascend/);
    const newer = Buffer.from(list);
    newer.writeUInt16BE(2, 0);
    expect(refused(newer)).toMatch(/version 2, this program knows version 1/);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => void refused(bytes)));
  });
});

describe('a snap is found', () => {
  const entry = (epoch: number, tag: string, timeMs: number): SnapEntry => ({
    ...{ log: 'sys', name: new Uint8Array(32).fill(timeMs), id: `${timeMs}` },
    ...{ epoch, timeMs, tag },
  });
  const snaps = [entry(1, '', 1), entry(2, 'mon', 2), entry(2, 'tue', 3), entry(5, 'mon', 4)];

  test('by its epoch, its tag, its position; of several the last', () => {
    expect(findSnap(snaps, { epoch: 2 })?.timeMs).toBe(3);
    expect(findSnap(snaps, { tag: 'mon' })?.timeMs).toBe(4);
    expect(snaps.map((_, position) => findSnap(snaps, { position })?.timeMs)).toEqual([1, 2, 3, 4]);
    expect(findSnap(snaps, { position: -1 })?.timeMs).toBe(4);
  });

  test('or is not there', () => {
    for (const wanted of [{ epoch: 3 }, { tag: 'wed' }, { position: 4 }, { position: -5 }]) {
      expect(findSnap(snaps, wanted)).toBeUndefined();
    }
  });
});
