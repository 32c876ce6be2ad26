import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { nodeClock } from '../../src/host/node-clock.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { OPT, REP } from '../../src/nbd/constants.ts';
import { serveNbd } from '../../src/nbd/server.ts';
import { infoData, metaData, optionBytes, TestClient } from './client.ts';

const info = { sizeBytes: 4096, readOnly: false, description: '' };

test.for([
  ['LIST', optionBytes(OPT.LIST)],
  ['INFO', optionBytes(OPT.INFO, infoData('disk'))],
  ['LIST_META_CONTEXT', optionBytes(OPT.LIST_META_CONTEXT, metaData('disk'))],
] as const)('between two %s options of one client the others have a turn', async ([, option]) => {
  let turn = 0;
  let turning = setImmediate(function count() {
    turn += 1;
    turning = setImmediate(count);
  });
  const asked: number[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'sheepdog-nbd-'));
  const net = await openNodeNet();
  const server = await serveNbd({
    ...{ net, clock: nodeClock(), log: silentLog, addresses: [`unix:${folder}/sock`] },
    exports: {
      list: async () => {
        asked.push(turn);
        return [{ name: 'disk', description: '' }];
      },
      info: async () => {
        asked.push(turn);
        return info;
      },
      open: async () => undefined,
    },
    fatal: (error) => {
      throw error;
    },
  });
  try {
    const client = await TestClient.connect(net, server.addresses[0] ?? '');
    await client.greet();
    client.send(Buffer.concat(Array.from({ length: 32 }, () => option)));
    for (let count = 0; count < 32; count += 1) {
      expect((await client.optionReplies()).at(-1)?.type).toBe(REP.ACK);
    }
    client.stream.destroy();
    expect(asked).toHaveLength(32);
    for (const [index, at] of asked.entries()) {
      if (index > 0) expect(at).toBeGreaterThan(asked[index - 1] ?? at);
    }
  } finally {
    clearImmediate(turning);
    await server.drain(0);
    rmSync(folder, { recursive: true });
  }
});
