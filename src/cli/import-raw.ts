import type { VdiView } from '../app/admin-views.ts';
import { type Copied, copyPieces } from '../app/transfer/copy.ts';
import { deviceSink } from '../app/transfer/ends.ts';
import { checkFits, fitting, newDiskBytes, type ToImport } from '../app/transfer/fitting.ts';
import { quoted } from '../app/transfer/image-formats.ts';
import { readPieces, streamPieces } from '../app/transfer/pieces.ts';
import { ImageFile } from '../host/image-file.ts';
import type { Collie } from './collie-command.ts';
import { type TransferSession, withAftermath } from './transfer-session.ts';
import { pathOf } from './vdi-names.ts';

/** A file, or the bytes of a stream from its first one on: the content of a disk. */
export type RawInput = ImageFile | AsyncIterable<Uint8Array>;

export interface RawImported {
  readonly name: string;
  readonly sizeBytes: number;
  /** What was written, because it is not zero. */
  readonly dataBytes: number;
  /** The VDI was made for this. */
  readonly created: boolean;
}

/**
 * Makes a VDI what the input is. It is made if it does not exist; else the input must fit, and behind
 * its end the disk is zero afterwards. What can be refused is refused before anything changes; a VDI
 * that was made is deleted again if the import fails.
 */
export async function importRaw(
  collie: Collie,
  session: TransferSession,
  input: RawInput,
  asked: ToImport,
  name: string,
): Promise<RawImported> {
  const existing = await session.find({ name });
  if (existing !== undefined) {
    await session.refuseInUse(
      existing,
      'an import would change the disk under its feet, so detach it first',
    );
    checkFits(asked, name, existing.sizeBytes);
  }
  const created = existing === undefined;
  const vdi = existing ?? (await create(session, asked, name));
  const state = { changed: created };
  try {
    const { dataBytes } = await copy(collie, session, input, vdi, state);
    return { name, sizeBytes: vdi.sizeBytes, dataBytes, created };
  } catch (error) {
    if (!state.changed) throw error;
    throw withAftermath(error, await aftermathOf(session, name, { created, verb: 'import' }));
  }
}

function create(session: TransferSession, asked: ToImport, name: string): Promise<VdiView> {
  return session.call<VdiView>('POST', '/v1/vdis', { name, size: newDiskBytes(asked, name) });
}

async function copy(
  { progress }: Collie,
  session: TransferSession,
  input: RawInput,
  { name, sizeBytes }: VdiView,
  state: { changed: boolean },
): Promise<Copied> {
  using shown = progress(`importing ${name}`);
  await using device = await session.open(name);
  const call = session.callFor(device);
  const fresh = state.changed;
  const file = input instanceof ImageFile ? input : undefined;
  const pieces =
    file === undefined ? streamPieces(input as AsyncIterable<Uint8Array>) : readPieces(file, call);
  state.changed = true;
  const copied = await copyPieces(
    fitting(pieces, sizeBytes),
    deviceSink(device, fresh),
    (bytes) => shown.update(bytes, file?.sizeBytes),
    call,
  );
  await device.flush();
  shown.done();
  return copied;
}

/** Cleans up after a VDI was filled only in part, as far as it can, and says what is left. */
export async function aftermathOf(
  session: TransferSession,
  name: string,
  { created, verb }: { readonly created: boolean; readonly verb: 'import' | 'restore' },
): Promise<string> {
  if (!created) {
    return `'${name}' now holds a part of it: ${verb} it again before anybody uses the disk`;
  }
  try {
    await session.whenReleased(() => session.call('DELETE', pathOf({ name })));
    return `'${name}', which was made for it, is deleted again`;
  } catch {
    const command = `collie vdi delete ${quoted(name)}`;
    return `'${name}', which was made for it, holds only a part: ${command}`;
  }
}
