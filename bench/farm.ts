import { copyFile, constants as files, mkdir, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MiB } from '../src/base/units.ts';
import { change, changeVdi, type Pattern } from './disk-changes.ts';
import { farmBeside } from './farm-beside.ts';
import { isAsked, type Options } from './options.ts';
import {
  bytesBelow,
  type ResticRepository,
  type Restored,
  resticRepository,
  resticVersion,
} from './restic.ts';
import { rootImage } from './root-image.ts';
import type { Scope } from './scope.ts';
import { adminSocket, startSheep } from './servers.ts';
import { median } from './statistics.ts';
import { table } from './table.ts';

const COLLIE = resolve(import.meta.dirname, '../bin/collie');
const VDI = 'root';
const CHANGED_SHARE = 0.01;
/** Parts that need a store with a backup of the image. */
const STORED = ['backups', 'clones', 'verify', 'restore'];
const CLONES = 10;
/** What each of the clones changes. */
const CLONE_BYTES = 16 * MiB;

interface Row {
  readonly what: string;
  readonly collie: string;
  readonly restic: string;
  readonly ratio: string;
  readonly goal: string;
}
type Say = (line: string) => void;

/** How long something took, and what it left. */
interface Cost {
  readonly ms: number;
  readonly bytes: number;
}

/** Backups of a Debian root file system, beside restic on an image file with the same bytes. */
export async function farm(
  scope: Scope,
  options: Options,
  say: Say,
): Promise<{ rows: Row[]; text: string }> {
  const other = resticVersion();
  const rows: Row[] = [];
  if (STORED.some((part) => isAsked(options, part))) {
    rows.push(...(await stored(scope, options, say)));
  }
  if (isAsked(options, 'beside')) rows.push(...(await beside(scope, options, say)));
  const cells = rows.map(({ what, collie, restic, ratio, goal }) => {
    return [what, collie, restic, ratio, goal];
  });
  const head = ['backups and snapshots', 'sheepdog-nbd', other, 'ratio', 'goal'];
  return { rows, text: table(head, cells) };
}

async function beside(scope: Scope, { sizeBytes, rounds }: Options, say: Say): Promise<Row[]> {
  const image = await rootImage(scope, sizeBytes, say);
  const measured = await farmBeside(scope, image, rounds, say);
  return measured.map((one) => ({
    what: `snapshot of the cluster (${one.snapshotSeconds.toFixed(1)} s alone) beside 4 KiB random writes, depth ${one.depth}`,
    collie:
      `the writer keeps ${one.writerKeeps.toFixed(2)}, the snapshot ${one.snapshotKeeps.toFixed(2)}; ` +
      `longest write ${one.longestMs.toFixed(0)} ms (alone ${one.longestAloneMs.toFixed(0)})`,
    restic: '',
    ratio: '',
    goal: '0.80, 0.50, 100 ms',
  }));
}

/** Each begins with a first backup of the image: measured only for `backups`. */
async function stored(scope: Scope, options: Options, say: Say): Promise<Row[]> {
  await using bench = await FarmBench.start(scope, options, say);
  const rows: Row[] = [];
  if (isAsked(options, 'backups')) rows.push(...(await backups(bench, options)));
  else await bench.firstBackups(1);
  if (isAsked(options, 'clones')) rows.push(await bench.clones());
  if (isAsked(options, 'verify')) rows.push(await bench.verified());
  if (isAsked(options, 'restore')) rows.push(...(await bench.restored(options.rounds)));
  return rows;
}

async function backups(bench: FarmBench, options: Options): Promise<Row[]> {
  const first = await bench.firstBackups(options.rounds);
  const rows = [speedRow('first backup', first, 1 / 1.2), spaceRow('first backup', first, 1.1)];
  const runs = await bench.changed('runs', options.rounds);
  rows.push(
    speedRow('after 1 % changed in runs of 1 MiB', runs, 0.1),
    spaceRow('after 1 % changed in runs of 1 MiB', runs),
    ownRow('after 1 % in runs, of its first backup', runs, first),
  );
  const scattered = await bench.changed('scattered', options.rounds);
  rows.push(
    speedRow('after 1 % changed as scattered 4 KiB', scattered, 0.5),
    spaceRow('after 1 % changed as scattered 4 KiB', scattered, 2),
  );
  return rows;
}

/** What both did, round by round. */
interface Compared {
  readonly collie: readonly Cost[];
  readonly restic: readonly Cost[];
}

