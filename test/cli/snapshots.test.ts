import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Host } from '../../src/app/host.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd, type NbdClient } from '../../src/nbd/client/connect.ts';
import { collie, startTestSheep, type TestSheep } from '../app-unit/test-sheep.ts';
import { scratch } from '../cluster/scratch.ts';

const owned = new AsyncDisposableStack();
let sheep: TestSheep;
let path: string;
beforeAll(async () => {
  path = owned.use(await scratch()).path;
  sheep = owned.use(await startTestSheep(path));
});
afterAll(() => owned.disposeAsync());

const run = (...args: string[]) => collie(['-a', sheep.socket, ...args]);
/** Standard output of a command that has to succeed. */
async function told(line: string): Promise<string> {
  const said = await run(...line.split(' '));
  expect(said, line).toMatchObject({ status: 0, err: '' });
  return said.out;
}
async function refused(line: string): Promise<string> {
  const said = await run(...line.split(' '));
  expect(said, line).toMatchObject({ status: 1, out: '' });
  return said.err;
}
const json = async (line: string) => JSON.parse(await told(`--json ${line}`));

/** A client of an export, by the name that the sheep has for it. */
async function attach(name: string): Promise<NbdClient> {
  return connectNbd(await openNodeNet(), sheep.nbd[0]!, name);
}
async function write(name: string, at: number, value: number): Promise<void> {
  await using client = await attach(name);
  await client.write(at, new Uint8Array(4096).fill(value), { durable: true });
}
async function byteAt(name: string, at: number): Promise<number | undefined> {
  await using client = await attach(name);
  const into = new Uint8Array(1);
  await client.read(at, into);
  return into[0];
}
/** What has detached is so for the sheep only once it has read that. */
const unused = (name: string) =>
  expect.poll(async () => (await json(`vdi info ${name}`)).clients).toEqual([]);

describe('the commands of the first days', () => {
  test('make a snapshot and a clone of it', async () => {
    await told('vdi create test 1G');
    await write('test', 0, 1);
    expect(await told('vdi snapshot -s snap test')).toMatch(/^test@snap 1 GiB, ID \d+\n$/);
    expect(await told('vdi clone -s snap test cloned_vm')).toBe('cloned_vm 1 GiB\n');
    await write('test', 0, 2);
    await write('cloned_vm', 0, 3);
    expect(
      await Promise.all(['test@snap', 'test', 'cloned_vm'].map((name) => byteAt(name, 0))),
    ).toEqual([1, 2, 3]);
  });

  test('a snapshot is meant by its tag, its ID, and as NAME@TAG', async () => {
    const { vid, ...rest } = await json('vdi info test@snap');
    expect(rest).toMatchObject({ export: 'test@snap', state: 'snapshot', objects: 1 });
    expect(await json(`vdi info test@${vid}`)).toMatchObject({ vid });
    for (const [place, line] of [`-s ${vid} test`, `test@${vid}`, '-s snap test@snap'].entries()) {
      expect(await told(`vdi clone ${line} by-${place}`)).toBe(`by-${place} 1 GiB\n`);
      await told(`vdi delete by-${place}`);
    }
    expect(await byteAt(`test@${vid}`, 0)).toBe(1);
  });

  test('list shows VDIs with their snapshots, or those of one', async () => {
    const rows = async (line: string) =>
      (await told(line))
        .trimEnd()
        .split('\n')
        .map((row) => row.split(/ {2,}/)[0]);
    expect(await rows('vdi list')).toEqual(['NAME', 'cloned_vm', 'test@snap', 'test']);
    expect(await rows('vdi list test')).toEqual(['NAME', 'test@snap', 'test']);
    const listed = await json('vdi list test');
    expect(listed).toMatchObject({
      vdis: [{ name: 'test', tag: '', export: 'test', parent: listed.snapshots[0].vid }],
      snapshots: [{ name: 'test', tag: 'snap', sizeBytes: 2 ** 30, createdMs: expect.any(Number) }],
      deleting: [],
      kept: [],
    });
    expect(await refused('vdi list other')).toMatch(/no VDI 'other'; 'collie vdi list'/);
  });

  test('info of a clone says what it shares, and with whom', async () => {
    const info = await told('vdi info cloned_vm');
    expect(info).toMatch(/^objects: +1 \(at most 4 MiB\)$/m);
    expect(info).toMatch(/^shared: +0 objects of snapshots$/m);
    expect(info).toMatch(/^made from: +test@snap$/m);
    expect(await told('vdi info test@snap')).not.toContain('made from');
  });

  test('tree shows who was made from whom, and the same as JSON', async () => {
    const lines = (await told('vdi tree'))
      .trimEnd()
      .split('\n')
      .map((row) => row.split(/ {2,}/)[0]);
    expect(lines).toEqual(['NAME', 'test@snap', '├─ cloned_vm', 'test']);
    const nodes: { export: string; vid: number; parent: number }[] = await json('vdi tree');
    const snap = nodes.find((node) => node.export === 'test@snap')!;
    expect(
      nodes
        .filter(({ parent }) => parent === snap.vid)
        .map((node) => node.export)
        .sort(),
    ).toEqual(['cloned_vm', 'test']);
  });

  test('rollback brings the old state back, and a deleted VDI too', async () => {
    await unused('test');
    expect(await told('vdi rollback -s snap test --dry-run')).toBe(
      'test 1 GiB would be rolled back\n',
    );
    expect(await byteAt('test', 0)).toBe(2);
    await unused('test');
    expect(await told('vdi rollback -s snap test')).toBe('test 1 GiB rolled back\n');
    expect(await byteAt('test', 0)).toBe(1);
    await unused('test');
    expect(await told('vdi delete test')).toBe('test 1 GiB deleted\n');
    expect(await refused('vdi create test 2G')).toMatch(
      /has snapshots \(snap\).*rollback -s snap test/,
    );
    expect(await refused('vdi clone -s snap test test')).toMatch(/has snapshots/);
    expect(await refused('vdi rollback -s other test')).toMatch(/no snapshot 'other'/);
    await told('vdi rollback test@snap');
    expect(await byteAt('test', 0)).toBe(1);
    await unused('test');
  });

  test('resize grows and shrinks, and what is cut off is gone', async () => {
    await write('test', 2 ** 30 - 4096, 7);
    await unused('test');
    expect(await told('vdi resize test 512M --dry-run')).toBe('test 512 MiB would be its size\n');
    expect(await told('vdi resize test 512M')).toBe('test 512 MiB\n');
    expect(await told('vdi resize test 1.5G')).toBe('test 1.5 GiB\n');
    expect(await byteAt('test', 2 ** 30 - 4096)).toBe(0);
    expect((await json('vdi info test@snap')).sizeBytes).toBe(2 ** 30);
    await unused('test');
  });

  test('health says how many deletions are not finished', async () => {
    expect(await json('cluster health')).toMatchObject({ deleting: 0 });
  });
});

