import { allCommands, type CommandNode, type Offer } from './command-tree.ts';

/**
 * What bash and zsh have in common: the two `case` statements that follow the words of a command
 * line, and say what may come next. Both use these variables: `command`, the path so far; `value`,
 * what is offered for the option before, if it takes something; `positional`, how many arguments.
 */

/** Of `"$command|$word"`: takes one word on. */
export function stepCases(root: CommandNode): string[] {
  const below = ({ commands }: CommandNode) => commands.flatMap(valueCases);
  return [
    // Options of the program stand behind any command, unless that has one of the same name.
    ...below(root),
    ...valueCases(root).map((line) => line.replaceAll("'|", "*'|")),
    ...allCommands(root).flatMap(({ path, commands }) =>
      commands.map(
        (child) => `${quoted(`${path}|${child.name}`)}) command=${quoted(child.path)} ;;`,
      ),
    ),
    "*'|-'*) ;;",
    '*) positional=$((positional + 1)) ;;',
  ];

  function valueCases(node: CommandNode): string[] {
    const own = node.options.flatMap(({ names, value, inherited }) => {
      if (value === undefined || inherited) return [];
      const patterns = names.map((name) => quoted(`${node.path}|${name}`)).join(' | ');
      return [`${patterns}) value=${quoted(offerWord(value))} ;;`];
    });
    return node === root ? own : [...own, ...below(node)];
  }
}

/** Of `"$command"`: sets the arrays `kinds`, `flags` and `subcommands`. */
export function placeCases(
  root: CommandNode,
  describe: (name: string, description: string) => string,
): string[] {
  return allCommands(root).map((node) => {
    const options = node.options.flatMap(({ names, description }) =>
      names.map((name) => describe(name, description)),
    );
    const commands = node.commands.map((child) => describe(child.name, child.description));
    const list = (words: readonly string[]) => `(${words.map(quoted).join(' ')})`;
    const kinds = list(node.arguments.map(offerWord));
    const sets = [`kinds=${kinds}`, `flags=${list(options)}`, `subcommands=${list(commands)}`];
    return `${quoted(node.path)}) ${sets.join(' ')} ;;`;
  });
}

/** An offer as one word of the script; `words a b` for one of several. */
function offerWord(offer: Offer): string {
  return offer.kind === 'words' ? `words ${offer.words.join(' ')}` : offer.kind;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Indented by so many steps of two blanks. */
export function indented(lines: readonly string[], steps: number): string {
  return lines.map((line) => `${'  '.repeat(steps)}${line}`).join('\n');
}
