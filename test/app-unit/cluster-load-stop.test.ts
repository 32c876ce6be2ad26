import { expect, test, vi } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { LOG_NAME } from '../../src/cluster/local-coordinator.ts';
import { KEYS } from '../../src/vdi/catalog.ts';
import { faultyDisk } from '../cluster/faulty-disk.ts';
import { scratch } from '../cluster/scratch.ts';
import { collie, startTestSheep, type TestSheep } from './test-sheep.ts';

/** A sheep with a VDI, saved as mon; once it is decided that it is loaded again, its disk is full. */
async function world() {
  const directory = await scratch();
  const medium = { isFull: false, wasFull: false };
  const start = () =>
    startTestSheep(directory.path, {}, (host) => ({
      ...host,
      disk: faultyDisk(host.disk, (operation, path, from) => {
        if (operation !== 'write' || !path.includes(LOG_NAME)) return; // also its draft
        if (medium.isFull) throw new SheepError('ERR_NO_SPACE', 'the disk is full');
        if (medium.wasFull || !Buffer.from(from ?? []).includes(KEYS.arriving)) return;
        medium.isFull = true;
        medium.wasFull = true;
      }),
    }));
  const sheep = await start();
  for (const words of ['vdi create root 64M', 'cluster snapshot save mon']) {
    expect(await say(sheep, words)).toMatchObject({ status: 0, err: '' });
  }
  return { directory, medium, start, sheep, old: await idOf(sheep) };
}

const say = ({ socket }: TestSheep, words: string) => collie(['-a', socket, ...words.split(' ')]);

async function idOf(sheep: TestSheep): Promise<number> {
  return JSON.parse((await say(sheep, '--json vdi info root')).out).vid;
}

function happened({ events }: TestSheep, wanted: string, facts: object = {}): Promise<void> {
  return vi.waitFor(() => {
    const found = events.filter(({ name }) => name === wanted).map((event) => event.facts);
    expect(found).toContainEqual(expect.objectContaining(facts));
  }, 8_000);
}

test('a load goes on once there is room, and what it replaced is removed', async () => {
  const { directory, medium, sheep, old } = await world();
  await using _directory = directory;
  await using _sheep = sheep;
  const loading = say(sheep, 'cluster snapshot load mon --replace');
  await happened(sheep, 'cluster.load-not-named', { cause: 'the disk is full' });
  const other = await say(sheep, 'cluster snapshot save tue');
  expect(other.err).toMatch("the cluster snapshot 'mon' is being loaded");
  medium.isFull = false;
  expect(await loading).toMatchObject({ status: 0, err: '' });
  await happened(sheep, 'vdi.deleted', { vdi: 'root', vid: old });
  expect(await idOf(sheep)).toBeGreaterThan(old);
});

test('a stop does not wait for room, and the next start finishes it, or says why not', async () => {
  const { directory, medium, start, sheep, old } = await world();
  await using _directory = directory;
  const loading = say(sheep, 'cluster snapshot load mon --replace');
  await happened(sheep, 'cluster.load-not-named');
  const deleting = say(sheep, 'vdi delete root');
  await sheep[Symbol.asyncDispose]();
  expect((await loading).err).toMatch('gets its names with the next start');
  expect((await deleting).status).toBe(1);
  await expect(start()).rejects.toMatchObject({
    code: 'ERR_NO_SPACE',
    message: expect.stringMatching(/^what was loaded .* cannot get its names: the disk is full/),
  });
  medium.isFull = false;
  await using next = await start();
  expect(await idOf(next)).toBeGreaterThan(old);
  await happened(next, 'vdi.deleted', { vdi: 'root', vid: old });
  expect(await say(next, 'vdi snapshot -s late root')).toMatchObject({ status: 0, err: '' });
});