describe('while a client uses it', () => {
  let client: NbdClient;
  let peer: string;
  beforeAll(async () => {
    await told('vdi create used 1G');
    await told('vdi snapshot -s before used');
    client = await attach('used');
    await client.write(0, new Uint8Array(4096).fill(5), { durable: false });
    const { clients } = await json('vdi info used');
    peer = clients[0].name;
    expect(peer).toMatch(/^127\.0\.0\.1:\d+$/);
  });
  afterAll(() => client[Symbol.asyncDispose]());

  test.for([
    ['vdi rollback -s before used', 'roll it back'],
    ['vdi rollback -s before used --dry-run', 'roll it back'],
    ['vdi resize used 512M', 'shrink it'],
    ['vdi resize used 512M --dry-run', 'shrink it'],
    ['vdi delete used', 'delete it'],
    ['vdi delete used --dry-run', 'delete it'],
  ])('"%s" is refused, and names the client', async ([line, then]) => {
    expect(await refused(line!)).toBe(
      `collie: the VDI 'used' is used by ${peer}; disconnect it there, then ${then}\n`,
    );
    expect((await json('vdi info used')).sizeBytes).toBe(2 ** 30);
  });

  test('a snapshot has what was answered before it, a clone of it works, and it may grow', async () => {
    await told('vdi snapshot -s during used');
    await client.write(0, new Uint8Array(4096).fill(6), { durable: false });
    expect(await byteAt('used@during', 0)).toBe(5);
    expect(await byteAt('used', 0)).toBe(6);
    await told('vdi clone -s during used twin');
    const grown = await told('vdi resize used 2G');
    expect(grown).toBe('used 2 GiB\nits clients see the new size when they reconnect\n');
    await using anew = await attach('used');
    expect([client.info.sizeBytes, anew.info.sizeBytes]).toEqual([2 ** 30, 2 ** 31]);
  });

  test('a snapshot that a client reads cannot be deleted, another can', async () => {
    await using reader = await attach('used@during');
    const [{ name }] = (await json('vdi info used@during')).clients;
    expect(await refused('vdi delete -s during used')).toBe(
      `collie: the snapshot 'used@during' is used by ${name}; disconnect it there, then delete it\n`,
    );
    await told('vdi delete used@before');
    const into = new Uint8Array(1);
    await reader.read(0, into);
    expect(into).toEqual(Uint8Array.of(5));
  });
});

