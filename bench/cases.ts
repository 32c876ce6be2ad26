/** What fio does in one case. */
export interface FioCase {
  readonly kind: 'fio';
  readonly name: string;
  readonly pattern: 'randread' | 'randwrite' | 'read' | 'write';
  readonly blockBytes: number;
  readonly depth: number;
  readonly connections: number;
  /** A flush after every so many writes. */
  readonly fsync?: number;
  readonly goal?: Goal;
}

/** `qemu-img convert -n -t writethrough` of an image into the disk. */
export interface ConvertCase {
  readonly kind: 'convert';
  readonly name: string;
  readonly goal?: Goal;
}

export type Case = FioCase | ConvertCase;

/** The least that is promised, as a multiple of nbdkit's speed in the same run. */
export interface Goal {
  readonly checksums: number;
  readonly noChecksums: number;
}

/** A latency at most 1.2 times nbdkit's is a speed of so much at depth 1. */
const LATENCY_GOAL = { checksums: 1 / 1.2, noChecksums: 1 / 1.2 };
const SYNC_GOAL = { checksums: 0.5, noChecksums: 0.5 };
const K4 = 4096;
const M1 = 1024 * 1024;

type Shape = Omit<FioCase, 'kind' | 'name' | 'connections'>;

const SHAPES: readonly (readonly [name: string, shape: Shape])[] = [
  ['read-4k-d1', { pattern: 'randread', blockBytes: K4, depth: 1, goal: LATENCY_GOAL }],
  [
    'read-4k-d32',
    {
      pattern: 'randread',
      blockBytes: K4,
      depth: 32,
      goal: { checksums: 1.5, noChecksums: 1.5 },
    },
  ],
  ['write-4k-d1', { pattern: 'randwrite', blockBytes: K4, depth: 1, goal: LATENCY_GOAL }],
  [
    'write-4k-d32',
    {
      pattern: 'randwrite',
      blockBytes: K4,
      depth: 32,
      goal: { checksums: 0.9, noChecksums: 1 },
    },
  ],
  ...[1, 32].flatMap((depth) =>
    [1, 32].map((fsync): readonly [string, Shape] => [
      `write-4k-d${depth}-fsync${fsync}`,
      { pattern: 'randwrite', blockBytes: K4, depth, fsync, goal: SYNC_GOAL },
    ]),
  ),
  [
    'read-1m-d8',
    { pattern: 'read', blockBytes: M1, depth: 8, goal: { checksums: 0.7, noChecksums: 0.75 } },
  ],
  [
    'write-1m-d8',
    { pattern: 'write', blockBytes: M1, depth: 8, goal: { checksums: 0.5, noChecksums: 0.75 } },
  ],
];

/** Goals hold for one connection; four are shown beside them. Convert comes last: it leaves holes. */
export const CASES: readonly Case[] = [
  ...SHAPES.map(([name, shape]): Case => ({ kind: 'fio', name, connections: 1, ...shape })),
  ...SHAPES.map(([name, { goal: _, ...shape }]): Case => {
    return { kind: 'fio', name: `${name}-c4`, connections: 4, ...shape };
  }),
  { kind: 'convert', name: 'convert-writethrough', goal: { checksums: 0.7, noChecksums: 0.7 } },
];
