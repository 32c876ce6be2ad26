import { Command } from 'commander';
import type { VdiInfoView } from '../app/admin-views.ts';
import { changedSince } from '../app/transfer/changes.ts';
import { copyPieces } from '../app/transfer/copy.ts';
import { type DifferenceProgress, differenceStream } from '../app/transfer/difference-export.ts';
import type { DifferenceHeader } from '../app/transfer/difference-stream.ts';
import { deviceSource } from '../app/transfer/ends.ts';
import { quoted } from '../app/transfer/image-formats.ts';
import { readPieces, streamPieces } from '../app/transfer/pieces.ts';
import { streamSink } from '../app/transfer/stream-sink.ts';
import { ImageOutput, openImageOutput, type StreamOutput } from '../host/image-output.ts';
import { NBD_OPTION } from './argument-texts.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes } from './output.ts';
import { type TransferOptions, TransferSession, withAftermath } from './transfer-session.ts';
import { vdiRef } from './vdi-names.ts';

interface ExportOptions extends TransferOptions {
  readonly from?: string;
}

/** `collie vdi export NAME[@TAG] FILE`. */
export function exportCommand(collie: Collie): Command {
  return new Command('export')
    .description(
      'copy a VDI or a snapshot into a sparse raw file, or what changed since a snapshot',
    )
    .argument('<name[@tag]>')
    .argument('<file>', 'a file, a block device, or - for standard output')
    .option('--from <tag>', 'only what differs from this snapshot of it; import applies that')
    .option(...NBD_OPTION)
    .action(async (text: string, path: string, _options: unknown, command: Command) => {
      const options: ExportOptions = command.optsWithGlobals();
      await TransferSession.run(collie, options, async (session) => {
        const vdi = await session.info(vdiRef(text));
        if (vdi.state === 'ready') {
          const snapshot = `collie vdi snapshot -s TAG ${quoted(vdi.name)}`;
          await session.refuseInUse(
            vdi,
            `while it changes no copy of it is whole; export a snapshot: ${snapshot}`,
          );
        }
        const job = { collie, session, vdi, text, path };
        await (options.from === undefined ? exportRaw(job) : exportDifference(job, options.from));
      });
    });
}

interface ExportJob {
  readonly collie: Collie;
  readonly session: TransferSession;
  /** What is exported, its name for NBD, and where to. */
  readonly vdi: VdiInfoView;
  readonly text: string;
  readonly path: string;
}

async function exportRaw({ collie, session, vdi, text, path }: ExportJob): Promise<void> {
  const { sizeBytes } = vdi;
  using shown = collie.progress(`exporting ${text}`);
  await using device = await session.open(vdi.export);
  const call = session.callFor(device);
  const { dataBytes } = await into(path, async (output) => {
    const seekable = output instanceof ImageOutput;
    if (seekable) await output.begin(sizeBytes);
    const sink = seekable ? output : streamSink((bytes) => output.append(bytes));
    const arrived = (bytes: number) => shown.update(bytes, sizeBytes);
    return copyPieces(readPieces(deviceSource(device), call), sink, arrived, call);
  });
  shown.done();
  if (path === '-') return;
  collie.show({ export: text, file: path, sizeBytes, dataBytes }, (out) =>
    out.line(`${path} ${formatBytes(sizeBytes)}, ${formatBytes(dataBytes)} of it data`),
  );
}

async function exportDifference(job: ExportJob, from: string): Promise<void> {
  const { collie, session, vdi, text, path } = job;
  const { signal } = session;
  const ref = from.includes('@') ? vdiRef(from) : { name: vdi.name, snapshot: from };
  const base = await session.info(ref);
  const { name, sizeBytes, tag } = vdi;
  const header: DifferenceHeader = {
    ...{ name, tag, sizeBytes, baseTag: base.tag, baseSizeBytes: base.sizeBytes },
  };
  using shown = collie.progress(`exporting what changed in ${text}`);
  await using now = await session.openWithChanges(vdi, base);
  await using then = await session.open(base.export);
  const sides = { now: deviceSource(now), base: deviceSource(then) };
  const changed = changedSince(now, base.tag, { signal });
  let found: DifferenceProgress = { lookedAtBytes: 0, records: 0, changedBytes: 0 };
  const told = (soFar: DifferenceProgress) => {
    found = soFar;
    shown.update(soFar.lookedAtBytes, sizeBytes);
  };
  await into(path, async (output) => {
    if (output instanceof ImageOutput) await output.begin(0);
    const stream = differenceStream({ header, ...sides, changed }, told, { signal });
    for await (const { at, bytes, release } of streamPieces(stream)) {
      signal.throwIfAborted();
      if (bytes === undefined) continue;
      await (output instanceof ImageOutput ? output.write(at, bytes) : output.append(bytes));
      release?.();
    }
  });
  shown.done();
  if (path === '-') return;
  const { records, changedBytes } = found;
  const facts = { export: text, base: base.export, file: path, records, changedBytes };
  collie.show(facts, (out) =>
    out.line(`${path} ${formatBytes(changedBytes)} changed since ${base.export}`),
  );
}

/** Runs `work` with the place that is written; a file gets its name if that is done. */
async function into<T>(
  path: string,
  work: (output: ImageOutput | StreamOutput) => Promise<T>,
): Promise<T> {
  await using output = await openImageOutput(path);
  if (!(output instanceof ImageOutput)) return await work(output); // and then it is closed
  try {
    const done = await work(output);
    await output.complete();
    return done;
  } catch (error) {
    throw withAftermath(error, output.unfinished);
  }
}
