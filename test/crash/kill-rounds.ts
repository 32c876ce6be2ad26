import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { BLOCK_BYTES, MiB } from '../../src/base/units.ts';
import type { Net } from '../../src/contracts/net.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { simRandom } from '../../src/sim/sim-random.ts';
import { COLLIE, Daemon, SHEEP, succeed } from '../app/daemon.ts';
import { scratch } from '../cluster/scratch.ts';
import { TestClient } from '../nbd/client.ts';
import { StampedDisk } from './stamped-disk.ts';
import { type LoadCounts, StampedLoad } from './stamped-load.ts';

const VDI = 'stamped';
const DISK_BYTES = 64 * MiB;
/** The smallest there is, so that requests span objects, and trims free whole ones. */
const OBJECT_SIZE = '1M';
const READ_BYTES = MiB;

/** What happens between the load and the daemon that is held against the promise. */
const STORIES = [
  'killed',
  'killed while stopping',
  'killed, and once more while starting',
  'killed, started and stopped without being used',
] as const;
type Story = (typeof STORIES)[number];

export interface Round extends LoadCounts {
  readonly story: Story;
  /** From the start of the process to its ready line, after the kill. */
  readonly restartMs: number;
  readonly checkedBlocks: number;
  /** Blocks that hold what they may not, and errors that clients saw: empty if all is well. */
  readonly violations: readonly string[];
}

/**
 * A `sheep` under stamped writes of several connections is killed at a random moment and started
 * again on the same store, over and over with the same disk; at last it is stopped as it should be.
 * Ends after the first round with a violation, because nobody knows the disk's state from there on.
 * @param seed  decides everything but the timing
 */
export async function* runKillRounds(options: {
  readonly seed: number;
  readonly rounds: number;
}): AsyncGenerator<Round> {
  const random = simRandom(options.seed);
  await using directory = await scratch();
  const store = `${directory.path}/store`;
  const unix = `unix:${directory.path}/nbd.sock`;
  const admin = `unix:${store}/admin.sock`;
  const args = [store, '-n', '127.0.0.1:0', '-n', unix, '--admin', admin];
  const disk = new StampedDisk(DISK_BYTES / BLOCK_BYTES, 1 + random.below(4095));
  const net = await openNodeNet();
  let daemon = await Daemon.start(args);
  try {
    const create = ['vdi', 'create', VDI, `${DISK_BYTES}`, '--object-size', OBJECT_SIZE];
    await succeed(COLLIE, ['-a', admin, ...create]);
    for (let round = 0; round < options.rounds; round += 1) {
      const story = STORIES[(round + options.seed) % STORIES.length] as Story;
      const load = new StampedLoad(disk, random);
      const addresses = [daemon.nbd, daemon.nbd, unix, unix];
      await stopUnderLoad(daemon, story, load, random, load.run(net, addresses, VDI));
      await interlude(story, args, random);
      const startedMs = performance.now();
      daemon = await Daemon.start(args);
      const restartMs = performance.now() - startedMs;
      const wrong = await readAndCompare(net, daemon, disk);
      const violations = [...load.counts.errors, ...wrong];
      const checkedBlocks = DISK_BYTES / BLOCK_BYTES;
      yield { ...load.counts, story, restartMs, checkedBlocks, violations };
      if (violations.length > 0) return;
    }
    await expectStop(daemon);
    daemon = await Daemon.start(args);
    const wrong = await readAndCompare(net, daemon, disk);
    if (wrong.length > 0) throw new Error(`after a clean stop: ${wrong.join('; ')}`);
  } finally {
    await daemon[Symbol.asyncDispose]();
  }
}

/** Lets the load run for a while, then kills the daemon in the middle of it. */
async function stopUnderLoad(
  daemon: Daemon,
  story: Story,
  load: StampedLoad,
  random: Random,
  running: Promise<void>,
): Promise<void> {
  const answers = load.answers(50 + random.below(1500));
  await Promise.race([answers, running]);
  await sleep(random.below(10));
  if (story === 'killed while stopping') {
    daemon.child.kill('SIGTERM');
    await sleep(random.below(60));
  }
  await daemon.stop('SIGKILL');
  await running;
}

async function interlude(story: Story, args: readonly string[], random: Random): Promise<void> {
  if (story === 'killed, and once more while starting') {
    const child = spawn(SHEEP, [...args], { stdio: 'ignore' });
    const ended = once(child, 'close');
    await sleep(random.below(600));
    child.kill('SIGKILL');
    await ended;
  }
  if (story === 'killed, started and stopped without being used') {
    await using unused = await Daemon.start(args);
    await expectStop(unused);
  }
}

async function expectStop(daemon: Daemon): Promise<void> {
  const status = await daemon.stop('SIGTERM');
  if (status !== 0)
    throw new Error(`SIGTERM ended it with ${status}: ${JSON.stringify(daemon.log)}`);
}

/** All of the disk as a client sees it, held against what was promised. */
async function readAndCompare(net: Net, daemon: Daemon, disk: StampedDisk): Promise<string[]> {
  const client = await TestClient.connect(net, daemon.nbd);
  try {
    await client.go(VDI);
    const contents = new Uint8Array(DISK_BYTES);
    for (let at = 0; at < DISK_BYTES; at += READ_BYTES) {
      contents.set(await client.read(at, READ_BYTES), at);
    }
    return disk.reopen(contents);
  } catch (error) {
    const said = daemon.log.filter(({ level }) => level === 'error');
    return [`reading it back: ${String(error)}; the log: ${JSON.stringify(said)}`];
  } finally {
    client.stream.destroy();
  }
}
