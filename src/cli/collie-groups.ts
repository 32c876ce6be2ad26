import { Command } from 'commander';
import type { Collie } from './collie-command.ts';

/** @param named  the word behind the group: a group may leave out all but the command of this name */
type Commands = (collie: Collie, named: string) => Command[] | Promise<Command[]>;

interface Group {
  readonly name: string;
  readonly description: string;
  readonly load: () => Promise<Commands>;
}

/** Loaded when a command line names them: to load all takes longer than what most commands do. */
const GROUPS: readonly Group[] = [
  {
    name: 'cluster',
    description: 'the cluster as a whole',
    load: async () => (await import('./collie-cluster.ts')).clusterCommands,
  },
  {
    name: 'node',
    description: 'the nodes of the cluster',
    load: async () => (await import('./collie-node.ts')).nodeCommands,
  },
  {
    name: 'vdi',
    description: 'virtual disk images',
    load: async () => (await import('./collie-vdi.ts')).vdiCommands,
  },
  {
    name: 'backup',
    description: 'snapshots of VDIs in any directory',
    load: async () => (await import('./collie-backup.ts')).backupCommands,
  },
];

/** The commands that have commands below them, which are not there before `fillGroup`. */
export function emptyGroups(): Command[] {
  return GROUPS.map(({ name, description }) => new Command(name).description(description));
}

/**
 * Puts its commands below a command, if it is one of `emptyGroups` and still empty.
 * @param named  the word behind it on the command line: of the commands, this one may be enough
 */
export async function fillGroup(group: Command, collie: Collie, named: string): Promise<void> {
  const load = GROUPS.find(({ name }) => name === group.name())?.load;
  if (load === undefined || group.commands.length > 0) return;
  const commands = await load();
  for (const command of await commands(collie, named)) group.addCommand(command);
}
