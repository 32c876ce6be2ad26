import type { Command, Option } from 'commander';

/** What the shell can offer where something is to be typed; `words`: one of these. */
export type Offer =
  | { readonly kind: 'nothing' | 'file' | 'directory' | 'address' | 'vdi' | 'export' }
  | { readonly kind: 'words'; readonly words: readonly string[] };

export interface OptionNode {
  /** `-a`, `--address`. */
  readonly names: readonly string[];
  readonly description: string;
  /** Absent: it takes no value. */
  readonly value?: Offer;
  /** It belongs to a command above. */
  readonly inherited: boolean;
}

/** A command as completion sees it. */
export interface CommandNode {
  readonly name: string;
  readonly description: string;
  /** The words behind the program: `vdi create`; empty for the program itself. */
  readonly path: string;
  /** Its own and those of the commands above it, which may be written behind it too. */
  readonly options: readonly OptionNode[];
  readonly arguments: readonly Offer[];
  readonly commands: readonly CommandNode[];
}

const NOTHING: Offer = { kind: 'nothing' };

/** By the word between the brackets of an option or argument. */
const OFFERS: Readonly<Record<string, Offer>> = {
  file: { kind: 'file' },
  dir: { kind: 'directory' },
  directory: { kind: 'directory' },
  address: { kind: 'address' },
  name: { kind: 'vdi' },
  source: { kind: 'vdi' },
  'name@tag': { kind: 'export' },
  'name[@tag]': { kind: 'export' },
  level: { kind: 'words', words: ['debug', 'info', 'warn', 'error'] },
  driver: { kind: 'words', words: ['local'] },
};

/** Arguments, by their place, that name what does not exist yet. */
const NEW_NAMES: Readonly<Record<string, number>> = { 'vdi create': 0, 'vdi clone': 1 };

/** What commander knows of a program, so that no list beside it can become wrong. */
export function commandTree(command: Command, above: readonly OptionNode[] = []): CommandNode {
  const path = pathOf(command);
  const help = command.createHelp();
  const own = help.visibleOptions(command).map(optionNode);
  const others = above.filter((one) => !own.some((each) => sameOption(each, one)));
  const options = [...own, ...others.map((one) => ({ ...one, inherited: true }))];
  return {
    ...{ name: command.name(), description: command.description(), path, options },
    arguments: command.registeredArguments.map((argument, place) =>
      NEW_NAMES[path] === place ? NOTHING : offerOf(argument.name(), argument.argChoices),
    ),
    commands: help.visibleCommands(command).map((child) => commandTree(child, options)),
  };
}

/** The command and all below it, itself first. */
export function allCommands(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(allCommands)];
}

function pathOf(command: Command): string {
  const { parent } = command;
  return parent === null ? '' : `${pathOf(parent)} ${command.name()}`.trim();
}

function sameOption(a: OptionNode, b: OptionNode): boolean {
  return a.names.some((name) => b.names.includes(name));
}

function optionNode({ short, long, flags, description, argChoices, required }: Option): OptionNode {
  const names = [short, long].filter((name) => name !== undefined);
  const [, placeholder = ''] = /[<[](.+?)(?:\.\.\.)?[>\]]$/.exec(flags) ?? [];
  const offer = offerOf(placeholder, argChoices);
  // What is called a name behind an option is no VDI's.
  const value = offer.kind === 'vdi' ? NOTHING : offer;
  return { names, description, inherited: false, ...(required && { value }) };
}

function offerOf(placeholder: string, choices: readonly string[] | undefined): Offer {
  const bare = placeholder.toLowerCase();
  if (choices !== undefined) return { kind: 'words', words: choices };
  if (bare.includes('|')) return { kind: 'words', words: bare.split('|') };
  return OFFERS[bare] ?? NOTHING;
}
