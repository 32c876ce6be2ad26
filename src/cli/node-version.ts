/** The oldest Node that has what the other files use from their first line on. */
const NODE_MAJOR_MIN = 24;

/** Why this version of Node cannot run the program, and what to do; undefined if it can. */
export function nodeRefusal(version: string, program: string): string | undefined {
  if (Number.parseInt(version, 10) >= NODE_MAJOR_MIN) return undefined;
  return (
    `${program} needs Node ${NODE_MAJOR_MIN} or newer, and this is Node ${version}; ` +
    `run ./bin/${program} of a clone, which brings its own, or install a newer Node`
  );
}
