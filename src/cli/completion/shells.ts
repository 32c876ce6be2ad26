import type { Command } from 'commander';
import { bashCompletion } from './bash.ts';
import { commandTree } from './command-tree.ts';
import type { Shell } from './shell-names.ts';
import { zshCompletion } from './zsh.ts';

/** The script by which a shell completes what is typed behind this program. */
export function completionFor(shell: Shell, program: Command): string {
  const tree = commandTree(program);
  switch (shell) {
    case 'bash':
      return bashCompletion(tree);
    case 'zsh':
      return zshCompletion(tree);
  }
}
