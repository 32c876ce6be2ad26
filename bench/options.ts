import { freemem, tmpdir } from 'node:os';
import { matchesGlob } from 'node:path';
import { parseArgs } from 'node:util';
import { GiB, KiB, MiB, TiB } from '../src/base/units.ts';
import { SERVER_NAMES, type ServerName } from './servers.ts';

export const SCENARIOS = [
  'compare',
  'memory',
  'fairness',
  'flush',
  'snapshots',
  'slices',
  'packs',
  'farm',
  'door',
  'tls',
] as const;
export type Scenario = (typeof SCENARIOS)[number];

export interface Options {
  readonly scenario: Scenario;
  readonly only: readonly string[];
  readonly servers: readonly ServerName[];
  readonly rounds: number;
  readonly seconds: number;
  readonly sizeBytes: number;
  /** Of the large disk of `snapshots`. */
  readonly objects: number;
  /** What `slices` looks at; none: an image of /usr. */
  readonly images: readonly string[];
  readonly directory: string;
  /** Where the results go; absent: bench/results/SCENARIO-COMMIT.json. */
  readonly json?: string;
}

/** Whether a part of a scenario is to be measured. */
export function isAsked({ only }: Options, part: string): boolean {
  return only.some((glob) => matchesGlob(part, glob));
}

export const USAGE = `npm run bench -- [compare] [options]   sheep beside nbdkit and qemu-nbd (default)
npm run bench -- memory [options]      a 4 TiB VDI with 100,000 objects: start, resident memory
npm run bench -- fairness [options]    small reads beside a writer at full speed; cold beside hot
npm run bench -- flush [options]       what a flush costs by each of three ways
npm run bench -- snapshots [options]   snapshots and clones: making, reading, writing, deleting
npm run bench -- farm [options]        backups of an image with this machine's /usr, beside restic:
                                       --only backups, clones, verify, restore; and, with --only
                                       beside, a snapshot of the cluster beside a writer
npm run bench -- slices [options]      what slices of a backup cost, by their size and zstd's level
npm run bench -- packs [options]       objects of backups as files and in packs (--only ways); a store
                                       of a million slices (--only million)
npm run bench -- door [options]        what strangers and bad clients cost: memory, others' throughput
npm run bench -- tls [options]         inside TLS, beside qemu-nbd with the same certificates

  --only GLOB        of the names of cases, as in 'write-4k-*'; repeatable
  --servers A,B      of ${SERVER_NAMES.join(', ')}
  --rounds N         of each case, alternating between the servers; default 3
  --seconds S        of each measurement; default 3
  --size SIZE        of the disk, as in 2G; default: 8G, or less if memory does not hold it
  --objects N        of the large disk of 'snapshots'; default 1000000
  --image FILE       a raw image for 'slices'; repeatable; default: one with this machine's /usr
  --dir DIR          where the disks lie; default: the system's directory for temporary files
  --json FILE        for the results; default: bench/results/SCENARIO-COMMIT.json`;

/** @throws Error with a sentence that says what is wrong */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true },
      servers: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      size: { type: 'string' },
      objects: { type: 'string' },
      image: { type: 'string', multiple: true },
      dir: { type: 'string' },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return 'help';
  const [name = 'compare', ...more] = positionals;
  const scenario = SCENARIOS.find((one) => one === name);
  if (scenario === undefined || more.length > 0) {
    throw new Error(`no benchmark "${positionals.join(' ')}"; there are ${SCENARIOS.join(', ')}`);
  }
  return {
    scenario,
    only: values.only ?? ['*'],
    servers: values.servers === undefined ? SERVER_NAMES : serverNames(values.servers),
    rounds: values.rounds === undefined ? 3 : wholeNumber('--rounds', values.rounds),
    seconds: values.seconds === undefined ? 3 : wholeNumber('--seconds', values.seconds),
    sizeBytes: values.size === undefined ? usualSize(scenario) : parseSize(values.size),
    objects: values.objects === undefined ? 1_000_000 : wholeNumber('--objects', values.objects),
    images: values.image ?? [],
    directory: values.dir ?? tmpdir(),
    ...(values.json === undefined ? {} : { json: values.json }),
  };
}

function serverNames(list: string): ServerName[] {
  return list.split(',').map((name) => {
    const known = SERVER_NAMES.find((one) => one === name);
    if (known === undefined) {
      throw new Error(`no server "${name}"; there are ${SERVER_NAMES.join(', ')}`);
    }
    return known;
  });
}

function wholeNumber(option: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`${option} is a whole number, not "${text}"`);
  return Number(text);
}

function parseSize(text: string): number {
  const [, digits, unit] = /^([1-9]\d*)([KMGT])$/i.exec(text) ?? [];
  if (digits === undefined || unit === undefined) {
    throw new Error(`--size is a number and K, M, G or T, not "${text}"`);
  }
  const factor = { k: KiB, m: MiB, g: GiB, t: TiB }[unit.toLowerCase()] ?? Number.NaN;
  return Number(digits) * factor;
}

/** An image of /usr is sparse, and is read from the disk if it has to be. */
function usualSize(scenario: Scenario): number {
  return scenario === 'farm' || scenario === 'slices' ? 8 * GiB : sizeThatFits();
}

/** Three copies of the disk have to stay in the page cache, with room for dirty pages. */
function sizeThatFits(): number {
  let sizeBytes = 8 * GiB;
  while (sizeBytes > 256 * MiB && sizeBytes * 4 > freemem()) sizeBytes /= 2;
  return sizeBytes;
}