describe('what cannot be is told, and changes nothing', () => {
  beforeAll(async () => {
    await told('vdi create bad 1G');
    await told('vdi create other 1G');
    await told('vdi snapshot -s one bad');
  });

  test.for<[string, number, RegExp]>([
    ['snapshot bad', 2, /which snapshot\? Give its tag: 'collie vdi snapshot -s TAG bad'/],
    [
      'snapshot -s one bad',
      1,
      /'bad' has a snapshot 'one' already; .* 'collie vdi delete -s one bad'/,
    ],
    ['snapshot -s 123 bad', 2, /tag "123" is all digits.*as in v123/],
    ['snapshot -s a@b bad', 2, /tag "a@b" contains '@'/],
    ['snapshot -s a/b bad', 2, /tag "a\/b" contains '\/'/],
    ['snapshot bad@', 2, /a tag has at least one character/],
    ['snapshot -s x @y', 2, /no name of a VDI/],
    ['snapshot -s x bad@y', 2, /'bad@y' is the snapshot 'y', and -s says 'x'; give one/],
    ['snapshot -s x nothing', 1, /no VDI 'nothing'; 'collie vdi list'/],
    ['snapshot -s x bad extra', 2, /too many arguments/],
    ['snapshot --tag x bad', 2, /unknown option '--tag'/],
    ['clone bad new', 2, /which snapshot\? .* 'collie vdi clone -s TAG bad new'/],
    ['clone -s two bad new', 1, /VDI 'bad' has no snapshot 'two'/],
    ['clone -s 99999 bad new', 1, /VDI 'bad' has no snapshot with the ID 99999/],
    ['clone -s 4294967296 bad new', 1, /no snapshot with the ID 4294967296/],
    ['clone -s one other new', 1, /VDI 'other' has no snapshot 'one'/],
    ['clone -s one nothing new', 1, /VDI 'nothing' has no snapshot 'one'/],
    ['clone -s one bad other', 1, /there is a VDI 'other' already/],
    ['clone -s one bad bad', 1, /there is a VDI 'bad' already/],
    ['clone -s one bad ne@w', 2, /name "ne@w" contains '@'/],
    ['clone -s one bad', 2, /missing required argument 'name'/],
    ['rollback bad', 2, /which snapshot\? .* 'collie vdi rollback -s TAG bad'/],
    ['rollback -s two bad', 1, /no snapshot 'two'/],
    ['rollback -s one nothing', 1, /VDI 'nothing' has no snapshot 'one'/],
    ['resize bad', 2, /missing required argument 'size'/],
    ['resize bad 0', 2, /empty/],
    ['resize bad 8GB', 2, /"8GB" is not a size/],
    ['resize bad 2P', 2, /at most 1PiB/],
    ['resize bad@one 2G', 2, /'bad@one' is a snapshot and keeps its size; clone it/],
    ['resize nothing 2G', 1, /no VDI 'nothing'/],
    ['delete -s two bad', 1, /no snapshot 'two'/],
    ['delete bad@two --dry-run', 1, /no snapshot 'two'/],
    ['info bad@two', 1, /no snapshot 'two'/],
    ['check bad@two', 1, /no snapshot 'two'/],
    ['check nothing', 1, /no VDI 'nothing'/],
    ['tree bad', 2, /too many arguments/],
  ])('"vdi %s" ends with %i', async ([line, status, message]) => {
    const before = await json('vdi list');
    const said = await run('vdi', ...line.split(' '));
    expect(said).toMatchObject({ status, out: '' });
    expect(said.err).toMatch(message);
    expect(said.err).toMatch(/^collie: /);
    expect(await json('vdi list')).toEqual(before);
  });
});

test('a deletion that is under way stands in the list, in health, and with its progress', async () => {
  await using stack = new AsyncDisposableStack();
  const { path: other } = stack.use(await scratch());
  let held: Promise<void> | undefined;
  const change = (host: Host): Host => {
    const { wallMs, monotonicMs, sleep } = host.clock;
    return {
      ...host,
      clock: { wallMs, monotonicMs, sleep, yield: () => held ?? host.clock.yield() },
    };
  };
  const slow = stack.use(await startTestSheep(other, {}, change));
  const out = async (line: string) => (await collie(['-a', slow.socket, ...line.split(' ')])).out;
  await out('vdi create demo 100M --object-size 1M');
  {
    await using client = await connectNbd(await openNodeNet(), slow.nbd[0]!, 'demo');
    const block = new Uint8Array(4096).fill(1);
    for (let at = 0; at < 100 * 2 ** 20; at += 2 ** 20)
      await client.write(at, block, { durable: false });
  }
  await expect.poll(async () => JSON.parse(await out('--json vdi info demo')).clients).toEqual([]);
  const hold = Promise.withResolvers<void>();
  held = hold.promise;
  const deletion = out('vdi delete demo');
  await expect
    .poll(async () => JSON.parse(await out('--json vdi list')).deleting)
    .toMatchObject([{ export: 'demo', progress: { done: 64, total: 100 } }]);
  expect(await out('vdi list')).toMatch(/^demo .* deleting, 64 %$/m);
  expect(await out('vdi list demo')).toContain('deleting, 64 %');
  expect(await out('cluster health')).toMatch(/^deletions under way: 1$/m);
  expect(await out('vdi create demo 1G')).toBe('demo 1 GiB\n'); // the name is free
  held = undefined;
  hold.resolve();
  expect(await deletion).toBe('demo 100 MiB deleted\n');
  expect(await out('cluster health')).not.toContain('deletions');
});
