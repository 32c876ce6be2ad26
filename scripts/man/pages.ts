import type { Command, Help, Option } from 'commander';
import { collieProgram } from '../../src/cli/collie-main.ts';
import { sheepCommand } from '../../src/cli/sheep-options.ts';
import { type Note, notesOf } from './notes.ts';
import { COLLIE, DATE, type Prose, SHEEP } from './prose.ts';
import { Roff } from './roff.ts';

/** The manual pages by their file names. @param version  of the package */
export async function manualPages(version: string): Promise<Readonly<Record<string, string>>> {
  let said = '';
  const output = {
    out: (text: string) => {
      said += text;
    },
    err: () => undefined,
  };
  const heard = (speak: () => void) => {
    said = '';
    speak();
    return said;
  };
  const { whole } = collieProgram(
    {
      ...output,
      ...{ environment: {}, watched: false, columns: () => 80, screen: () => undefined },
      ...{ nowMs: () => 0, sleep: async () => undefined },
    },
    () => undefined,
  );
  const collie = await whole();
  const sheep = sheepCommand(version, output);
  const of = { version, heard };
  return {
    'sheep.8': page(sheep, { ...of, section: 8, manual: 'System Administration' }, SHEEP),
    'collie.1': page(collie, { ...of, section: 1, manual: 'User Commands' }, COLLIE),
  };
}

interface Edition {
  readonly version: string;
  readonly section: number;
  readonly manual: string;
  /** What a program prints meanwhile. */
  readonly heard: (speak: () => void) => string;
}

function page(program: Command, edition: Edition, prose: Prose): string {
  const { section, version, manual } = edition;
  const help = program.createHelp();
  const roff = new Roff(program.name(), section, DATE, `sheepdog-nbd ${version}`, manual);
  roff.name(program.name(), prose.what).synopsis(program.name(), prose.synopsis);
  roff.section('description');
  for (const text of prose.description) roff.paragraph(text);
  roff.section('options');
  for (const option of help.visibleOptions(program)) addOption(roff, option);
  const commands = leaves(program, help);
  if (commands.length > 0) roff.section('commands');
  for (const command of commands) addCommand(roff, command, edition);
  addNotes(roff, notes(program, edition));
  for (const [title, terms] of Object.entries(prose.lists)) {
    roff.section(title);
    for (const [term, text] of terms) roff.term(term, text);
  }
  return roff.section('see also').paragraph(prose.seeAlso).toString();
}

/** The commands that do something, in the order of the help. */
function leaves(command: Command, help: Help): Command[] {
  return help
    .visibleCommands(command)
    .flatMap((child) => (child.commands.length > 0 ? leaves(child, help) : [child]));
}

function addOption(roff: Roff, { flags, description }: Option): void {
  roff.term(flags, sentence(description));
}

function addCommand(roff: Roff, command: Command, edition: Edition): void {
  const help = command.createHelp();
  const words = help.commandUsage(command).replace(/^collie (?:\[options\] )*/, '');
  roff.subsection(words).paragraph(sentence(command.description()));
  for (const argument of command.registeredArguments) {
    if (argument.description !== '') roff.term(argument.name(), sentence(argument.description));
  }
  const options = help.visibleOptions(command).filter(({ long }) => long !== '--help');
  for (const option of options) addOption(roff, option);
  for (const note of notes(command, edition)) addNote(roff, note);
}

/** Those with a label of their own become sections, the others notes. */
function addNotes(roff: Roff, given: readonly Note[]): void {
  const all = given.filter(({ label }) => label !== 'All commands');
  const own = ['Signals', 'Exit status', 'Examples'];
  const isOwn = ({ label = '' }: Note) => own.includes(label);
  roff.section('notes');
  for (const note of all.filter((one) => !isOwn(one))) addNote(roff, note);
  for (const { label = '', ...note } of all.filter(isOwn)) {
    roff.section(label);
    if (note.kind === 'text') roff.paragraph(note.text);
    else roff.literal(note.lines);
  }
}

function addNote(roff: Roff, note: Note): void {
  if (note.kind === 'literal') {
    if (note.label !== undefined) roff.paragraph(`${note.label}:`);
    roff.literal(note.lines);
  } else if (note.label === undefined) roff.paragraph(note.text);
  else roff.term(note.label, note.text);
}

/** What commander prints behind the help of a command. */
function notes(command: Command, { heard }: Edition): Note[] {
  return notesOf(heard(() => command.outputHelp()).slice(command.helpInformation().length));
}

function sentence(text: string): string {
  const first = text.charAt(0);
  // A word that is written so, as a file name or a value, stays.
  const begun = /^[a-z]+(?:[ ;]|$)/.test(text) ? first.toUpperCase() + text.slice(1) : text;
  return /[.:]$/.test(begun) ? begun : `${begun}.`;
}
