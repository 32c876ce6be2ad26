import { describe, expect, test } from 'vitest';
import type { Change, Coordinator } from '../../src/contracts/coordinator.ts';

/** One coordinator of its own, empty at first. */
export interface CoordinatorWorld extends AsyncDisposable {
  readonly coordinator: Coordinator;
  /** The process that used it dies without a word; another one opens what it left. */
  restart(): Promise<Coordinator>;
}

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => value && new TextDecoder().decode(value);

async function put(coordinator: Coordinator, key: string, value: string): Promise<bigint> {
  const revision = (await coordinator.get(key))?.revision ?? 0n;
  expect(await coordinator.swap([{ key, revision, value: bytes(value) }])).toBe(true);
  return (await coordinator.get(key))!.revision;
}

async function take(changes: AsyncIterable<Change>, count: number): Promise<string[]> {
  const taken: string[] = [];
  for await (const { key, value } of changes) {
    taken.push(value === undefined ? `${key} removed` : `${key}=${text(value)}`);
    if (taken.length === count) break;
  }
  return taken;
}

/** What any Coordinator must do. */
export function coordinatorContract(name: string, fresh: () => Promise<CoordinatorWorld>): void {
  describe(`${name} is a Coordinator: keys`, () => {
    test('nothing is there at first', async () => {
      await using world = await fresh();
      expect(await world.coordinator.get('a')).toBeUndefined();
      expect((await world.coordinator.list('')).entries).toEqual([]);
    });

    test('a key that must be absent is written once', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      expect(await coordinator.swap([{ key: 'a', revision: 0n, value: bytes('1') }])).toBe(true);
      const first = await coordinator.get('a');
      expect(text(first?.value)).toBe('1');
      expect(await coordinator.swap([{ key: 'a', revision: 0n, value: bytes('2') }])).toBe(false);
      expect(await coordinator.get('a')).toEqual(first);
    });

    test('a key is replaced only at the revision that was read', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const old = await put(coordinator, 'a', '1');
      const current = await put(coordinator, 'a', '2');
      expect(current).toBe(old + 1n);
      expect(await coordinator.swap([{ key: 'a', revision: old, value: bytes('3') }])).toBe(false);
      expect(await coordinator.swap([{ key: 'a', revision: current, value: bytes('3') }])).toBe(
        true,
      );
      expect(text((await coordinator.get('a'))?.value)).toBe('3');
    });

    test('a removed key is absent, and never has an earlier revision again', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const written = await put(coordinator, 'a', '1');
      expect(await coordinator.swap([{ key: 'a', revision: written }])).toBe(true);
      expect(await coordinator.get('a')).toBeUndefined();
      expect(await coordinator.swap([{ key: 'a', revision: written }])).toBe(false);
      expect(await put(coordinator, 'a', '2')).toBe(written + 2n);
    });

    test('a swap of several keys takes effect as one revision or not at all', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const a = await put(coordinator, 'a', '1');
      const wrong = [
        { key: 'a', revision: a, value: bytes('2') },
        { key: 'b', revision: 7n, value: bytes('2') },
      ];
      expect(await coordinator.swap(wrong)).toBe(false);
      expect(text((await coordinator.get('a'))?.value)).toBe('1');
      const right = [
        { key: 'a', revision: a, value: bytes('2') },
        { key: 'b', revision: 0n, value: bytes('2') },
      ];
      expect(await coordinator.swap(right)).toBe(true);
      const { entries, revision } = await coordinator.list('');
      expect(entries.map((entry) => entry.revision)).toEqual([a + 1n, a + 1n]);
      expect(revision).toBe(a + 1n);
    });

    test('a key can be required to be absent without being written', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const guarded = () =>
        coordinator.swap([
          { key: 'guard', revision: 0n },
          { key: 'n', revision: 0n, value: bytes('1') },
        ]);
      const set = await put(coordinator, 'guard', 'x');
      expect(await guarded()).toBe(false);
      expect(await coordinator.swap([{ key: 'guard', revision: set }])).toBe(true);
      expect(await guarded()).toBe(true);
      expect(await coordinator.get('guard')).toBeUndefined();
    });

    test('of swaps that compete at the same moment one wins each round', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const increment = async () => {
        for (;;) {
          const entry = await coordinator.get('n');
          const value = bytes(String(Number(text(entry?.value) ?? '0') + 1));
          if (await coordinator.swap([{ key: 'n', revision: entry?.revision ?? 0n, value }]))
            return;
        }
      };
      await Promise.all(Array.from({ length: 20 }, increment));
      expect(text((await coordinator.get('n'))?.value)).toBe('20');
      expect((await coordinator.list('')).revision).toBe((await coordinator.get('n'))?.revision);
    });

    test('values are any bytes, and the caller keeps its buffer', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const value = Uint8Array.from({ length: 256 }, (_, index) => index);
      const waiting = coordinator.swap([{ key: 'all', revision: 0n, value }]);
      value.fill(0);
      await waiting;
      await coordinator.swap([{ key: 'none', revision: 0n, value: new Uint8Array() }]);
      expect((await coordinator.get('all'))?.value[255]).toBe(255);
      expect((await coordinator.get('none'))?.value.length).toBe(0);
    });

    test('a list has what begins with the prefix, in the order of UTF-8 bytes', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const keys = ['b/2', 'a/ｚ', 'a/\u{1f411}', 'a/é', 'a/b', 'a', 'ab'];
      for (const key of keys) await put(coordinator, key, key);
      const { entries } = await coordinator.list('a/');
      expect(entries.map((entry) => entry.key)).toEqual(['a/b', 'a/é', 'a/ｚ', 'a/\u{1f411}']);
      expect(entries.map((entry) => text(entry.value))).toEqual(entries.map((entry) => entry.key));
    });

    test('a swap that is too large is refused whole', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const many = Array.from({ length: 129 }, (_, index) => ({
        key: `k${index}`,
        revision: 0n,
        value: bytes('x'),
      }));
      const tooLarge = [
        many,
        [{ key: 'v', revision: 0n, value: new Uint8Array(1024 * 1024 + 1) }],
        [{ key: 'k'.repeat(1025), revision: 0n, value: bytes('x') }],
      ];
      for (const swaps of tooLarge) {
        await expect(coordinator.swap(swaps)).rejects.toMatchObject({ code: 'ERR_LIMIT' });
      }
      expect((await coordinator.list('')).entries).toEqual([]);
    });

    test('a call that is aborted before it begins changes nothing', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const reason = new Error('not needed any more');
      const call = { signal: AbortSignal.abort(reason) };
      const swap = coordinator.swap([{ key: 'a', revision: 0n, value: bytes('1') }], call);
      await expect(swap).rejects.toBe(reason);
      await expect(coordinator.get('a', call)).rejects.toBe(reason);
      await expect(coordinator.list('a', call)).rejects.toBe(reason);
      expect(await coordinator.get('a')).toBeUndefined();
    });

    test('who takes over finds every settled change under its revision', async () => {
      await using world = await fresh();
      for (const key of ['a', 'b', 'c']) await put(world.coordinator, key, key.repeat(3));
      const gone = await world.coordinator.get('b');
      await world.coordinator.swap([{ key: 'b', revision: gone!.revision }]);
      const before = await world.coordinator.list('');
      const after = await world.restart();
      expect(await after.list('')).toEqual(before);
      expect(await put(after, 'b', 'again')).toBe(before.revision + 1n);
    });
  });

  describe(`${name} is a Coordinator: watches`, () => {
    test('a watch shows what changed since, in order, and only below its prefix', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const since = await put(coordinator, 'a/old', '0');
      const one = await put(coordinator, 'a/1', 'x');
      await put(coordinator, 'b/1', 'x');
      await coordinator.swap([
        { key: 'a/1', revision: one },
        { key: 'a/2', revision: 0n, value: bytes('y') },
      ]);
      const changes = await take(coordinator.watch('a/', since), 3);
      expect(changes).toEqual(['a/1=x', 'a/1 removed', 'a/2=y']);
    });

    test('a watch waits for what comes, and skips nothing of it', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const watching = take(coordinator.watch('n', 0n), 50);
      for (let n = 0; n < 50; n++) await put(coordinator, 'n', String(n));
      expect(await watching).toEqual(Array.from({ length: 50 }, (_, n) => `n=${n}`));
    });

    test('a watch goes on where an earlier one stopped', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      let seen = 0n;
      for (const value of ['1', '2', '3', '4']) await put(coordinator, 'n', value);
      for await (const { revision, value } of coordinator.watch('n', 0n)) {
        seen = revision;
        if (text(value) === '2') break;
      }
      expect(await take(coordinator.watch('n', seen), 2)).toEqual(['n=3', 'n=4']);
    });

    test('a watch ends when it is aborted, also while it waits', async () => {
      await using world = await fresh();
      const ending = new AbortController();
      const watching = take(world.coordinator.watch('', 0n, { signal: ending.signal }), 2);
      await put(world.coordinator, 'a', '1');
      ending.abort();
      expect((await watching).length).toBeLessThan(2);
      const never = take(world.coordinator.watch('', 0n, { signal: AbortSignal.abort() }), 1);
      expect(await never).toEqual([]);
    });
  });

  describe(`${name} is a Coordinator: leases`, () => {
    test('a leased key is there until the lease is given back', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const lease = await coordinator.lease('node', bytes('here'), 5000);
      expect(text((await coordinator.get('node'))?.value)).toBe('here');
      expect(lease.lost.aborted).toBe(false);
      await lease[Symbol.asyncDispose]();
      expect(await coordinator.get('node')).toBeUndefined();
      expect(lease.lost.aborted).toBe(true);
    });

    test('a lease that is given back leaves alone what others wrote since', async () => {
      await using world = await fresh();
      const { coordinator } = world;
      const lease = await coordinator.lease('node', bytes('mine'), 5000);
      await put(coordinator, 'node', 'theirs');
      await lease[Symbol.asyncDispose]();
      expect(text((await coordinator.get('node'))?.value)).toBe('theirs');
    });

    test('the key of a holder that died goes, and watchers are told', async () => {
      await using world = await fresh();
      await world.coordinator.lease('node', bytes('here'), 1000);
      await put(world.coordinator, 'kept', '1');
      const { revision } = await world.coordinator.list('');
      const after = await world.restart();
      expect(await take(after.watch('node', revision), 1)).toEqual(['node removed']);
      expect(await after.get('node')).toBeUndefined();
      expect(text((await after.get('kept'))?.value)).toBe('1');
    });

    test('a lease is lost when its coordinator closes', async () => {
      await using world = await fresh();
      const lease = await world.coordinator.lease('node', bytes('here'), 5000);
      await world.coordinator[Symbol.asyncDispose]();
      expect(lease.lost.aborted).toBe(true);
    });
  });
}
