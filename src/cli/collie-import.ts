import { Command } from 'commander';
import { isDifference } from '../app/transfer/difference-stream.ts';
import { peek } from '../app/transfer/fitting.ts';
import { refuseForeign, TAIL_BYTES } from '../app/transfer/image-formats.ts';
import { TRANSFER_LIMITS } from '../app/transfer/limits.ts';
import { SheepError } from '../base/errors.ts';
import { ImageFile, type ImageStream, openImage } from '../host/image-file.ts';
import { NBD_OPTION } from './argument-texts.ts';
import type { Collie } from './collie-command.ts';
import { type DifferenceImported, importDifference } from './import-difference.ts';
import { importRaw, type RawImported, type RawInput } from './import-raw.ts';
import { formatBytes } from './output.ts';
import { type TransferOptions, TransferSession } from './transfer-session.ts';

interface ImportOptions extends TransferOptions {
  readonly size?: string;
  readonly raw?: true;
}

/** `collie vdi import FILE NAME`. */
export function importCommand(collie: Collie): Command {
  return new Command('import')
    .description('make a VDI what a raw image is, or apply a difference that export --from wrote')
    .argument('<file>', 'a file, a block device, or - for standard input')
    .argument('<name>', 'the VDI; it is made if it does not exist')
    .option('--size <size>', 'of a VDI that is made (default: that of the file)')
    .option('--raw', 'take the bytes as they are, also if they look like another format')
    .option(...NBD_OPTION)
    .action(async (path: string, name: string, _options: unknown, command: Command) => {
      const options: ImportOptions = command.optsWithGlobals();
      await using opened = await openImage(path);
      await TransferSession.run(collie, options, async (session) => {
        // Also ends a read that waits for a pipe in which nothing comes any more.
        session.signal.addEventListener('abort', () => void opened[Symbol.asyncDispose]());
        const { head, tail, input } = await look(opened);
        if (options.raw !== true && isDifference(head)) {
          refuseSize(options);
          tellDifference(collie, await importDifference(collie, session, input, name));
          return;
        }
        const said = path === '-' ? 'standard input' : path;
        if (options.raw !== true) refuseForeign(head, tail, path, name);
        const fileBytes = input instanceof ImageFile ? input.sizeBytes : undefined;
        const asked = { path: said, fileBytes, size: options.size };
        tellRaw(collie, await importRaw(collie, session, input, asked, name));
      });
    });
}

/** What the bytes begin with and, where that is known, end with. */
async function look(
  opened: ImageFile | ImageStream,
): Promise<{ head: Uint8Array; tail?: Uint8Array; input: RawInput }> {
  if (!(opened instanceof ImageFile)) {
    const { head, chunks } = await peek(opened.chunks(), TRANSFER_LIMITS.headBytes);
    return { head, input: chunks };
  }
  const { sizeBytes } = opened;
  const head = new Uint8Array(Math.min(sizeBytes, TRANSFER_LIMITS.headBytes));
  const tail = new Uint8Array(Math.min(sizeBytes, TAIL_BYTES));
  await opened.read(0, head);
  await opened.read(sizeBytes - tail.length, tail);
  return { head, tail, input: opened };
}

function refuseSize({ size }: ImportOptions): void {
  if (size === undefined) return;
  const message = `this is a difference, which says itself what size the disk has; leave --size out`;
  throw new SheepError('ERR_BAD_INPUT', message, { size });
}

function tellRaw({ show }: Collie, imported: RawImported): void {
  const { name, sizeBytes, dataBytes } = imported;
  show(imported, (out) =>
    out.line(`${name} ${formatBytes(sizeBytes)} imported, ${formatBytes(dataBytes)} of it data`),
  );
}

function tellDifference({ show }: Collie, imported: DifferenceImported): void {
  const { name, base, snapshot, changedBytes } = imported;
  show(imported, (out) => {
    const now = snapshot === undefined ? name : `${name}@${snapshot}`;
    out.line(`${now} is ${name}@${base} with ${formatBytes(changedBytes)} changed`);
  });
}
