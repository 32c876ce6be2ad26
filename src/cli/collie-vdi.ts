import { Command } from 'commander';
import type { VdiDeletedView, VdiInfoView, VdiListView, VdiView } from '../app/admin-views.ts';
import { formatVid } from '../base/ids.ts';
import type { Collie } from './collie-command.ts';
import { fields, formatBytes, formatTime, table } from './output.ts';

/** `collie vdi …`. */
export function vdiCommands(collie: Collie): Command {
  return new Command('vdi')
    .description('virtual disk images')
    .addCommand(createCommand(collie))
    .addCommand(listCommand(collie))
    .addCommand(infoCommand(collie))
    .addCommand(deleteCommand(collie));
}

function createCommand({ call, show }: Collie): Command {
  return new Command('create')
    .description('make a VDI; it takes space only where it is written')
    .argument('<name>', '1 to 255 bytes, without @ + / and white space')
    .argument('<size>', 'bytes, or with k, M, G, T, P behind: at most 1P')
    .option('--object-size <size>', 'size of its pieces, 1M to 64M (default: 4M)')
    .action(async (name: string, size: string, options: { objectSize?: string }) => {
      const { objectSize } = options;
      const asked = { name, size, ...(objectSize !== undefined && { objectSize }) };
      const made = await call<VdiView>('POST', '/v1/vdis', asked);
      show(made, (out) => out.line(`${made.name} ${formatBytes(made.sizeBytes)}`));
    });
}

function listCommand({ call, show }: Collie): Command {
  return new Command('list').description('all VDIs').action(async () => {
    const listed = await call<VdiListView>('GET', '/v1/vdis');
    show(listed, (out) => {
      const rows = [...listed.vdis, ...listed.deleting].map((vdi) => [
        vdi.name,
        formatBytes(vdi.sizeBytes),
        formatBytes(vdi.objectBytes),
        formatVid(vdi.vid),
        formatTime(vdi.createdMs),
        vdi.state === 'ready' ? `${vdi.clients.length}` : vdi.state,
      ]);
      const head = ['NAME', 'SIZE', 'OBJECTS', 'ID', 'CREATED', 'CLIENTS'];
      for (const line of table(head, rows)) out.line(line);
    });
  });
}

function infoCommand({ call, show }: Collie): Command {
  return new Command('info')
    .description('one VDI, and who uses it')
    .argument('<name>')
    .action(async (name: string) => {
      const vdi = await call<VdiInfoView>('GET', pathOf(name));
      show(vdi, (out) => {
        const clients = vdi.clients.map((client) => client.name).join(' ');
        const lines = fields([
          ['name', vdi.name],
          ['size', `${formatBytes(vdi.sizeBytes)} (${vdi.sizeBytes} bytes)`],
          ['object size', formatBytes(vdi.objectBytes)],
          ['objects', `${vdi.objects} (at most ${formatBytes(vdi.objects * vdi.objectBytes)})`],
          ['id', formatVid(vdi.vid)],
          ['created', formatTime(vdi.createdMs)],
          ['attached', `${vdi.attachEpoch} times`],
          ['clients', clients === '' ? 'none' : clients],
        ]);
        for (const line of lines) out.line(line);
      });
    });
}

function deleteCommand({ call, show }: Collie): Command {
  return new Command('delete')
    .description('delete a VDI and everything on it; settles when its space is free')
    .argument('<name>')
    .option('--dry-run', 'only tell whether it would be done')
    .action(async (name: string, options: { dryRun?: true }) => {
      const query = options.dryRun === true ? '?dryRun=true' : '';
      const deleted = await call<VdiDeletedView>('DELETE', `${pathOf(name)}${query}`);
      const size = formatBytes(deleted.sizeBytes);
      const verb = deleted.dryRun ? 'would be deleted' : 'deleted';
      show(deleted, (terminal) => terminal.line(`${deleted.name} ${size} ${verb}`));
    });
}

function pathOf(name: string): string {
  return `/v1/vdis/${encodeURIComponent(name.toWellFormed())}`;
}
