import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { openNodeNet } from '../../src/host/node-net.ts';

test('who comes while no file is left is not accepted, and who comes later is', async () => {
  const script = fileURLToPath(new URL('no-file-left.ts', import.meta.url));
  const command = 'ulimit -n 64 && exec "$0" "$1"';
  const child = spawn('/bin/sh', ['-c', command, process.execPath, script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async () => (await lines.next()).value;
  expect(await line()).toBe('listening');
  const address = (await line()) ?? '';
  const net = await openNodeNet();
  const connect = async () => {
    const stream = await net.dial(address);
    const closed = Promise.withResolvers<'closed'>();
    const echoed = Promise.withResolvers<'echoed'>();
    stream.start({
      received: () => echoed.resolve('echoed'),
      ended: () => stream.end(),
      closed: () => closed.resolve('closed'),
    });
    stream.write(Uint8Array.of(1));
    return { stream, outcome: Promise.race([closed.promise, echoed.promise]) };
  };
  // Node may have closed some files since: the first who come may take these.
  const knocking = [];
  for (let count = 0; count < 10; count += 1) knocking.push(await connect());
  expect(await Promise.all(knocking.map(({ outcome }) => outcome))).toContain('closed');
  child.stdin.write('x');
  expect(await line()).toBe('free');
  const served = await connect();
  expect(await served.outcome).toBe('echoed');
  for (const { stream } of [...knocking, served]) stream.destroy();
  child.kill('SIGTERM');
  await once(child, 'close');
});
