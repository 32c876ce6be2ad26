import { Command, Option } from 'commander';
import { quoted } from '../app/transfer/image-formats.ts';
import { SheepError } from '../base/errors.ts';
import { nodeCpuPool } from '../host/node-cpu-pool.ts';
import { NBD_OPTION } from './argument-texts.ts';
import type { CreateOptions } from './backup-create.ts';
import { askedBefore, type Collie } from './collie-command.ts';
import { pathOf, vdiRef } from './vdi-names.ts';

/** `collie backup create NAME@TAG --to DIR`. */
export function createCommand(collie: Collie): Command {
  return new Command('create')
    .description('store a snapshot of a VDI in a directory, which keeps what is equal only once')
    .argument('<name@tag>')
    .requiredOption('--to <directory>', 'the store of backups; it is made if it does not exist')
    .option('--tag <tag>', 'what to call the backup (default: only its ID)')
    .option('--prove', 'read everything, and store anew what is there and damaged')
    .addOption(
      new Option('--hash <hash>', 'of a store that is made (default: sha256)').choices([
        'sha256',
        'sha1',
      ]),
    )
    .addOption(
      new Option('--codec <codec>', 'of a store that is made (default: zstd)').choices([
        'zstd',
        'zlib',
        'none',
      ]),
    )
    .option(...NBD_OPTION)
    .action(async (text: string, _options: unknown, command: Command) => {
      const options: CreateOptions = command.optsWithGlobals();
      const { name, snapshot } = vdiRef(text);
      if (snapshot === undefined) throw noSnapshot(name);
      // The sheep answers and a thread begins while what has use for them is still being loaded.
      const asking = askedBefore(collie, ['/v1/info', '/v1/vdis', pathOf({ name, snapshot })]);
      await using pool = nodeCpuPool();
      pool.begin();
      const { create } = await import('./backup-create.ts');
      await create(asking, options, { name, snapshot, pool });
    });
}

function noSnapshot(name: string): SheepError {
  const [vdi, made] = [quoted(name), quoted(`${name}@TAG`)];
  return new SheepError(
    'ERR_BAD_INPUT',
    `'${name}' changes while it is used, so a snapshot of it is what is backed up; make one: ` +
      `collie vdi snapshot -s TAG ${vdi}, then give ${made}`,
    { name },
  );
}
