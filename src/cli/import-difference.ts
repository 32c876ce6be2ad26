import type { VdiInfoView } from '../app/admin-views.ts';
import { changedSince } from '../app/transfer/changes.ts';
import { applyDifference, checkDifference } from '../app/transfer/difference-import.ts';
import { DifferenceReader } from '../app/transfer/difference-reader.ts';
import type { DifferenceHeader } from '../app/transfer/difference-stream.ts';
import { quoted } from '../app/transfer/image-formats.ts';
import { SheepError } from '../base/errors.ts';
import { ImageFile } from '../host/image-file.ts';
import type { Collie } from './collie-command.ts';
import type { RawInput } from './import-raw.ts';
import { type TransferSession, withAftermath } from './transfer-session.ts';
import { pathOf } from './vdi-names.ts';

export interface DifferenceImported {
  readonly name: string;
  readonly base: string;
  /** The snapshot that was made of the result; absent: the stream was not made from one. */
  readonly snapshot?: string;
  readonly sizeBytes: number;
  readonly records: number;
  readonly changedBytes: number;
}

/**
 * Brings a VDI from one state to the next. It must be as it was at the snapshot from which the
 * difference starts, so that a failure at any moment is undone by a rollback to it. A file is read
 * and held against the disk as a whole before anything changes; a stream record by record.
 */
export async function importDifference(
  collie: Collie,
  session: TransferSession,
  input: RawInput,
  name: string,
): Promise<DifferenceImported> {
  const file = input instanceof ImageFile ? input : undefined;
  const reader = new DifferenceReader(
    file === undefined ? (input as AsyncIterable<Uint8Array>) : file.chunks(),
  );
  const header = await reader.header();
  await refuseUnfit(session, header, name);
  if (file !== undefined) await check(collie, session, file, name);
  try {
    const totals = await apply(collie, session, file ?? reader, header, name);
    const { baseTag: base, tag, sizeBytes } = header;
    return { name, base, ...(tag !== '' && { snapshot: tag }), sizeBytes, ...totals };
  } catch (error) {
    throw withAftermath(error, await aftermath(session, header, name));
  }
}

/** All that can be known without reading the disk. */
async function refuseUnfit(
  session: TransferSession,
  { baseTag, tag, baseSizeBytes }: DifferenceHeader,
  name: string,
): Promise<void> {
  const from = `the difference starts from snapshot '${baseTag}'`;
  const vdi = await session.find({ name });
  if (vdi === undefined) {
    throw new SheepError(
      'ERR_NOT_FOUND',
      `${from}, and there is no VDI '${name}'; import that state first, then: ` +
        `collie vdi snapshot -s ${quoted(baseTag)} ${quoted(name)}`,
      { name },
    );
  }
  await session.refuseInUse(
    vdi,
    'an import would change the disk under its feet, so detach it first',
  );
  const base = await session.find({ name, snapshot: baseTag });
  if (base === undefined) {
    const message = `${from}, and '${name}' has none of that tag`;
    throw new SheepError('ERR_NOT_FOUND', message, { name, tag: baseTag });
  }
  if (base.sizeBytes !== baseSizeBytes) {
    throw new SheepError(
      'ERR_BAD_INPUT',
      `${from} of a disk of ${baseSizeBytes} bytes; '${name}@${baseTag}' has ${base.sizeBytes}`,
      { baseSizeBytes, sizeBytes: base.sizeBytes },
    );
  }
  if (tag !== '' && (await session.find({ name, snapshot: tag })) !== undefined) {
    const message = `the difference ends with snapshot '${tag}', and '${name}' has that already`;
    throw new SheepError('ERR_EXISTS', message, { name, tag });
  }
  await refuseChanged(session, vdi, base);
}

/** It must be as its snapshot is. */
async function refuseChanged(
  session: TransferSession,
  vdi: VdiInfoView,
  base: VdiInfoView,
): Promise<void> {
  const { name } = vdi;
  const back = `collie vdi rollback -s ${quoted(base.tag)} ${quoted(name)}`;
  const refusal = (why: string) =>
    new SheepError('ERR_BAD_INPUT', `${why}; the difference starts from that: ${back}`, { name });
  if (vdi.sizeBytes !== base.sizeBytes)
    throw refusal(`'${name}' was resized since '${base.export}'`);
  await using device = await session.openWithChanges(vdi, base);
  for await (const { at } of changedSince(device, base.tag, session)) {
    throw refusal(`'${name}' has changed since '${base.export}', at byte ${at} for one`);
  }
}

/** Reads the file to its end and holds the disk against it. */
async function check(
  { progress }: Collie,
  session: TransferSession,
  file: ImageFile,
  name: string,
): Promise<void> {
  using shown = progress(`checking the difference for ${name}`);
  await using device = await session.open(name);
  const told = (changedBytes: number) => shown.update(changedBytes, file.sizeBytes);
  await checkDifference(new DifferenceReader(file.chunks()), device, told, session.callFor(device));
  shown.done();
}

async function apply(
  { progress }: Collie,
  session: TransferSession,
  from: ImageFile | DifferenceReader,
  { baseSizeBytes, sizeBytes, tag }: DifferenceHeader,
  name: string,
): Promise<{ readonly records: number; readonly changedBytes: number }> {
  const resize = () =>
    session.whenReleased(() =>
      session.call('POST', `${pathOf({ name })}/resize`, { size: sizeBytes }),
    );
  if (sizeBytes > baseSizeBytes) await resize();
  const checked = from instanceof ImageFile;
  const reader = checked ? new DifferenceReader(from.chunks()) : from;
  const applied = async () => {
    using shown = progress(`importing the difference into ${name}`);
    await using device = await session.open(name);
    const told = (changedBytes: number) =>
      shown.update(changedBytes, checked ? from.sizeBytes : undefined);
    const totals = await applyDifference(reader, device, checked, told, session.callFor(device));
    shown.done();
    return totals;
  };
  const totals = await applied();
  if (sizeBytes < baseSizeBytes) await resize();
  if (tag !== '') await session.call('POST', `${pathOf({ name })}/snapshots`, { tag });
  return totals;
}

/** Takes back what was applied, if it can, and says what is left. */
async function aftermath(
  session: TransferSession,
  { baseTag }: DifferenceHeader,
  name: string,
): Promise<string> {
  const base = { name, snapshot: baseTag };
  try {
    await session.whenReleased(() => session.call('POST', `${pathOf(base)}/rollback`, {}));
    return `'${name}' is again as it was at snapshot '${baseTag}'`;
  } catch {
    const command = `collie vdi rollback -s ${quoted(baseTag)} ${quoted(name)}`;
    return `'${name}' may hold a part of the difference; to take it back: ${command}`;
  }
}
