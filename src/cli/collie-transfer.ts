import { Command } from 'commander';
import { changedSince } from '../app/transfer/changes.ts';
import { MAP_CONTEXTS, type MapEntry, mapOf } from '../app/transfer/map.ts';
import { NBD_OPTION } from './argument-texts.ts';
import type { Collie } from './collie-command.ts';
import { exportCommand } from './collie-export.ts';
import { importCommand } from './collie-import.ts';
import { formatBytes, table } from './output.ts';
import { type TransferOptions, TransferSession } from './transfer-session.ts';
import { snapshotRef, vdiRef } from './vdi-names.ts';

/** What moves the bytes of VDIs, and what shows where they are. */
export function transferCommands(collie: Collie): Command[] {
  return [importCommand(collie), exportCommand(collie), diffCommand(collie), mapCommand(collie)];
}

/** Of offsets and lengths in tables: exact, because other tools are given them. */
const COLUMNS = ['OFFSET', 'LENGTH'];

function diffCommand(collie: Collie): Command {
  return new Command('diff')
    .description('which bytes changed from a snapshot to a VDI or snapshot that stems from it')
    .argument('<name@tag>', 'the earlier state')
    .argument('<name[@tag]>', 'the later state')
    .option(...NBD_OPTION)
    .action(async (earlier: string, later: string, _options: unknown, command: Command) => {
      const options: TransferOptions = command.optsWithGlobals();
      const base = snapshotRef(earlier, undefined, `diff ${earlier}@TAG ${later}`);
      await TransferSession.run(collie, options, async (session) => {
        const [from, to] = await Promise.all([session.info(base), session.info(vdiRef(later))]);
        await using device = await session.openWithChanges(to, from);
        const ranges: { offset: number; length: number }[] = [];
        let changedBytes = 0;
        for await (const { at, length } of changedSince(device, from.tag, session)) {
          ranges.push({ offset: at, length });
          changedBytes += length;
        }
        const sizes = { fromSizeBytes: from.sizeBytes, sizeBytes: to.sizeBytes };
        const found = { from: from.export, to: to.export, ...sizes, changedBytes, ranges };
        collie.show(found, (out) => {
          const rows = ranges.map(({ offset, length }) => [`${offset}`, `${length}`]);
          if (rows.length > 0) for (const line of table(COLUMNS, rows)) out.line(line);
          const changed = `${formatBytes(changedBytes)} of ${formatBytes(to.sizeBytes)}`;
          out.line(`${changed} changed in ${to.export} since ${from.export}`);
          if (from.sizeBytes === to.sizeBytes) return;
          out.line(`${from.export} has ${from.sizeBytes} bytes, ${to.export} ${to.sizeBytes}`);
        });
      });
    });
}

function mapCommand(collie: Collie): Command {
  return new Command('map')
    .description('where a VDI or snapshot holds data, and how many snapshots below it that is')
    .argument('<name[@tag]>')
    .option(...NBD_OPTION)
    .action(async (text: string, _options: unknown, command: Command) => {
      const options: TransferOptions = command.optsWithGlobals();
      await TransferSession.run(collie, options, async (session) => {
        const vdi = await session.info(vdiRef(text));
        await using device = await session.open(vdi.export, MAP_CONTEXTS);
        const entries: MapEntry[] = [];
        for await (const entry of mapOf(device, session)) entries.push(entry);
        const extents = entries.map(({ at, length, content, depth }) => {
          return { offset: at, length, content, depth };
        });
        collie.show({ export: vdi.export, sizeBytes: vdi.sizeBytes, extents }, (out) => {
          const rows = entries.map((entry) => [
            `${entry.at}`,
            `${entry.length}`,
            entry.content,
            `${entry.depth}`,
          ]);
          for (const line of table([...COLUMNS, 'CONTENT', 'DEPTH'], rows)) out.line(line);
          out.line(heldWhere(entries));
        });
      });
    });
}

/** How much is held where, in one line. */
function heldWhere(entries: readonly MapEntry[]): string {
  const bytesAt = new Map<number, number>();
  for (const { depth, length } of entries) {
    if (depth > 0) bytesAt.set(depth, (bytesAt.get(depth) ?? 0) + length);
  }
  const held = [...bytesAt]
    .toSorted(([a], [b]) => a - b)
    .map(([depth, bytes]) => `${formatBytes(bytes)} at depth ${depth}`);
  return held.length === 0 ? 'all of it is a hole' : held.join(', ');
}
