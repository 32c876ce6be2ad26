import type { Random } from '../../src/contracts/seams.ts';
import type { SimDiskOptions } from '../../src/sim/sim-disk.ts';

type Turns = (operation: string) => number;

/**
 * A disk that answers in an order of its own: races that a disk of one speed never has. Each world
 * draws its kind of unrest; in a third of them nothing stays in the page cache.
 */
export function restless(random: Random): Pick<SimDiskOptions, 'delay' | 'cached'> {
  const kinds: Turns[] = [
    () => 0,
    () => random.below(12),
    () => (random.below(3) === 0 ? random.below(40) : 1),
    () => (random.below(20) === 0 ? 200 : random.below(2)),
    (operation) => random.below(operation.startsWith('sync') ? 80 : 3),
  ];
  const turns = kinds[random.below(kinds.length)] as Turns;
  const delay = async (operation: string) => {
    for (let left = turns(operation); left >= 0; left -= 1) await null;
  };
  return random.below(3) === 0 ? { delay, cached: () => random.below(2) === 0 } : { delay };
}
