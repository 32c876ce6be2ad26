import { cp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { ERRNO } from '../../src/nbd/constants.ts';
import {
  Attached,
  digestOf,
  flipBit,
  logged,
  type TestStore,
  testStore,
} from './bad-luck-store.ts';
import { run, SHEEP } from './daemon.ts';

const BLOCK = 4 * KiB;
/** Header and table of an object of 4 MiB (FORMATS.md, "Object file"). */
const DATA_AT = 2 * BLOCK;

/** The file of the VDI `demo`'s object; `inode` for its node of that index. */
function objectFile(it: TestStore, index: number, kind: 'data' | 'inode' = 'data'): string {
  const oid = `${kind === 'data' ? '0' : '1'}00000001${index.toString(16).padStart(7, '0')}`;
  return `${it.store}/obj/${(index & 0xff).toString(16).padStart(2, '0')}/${oid}`;
}

type Stop = 'SIGTERM' | 'SIGKILL';

/** A store that was in use and stopped: two VDIs with 8 MiB of data each. */
async function useStore(how: Stop): Promise<TestStore> {
  const it = await testStore();
  await using daemon = await it.start('--vdi', 'demo:64M', '--vdi', 'other:64M');
  for (const [name, value] of [
    ['demo', 7],
    ['other', 9],
  ] as const) {
    await using client = await Attached.to(daemon.nbd, name);
    expect(await client.write(0, 8 * MiB, value)).toBe(0);
    // Small flushes, each a record of the journal.
    for (let index = 0; index < 8; index += 1) {
      expect(await client.write(index * 64 * KiB, 16 * KiB, value)).toBe(0);
      expect(await client.flush()).toBe(0);
    }
  }
  await daemon.stop(how);
  return it;
}

const used = new Map<Stop, TestStore>();
beforeAll(async () => {
  for (const how of ['SIGTERM', 'SIGKILL'] as const) used.set(how, await useStore(how));
});
afterAll(async () => {
  for (const store of used.values()) await store[Symbol.asyncDispose]();
});

/** A copy of it, to be damaged. */
async function usedStore(how: Stop): Promise<TestStore> {
  const it = await testStore();
  await cp((used.get(how) as TestStore).store, it.store, { recursive: true });
  return it;
}

describe('damage in an object', () => {
  test('a block whose bytes changed is an error, and everything else is served', async () => {
    await using it = await usedStore('SIGTERM');
    await flipBit(objectFile(it, 0), DATA_AT + 5 * BLOCK + 1234);
    await using daemon = await it.start();
    await using client = await Attached.to(daemon.nbd, 'demo');
    expect(await client.read(5 * BLOCK, BLOCK)).toBe(`errno ${ERRNO.EIO}`);
    expect(await client.read(5 * BLOCK + 100, 1)).toBe(`errno ${ERRNO.EIO}`);
    expect(await client.read(0, MiB)).toBe(`errno ${ERRNO.EIO}`);
    expect(await client.read(0, 5 * BLOCK)).toBe(7);
    expect(await client.read(6 * BLOCK, 2 * MiB)).toBe(7);
    expect(await client.read(4 * MiB, 4 * MiB)).toBe(7);
    await expect
      .poll(() => logged(daemon, 'nbd.request-failed')[0])
      .toMatchObject({
        level: 'error',
        errno: ERRNO.EIO,
        cause: expect.stringContaining('object 0000000010000000 is damaged at block 5'),
      });
    await using other = await Attached.to(daemon.nbd, 'other');
    expect(await other.read(0, 8 * MiB)).toBe(9);
    expect(await other.write(0, BLOCK, 1)).toBe(0);
  });

  test('a write of a part of a damaged block does not make it look sound; of all of it heals', async () => {
    await using it = await usedStore('SIGTERM');
    await flipBit(objectFile(it, 0), DATA_AT + 5 * BLOCK + 1234);
    await using daemon = await it.start();
    await using client = await Attached.to(daemon.nbd, 'demo');
    expect(await client.write(5 * BLOCK, 512, 1)).toBe(ERRNO.EIO);
    expect(await client.read(5 * BLOCK, BLOCK)).toBe(`errno ${ERRNO.EIO}`);
    expect(await client.write(5 * BLOCK, BLOCK, 3)).toBe(0);
    expect(await client.read(5 * BLOCK, BLOCK)).toBe(3);
    expect(await client.read(6 * BLOCK, BLOCK)).toBe(7);
  });

  test.for([
    ['header', 20],
    ['table of checksums', BLOCK + 40],
  ] as const)('a damaged %s makes that object an error, and no other', async ([, at]) => {
    await using it = await usedStore('SIGTERM');
    await flipBit(objectFile(it, 1), at);
    await using daemon = await it.start();
    await using client = await Attached.to(daemon.nbd, 'demo');
    expect(await client.read(4 * MiB, BLOCK)).toBe(`errno ${ERRNO.EIO}`);
    expect(await client.write(4 * MiB, BLOCK, 1)).toBe(ERRNO.EIO);
    expect(await client.read(0, 4 * MiB)).toBe(7);
    await expect
      .poll(() => logged(daemon, 'nbd.request-failed')[0])
      .toMatchObject({
        cause: expect.stringContaining('object 0000000010000001 is damaged'),
      });
  });

  test('an object that is gone is an error, not zeroes', async () => {
    await using it = await usedStore('SIGTERM');
    await rm(objectFile(it, 1));
    await using daemon = await it.start();
    await using client = await Attached.to(daemon.nbd, 'demo');
    expect(await client.read(4 * MiB, BLOCK)).toBe(`errno ${ERRNO.EIO}`);
    expect(await client.read(0, 4 * MiB)).toBe(7);
  });

  test.for([
    ['root', 0],
    ['leaf', 1],
  ] as const)(
    "a VDI whose inode's %s is damaged shows no data, the others do",
    async ([, index]) => {
      await using it = await usedStore('SIGTERM');
      await flipBit(objectFile(it, index, 'inode'), DATA_AT);
      await using daemon = await it.start();
      // Twice, because a second look must not find what the first has made of it.
      for (let time = 0; time < 2; time += 1) {
        const shown = await Attached.to(daemon.nbd, 'demo').then(
          async (client) => {
            await using attached = client;
            return await attached.read(0, BLOCK);
          },
          () => 'not attached',
        );
        expect(['not attached', `errno ${ERRNO.EIO}`]).toContain(shown);
      }
      const oid = `100000001000000${index}`;
      const causes = () => daemon.log.map((line) => String(line['cause'] ?? '')).join('\n');
      await expect.poll(causes).toContain(`object ${oid} is damaged`);
      await using other = await Attached.to(daemon.nbd, 'other');
      expect(await other.read(0, 8 * MiB)).toBe(9);
    },
  );
});

/** Starts a daemon that must refuse, and must leave everything as it is. */
async function expectRefusal(it: TestStore, message: RegExp): Promise<void> {
  const before = await digestOf(it.store);
  const said = await it.refused();
  expect(said).toMatchObject({ status: 1, out: '' });
  expect(said.err).toMatch(/^sheep: [^\n]+\n$/m);
  expect(said.err).toMatch(message);
  expect(await digestOf(it.store)).toEqual(before);
}

describe('damage that the daemon refuses at its start, by name and with nothing touched', () => {
  test('in the middle of the journal', async () => {
    await using it = await usedStore('SIGKILL');
    const segment = await journalSegment(it);
    const records = await recordsOf(segment);
    expect(records.length).toBeGreaterThan(10);
    const middle = records[Math.floor(records.length / 2)] as number;
    await flipBit(segment, middle + 44);
    await expectRefusal(it, /journal \S+\/journal\/\d{10} is damaged at byte \d+/);
    // The medium was innocent: what comes back is the store as it was.
    await flipBit(segment, middle + 44);
    await using daemon = await it.start();
    await using client = await Attached.to(daemon.nbd, 'demo');
    expect(await client.read(0, 8 * MiB)).toBe(7);
  });

  test('in the data that a flush wrote to the journal', async () => {
    await using it = await usedStore('SIGKILL');
    const segment = await journalSegment(it);
    const bytes = await readFile(segment);
    const records = await recordsOf(segment);
    const flushed = records.find((at) => bytes.readUInt32BE(at + 24) > 0) as number;
    await flipBit(segment, flushed + BLOCK + 99);
    await expectRefusal(it, /journal \S+\/journal\/\d{10} is damaged at byte \d+/);
  });

  test.for(['SIGTERM', 'SIGKILL'] as const)("in the journal's header, after %s", async (how) => {
    await using it = await usedStore(how);
    await flipBit(await journalSegment(it), 20);
    await expectRefusal(it, /journal \S+\/journal\/\d{10} is damaged at byte 0/);
  });

  test.for([
    ['its header', 30],
    ['its first record', 100],
  ] as const)("in the coordinator's log: %s", async ([, at]) => {
    await using it = await usedStore('SIGTERM');
    await flipBit(`${it.store}/coordinator.log`, at);
    await expectRefusal(it, /coordinator\.log is damaged at byte \d+: [^\n]*; restore it/);
  });

  test("the coordinator's log is gone", async () => {
    await using it = await usedStore('SIGTERM');
    await rm(`${it.store}/coordinator.log`);
    await expectRefusal(it, /coordinator\.log is missing, and the store is not empty/);
  });

  test('store.json is gone', async () => {
    await using it = await usedStore('SIGTERM');
    await rm(`${it.store}/store.json`);
    const before = await digestOf(it.store);
    const said = await it.refused();
    expect(said).toMatchObject({ status: 2, out: '' });
    expect(said.err).toMatch(/is not a store \(it has no store\.json\) and not empty/);
    expect(await digestOf(it.store)).toEqual(before);
  });

  test.for([
    ['a brace', '{', /store\.json is damaged: it is not JSON/],
    ['the name of a field', 'nodeId', /store\.json is damaged: nodeId is not a UUID/],
    ['the format version', '1,', /store \S+ is of format 0, this sheep knows format 1/],
    ['the cluster id', 'clusterId": "', /coordinator\.log is of the cluster \S+, this store of/],
    ['the node id', 'nodeId": "', /journal \S+ is damaged at byte 0: it belongs to store/],
  ] as const)('a bit of store.json: in %s', async ([, where, message]) => {
    await using it = await usedStore('SIGTERM');
    const path = `${it.store}/store.json`;
    const text = await readFile(path, 'latin1');
    const inId = where.endsWith('"');
    const at = text.indexOf(where) + (inId ? where.length : 0);
    await flipBit(path, at, inId ? toAnotherDigit(text.charCodeAt(at)) : 1);
    await expectRefusal(it, message);
  });

  test('a store of a newer format', async () => {
    await using it = await usedStore('SIGTERM');
    const path = `${it.store}/store.json`;
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"formatVersion": 1', '"formatVersion": 2'));
    await expectRefusal(it, /store \S+ is of format 2, this sheep knows format 1; start the sheep/);
  });
});

test('a second daemon refuses a store that is in use, by whatever name it is called', async () => {
  await using it = await usedStore('SIGTERM');
  await using first = await it.start();
  await using client = await Attached.to(first.nbd, 'demo');
  await symlink(it.store, `${it.path}/alias`);
  const others = ['-n', '127.0.0.1:0', '--admin', `unix:${it.path}/second.sock`];
  for (const name of [it.store, `${it.path}/alias`]) {
    const before = await digestOf(it.store);
    const second = await run(SHEEP, [name, ...others]);
    expect(second).toMatchObject({ status: 1, out: '' });
    expect(second.err).toContain(`sheep: another sheep has the store ${name}; stop that one`);
    expect(await digestOf(it.store)).toEqual(before);
  }
  expect(await client.write(0, MiB, 5)).toBe(0);
  expect(await client.flush()).toBe(0);
  expect(await client.read(0, MiB)).toBe(5);
});

/** The bit that makes another hexadecimal digit of it: then only other files can tell. */
function toAnotherDigit(code: number): number {
  const isDigit = (mask: number) => /[0-9a-f]/.test(String.fromCharCode(code ^ mask));
  return [1, 2, 4].find(isDigit) as number;
}

async function journalSegment(it: TestStore): Promise<string> {
  const names = (await readdir(`${it.store}/journal`)).filter((name) => /^\d{10}$/.test(name));
  expect(names).toHaveLength(1);
  return `${it.store}/journal/${names[0]}`;
}

/** Where the records of a segment begin (FORMATS.md, "Journal"). */
async function recordsOf(segment: string): Promise<number[]> {
  const bytes = await readFile(segment);
  const found: number[] = [];
  for (let at = BLOCK; at < bytes.length; at += BLOCK) {
    if (bytes.readUInt32BE(at) === 0x53_48_50_52) found.push(at);
  }
  return found;
}
