import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { scratch } from '../cluster/scratch.ts';
import { COLLIE, Daemon, succeed } from './daemon.ts';

test('bash completes the names of the VDIs and snapshots of a real sheep', async () => {
  const { path, ...directory } = await scratch();
  await using _ = directory;
  const admin = `unix:${path}/admin`;
  const vdis = ['--vdi', 'root:1M', '--vdi', 'web:1M'];
  await using _daemon = await Daemon.start([
    `${path}/store`,
    '-n',
    `unix:${path}/n`,
    '--admin',
    admin,
    ...vdis,
  ]);
  await succeed(COLLIE, ['-a', admin, 'vdi', 'snapshot', '-s', 'monday', 'root']);
  const script = `eval "$(collie completion bash)"
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _collie; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const environment = { PATH: `${dirname(COLLIE)}:${process.env['PATH']}` };
  const replies = async (...words: string[]) => {
    const typed = ['collie', '-a', 'unix', ':', `${path}/admin`, 'vdi', ...words];
    return (await succeed('bash', ['-c', script, 'bash', ...typed], { environment }))
      .trim()
      .split('\n');
  };
  expect(await replies('info', '')).toEqual(['root', 'web', 'root@monday']);
  expect(await replies('resize', 'r')).toEqual(['root']);
  expect(await replies('export', 'root', '@')).toEqual(['@monday']);
});
