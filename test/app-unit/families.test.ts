import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd, type NbdClient } from '../../src/nbd/client/connect.ts';
import { scratch } from '../cluster/scratch.ts';
import { collie, startTestSheep } from './test-sheep.ts';

const BLOCK = 4096;
const BLOCKS = 6;
/** The first three lie in one object, the others in three more. */
const placeOf = (block: number) => (block < 3 ? block * BLOCK : (block - 2) * 4 * MiB);

/** A whole daemon with a family of seven, and what each of them holds, block by block. */
async function family() {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  let sheep = owned.use(await startTestSheep(path));
  const net = await openNodeNet();
  const held = new Map<string, readonly number[]>();

  const told = async (line: string) => {
    const said = await collie(['-a', sheep.socket, ...line.split(' ')]);
    expect(said, line).toMatchObject({ status: 0, err: '' });
    return said.out;
  };
  const using = async (name: string, work: (client: NbdClient) => Promise<void>) => {
    {
      await using client = await connectNbd(net, sheep.nbd[0]!, name);
      await work(client);
    }
    // Gone for the sheep too: nobody is refused for it.
    const clients = async () => JSON.parse(await told(`--json vdi info ${name}`)).clients;
    await expect.poll(clients, { interval: 5 }).toEqual([]);
  };
  const write = (name: string, ...values: readonly (number | undefined)[]) =>
    using(name, async (client) => {
      const before = held.get(name) ?? Array(BLOCKS).fill(0);
      held.set(
        name,
        before.map((old, block) => values[block] ?? old),
      );
      for (const [block, value] of values.entries()) {
        if (value === undefined) continue;
        if (value === 0) await client.trim(placeOf(block), BLOCK, { durable: true });
        else
          await client.write(placeOf(block), new Uint8Array(BLOCK).fill(value), { durable: true });
      }
    });
  const snapshot = async (name: string, tag: string) => {
    await told(`vdi snapshot -s ${tag} ${name}`);
    held.set(`${name}@${tag}`, held.get(name) ?? []);
  };
  const clone = async (source: string, name: string) => {
    await told(`vdi clone ${source} ${name}`);
    held.set(name, held.get(source) ?? []);
  };

  await told('vdi create test 64M');
  const _ = undefined;
  await write('test', 1, 1, 1, 1, 1);
  await snapshot('test', 'a');
  await write('test', 2, _, _, _, 2, 2);
  await clone('test@a', 'left');
  await write('left', 0, 3, _, 3);
  await snapshot('test', 'b');
  await write('test', _, 0, _, 0);
  await clone('test@b', 'right');
  await write('right', _, _, 4);
  await snapshot('right', 'x');
  await clone('right@x', 'far');
  await write('far', 5, _, _, _, 0, 5);
  await write('right', _, 6);

  return {
    held,
    told,
    /** Everybody holds what he should, and nothing is damaged or missing. */
    proven: async () => {
      for (const [name, values] of held) {
        await using(name, async (client) => {
          const seen = [];
          for (let block = 0; block < BLOCKS; block += 1) {
            const into = new Uint8Array(BLOCK);
            await client.read(placeOf(block), into);
            expect(into.every((byte) => byte === into[0])).toBe(true);
            seen.push(into[0]);
          }
          expect({ name, seen }).toEqual({ name, seen: values });
        });
        expect(await told(`vdi check ${name}`)).toContain(`${name} is sound`);
      }
    },
    restart: async () => {
      await sheep[Symbol.asyncDispose]();
      sheep = owned.use(await startTestSheep(path));
    },
    objects: async () => {
      const names = await readdir(join(path, 'obj'), { recursive: true });
      return names.filter((name) => name.includes('/'));
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

test.for<string>([
  'test@a test@b right@x test left right far',
  'far right left test right@x test@b test@a',
  'right@x test@a far test left test@b right',
])(
  'deleted in the order %s, nobody loses anything and nothing is left behind',
  { timeout: 60_000 },
  async (order) => {
    await using it = await family();
    await it.proven();
    for (const [place, name] of order.split(' ').entries()) {
      expect(await it.told(`vdi delete ${name}`)).toBe(`${name} 64 MiB deleted\n`);
      it.held.delete(name);
      if (place === 3) await it.restart();
      await it.proven();
    }
    expect(await it.objects()).toEqual([]);
    expect(JSON.parse(await it.told('--json vdi list'))).toEqual({
      ...{ vdis: [], snapshots: [], deleting: [], kept: [] },
    });
  },
);

test('a rollback lets go of what was written since, and of nothing else', async () => {
  await using it = await family();
  const before = (await it.objects()).length;
  await it.told('vdi rollback -s a test');
  it.held.set('test', it.held.get('test@a') ?? []);
  await it.proven();
  // The objects that only the state before it held go in the background.
  await expect.poll(async () => (await it.objects()).length).toBeLessThan(before);
  const deleting = async () => JSON.parse(await it.told('--json vdi list')).deleting;
  await expect.poll(deleting).toEqual([]);
  await it.proven();
}, 60_000);
