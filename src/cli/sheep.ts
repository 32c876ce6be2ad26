#!/usr/bin/env node
import { nodeRefusal } from './node-version.ts';

// An older Node would stop at the syntax of the other files, with a message that helps nobody; so
// they are loaded only after this.
const refusal = nodeRefusal(process.versions.node, 'sheep');
if (refusal !== undefined) {
  console.error(refusal);
  process.exitCode = 1;
} else {
  // Cold reads, syncs and cold opens share Node's pool, which has 4 threads unless told before its
  // first use.
  process.env['UV_THREADPOOL_SIZE'] ??= '8';
  const { main } = await import('./sheep-main.ts');
  await main(process.argv.slice(2));
}
