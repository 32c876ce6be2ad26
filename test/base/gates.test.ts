import { describe, expect, test } from 'vitest';
import { Gate } from '../../src/base/gate.ts';
import { KeyedGates } from '../../src/base/keyed-gates.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { turn } from './turn.ts';

/** Work that ends when it is told to, and notes when it begins and ends. */
function worker(events: string[]) {
  const ends = new Map<string, () => void>();
  const work = (name: string) => async () => {
    events.push(`${name} in`);
    await new Promise<void>((end) => ends.set(name, end));
    events.push(`${name} out`);
  };
  const end = async (name: string) => {
    ends.get(name)?.();
    await turn();
  };
  return { work, end };
}

describe('a gate', () => {
  test('lets readers in together, and a writer alone, in the order in which they came', async () => {
    const gate = new Gate();
    const events: string[] = [];
    const { work, end } = worker(events);
    const passes = [
      gate.pass(false, work('r1')),
      gate.pass(false, work('r2')),
      gate.pass(true, work('w1')),
      gate.pass(false, work('r3')),
      gate.pass(true, work('w2')),
    ];
    await turn();
    expect(events).toEqual(['r1 in', 'r2 in']);
    await end('r1');
    expect(events.slice(2)).toEqual(['r1 out']);
    await end('r2');
    expect(events.slice(3)).toEqual(['r2 out', 'w1 in']);
    await end('w1');
    expect(events.slice(5)).toEqual(['w1 out', 'r3 in']);
    await end('r3');
    await end('w2');
    await Promise.all(passes);
    expect(events.slice(7)).toEqual(['r3 out', 'w2 in', 'w2 out']);
    expect(gate.idle).toBe(true);
  });

  test('says whether it is idle and whether a reader may pass without overtaking', async () => {
    const gate = new Gate();
    const { work, end } = worker([]);
    expect([gate.idle, gate.readable]).toEqual([true, true]);
    const reading = gate.pass(false, work('r'));
    expect([gate.idle, gate.readable]).toEqual([false, true]);
    const writing = gate.pass(true, work('w'));
    expect(gate.readable).toBe(false);
    await turn();
    await end('r');
    expect(gate.readable).toBe(false);
    await end('w');
    await Promise.all([reading, writing]);
    expect([gate.idle, gate.readable]).toEqual([true, true]);
  });

  test('is left by whoever fails', async () => {
    const gate = new Gate();
    const failing = gate.pass(true, () => {
      throw new Error('inside');
    });
    await expect(failing).rejects.toThrow('inside');
    expect(await gate.pass(true, () => 7)).toBe(7);
  });

  test('is left only by who entered', () => {
    expect(() => new Gate().leave(true)).toThrow('entered');
    expect(() => new Gate().leave(false)).toThrow('entered');
  });

  test('never holds a writer and anybody else, whatever comes', async () => {
    const gate = new Gate();
    const random = simRandom(1);
    const inside = { readers: 0, writers: 0 };
    const pass = async () => {
      const exclusive = random.below(3) === 0;
      const who = exclusive ? 'writers' : 'readers';
      await gate.pass(exclusive, async () => {
        inside[who] += 1;
        expect(inside.writers === 0 || inside.readers + inside.writers === 1).toBe(true);
        for (let wait = random.below(4); wait > 0; wait -= 1) await turn();
        inside[who] -= 1;
      });
    };
    await Promise.all(Array.from({ length: 100 }, pass));
    expect(gate.idle).toBe(true);
  });
});

describe('keyed gates', () => {
  test('keep those apart who want the same key, and nobody else', async () => {
    const gates = new KeyedGates<string>();
    const events: string[] = [];
    const { work, end } = worker(events);
    const passes = [
      gates.pass('a', true, work('a1')),
      gates.pass('a', true, work('a2')),
      gates.pass('b', true, work('b')),
    ];
    await turn();
    expect(events).toEqual(['a1 in', 'b in']);
    for (const name of ['a1', 'b', 'a2']) await end(name);
    await Promise.all(passes);
    expect(events.at(-1)).toBe('a2 out');
  });

  test('tell when a key gets a gate, and when nobody is at it any more', async () => {
    const told: string[] = [];
    const gates = new KeyedGates<string>((key, gate) => told.push(`${key} ${gate !== undefined}`));
    await Promise.all([
      gates.pass('a', false, async () => undefined),
      gates.pass('a', true, async () => expect(gates.find('a')).toBeDefined()),
    ]);
    expect(told).toEqual(['a true', 'a false']);
    expect(gates.find('a')).toBeUndefined();
  });

  test('of many keys are held together, and nobody waits for ever', async () => {
    const gates = new KeyedGates<number>();
    const random = simRandom(3);
    const held = new Set<number>();
    const passAll = async () => {
      const keys = [0, 1, 2, 3, 4].filter(() => random.below(2) === 0);
      await gates.passAll(keys, async () => {
        for (const key of keys) expect(held.has(key)).toBe(false);
        for (const key of keys) held.add(key);
        await turn();
        for (const key of keys) held.delete(key);
      });
    };
    await Promise.all(Array.from({ length: 60 }, passAll));
    for (const key of [0, 1, 2, 3, 4]) expect(gates.find(key)).toBeUndefined();
  });

  test('are all left when the work fails', async () => {
    const gates = new KeyedGates<number>();
    const failing = gates.passAll([2, 1], () => Promise.reject(new Error('inside')));
    await expect(failing).rejects.toThrow('inside');
    expect(gates.find(1) ?? gates.find(2)).toBeUndefined();
  });
});
