import type { AdminCall, AdminLines, AdminMessages } from './admin-client.ts';
import type { Terminal } from './output.ts';
import type { Progress } from './progress.ts';

/** What a command has at hand. */
export interface Collie {
  readonly call: AdminCall;
  readonly lines: AdminLines;
  readonly messages: AdminMessages;
  readonly out: Terminal;
  /** True with `--json`. */
  readonly json: () => boolean;
  /** Prints `value` with `--json`, else what `people` prints. */
  readonly show: (value: unknown, people: (out: Terminal) => void) => void;
  /** Shows how far something long is; `format` as of `Progress`. */
  readonly progress: (label: string, format?: (amount: number) => string) => Progress;
  /** The size of the terminal that the output goes to; undefined: it is none. */
  readonly screen: () => { columns: number; rows: number } | undefined;
  readonly sleep: (durationMs: number) => Promise<void>;
  /** Says on standard error what is no result, and no failure either. */
  readonly warn: (text: string) => void;
  /** The command has told what it had to tell, and the exit status is 1. */
  readonly fail: () => void;
}

/**
 * The same, where these have been asked for before they are needed: each answer, or its failure, is
 * for whoever asks for it first.
 */
export function askedBefore<T extends Pick<Collie, 'call'>>(
  collie: T,
  paths: readonly string[],
): T {
  const answers = new Map(paths.map((path) => [path, collie.call<never>('GET', path)]));
  for (const answer of answers.values()) answer.catch(() => undefined); // whoever asks is told
  return {
    ...collie,
    call: (method, path, body) => {
      const answer = method === 'GET' ? answers.get(path) : undefined;
      if (answer === undefined) return collie.call(method, path, body);
      answers.delete(path);
      return answer;
    },
  };
}
