import { describe, expect, test } from 'vitest';
import { Turns } from '../../src/nbd/turns.ts';

const TURN_MS = 1_000;

function world(atOnce: number) {
  let nowMs = 0;
  const turns = new Turns<string>(atOnce, TURN_MS, { monotonicMs: () => nowMs });
  const begun: string[] = [];
  const enter = (...names: string[]) => {
    for (const name of names) {
      const turn = turns.enter(name);
      if (turn === undefined) begun.push(name);
      else void turn.then(() => begun.push(`${name} later`));
    }
  };
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { turns, begun, enter, pass };
}
const settle = () => new Promise(setImmediate);

describe('turns', () => {
  test('come at once while there are any, and then in the order of asking', async () => {
    const { turns, begun, enter } = world(2);
    enter('a', 'b', 'c', 'd');
    expect(begun).toEqual(['a', 'b']);
    turns.leave('b');
    await settle();
    expect(begun).toEqual(['a', 'b', 'c later']);
    turns.leave('a');
    turns.leave('c');
    await settle();
    expect(begun).toEqual(['a', 'b', 'c later', 'd later']);
    enter('e');
    expect(begun.at(-1)).toBe('e');
  });

  test('are not lost with who leaves while it waits, or leaves twice', async () => {
    const { turns, begun, enter } = world(1);
    enter('a', 'b', 'c');
    turns.leave('b');
    await settle();
    expect(begun).toEqual(['a', 'b later']); // it is told, so that it can end
    turns.leave('a');
    turns.leave('a');
    turns.leave('b');
    await settle();
    expect(begun).toEqual(['a', 'b later', 'c later']);
    enter('d');
    expect(begun).toHaveLength(3);
  });

  test('last as long as they like while nobody waits, and else only so long', () => {
    const { turns, enter, pass } = world(3);
    enter('a', 'b');
    pass(TURN_MS - 1);
    enter('c');
    pass(100 * TURN_MS);
    expect(turns.late()).toEqual([]);
    enter('d');
    expect(turns.late()).toEqual(['a']); // for each that waits one, the oldest first
    enter('e');
    expect(turns.late()).toEqual(['a', 'b']);
    for (const one of turns.late()) turns.leave(one);
    enter('f', 'g', 'h');
    expect(turns.late()).toEqual(['c']);
    pass(TURN_MS);
    expect(turns.late()).toEqual(['c', 'd', 'e']);
  });
});