class FarmBench implements AsyncDisposable {
  readonly #scope: Scope;
  readonly #say: Say;
  readonly #socket: string;
  readonly #admin: string;
  /** The same bytes as the VDI. */
  readonly #image: string;
  readonly #dataBytes: number;
  #store = '';
  #repository: ResticRepository | undefined;
  #tags = 0;

  private constructor(scope: Scope, say: Say, image: string, dataBytes: number) {
    this.#scope = scope;
    this.#say = say;
    this.#image = image;
    this.#dataBytes = dataBytes;
    this.#socket = join(scope.directory, 'farm.sock');
    this.#admin = `unix:${adminSocket(scope, 'farm')}`;
  }

  static async start(scope: Scope, { sizeBytes }: Options, say: Say): Promise<FarmBench> {
    const original = await rootImage(scope, sizeBytes, say);
    const image = join(scope.directory, 'root.img');
    await copyFile(original, image, files.COPYFILE_FICLONE);
    // A copy is not always as sparse as what it was made of.
    await scope.children.run('fallocate', ['--dig-holes', image]);
    const { blocks } = await stat(image);
    const bench = new FarmBench(scope, say, image, blocks * 512);
    await startSheep(scope, 'farm', []);
    say('importing the image');
    await bench.collie('vdi', 'import', image, VDI);
    return bench;
  }

  /** One command. @returns how long it took, the program's start included */
  async collie(...words: readonly string[]): Promise<number> {
    const began = performance.now();
    await this.#scope.children.run(COLLIE, ['-a', this.#admin, ...words]);
    return performance.now() - began;
  }

