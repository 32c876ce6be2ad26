/** One run of a vitest project, and what it is allowed to take. */
export interface Suite {
  /** The project of this name in vitest.config.ts. */
  readonly name: string;
  readonly what: string;
  readonly budgetMinutes: number;
}

/** In the order in which they run: what fails soonest and costs least comes first. */
export const SUITES: readonly Suite[] = [
  { name: 'unit', what: 'units and contracts', budgetMinutes: 4 },
  { name: 'package', what: 'the packed package, installed; a booted systemd', budgetMinutes: 2 },
  { name: 'interop', what: 'NBD clients against a real daemon', budgetMinutes: 2 },
  { name: 'app', what: 'sheep and collie as people use them', budgetMinutes: 5 },
  { name: 'vm', what: 'a Linux guest on VDIs', budgetMinutes: 3 },
  { name: 'sim', what: 'crashes and simulation', budgetMinutes: 4 },
];

/** The checks that run no code, as npm scripts; together they are the suite "check". */
export const CHECKS: readonly { readonly name: string; readonly command: readonly string[] }[] = [
  { name: 'tsc', command: ['tsc', '-p', 'tsconfig.test.json'] },
  { name: 'biome', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: 'tidy', command: ['node', 'scripts/tidy.ts'] },
  { name: 'knip', command: ['knip'] },
];

export const CHECK_BUDGET_MINUTES = 1;
