#!/usr/bin/env node
import { nodeRefusal } from './node-version.ts';

// An older Node would stop at the syntax of the other files, with a message that helps nobody; so
// they are loaded only after this.
const refusal = nodeRefusal(process.versions.node, 'collie');
if (refusal !== undefined) {
  console.error(refusal);
  process.exitCode = 1;
} else {
  const { main } = await import('./collie-main.ts');
  await main(process.argv.slice(2));
}
