import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/contracts/block-device.ts';
import type { Net } from '../../src/contracts/net.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd } from '../../src/nbd/client/connect.ts';
import type { NbdLimits } from '../../src/nbd/limits.ts';
import { serveNbd } from '../../src/nbd/server.ts';
import { blockDeviceContract, type DeviceWorld } from '../contracts/block-device.ts';
import { FileDevice } from './file-device.ts';
import { MemoryNet } from './memory-net.ts';

const DEPTH = 'qemu:allocation-depth';
const BITMAP = 'qemu:dirty-bitmap:monday';

/** A file behind our server, seen through our client: `disk`, and `frozen`, the same read-only. */
async function world(
  net: Net,
  addressIn: (folder: string) => string,
  limits: Partial<NbdLimits> = {},
): Promise<DeviceWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'sheepdog-client-'));
  const contexts = { [DEPTH]: (block: number) => block >> 2, [BITMAP]: () => 1 };
  const open = (readOnly: boolean) =>
    new FileDevice({ path: join(folder, 'disk'), sizeBytes: 64 * BLOCK_BYTES, contexts, readOnly });
  const named = async (name: string) =>
    ['disk', 'frozen'].includes(name) ? open(name === 'frozen') : undefined;
  const info = async (name: string) => {
    await using device = await named(name);
    return device?.info;
  };
  const server = await serveNbd({
    net,
    clock: nodeClock(),
    log: silentLog,
    exports: { list: async () => [], info, open: named },
    addresses: [addressIn(folder)],
    fatal: (error) => {
      throw error;
    },
    limits,
  });
  const clients: BlockDevice[] = [];
  const connect = async (name: string) => {
    const address = server.addresses[0] ?? '';
    const client = await connectNbd(net, address, name, { contexts: [BITMAP, DEPTH] });
    expect(client.info.contexts).toEqual([BITMAP, DEPTH]);
    clients.push(client);
    return client;
  };
  return {
    device: await connect('disk'),
    reopen: () => connect('disk'),
    openReadOnly: () => connect('frozen'),
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) await client[Symbol.asyncDispose]();
      await server.drain(1_000);
      rmSync(folder, { recursive: true });
    },
  };
}

const inMemory = () => 'memory:0';

blockDeviceContract('an export over memory in small chunks', () =>
  world(new MemoryNet({ chunkBytes: 999, windowBytes: 4096 }), inMemory),
);
blockDeviceContract('an export with blocks of 512 bytes', () =>
  world(new MemoryNet(), inMemory, { blockMinBytes: 512 }),
);
blockDeviceContract('an export with blocks of 16 KiB', () =>
  world(new MemoryNet(), inMemory, { blockMinBytes: 16_384 }),
);
blockDeviceContract('an export over TCP', async () =>
  world(await openNodeNet(), () => '127.0.0.1:0'),
);
blockDeviceContract('an export over a unix socket', async () =>
  world(await openNodeNet(), (folder) => `unix:${join(folder, 'socket')}`),
);
