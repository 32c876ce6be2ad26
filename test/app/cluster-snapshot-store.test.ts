import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { scratch } from '../cluster/scratch.ts';
import { Attached } from './bad-luck-store.ts';
import { World } from './collie-world.ts';
import { COLLIE, Daemon, run } from './daemon.ts';

test('the store of snapshots may be made with a shape of its own, which it keeps', async () => {
  await using world = await World.open();
  await world.json('vdi', 'create', 'one', '64M');
  {
    await using client = await Attached.to(world.it.nbdSocket, 'one');
    await client.write(0, MiB, 7);
  }
  const start = async (format: string) => {
    await world.daemon.stop('SIGTERM');
    world.daemon = await world.it.start('--format', format);
  };
  await start('hash=sha1,codec=zlib');
  expect(await world.json('cluster', 'snapshot', 'list')).toMatchObject({
    ...{ store: { hash: 'sha1', codec: 'zlib' }, snapshots: [] },
  });
  await start('codec=zlib');
  await expect(start('hash=sha256')).rejects.toThrow(/hash=sha1,codec=zlib and stays so/);
  world.daemon = await world.it.start();
  await world.json('cluster', 'snapshot', 'save', 'seed');
  await world.json('cluster', 'snapshot', 'load', 'seed', '--vdi', 'one', '--as', 'old');
  await using client = await Attached.to(world.it.nbdSocket, 'old');
  expect(await client.read(0, MiB)).toBe(7);
});

/** Prints each module of ours that is loaded, as a line of its own. */
const LOADED = `import { registerHooks } from 'node:module';
import { writeSync } from 'node:fs';
registerHooks({
  load(url, context, next) {
    if (url.includes('/dist/')) writeSync(2, 'loaded ' + url + '\\n');
    return next(url, context);
  },
});`;

test('a sheep that nobody asks for snapshots loads nothing that makes them', async () => {
  await using directory = await scratch();
  const { path } = directory;
  await writeFile(`${path}/loaded.mjs`, LOADED);
  const environment = { NODE_OPTIONS: `--import ${path}/loaded.mjs` };
  const args = [
    `${path}/store`,
    '-n',
    `unix:${path}/nbd.sock`,
    '--admin',
    `unix:${path}/admin.sock`,
  ];
  await using daemon = await Daemon.start(args, { environment });
  expect(daemon.err).toContain('/dist/app/cluster-snapshots/cluster-snapshots.js');
  expect(daemon.err).not.toMatch(/farm\/snapshots|cluster-snapshots\/save|node-cpu-pool/);
  expect(
    (await run(COLLIE, ['-a', `unix:${path}/admin.sock`, 'cluster', 'snapshot', 'save', 'x']))
      .status,
  ).toBe(0);
  expect(daemon.err).toMatch(/farm\/snapshots/);
});
