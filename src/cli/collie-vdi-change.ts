import { Command } from 'commander';
import type { VdiChangedView, VdiView } from '../app/admin-views.ts';
import { SheepError } from '../base/errors.ts';
import type { Collie } from './collie-command.ts';
import { setCommand } from './collie-vdi-set.ts';
import { watchDeletion } from './deletion-progress.ts';
import { formatBytes } from './output.ts';
import { exportOf, pathOf, snapshotRef, vdiRef } from './vdi-names.ts';

interface Options {
  readonly snapshot?: string;
  readonly dryRun?: true;
}

/** What changes a VDI that is there. */
export function changeCommands(collie: Collie): Command[] {
  return [
    snapshotCommand(collie),
    cloneCommand(collie),
    rollbackCommand(collie),
    resizeCommand(collie),
    setCommand(collie),
    deleteCommand(collie),
  ];
}

const SNAPSHOT = '-s, --snapshot <tag>';
const DRY_RUN = ['--dry-run', 'only tell whether it would be done'] as const;

function snapshotCommand({ call, show }: Collie): Command {
  return new Command('snapshot')
    .description('keep a VDI as it is now, also while it is in use')
    .argument('<name>')
    .option(SNAPSHOT, 'what to call it: as names, and not only digits')
    .action(async (text: string, options: Options) => {
      const { name, snapshot } = snapshotRef(text, options.snapshot, `snapshot -s TAG ${text}`);
      const made = await call<VdiView>('POST', `${pathOf({ name })}/snapshots`, { tag: snapshot });
      show(made, (out) =>
        out.line(`${made.export} ${formatBytes(made.sizeBytes)}, ID ${made.vid}`),
      );
    });
}

function cloneCommand({ call, show }: Collie): Command {
  return new Command('clone')
    .description('make a VDI from a snapshot; what neither has changed is stored once')
    .argument('<source>', 'the VDI whose snapshot it is')
    .argument('<name>', 'of the new VDI')
    .option(SNAPSHOT, 'which snapshot, by tag or ID')
    .action(async (source: string, target: string, options: Options) => {
      const from = snapshotRef(source, options.snapshot, `clone -s TAG ${source} ${target}`);
      const made = await call<VdiView>('POST', `${pathOf(from)}/clones`, { name: target });
      show(made, (out) => out.line(`${made.export} ${formatBytes(made.sizeBytes)}`));
    });
}

function rollbackCommand({ call, show }: Collie): Command {
  return new Command('rollback')
    .description('make a VDI what it was at a snapshot; what it is now is lost')
    .argument('<name>')
    .option(SNAPSHOT, 'which snapshot, by tag or ID')
    .option(...DRY_RUN)
    .action(async (text: string, options: Options) => {
      const { name, snapshot } = snapshotRef(text, options.snapshot, `rollback -s TAG ${text}`);
      const dryRun = options.dryRun === true;
      const path = `${pathOf({ name, snapshot })}/rollback`;
      const vdi = await call<VdiChangedView>('POST', path, { dryRun });
      const verb = dryRun ? 'would be rolled back' : 'rolled back';
      show(vdi, (out) => out.line(`${vdi.name} ${formatBytes(vdi.sizeBytes)} ${verb}`));
    });
}

function resizeCommand({ call, show }: Collie): Command {
  return new Command('resize')
    .description('make a VDI larger, also while it is in use; or smaller: its end is lost')
    .argument('<name>')
    .argument('<size>', 'as of create')
    .option(...DRY_RUN)
    .action(async (text: string, size: string, options: Options) => {
      const { name, snapshot } = vdiRef(text);
      if (snapshot !== undefined) {
        const message = `'${text}' is a snapshot and keeps its size; clone it, and resize the clone`;
        throw new SheepError('ERR_BAD_INPUT', message, { text });
      }
      const dryRun = options.dryRun === true;
      const vdi = await call<VdiChangedView>('POST', `${pathOf({ name })}/resize`, {
        size,
        dryRun,
      });
      show(vdi, (out) => {
        const verb = dryRun ? ' would be its size' : '';
        out.line(`${vdi.export} ${formatBytes(vdi.sizeBytes)}${verb}`);
        if (vdi.clients.length > 0) out.line('its clients see the new size when they reconnect');
      });
    });
}

function deleteCommand(collie: Collie): Command {
  const { call, show } = collie;
  return new Command('delete')
    .description('delete a VDI or a snapshot; settles when the space that only it took is free')
    .argument('<name>')
    .option(SNAPSHOT, 'this snapshot of it, by tag or ID')
    .option(...DRY_RUN)
    .action(async (text: string, options: Options) => {
      const ref = vdiRef(text, options.snapshot);
      const query = options.dryRun === true ? '?dryRun=true' : '';
      const deletion = call<VdiChangedView>('DELETE', `${pathOf(ref)}${query}`);
      const deleted = await watchDeletion(collie, exportOf(ref), deletion);
      const size = formatBytes(deleted.sizeBytes);
      const verb = deleted.dryRun ? 'would be deleted' : 'deleted';
      show(deleted, (out) => out.line(`${deleted.export} ${size} ${verb}`));
    });
}
