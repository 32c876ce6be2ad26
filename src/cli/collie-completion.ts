import { Argument, Command } from 'commander';
import { SHELLS, type Shell } from './completion/shell-names.ts';

const HELP_AFTER = `
bash: eval "$(collie completion bash)", or put it into
      /usr/share/bash-completion/completions/collie
zsh:  collie completion zsh > DIRECTORY-OF-FPATH/_collie
Names of VDIs are asked of the sheep that the command line means.
`;

/**
 * `collie completion SHELL`.
 * @param print  writes it as it is
 * @param whole  the program with all of its commands
 */
export function completionCommand(
  print: (text: string) => void,
  whole: () => Promise<Command>,
): Command {
  return new Command('completion')
    .description('print what makes a shell complete the words of collie')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', HELP_AFTER)
    .action(async (shell: Shell) => {
      const { completionFor } = await import('./completion/shells.ts');
      print(completionFor(shell, await whole()));
    });
}
