import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../src/contracts/net.ts';
import { Admission, hostOf } from '../../src/nbd/admission.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';

const limits = { ...NBD_LIMITS, connectionsMax: 8, handshakesMax: 4, hostShare: 0.5 };

/** A house in which everybody has a name that begins with his host's. */
function house() {
  const admission = new Admission<string>(limits);
  return {
    admission,
    come: (name: string) => {
      const host = name.slice(0, 1);
      const verdict = admission.ask(host);
      if (verdict.place) admission.enter(name, host);
      return verdict;
    },
  };
}

describe('who may come in', () => {
  test('where handshakes are full, the oldest of them makes room', () => {
    const { come, admission } = house();
    for (const name of ['a1', 'a2', 'b1', 'b2']) expect(come(name)).toEqual({ place: true });
    expect(come('c1')).toEqual({ place: true, evicted: 'a1' });
    expect([...admission.waiting]).toEqual(['a2', 'b1', 'b2', 'c1']);
  });

  test('a flood from one host costs its own handshakes first', () => {
    const { come, admission } = house();
    come('b1');
    for (const name of ['a1', 'a2', 'a3', 'a4', 'a5']) come(name);
    expect([...admission.waiting]).toEqual(['b1', 'a4', 'a5']);
  });

  test('a host that is attached half of all times is refused, and another host is not', () => {
    const { come, admission } = house();
    for (const name of ['a1', 'a2', 'a3', 'a4']) {
      come(name);
      admission.attached(name);
    }
    expect(come('a5')).toEqual({ place: false, full: 'host' });
    expect(come('b1')).toEqual({ place: true });
    admission.leave('a2');
    expect(come('a6')).toEqual({ place: true });
  });

  test('where all places are attached, a newcomer is refused; a handshake is put out for him', () => {
    const { come, admission } = house();
    for (const name of ['a1', 'a2', 'a3', 'b1', 'b2', 'b3', 'c1']) {
      come(name);
      admission.attached(name);
    }
    come('c2');
    expect(come('d1')).toEqual({ place: true, evicted: 'c2' });
    admission.attached('d1');
    expect(come('d2')).toEqual({ place: false, full: 'server' });
  });

  test('leaving twice, as who is put out does, frees one place', () => {
    const { come, admission } = house();
    for (const name of ['a1', 'a2', 'a3']) come(name);
    admission.leave('a1');
    expect([...admission.waiting]).toEqual(['a2', 'a3']);
    admission.leave('a1');
    expect(come('a4')).toEqual({ place: true, evicted: 'a2' });
  });

  test('whatever comes and goes, no limit is passed and nobody attached is put out', () => {
    const step = fc.record({
      act: fc.constantFrom('come', 'attach', 'leave'),
      host: fc.constantFrom('a', 'b', 'c', 'd'),
      which: fc.nat(20),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const { come, admission } = house();
        const inside = new Map<string, 'waiting' | 'attached'>();
        const ofHost = (host: string, state?: string) =>
          [...inside].filter(([name, is]) => name[0] === host && is === (state ?? is)).length;
        for (const [number, { act, host, which }] of steps.entries()) {
          const chosen = [...inside.keys()][which];
          if (act === 'come') {
            const name = `${host}${number}`;
            const verdict = come(name);
            if (!verdict.place) continue;
            if (verdict.evicted !== undefined) {
              expect(inside.get(verdict.evicted)).toBe('waiting');
              inside.delete(verdict.evicted);
            }
            inside.set(name, 'waiting');
            expect(ofHost(host)).toBeLessThanOrEqual(4);
            expect(ofHost(host, 'waiting')).toBeLessThanOrEqual(2);
          } else if (chosen !== undefined && act === 'attach') {
            admission.attached(chosen);
            inside.set(chosen, 'attached');
          } else if (chosen !== undefined) {
            admission.leave(chosen);
            inside.delete(chosen);
          }
          const waiting = [...inside].filter(([, is]) => is === 'waiting').map(([name]) => name);
          expect([...admission.waiting]).toEqual(waiting);
          expect(inside.size).toBeLessThanOrEqual(8);
          expect(waiting.length).toBeLessThanOrEqual(4);
        }
      }),
    );
  });
});

test.for([
  ['10.1.2.3', '10.1.2.3'],
  ['::ffff:10.1.2.3', '10.1.2.3'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::'],
  ['2001:db8:1:2:ffff::1', '2001:db8:1:2::'],
  ['fe80::1%eth0', 'fe80::'],
  [undefined, 'unix:/run/nbd.sock'],
] as const)('a client at %s counts for %s', ([peerAddress, host]) => {
  const stream = { peerName: 'unix:/run/nbd.sock', peerAddress } as Partial<ByteStream>;
  expect(hostOf(stream as ByteStream)).toBe(host);
});
