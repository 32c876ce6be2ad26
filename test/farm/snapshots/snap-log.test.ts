import { describe, expect, test } from 'vitest';
import {
  encodeSnapLine,
  readSnapLog,
  type SnapLine,
} from '../../../src/farm/snapshots/snap-log-format.ts';
import { beginWriting } from '../../../src/farm/snapshots/writer.ts';
import type { SimDisk } from '../../../src/sim/sim-disk.ts';
import { simRandom } from '../../../src/sim/sim-random.ts';
import { backUp, bytesOf, change, someDisk } from './backups.ts';
import { DIRECTORY, emptyDisk, openStore } from './store-world.ts';

const STORE = new Uint8Array(16).fill(0xab);
const PATH = `${DIRECTORY}/user_snap`;

const line = (seed: number): SnapLine => ({
  kind: seed % 3 === 2 ? 'cancel' : 'snap',
  epoch: seed,
  timeMs: 1_795_000_000_000 + seed,
  name: simRandom(seed).bytes(32),
  tag: `tag ${'é'.repeat(seed % 5)}${seed}`,
});
const lines = Array.from({ length: 6 }, (_, seed) => line(seed));
const log = Buffer.concat(lines.map((each) => encodeSnapLine(each, STORE)));

describe('the bytes of a log', () => {
  test('are read as they were written', () => {
    expect(readSnapLog(log, STORE, 'log')).toEqual({ lines, end: log.length, tail: 'clean' });
  });

  test('cut anywhere, give the lines that are whole, and no damage', () => {
    for (let length = 0; length < log.length; length += 1) {
      const { lines: found, tail, end } = readSnapLog(log.subarray(0, length), STORE, 'log');
      expect(found).toEqual(lines.slice(0, found.length));
      expect(tail).toBe(end === length ? 'clean' : 'torn');
      expect(length - end).toBeLessThan(100);
    }
  });

  test('with a last line of which sectors were not written are torn', () => {
    const long = { ...line(1), tag: 'x'.repeat(250) };
    const before = Buffer.concat([log, encodeSnapLine(long, STORE)]);
    const whole = Buffer.concat([before, encodeSnapLine(long, STORE)]);
    for (let sector = 0; sector < whole.length; sector += 512) {
      if (sector + 512 <= before.length) continue;
      const torn = Buffer.from(whole);
      torn.fill(0, Math.max(sector, before.length), Math.min(sector + 512, torn.length));
      const { lines: found, tail } = readSnapLog(torn, STORE, 'log');
      expect([found.length, tail]).toEqual([lines.length + 1, 'torn']);
    }
  });

  test('with a byte changed anywhere lose at most that line, and say so', () => {
    for (let at = 0; at < log.length; at += 1) {
      const bad = Buffer.from(log);
      bad[at]! ^= 0x40;
      const { lines: found, tail } = readSnapLog(bad, STORE, 'log');
      expect(tail).not.toBe('clean');
      expect(found.length).toBe(lines.length - 1);
      // A last line whose length cannot be known may have been cut off.
      if (at < log.length - 90) expect(tail).toBe('damaged');
      for (const each of found) expect(lines).toContainEqual(each);
    }
  });

  test('of another store are refused, also in the middle', () => {
    const foreign = encodeSnapLine(line(9), new Uint8Array(16).fill(1));
    expect(() => readSnapLog(Buffer.concat([log, foreign, log]), STORE, 'log')).toThrow(
      expect.objectContaining({
        code: 'ERR_VERSION',
        message: `log has a line of another store at byte ${log.length}; put the file back that belongs here`,
      }),
    );
  });
});

async function alter(disk: SimDisk, change: (bytes: Buffer) => Uint8Array): Promise<void> {
  await using file = await disk.open(PATH);
  const bytes = Buffer.alloc(await file.size());
  await file.read(0, bytes);
  const altered = change(bytes);
  await file.truncate(0);
  await file.write(0, altered);
}

/** Three snaps, and the middle one cancelled. */
async function withSnaps() {
  const disk = emptyDisk();
  await using store = await openStore({ disk });
  await using writer = await beginWriting(store);
  const device = someDisk(50, 1);
  const states: Buffer[] = [];
  const snaps = [];
  for (const round of [0, 1, 2]) {
    change(device, round, round);
    states.push(Buffer.from(device.bytes));
    snaps.push(await backUp(writer, device, `t${round}`, { timeMs: round }));
  }
  await writer.cancelSnap(snaps[1]!);
  return { disk, states, snaps };
}

describe('a store whose log', () => {
  test('has a torn tail opens, shows the rest, and goes on behind it', async () => {
    const { disk, snaps, states } = await withSnaps();
    await alter(disk, (bytes) => bytes.subarray(0, bytes.length - 3));
    await using store = await openStore({ disk });
    // What was torn is the line that cancels.
    expect(store.snaps().map(({ tag }) => tag)).toEqual(['t0', 't1', 't2']);
    {
      await using writer = await beginWriting(store);
      await writer.cancelSnap(snaps[0]!);
    }
    await using again = await openStore({ disk });
    expect(again.snaps().map(({ tag }) => tag)).toEqual(['t1', 't2']);
    expect(Buffer.compare(await bytesOf(again, snaps[2]!), states[2]!)).toBe(0);
  });

  test.for([
    ['is damaged in its first line', (bytes: Buffer) => bytes.fill(1, 30, 31)],
    ['is damaged in its last line of a snap', (bytes: Buffer) => bytes.fill(1, 200, 201)],
    ['is empty noise', (bytes: Buffer) => Buffer.alloc(bytes.length, 0x55)],
  ] as const)('%s loses no snap: their objects tell', async ([, damage]) => {
    const { disk, states, snaps } = await withSnaps();
    await alter(disk, damage);
    await using store = await openStore({ disk });
    const tags = () => store.snaps().map(({ tag }) => tag);
    expect(tags()).toEqual(expect.arrayContaining(['t0', 't2']));
    expect(Buffer.compare(await bytesOf(store, snaps[0]!), states[0]!)).toBe(0);
    const before = tags();
    {
      await using _writer = await beginWriting(store);
    }
    // The next writer has written it anew.
    await using again = await openStore({ disk });
    expect(again.logs.user.isDamaged).toBe(false);
    expect(again.snaps().map(({ tag }) => tag)).toEqual(before);
  });

  test('is missing finds its snaps again', async () => {
    const { disk, snaps } = await withSnaps();
    await disk.remove(PATH);
    await using store = await openStore({ disk });
    expect(store.snaps().map(({ id }) => id)).toEqual(snaps.map(({ id }) => id));
    await using writer = await beginWriting(store);
    await writer.cancelSnap(snaps[0]!);
    await using again = await openStore({ disk });
    expect(again.snaps().map(({ tag }) => tag)).toEqual(['t1', 't2']);
  });

  test('is of another store is refused, and nothing is touched', async () => {
    const { disk } = await withSnaps();
    await alter(disk, (bytes) => Buffer.concat([bytes, encodeSnapLine(line(1), STORE)]));
    await expect(openStore({ disk })).rejects.toMatchObject({ code: 'ERR_VERSION' });
  });
});