  /** Each round into a new place, and into that of the last one everything later. */
  async firstBackups(rounds: number): Promise<Compared> {
    const tag = await this.#snapshot(VDI);
    const costs = { collie: [] as Cost[], restic: [] as Cost[] };
    for (let round = 0; round < rounds; round += 1) {
      await rm(this.#store, { recursive: true, force: true });
      await this.#repository?.remove();
      this.#store = join(this.#scope.directory, `store${round}`);
      this.#repository = await resticRepository(this.#scope, `${round}`);
      await this.#both(round, costs, tag, 'first backup');
    }
    return costs;
  }

  /** Each round changes the disk once more. */
  async changed(pattern: Pattern, rounds: number): Promise<Compared> {
    const costs = { collie: [] as Cost[], restic: [] as Cost[] };
    for (let round = 0; round < rounds; round += 1) {
      const changedBytes = this.#dataBytes * CHANGED_SHARE;
      await change(this.#image, this.#socket, VDI, pattern, changedBytes, this.#tags + 1);
      const tag = await this.#snapshot(VDI);
      await this.#both(round, costs, tag, `1 % changed, ${pattern}`);
    }
    return costs;
  }

  /** Machines from one base that is in the store, each with its own changes, each backed up. */
  async clones(): Promise<Row> {
    const tag = await this.#snapshot(VDI);
    await this.#create(tag);
    const baseBytes = await bytesBelow(this.#store);
    const times: number[] = [];
    for (let nth = 0; nth < CLONES; nth += 1) {
      const clone = `clone${nth}`;
      await this.collie('vdi', 'clone', `${VDI}@${tag}`, clone);
      await changeVdi(this.#image, this.#socket, clone, 'runs', CLONE_BYTES, 1000 + nth);
      const own = `${clone}@${await this.#snapshot(clone)}`;
      times.push(await this.collie('backup', 'create', own, '--to', this.#store));
      this.#say(`backup of ${clone}: ${seconds(times.at(-1) ?? 0)}`);
    }
    const bytes = (await bytesBelow(this.#store)) - baseBytes;
    return {
      what: `${CLONES} clones of a disk that is in the store, ${CLONE_BYTES / MiB} MiB changed in each`,
      collie: `${seconds(median(times))} each; ${mib(bytes)} together, beside ${mib(baseBytes)}`,
      restic: '',
      ratio: '',
      goal: 'the base once',
    };
  }

  async verified(): Promise<Row> {
    const ms = await this.collie('backup', 'verify', this.#store);
    const resticMs = (await this.#repository?.check()) ?? Number.NaN;
    return row('verifying every byte', seconds(ms), seconds(resticMs), ms / resticMs);
  }

  /** `collie` ends when what it wrote is stable; restic does not wait for that. */
  async restored(rounds: number): Promise<Row[]> {
    const list = ['--json', 'backup', 'list', this.#store];
    const listed = await this.#scope.children.run(COLLIE, list);
    const { backups } = JSON.parse(listed) as {
      backups: { id: string; source: string }[];
    };
    const id = backups.findLast(({ source }) => source.startsWith(`${VDI}@`))?.id ?? '';
    const ms: number[] = [];
    const restic: Restored[] = [];
    for (let round = 0; round < rounds; round += 1) {
      await this.#settled();
      ms.push(await this.collie('backup', 'restore', this.#store, id, 'again'));
      await this.collie('vdi', 'delete', 'again');
      await this.#settled();
      const one = await (this.#repository as ResticRepository).restore(this.#image);
      restic.push(one);
      this.#say(`restored: ${seconds(ms.at(-1) ?? 0)}, restic: ${seconds(one.ms)}`);
    }
    const own = median(ms);
    const theirs = (what: keyof Restored) => median(restic.map((one) => one[what]));
    const rowOf = (what: string, of: number) => row(what, seconds(own), seconds(of), own / of);
    return [
      rowOf('restoring, until all is stable', theirs('stableMs')),
      rowOf('restoring, restic without a sync', theirs('ms')),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#repository?.remove();
  }

  async #both(
    round: number,
    costs: { readonly collie: Cost[]; readonly restic: Cost[] },
    tag: string,
    what: string,
  ): Promise<void> {
    const ways = {
      collie: () => this.#cost(this.#store, () => this.#create(tag)),
      restic: async () => {
        const repository = this.#repository as ResticRepository;
        return this.#cost(repository.directory, () => repository.backup(this.#image));
      },
    };
    const order =
      round % 2 === 0 ? (['collie', 'restic'] as const) : (['restic', 'collie'] as const);
    for (const name of order) {
      const cost = await ways[name]();
      costs[name].push(cost);
      this.#say(`${what}, ${name}: ${seconds(cost.ms)}, ${mib(cost.bytes)}`);
    }
  }

  #create(tag: string): Promise<number> {
    return this.collie('backup', 'create', `${VDI}@${tag}`, '--to', this.#store);
  }

  async #cost(directory: string, work: () => Promise<number>): Promise<Cost> {
    await mkdir(directory, { recursive: true });
    const before = await bytesBelow(directory);
    await this.#settled();
    const ms = await work();
    return { ms, bytes: (await bytesBelow(directory)) - before };
  }

  /** What one left dirty would be written back at the other's cost. */
  async #settled(): Promise<void> {
    await this.#scope.children.run('sync', ['-f', this.#scope.directory]);
  }

  async #snapshot(vdi: string): Promise<string> {
    const tag = `s${this.#tags++}`;
    await this.collie('vdi', 'snapshot', '-s', tag, vdi);
    return tag;
  }
}

const medianOf = (costs: readonly Cost[], what: keyof Cost) =>
  median(costs.map((one) => one[what]));

function speedRow(what: string, { collie, restic }: Compared, atMost: number): Row {
  const [own, theirs] = [medianOf(collie, 'ms'), medianOf(restic, 'ms')];
  return row(`${what}: time`, seconds(own), seconds(theirs), own / theirs, atMost);
}

function spaceRow(what: string, { collie, restic }: Compared, atMost?: number): Row {
  const [own, theirs] = [medianOf(collie, 'bytes'), medianOf(restic, 'bytes')];
  return row(`${what}: space`, mib(own), mib(theirs), own / theirs, atMost);
}

/** A later backup as a part of the first one. */
function ownRow(what: string, later: Compared, first: Compared): Row {
  const share = (who: keyof Compared) => {
    const part = (of: keyof Cost) => medianOf(later[who], of) / medianOf(first[who], of);
    return `${percent(part('ms'))} of time, ${percent(part('bytes'))} of space`;
  };
  return { what, collie: share('collie'), restic: share('restic'), ratio: '', goal: '3 %, 3 %' };
}

function row(what: string, collie: string, restic: string, ratio: number, atMost?: number): Row {
  const goal = atMost === undefined ? '' : `at most ${atMost.toFixed(2)}`;
  return { what, collie, restic, ratio: ratio.toFixed(2), goal };
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
const mib = (bytes: number) => `${(bytes / MiB).toFixed(0)} MiB`;
const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
