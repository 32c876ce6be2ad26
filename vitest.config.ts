import { defineConfig } from 'vitest/config';

/** Folders below test/ whose tests need no built daemon, no tool and no long run. */
const unitFolders = [
  'base',
  'contracts',
  'nbd',
  'vdi',
  'cache',
  'farm',
  'cluster',
  'config',
  'cli',
  'host',
  'app-unit',
  'tidy',
  'scripts',
];

const files = (folders: readonly string[]) =>
  folders.map((folder) => `test/${folder}/**/*.test.ts`);

/** What each suite is allowed to take stands in scripts/suites.ts. */
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      { test: { name: 'unit', include: files(unitFolders), testTimeout: 10_000 } },
      {
        test: {
          name: 'sim',
          include: files(['sim', 'crash']),
          globalSetup: './scripts/built.ts',
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'interop',
          include: files(['interop']),
          globalSetup: './scripts/built.ts',
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'app',
          include: files(['app', 'fuzz']),
          globalSetup: './scripts/built.ts',
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'vm',
          include: files(['vm']),
          globalSetup: ['./scripts/built.ts', './scripts/vm/provided.ts'],
          // One guest at a time: each emulates a whole processor.
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'package',
          include: files(['package']),
          globalSetup: './scripts/built.ts',
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
