/**
 * `npm test`. Plain JavaScript that any Node can read, so that an old one is told what to do
 * instead of stumbling over the first line of TypeScript.
 */
const NODE_MIN = 24;

if (Number(process.versions.node.split('.')[0]) < NODE_MIN) {
  console.error(
    `The tests need Node ${NODE_MIN}, this is ${process.versions.node}.\n` +
      'npm test brings its own: if it did not, remove node_modules/ and run it again.',
  );
  process.exit(1);
}
const { runGates } = await import('./gates.ts');
process.exitCode = await runGates();
