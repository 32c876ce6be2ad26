import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { World } from './collie-world.ts';
import type { Ended } from './daemon.ts';

/**
 * A thread of collie that hashes and compresses ends, as one that runs out of memory does: with the
 * first job of which it finds so many packs in the store, and without an answer.
 */
const DYING = `
import { readdirSync, writeFileSync } from 'node:fs';
import { isMainThread, parentPort } from 'node:worker_threads';
const { PACKS, STORE } = process.env;
if (!isMainThread) {
  const answer = parentPort.postMessage.bind(parentPort);
  parentPort.postMessage = (message) => {
    const packs = readdirSync(STORE + '/packs').filter((name) => name.endsWith('.pack'));
    if (packs.length >= Number(PACKS)) {
      writeFileSync(STORE + '.died', '');
      process.exit(9);
    }
    answer(message);
  };
}
`;

let world: World;
beforeAll(async () => {
  world = await World.open();
  await writeFile(`${world.path}/dying.mjs`, DYING);
  await shell('head -c 64M /dev/urandom > noise; $collie vdi import noise disk');
  await shell('$collie vdi snapshot -s one disk; head -c 1M /dev/urandom > other');
  await shell('$collie vdi import other other; $collie vdi snapshot -s one other');
});
afterAll(() => world[Symbol.asyncDispose]());

async function shell(line: string): Promise<void> {
  expect(await world.shell(`set -e; ${line}`), line).toMatchObject({ status: 0 });
}
/** `collie backup` whose threads die with the first job that finds so many packs. */
async function dying(packs: number, store: string, words: string): Promise<Ended> {
  const said = await world.shell(
    `export PACKS=${packs} STORE=${store} NODE_OPTIONS=--import=${world.path}/dying.mjs
     $collie backup ${words}`,
  );
  await rm(`${store}.died`); // one did
  return said;
}
const packsIn = (store: string) => readdir(`${store}/packs`);
const verify = (store: string) => world.json('backup', 'verify', store);

const SAYS = /^collie: a thread that hashes and compresses died: it ended with status 9\n$/;

test.for([
  ['at once', 0],
  ['after its first pack', 1],
] as const)(
  'a backup whose thread dies %s says so and leaves a sound store to the next',
  async ([, more]) => {
    const store = `${world.path}/of-${more}`;
    await world.json('backup', 'create', 'other@one', '--to', store);
    const before = await packsIn(store);
    const died = await dying(before.length + more, store, `create disk@one --to ${store}`);
    expect(died).toEqual({ status: 1, out: '', err: expect.stringMatching(SAYS) });
    const left = await packsIn(store);
    expect(left.length > before.length).toBe(more > 0);
    expect(left.filter((name) => name.endsWith('.draft'))).toEqual([]);
    expect(await readFile(`${store}/lock`, 'utf8')).toBe('');
    expect(await world.json('backup', 'list', store)).toMatchObject({
      backups: [{ source: 'other@one' }],
      lost: [],
    });
    expect(await verify(store)).toMatchObject({ findings: [] });

    const { id, sharedBytes } = await world.json('backup', 'create', 'disk@one', '--to', store);
    // What was stable is not stored again.
    expect(Number(sharedBytes) > 0).toBe(more > 0);
    expect(await verify(store)).toMatchObject({ findings: [] });
    await world.json('backup', 'restore', store, id as string, 'again');
    await world.expectSame(`${world.path}/noise`, 'again');
    await world.json('vdi', 'delete', 'again');
  },
);

test('what is only read is proven without the threads when they die', async () => {
  const store = `${world.path}/read`;
  const { id } = await world.json('backup', 'create', 'other@one', '--to', store);
  expect(await dying(0, store, `verify ${store}`)).toMatchObject({
    ...{ status: 0, out: expect.stringMatching(/^1 backup verified: sound/) },
  });
  const restored = await dying(0, store, `restore ${store} ${id} alone`);
  expect(restored).toMatchObject({ status: 0 });
  await world.expectSame(`${world.path}/other`, 'alone');
});
