import { Command } from 'commander';
import type { HealthView, InfoView } from '../app/admin-views.ts';
import { clusterCheckCommand } from './collie-cluster-check.ts';
import { clusterSnapshotCommands } from './collie-cluster-snapshot.ts';
import type { Collie } from './collie-command.ts';
import { fields, formatBytes } from './output.ts';

/** `collie cluster …`. */
export function clusterCommands(collie: Collie): Command[] {
  const commands = [
    infoCommand,
    healthCommand,
    clusterSnapshotCommands,
    clusterCheckCommand,
    shutdownCommand,
  ];
  return commands.map((command) => command(collie));
}

function infoCommand({ call, show }: Collie): Command {
  return new Command('info').description('who it is, and its space').action(async () => {
    const info = await call<InfoView>('GET', '/v1/info');
    const { totalBytes, freeBytes, reservedBytes } = info.space;
    show(info, (out) => {
      const lines = fields([
        ['cluster', info.cluster.clusterId],
        ['driver', info.cluster.driver],
        ['nodes', `${info.cluster.nodes}`],
        ['space', `${formatBytes(totalBytes)}, ${formatBytes(freeBytes)} free`],
        ['reserved', formatBytes(reservedBytes)],
      ]);
      for (const line of lines) out.line(line);
    });
  });
}

function healthCommand({ call, show, fail }: Collie): Command {
  return new Command('health')
    .description('ok, or what is wrong; exit status 1 if something is not served')
    .action(async () => {
      const health = await call<HealthView>('GET', '/v1/health');
      show(health, (out) => {
        out.line(health.status);
        for (const { level, message } of health.problems) out.line(`${level}: ${message}`);
        if (health.deleting > 0) out.line(`deletions under way: ${health.deleting}`);
      });
      if (health.status === 'error') fail();
    });
}

function shutdownCommand({ call, show }: Collie): Command {
  return new Command('shutdown')
    .description('stop the sheep: clients have 30 s to finish, then all is flushed')
    .action(async () => {
      const answer = await call<{ stopping: boolean }>('POST', '/v1/shutdown');
      show(answer, (out) => out.line('stopping'));
    });
}
