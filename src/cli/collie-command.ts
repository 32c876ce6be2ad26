import type { AdminCall } from './admin-client.ts';
import type { Terminal } from './output.ts';

/** What a command has at hand. */
export interface Collie {
  readonly call: AdminCall;
  readonly out: Terminal;
  /** Prints `value` with `--json`, else what `people` prints. */
  readonly show: (value: unknown, people: (out: Terminal) => void) => void;
  /** The command has told what it had to tell, and the exit status is 1. */
  readonly fail: () => void;
}
