import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import { GiB } from '../src/base/units.ts';

/** What a number means nothing without. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly fileSystem: string;
  readonly node: string;
  /** Of what is compared, and of what measures it. */
  readonly versions: Readonly<Record<string, string>>;
}

const firstLine = (command: string, ...args: string[]) =>
  execFileSync(command, args, { encoding: 'utf8' }).split('\n', 1)[0]?.trim() ?? '';

/** @param directory  where the disks lie */
export function describeMachine(directory: string): Machine {
  const all = cpus();
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memoryGiB: Math.round(totalmem() / GiB),
    kernel: release(),
    fileSystem: firstLine('findmnt', '-no', 'FSTYPE', '-T', directory),
    node: process.version,
    versions: {
      fio: firstLine('fio', '--version'),
      nbdkit: firstLine('nbdkit', '--version'),
      'qemu-nbd': firstLine('qemu-nbd', '--version'),
    },
  };
}

export function machineLine(machine: Machine): string {
  const { cpu, cores, memoryGiB, kernel, fileSystem, node, versions } = machine;
  const tools = Object.values(versions).join(', ');
  return `${cpu}, ${cores} cores, ${memoryGiB} GiB; Linux ${kernel}, ${fileSystem}; Node ${node}; ${tools}`;
}
