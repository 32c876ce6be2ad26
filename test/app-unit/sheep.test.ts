import { readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Host } from '../../src/app/host.ts';
import { SheepError } from '../../src/base/errors.ts';
import { faultyDisk } from '../cluster/faulty-disk.ts';
import { scratch } from '../cluster/scratch.ts';
import { http } from './http.ts';
import { startTestSheep } from './test-sheep.ts';

describe('a sheep', () => {
  test('says in sheep.json where it can be found, until it stops cleanly', async () => {
    await using directory = await scratch();
    const sheep = await startTestSheep(directory.path);
    const path = `${directory.path}/sheep.json`;
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({
      nbd: [expect.stringMatching(/^127\.0\.0\.1:[1-9]\d*$/)],
      admin: [sheep.socket],
      version: '1.2.3',
      nodeId: expect.any(String),
    });
    await sheep[Symbol.asyncDispose]();
    await expect(readFile(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('makes the VDIs it is told to, once', async () => {
    await using directory = await scratch();
    const vids = [];
    for (let start = 0; start < 2; start++) {
      await using sheep = await startTestSheep(directory.path, { vdis: ['demo:64M', 'b:1'] });
      const { body } = await http(sheep.socket, 'GET', '/v1/vdis');
      vids.push((body['vdis'] as { vid: number }[]).map((vdi) => vdi.vid));
    }
    expect(vids).toEqual([
      [2, 1],
      [2, 1],
    ]);
  });

  test('leaves a VDI of another size as it is, and says so', async () => {
    await using directory = await scratch();
    await (await startTestSheep(directory.path, { vdis: ['demo:64M'] }))[Symbol.asyncDispose]();
    await using sheep = await startTestSheep(directory.path, { vdis: ['demo:32M'] });
    const { body } = await http(sheep.socket, 'GET', '/v1/vdis/demo');
    expect(body['sizeBytes']).toBe(64 * 2 ** 20);
    expect(sheep.events.find((event) => event.name === 'vdi.size-differs')).toMatchObject({
      level: 'warn',
    });
  });

  test.for(['demo', 'de mo:8G', 'demo:0', 'demo:2P'])(
    'refuses --vdi %s before it makes a store',
    async (vdi) => {
      await using directory = await scratch();
      const path = `${directory.path}/store`;
      const starting = startTestSheep(path, { vdis: [vdi] });
      await expect(starting).rejects.toMatchObject({ code: 'ERR_BAD_INPUT' });
      await expect(readFile(`${path}/store.json`)).rejects.toMatchObject({ code: 'ENOENT' });
    },
  );

  test('refuses a store that another one has, and takes it once that has stopped', async () => {
    await using directory = await scratch();
    const first = await startTestSheep(directory.path);
    await expect(startTestSheep(directory.path)).rejects.toMatchObject({ code: 'ERR_BUSY' });
    expect((await http(first.socket, 'GET', '/v1/info')).status).toBe(200);
    await first[Symbol.asyncDispose]();
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
  });

  test.for(['nbd', 'admin'])(
    'that cannot have its %s address leaves nothing open behind',
    async (setting) => {
      await using directory = await scratch();
      const taken = createServer();
      await new Promise<void>((settle) => taken.listen(0, '127.0.0.1', settle));
      const { port } = taken.address() as { port: number };
      const settings = { [setting]: [`127.0.0.1:${port}`] };
      await expect(startTestSheep(directory.path, settings)).rejects.toMatchObject({
        code: 'ERR_BUSY',
        message: expect.stringContaining(`127.0.0.1:${port}`),
      });
      taken.close();
      await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
    },
  );

  test('whose directory of VDIs is gone refuses to begin anew over what is stored', async () => {
    await using directory = await scratch();
    await (await startTestSheep(directory.path, { vdis: ['demo:1M'] }))[Symbol.asyncDispose]();
    const path = `${directory.path}/coordinator.log`;
    const kept = await readFile(path);
    await rm(path);
    await expect(startTestSheep(directory.path)).rejects.toMatchObject({
      code: 'ERR_MISSING',
      message: expect.stringContaining(path),
    });
    await writeFile(path, kept);
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
  });

  test('that was cut off before its first log existed begins with an empty one', async () => {
    await using directory = await scratch();
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
    await rm(`${directory.path}/coordinator.log`);
    await (await startTestSheep(directory.path))[Symbol.asyncDispose]();
  });

  test('refuses the log of another store', async () => {
    await using one = await scratch();
    await using other = await scratch();
    for (const store of [one, other]) {
      await (await startTestSheep(store.path))[Symbol.asyncDispose]();
    }
    const foreign = await readFile(`${other.path}/coordinator.log`);
    await writeFile(`${one.path}/coordinator.log`, foreign);
    await expect(startTestSheep(one.path)).rejects.toMatchObject({ code: 'ERR_VERSION' });
  });

  test('that serves the network says so at each start and in its health', async () => {
    await using directory = await scratch();
    for (let start = 0; start < 2; start++) {
      const settings = { nbd: ['0.0.0.0:0'], insecureNetwork: true };
      await using sheep = await startTestSheep(directory.path, settings);
      const address = sheep.nbd[0];
      expect(sheep.events).toContainEqual({
        level: 'warn',
        name: 'sheep.insecure-network',
        facts: { address },
      });
      const { body } = await http(sheep.socket, 'GET', '/v1/health');
      expect(body['problems']).toContainEqual(
        expect.objectContaining({ code: 'insecure-network' }),
      );
    }
  });

  test('whose directory cannot be written any more says so in its health until it starts anew', async () => {
    await using directory = await scratch();
    let failing = false;
    const failingSyncs = (host: Host): Host => ({
      ...host,
      disk: faultyDisk(host.disk, (operation, path) => {
        if (failing && operation === 'sync' && path.includes('coordinator.log')) {
          throw new SheepError('ERR_IO', 'the medium failed');
        }
      }),
    });
    const create = (socket: string) =>
      http(socket, 'POST', '/v1/vdis', {
        headers: { 'content-type': 'application/json' },
        body: '{"name":"demo","size":4096}',
      });
    {
      await using sheep = await startTestSheep(directory.path, {}, failingSyncs);
      failing = true;
      expect(await create(sheep.socket)).toMatchObject({ status: 500, body: { code: 'ERR_IO' } });
      failing = false;
      expect(await create(sheep.socket)).toMatchObject({
        status: 500,
        body: { message: expect.stringContaining('start sheep again') },
      });
      const { body } = await http(sheep.socket, 'GET', '/v1/health');
      expect(body).toMatchObject({ status: 'error', problems: [{ code: 'directory' }] });
    }
    await using again = await startTestSheep(directory.path);
    expect(await create(again.socket)).toMatchObject({ status: 201 });
  });
});
