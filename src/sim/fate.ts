import type { Random } from '../contracts/seams.ts';

/** What a cut leaves of everything that no sync covers: none of it, all of it, or as chance has it. */
export type Survival = 'nothing' | 'everything' | Random;

/** Decides for one file or one directory. */
export interface Fate {
  /** Which of `count` states is left: 0 the newest, `count - 1` the one that was synced. */
  age(count: number): number;
  /** Whether a change that was still under way took place. */
  happens(): boolean;
}

/**
 * Draws one fate per file and directory. They differ in temper on purpose: with evenly mixed losses
 * alone, the cut that loses one block only or keeps one block only would almost never come.
 */
export function fates(survival: Survival): () => Fate {
  if (survival === 'everything') return () => KEPT;
  if (survival === 'nothing') return () => LOST;
  const any = (count: number) => survival.below(count);
  const rarely = () => survival.below(8) === 0;
  const oftenKept: Fate = {
    age: (count) => (rarely() ? any(count) : 0),
    happens: () => !rarely(),
  };
  const oftenLost: Fate = {
    age: (count) => (rarely() ? any(count) : count - 1),
    happens: rarely,
  };
  const mixed: Fate = { age: any, happens: () => any(2) === 0 };
  const tempers = [KEPT, LOST, mixed, oftenKept, oftenLost];
  return () => tempers[any(tempers.length)]!;
}

const KEPT: Fate = { age: () => 0, happens: () => true };
const LOST: Fate = { age: (count) => count - 1, happens: () => false };
