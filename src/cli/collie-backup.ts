import type { Command } from 'commander';
import type { Collie } from './collie-command.ts';

/** What makes a command, by its name, in the order of the help. */
const COMMANDS: Readonly<Record<string, () => Promise<(collie: Collie) => Command>>> = {
  create: async () => (await import('./collie-backup-create.ts')).createCommand,
  list: async () => (await import('./collie-backup-list.ts')).listCommand,
  show: async () => (await import('./collie-backup-list.ts')).showCommand,
  verify: async () => (await import('./collie-backup-verify.ts')).verifyCommand,
  restore: async () => (await import('./collie-backup-restore.ts')).restoreCommand,
  prune: async () => (await import('./collie-backup-remove.ts')).pruneCommand,
  delete: async () => (await import('./collie-backup-remove.ts')).deleteCommand,
};

/**
 * `collie backup …`.
 * @param named  the word behind it: if it is a command, only that one is loaded
 */
export async function backupCommands(collie: Collie, named: string): Promise<Command[]> {
  const only = Object.hasOwn(COMMANDS, named) ? COMMANDS[named] : undefined;
  const loads = only === undefined ? Object.values(COMMANDS) : [only];
  return Promise.all(loads.map(async (load) => (await load())(collie)));
}
