import { chmod, chown, readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { scratch } from '../cluster/scratch.ts';
import { digestOf } from './bad-luck-store.ts';
import { COLLIE, Daemon, type Ended, run, SHEEP, succeed } from './daemon.ts';

/**
 * Whoever may read a store of snapshots and not write to it. Modes mean nothing to the superuser, so
 * where the tests are his, sheep and collie run as somebody else and the stores are his; otherwise
 * the modes alone forbid it.
 */
const isRoot = process.getuid?.() === 0;
/** Debian's nobody and nogroup. */
const READER = 65_534;
const AS_READER = isRoot
  ? ['setpriv', `--reuid=${READER}`, `--regid=${READER}`, '--clear-groups']
  : ['env'];

const available = !isRoot || hasTool('setpriv');
const [COMMAND = '', ...FIRST] = AS_READER;

let folder: AsyncDisposable & { readonly path: string };
let daemon: Daemon;
beforeAll(async () => {
  if (!available) return;
  folder = await scratch();
  await chmod(folder.path, 0o755);
  const mine = path('mine');
  await succeed('mkdir', [mine]);
  if (isRoot) await chown(mine, READER, READER);
  const serving = ['-n', `unix:${mine}/nbd.sock`, '--admin', `unix:${mine}/admin.sock`];
  daemon = await Daemon.start([...FIRST, SHEEP, `${mine}/store`, ...serving], { command: COMMAND });
  await writeFile(path('image'), Buffer.alloc(300_000, 7));
  await reader('vdi', 'import', path('image'), 'disk');
  await reader('vdi', 'snapshot', '-s', 'one', 'disk');
});
afterAll(async () => {
  if (!available) return;
  await daemon[Symbol.asyncDispose]();
  // Directories that nobody may write to keep what is in them.
  await succeed('chmod', ['-R', 'u+rwX', folder.path]);
  await folder[Symbol.asyncDispose]();
});

const path = (name: string) => `${folder.path}/${name}`;
const admin = () => ['-a', `unix:${path('mine')}/admin.sock`];
const reader = (...words: string[]) => run(COMMAND, [...FIRST, COLLIE, ...admin(), ...words]);

/** A store with one backup, called `first`, that only its maker could write to. */
async function madeByAnother(name: string): Promise<string> {
  const store = path(name);
  const creating = ['backup', 'create', 'disk@one', '--to', store, '--tag', 'first'];
  await succeed(COLLIE, [...admin(), ...creating]);
  await succeed('chmod', ['-R', 'a=rX', store]);
  return store;
}

const denied = (what: string): Partial<Ended> => ({
  ...{ status: 1, out: '' },
  err: expect.stringMatching(new RegExp(`^collie: cannot ${what}: EACCES .*permission denied`)),
});

describe.skipIf(!available)('a store of backups that may be read and not written to', () => {
  test('is listed, shown, verified and restored from', async () => {
    const store = await madeByAnother('reading');
    const before = await digestOf(store);
    expect(await reader('backup', 'list', store)).toMatchObject({
      ...{ status: 0, out: expect.stringContaining('disk@one'), err: '' },
    });
    expect(await reader('backup', 'show', store, 'first')).toMatchObject({ status: 0, err: '' });
    expect(await reader('backup', 'verify', store)).toMatchObject({
      ...{ status: 0, out: expect.stringMatching(/^1 backup verified: sound/), err: '' },
    });
    expect(await reader('backup', 'restore', store, 'first', 'again')).toMatchObject({ status: 0 });
    const exported = `${path('mine')}/exported`;
    await reader('vdi', 'export', 'again', exported);
    const expected = await readFile(path('image'));
    expect((await readFile(exported)).subarray(0, expected.length)).toEqual(expected);
    for (const words of [
      ['delete', store, 'first'],
      ['prune', store, '--keep-last', '1'],
    ]) {
      const planned = await reader('backup', ...words, '--dry-run');
      expect(planned).toMatchObject({ status: 0, err: '' });
    }
    expect(await digestOf(store)).toEqual(before);
  });

  test('is changed by nobody, who is told what is forbidden, and stays as it is', async () => {
    const store = await madeByAnother('changing');
    const before = await digestOf(store);
    for (const words of [
      ['create', 'disk@one', '--to', store],
      ['delete', store, 'first'],
      ['prune', store, '--keep-last', '1', '--grace', '0s'],
    ]) {
      expect(await reader('backup', ...words)).toMatchObject(denied(`lock ${store}/lock`));
    }
    expect(await digestOf(store)).toEqual(before);
  });

  test('is not made where the directory around it is of somebody else', async () => {
    await succeed('mkdir', ['-m', '555', path('theirs')]);
    const store = path('theirs/store');
    const creating = ['backup', 'create', 'disk@one', '--to', store];
    expect(await reader(...creating)).toMatchObject(denied(`make directory ${store}`));
    expect(await digestOf(path('theirs'))).toEqual({});
  });

  test('with packs that are of somebody else is let go of as it was', async () => {
    const store = await madeByAnother('mixed');
    await succeed('chmod', ['-R', 'a=rwX', store]);
    await chmod(`${store}/packs`, 0o555);
    const before = await digestOf(store);
    const refused = await reader('backup', 'create', 'disk@one', '--to', store, '--prove');
    expect(refused).toMatchObject(denied(`open ${store}/packs/\\w+.draft`));
    expect(await digestOf(store)).toEqual(before);
    expect(await reader('backup', 'verify', store)).toMatchObject({ status: 0, err: '' });
  });

  test.for([
    ['that cannot even be read', '', 'open .*/farm.json'],
    ['whose packs cannot even be read', '/packs', 'list .*/packs'],
  ] as const)('%s is not called empty or lost', async ([, hidden, message]) => {
    const store = await madeByAnother(`hidden${hidden.length}`);
    await chmod(`${store}${hidden}`, 0);
    for (const words of [
      ['list', store],
      ['show', store, 'first'],
      ['verify', store],
      ['restore', store, 'first', 'never'],
      ['create', 'disk@one', '--to', store],
      ['prune', store, '--keep-last', '1'],
    ]) {
      expect(await reader('backup', ...words)).toMatchObject(denied(message));
    }
    expect((await reader('vdi', 'list')).out).not.toContain('never');
    await chmod(`${store}${hidden}`, 0o755);
    expect(await reader('backup', 'verify', store)).toMatchObject({ status: 0, err: '' });
  });
});

describe.skipIf(!available)('a store of snapshots of the cluster', () => {
  test('that its sheep may only read is shown and checked; saves say what is forbidden', async () => {
    const farm = `${path('mine')}/store/farm`;
    expect(await reader('cluster', 'snapshot', 'save', 'mon')).toMatchObject({ status: 0 });
    await succeed('chmod', ['-R', 'a=rX', farm]);
    if (isRoot) await succeed('chown', ['-R', '0:0', farm]);
    const before = await digestOf(farm);
    const listed = await reader('cluster', 'snapshot', 'list');
    expect(listed).toMatchObject({ status: 0, out: expect.stringMatching(/^mon /m), err: '' });
    expect(await reader('cluster', 'snapshot', 'show', 'mon')).toMatchObject({ status: 0 });
    expect(await reader('cluster', 'check')).toMatchObject({ status: 0, err: '' });
    const vdis = await reader('vdi', 'list');
    for (const words of [['save', 'tue'], ['delete', 'mon'], ['gc']]) {
      const refused = await reader('cluster', 'snapshot', ...words);
      expect(refused).toMatchObject(denied(`lock ${farm}/lock`));
    }
    expect(await digestOf(farm)).toEqual(before);
    expect(await reader('vdi', 'list')).toEqual(vdis);
    await chmod(farm, 0);
    const hidden = await reader('cluster', 'snapshot', 'list');
    expect(hidden).toMatchObject(denied(`open ${farm}/farm.json`));
    // Disks are served all the same.
    const exporting = ['vdi', 'export', 'disk', `${path('mine')}/still-there`];
    expect(await reader(...exporting)).toMatchObject({ status: 0 });
  });
});
