/**
 * Run by accept-failures.test.ts with few files to open: listens, opens files until there are none
 * left, and closes them at the first byte of stdin; echoes what its connections send.
 */
import { closeSync, openSync } from 'node:fs';
import { openNodeNet } from '../../src/host/node-net.ts';

const held: number[] = [];
const net = await openNodeNet();
const listener = await net.listen('127.0.0.1:0', (stream) => {
  stream.start({
    received: (chunk) => stream.write(chunk.slice()),
    ended: () => stream.end(),
    closed: () => undefined,
  });
});
process.stdin.once('data', () => {
  for (const fd of held) closeSync(fd);
  console.log('free');
});
// What is loaded and opened at the first use is so before there is nothing left.
console.log('listening');
try {
  for (;;) held.push(openSync('/dev/null', 'r'));
} catch {
  process.stdout.write(`${listener.address}\n`);
}
