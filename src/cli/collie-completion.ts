import { Argument, Command } from 'commander';
import { completionFor, SHELLS, type Shell } from './completion/shells.ts';

const HELP_AFTER = `
bash: eval "$(collie completion bash)", or put it into
      /usr/share/bash-completion/completions/collie
zsh:  collie completion zsh > DIRECTORY-OF-FPATH/_collie
Names of VDIs are asked of the sheep that the command line means.
`;

/** `collie completion SHELL`. @param print  writes it as it is */
export function completionCommand(print: (text: string) => void): Command {
  return new Command('completion')
    .description('print what makes a shell complete the words of collie')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', HELP_AFTER)
    .action((shell: Shell, _options: unknown, command: Command) => {
      print(completionFor(shell, command.parent ?? command));
    });
}
