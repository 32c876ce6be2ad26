import { Command } from 'commander';
import type { InfoView, StatsView } from '../app/admin-views.ts';
import type { TlsState } from '../contracts/tls.ts';
import type { Collie } from './collie-command.ts';
import { fields, formatBytes, formatDuration, formatTime, table } from './output.ts';

/** `collie node …`. */
export function nodeCommands(collie: Collie): Command[] {
  return [listCommand(collie), infoCommand(collie), reloadCommand(collie)];
}

function reloadCommand({ call, show }: Collie): Command {
  return new Command('reload')
    .description('read the certificates and keys of this node again, for new connections')
    .action(async () => {
      const state = await call<TlsState>('POST', '/v1/reload');
      show(state, (out) => {
        const { certificate, pskUsers } = state;
        if (certificate !== undefined) {
          const { subject, expiresAtMs, revocations } = certificate;
          const list = revocations ? 'with a list of revoked ones' : 'no list of revoked ones';
          out.line(`certificate ${subject}, good until ${formatTime(expiresAtMs)}, ${list}`);
        }
        if (pskUsers !== undefined) out.line(`keys of ${pskUsers} users`);
      });
    });
}

function listCommand({ call, show }: Collie): Command {
  return new Command('list').description('all nodes').action(async () => {
    const { node, space } = await call<InfoView>('GET', '/v1/info');
    show([{ ...node, space }], (out) => {
      const row = [
        node.nodeId,
        node.version,
        formatBytes(space.totalBytes),
        formatBytes(space.freeBytes),
        node.nbd.join(' '),
      ];
      for (const line of table(['ID', 'VERSION', 'SPACE', 'FREE', 'NBD'], [row])) out.line(line);
    });
  });
}

function infoCommand({ call, show }: Collie): Command {
  return new Command('info').description('this node: addresses, load, clients').action(async () => {
    const [{ node }, stats] = await Promise.all([
      call<InfoView>('GET', '/v1/info'),
      call<StatsView>('GET', '/v1/stats'),
    ]);
    show({ ...node, ...stats }, (out) => {
      const { process, farm, space, connections } = stats;
      const { p50, p99, max } = process.eventLoopDelayMs;
      const lines = fields([
        ['id', node.nodeId],
        ['version', node.version],
        ['store', node.store],
        ['nbd', node.nbd.join(' ')],
        ['admin', node.admin.join(' ')],
        ['up', formatDuration(stats.upMs)],
        ['space', `${formatBytes(space.totalBytes)}, ${formatBytes(space.freeBytes)} free`],
        ['not yet on disk', formatBytes(farm.unsyncedBytes)],
        ['open objects', `${farm.openObjects}`],
        ['memory', formatBytes(process.residentBytes)],
        ['event loop delay', `${p50} ms, 99 %: ${p99} ms, most: ${max} ms`],
        ['clients', `${connections.length}`],
      ]);
      for (const line of lines) out.line(line);
      const rows = connections.map((one) => [
        one.client,
        one.exportName,
        `${one.requests}`,
        formatBytes(one.readBytes),
        formatBytes(one.writtenBytes),
      ]);
      if (rows.length === 0) return;
      out.line('');
      for (const line of table(['CLIENT', 'VDI', 'REQUESTS', 'READ', 'WRITTEN'], rows)) {
        out.line(line);
      }
    });
  });
}
