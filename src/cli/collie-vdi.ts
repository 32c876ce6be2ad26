import { Command } from 'commander';
import type { DeletionView, VdiInfoView, VdiListView, VdiView } from '../app/admin-views.ts';
import type { Collie } from './collie-command.ts';
import { transferCommands } from './collie-transfer.ts';
import { changeCommands } from './collie-vdi-change.ts';
import { checkCommand } from './collie-vdi-check.ts';
import { ruleList } from './collie-vdi-set.ts';
import { fields, formatBytes, formatTime, table } from './output.ts';
import { pathOf, vdiRef } from './vdi-names.ts';
import { treeRows } from './vdi-tree.ts';

/** `collie vdi …`. */
export function vdiCommands(collie: Collie): Command[] {
  const own = [createCommand, listCommand, treeCommand, infoCommand, checkCommand];
  const commands = own.map((command) => command(collie));
  return [...commands, ...changeCommands(collie), ...transferCommands(collie)];
}

interface CreateOptions {
  readonly objectSize?: string;
  readonly allow?: readonly string[];
}

function createCommand({ call, show }: Collie): Command {
  return new Command('create')
    .description('make a VDI; it takes space only where it is written')
    .argument('<name>', '1 to 255 bytes, without @ + / and white space')
    .argument('<size>', 'bytes, or with k, M, G, T, P behind: at most 1P')
    .option('--object-size <size>', 'size of its pieces, 1M to 64M (default: 4M)')
    .option('--allow <rules>', "who may attach it, as of 'vdi set' (default: default)", ruleList)
    .action(async (name: string, size: string, options: CreateOptions) => {
      const asked = { name, size, ...options };
      const made = await call<VdiView>('POST', '/v1/vdis', asked);
      show(made, (out) => out.line(`${made.name} ${formatBytes(made.sizeBytes)}`));
    });
}

const COLUMNS = ['NAME', 'SIZE', 'OBJECTS', 'ID', 'CREATED', 'CLIENTS'];

/** Of one VDI or snapshot, below COLUMNS. */
function row(vdi: VdiView | DeletionView): string[] {
  const { clients, vid, state, createdMs } = vdi;
  const sizes = [formatBytes(vdi.sizeBytes), formatBytes(vdi.objectBytes)];
  const used = state === 'deleting' ? deletionOf(vdi) : `${clients.length}`;
  return [vdi.export, ...sizes, `${vid}`, formatTime(createdMs), used];
}

function deletionOf(vdi: DeletionView): string {
  const { done, total } = vdi.progress ?? { done: 0, total: 0 };
  return total === 0 ? 'deleting' : `deleting, ${Math.floor((done / total) * 100)} %`;
}

function listCommand({ call, show }: Collie): Command {
  return new Command('list')
    .description('all VDIs with their snapshots, or one with its own')
    .argument('[name]')
    .action(async (name: string | undefined) => {
      const all = await call<VdiListView>('GET', '/v1/vdis');
      const listed = name === undefined ? all : onlyOf(name, all);
      const found = [...listed.vdis, ...listed.snapshots, ...listed.deleting].length > 0;
      // That there is none the sheep says in its words.
      if (name !== undefined && !found) await call<VdiInfoView>('GET', pathOf({ name }));
      show(listed, (out) => {
        const served = [...listed.vdis, ...listed.snapshots].sort(byNameAndAge);
        const rows = [...served, ...listed.deleting].map(row);
        for (const line of table(COLUMNS, rows)) out.line(line);
      });
    });
}

function onlyOf(name: string, listed: VdiListView): VdiListView {
  const only = <One extends VdiView>(all: readonly One[]) => all.filter((vdi) => vdi.name === name);
  return {
    vdis: only(listed.vdis),
    snapshots: only(listed.snapshots),
    deleting: only(listed.deleting),
    kept: only(listed.kept),
  };
}

function treeCommand({ call, show }: Collie): Command {
  return new Command('tree')
    .description(
      'what was made from what: below each other snapshots and their VDI, at them clones',
    )
    .action(async () => {
      const { vdis, snapshots, deleting, kept } = await call<VdiListView>('GET', '/v1/vdis');
      const all = [...vdis, ...snapshots, ...deleting, ...kept];
      show(all, (out) => {
        const families = treeRows(all);
        const rows = families.flat().map(({ node, lead }) => {
          const [name, ...others] = row(node);
          return [`${lead}${name}`, ...others];
        });
        const [head, ...lines] = table(COLUMNS, rows);
        out.line(head ?? '');
        for (const [place, family] of families.entries()) {
          if (place > 0) out.line('');
          for (const line of lines.splice(0, family.length)) out.line(line);
        }
      });
    });
}

function infoCommand({ call, show }: Collie): Command {
  return new Command('info')
    .description('one VDI or snapshot, and who uses it')
    .argument('<name[@tag]>')
    .action(async (text: string) => {
      const vdi = await call<VdiInfoView>('GET', pathOf(vdiRef(text)));
      show(vdi, (out) => {
        const clients = vdi.clients.map((client) => client.name).join(' ');
        const lines = fields([
          ['name', vdi.export],
          ['size', `${formatBytes(vdi.sizeBytes)} (${vdi.sizeBytes} bytes)`],
          ['object size', formatBytes(vdi.objectBytes)],
          ['objects', `${vdi.objects} (at most ${formatBytes(vdi.objects * vdi.objectBytes)})`],
          ['shared', `${vdi.sharedObjects} objects of snapshots`],
          ['id', `${vdi.vid}`],
          ...(vdi.madeFrom === undefined ? [] : [['made from', vdi.madeFrom] as const]),
          ['created', formatTime(vdi.createdMs)],
          ['allow', vdi.allow.join(',')],
          ['attached', `${vdi.attachEpoch} times`],
          ['clients', clients === '' ? 'none' : clients],
        ]);
        for (const line of lines) out.line(line);
      });
    });
}

function byNameAndAge(a: VdiView, b: VdiView): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  return a.vid - b.vid;
}
