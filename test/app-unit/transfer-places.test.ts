import { describe, expect, test } from 'vitest';
import { checkStemsFrom } from '../../src/app/transfer/ancestry.ts';
import { nbdAddresses } from '../../src/app/transfer/open-export.ts';
import type { VolumeRecord } from '../../src/vdi/record.ts';

/** `vid: parent name[@tag]`, `!` for one that is being deleted. */
function family(...lines: readonly string[]): VolumeRecord[] {
  return lines.map((line) => {
    const [, vid, parent, name = '', tag = '', deleting] =
      /^(\d+): (\d+) ([^@!]+)(?:@([^!]+))?(!)?$/.exec(line) ?? [];
    const state = deleting ? 'deleting' : tag === '' ? 'ready' : 'snapshot';
    const sizes = { sizeBytes: 4096, shrunkFromBytes: 0, objectBytes: 2 ** 22 };
    const times = { attachEpoch: 1, createdMs: 0 };
    return {
      name,
      tag,
      vid: Number(vid),
      family: 1,
      parent: Number(parent),
      ...sizes,
      ...times,
      allow: [],
      state,
    };
  });
}

describe('what changed between two states is known', () => {
  const all = family('1: 0 a@one', '2: 1 a@two!', '3: 2 a@three', '4: 3 a', '5: 3 b@one', '6: 5 b');
  const of = (vid: number) => all.find((record) => record.vid === vid) as VolumeRecord;

  test('if the later was made from the earlier, however many lie between them', () => {
    for (const [later, earlier] of [
      [3, 1],
      [4, 1],
      [4, 3],
      [6, 5],
      [5, 3],
      [6, 3],
    ] as const) {
      expect(() => checkStemsFrom(all, of(later), of(earlier))).not.toThrow();
    }
  });

  test.for([
    [1, 3, /not known: the one was not made from the other; 'collie vdi tree'/],
    [4, 5, /from 'b@one' to 'a' is not known: the one was not made from the other/],
    [3, 3, /was not made from the other/],
    // Its context says `one` and means b@one.
    [6, 1, /from 'a@one' to 'b' is not known: between them is 'b@one', which has the same tag/],
  ] as const)('and not to vid %i from vid %i', ([later, earlier, message]) => {
    expect(() => checkStemsFrom(all, of(later), of(earlier))).toThrow(message);
  });
});

describe('the addresses at which a sheep is tried', () => {
  const served = ['127.0.0.1:10809', '0.0.0.0:10810', 'unix:/run/nbd', '[2001:db8::1]:10809'];

  test('are all of them on its own machine, unix sockets first', () => {
    const all = ['unix:/run/nbd', '127.0.0.1:10809', 'localhost:10810', '[2001:db8::1]:10809'];
    for (const admin of [undefined, 'unix:/run/admin', 'localhost:7001', '[::1]:7001']) {
      expect(nbdAddresses(served, admin)).toEqual(all);
    }
    // By the name that was used, because a certificate may be for that one alone.
    for (const admin of ['127.0.0.1:7001', 'https://127.0.0.1:7001']) {
      expect(nbdAddresses(['0.0.0.0:1'], admin)).toEqual(['127.0.0.1:1']);
    }
  });

  test('are from elsewhere those that lead there: another sheep here is not taken for it', () => {
    for (const admin of ['far:7001', 'https://far:7001']) {
      expect(nbdAddresses(served, admin)).toEqual(['far:10810', '[2001:db8::1]:10809']);
    }
    expect(nbdAddresses(['[::]:1'], '[2001:db8::2]:7001')).toEqual(['[2001:db8::2]:1']);
    expect(() => nbdAddresses(['127.0.0.1:10809', 'unix:/run/nbd'], 'far:7001')).toThrow(
      /sheep at far:7001 serves NBD at 127.0.0.1:10809, unix:\/run\/nbd, .*with --nbd/,
    );
  });
});
