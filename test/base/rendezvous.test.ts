import { expect, test } from 'vitest';
import { Rendezvous } from '../../src/base/rendezvous.ts';

test('nobody goes on before all are there, and the last one’s step comes before', async () => {
  const told: string[] = [];
  const place = new Rendezvous(3, () => told.push('all there'));
  const come = async (name: string) => {
    await place.meet();
    told.push(name);
  };
  const first = [come('a'), come('b')];
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toEqual([]);
  await Promise.all([...first, come('c')]);
  expect(told).toEqual(['all there', 'a', 'b', 'c']);
});

test('one that fails, fails who waits and who comes; not who has met', async () => {
  const place = new Rendezvous(3);
  const waiting = place.meet();
  place.fail(new Error('no'));
  await expect(waiting).rejects.toThrow('no');
  await expect(place.meet()).rejects.toThrow('no');
  const met = new Rendezvous(1);
  await met.meet();
  met.fail(new Error('late'));
  await met.meet();
});

test('where nobody is to come, all are there', () => {
  let isThere = false;
  new Rendezvous(0, () => {
    isThere = true;
  });
  expect(isThere).toBe(true);
});
