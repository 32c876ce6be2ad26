import { type FileHandle, open } from 'node:fs/promises';
import { forEachAtMost } from '../src/base/parallel.ts';
import { BLOCK_BYTES, MiB } from '../src/base/units.ts';
import { openNodeNet } from '../src/host/node-net.ts';
import { connectNbd } from '../src/nbd/client/connect.ts';

/** How a disk changes: as files are written anew, or as a database is written to. */
export type Pattern = 'runs' | 'scattered';

const RUN_BYTES = { runs: MiB, scattered: BLOCK_BYTES } as const;
const ZEROES = Buffer.alloc(MiB);

interface Change {
  readonly at: number;
  readonly bytes: Buffer;
}

/**
 * What changes a disk that is as full as `image`: so many bytes, in places that hold data, replaced
 * by other data of the same disk turned round, which compresses as well and is nowhere else.
 * @param seed  the same one gives the same changes
 */
async function* changesOf(
  image: FileHandle,
  pattern: Pattern,
  changedBytes: number,
  seed: number,
): AsyncGenerator<Change> {
  const length = RUN_BYTES[pattern];
  const places = Math.floor((await image.stat()).size / length);
  let drawn = seed;
  const draw = async (): Promise<Change> => {
    for (;;) {
      // The generator of Numerical Recipes.
      drawn = (Math.imul(drawn, 1664525) + 1013904223) >>> 0;
      const at = Math.floor((drawn / 2 ** 32) * places) * length;
      const bytes = Buffer.alloc(length);
      await image.read(bytes, 0, length, at);
      if (!bytes.equals(ZEROES.subarray(0, length))) return { at, bytes };
    }
  };
  for (let left = changedBytes; left > 0; left -= length) {
    const [{ at }, { bytes }] = [await draw(), await draw()];
    yield { at, bytes: bytes.reverse() };
  }
}

/** The same changes to an image file and to a VDI, both stable afterwards. */
export async function change(...asked: Parameters<typeof changeVdi>): Promise<void> {
  const [imagePath] = asked;
  const changes = await changeVdi(...asked);
  await using image = await open(imagePath, 'r+');
  for (const { at, bytes } of changes) await image.write(bytes, 0, bytes.length, at);
  await image.sync();
}

/** Changes of a VDI that is as full as an image, stable afterwards; the image stays as it is. */
export async function changeVdi(
  imagePath: string,
  socket: string,
  exportName: string,
  pattern: Pattern,
  changedBytes: number,
  seed: number,
): Promise<readonly Change[]> {
  await using image = await open(imagePath);
  const changes: Change[] = [];
  for await (const one of changesOf(image, pattern, changedBytes, seed)) changes.push(one);
  // Of two changes of one place the later one stays.
  const last = [...new Map(changes.map((one) => [one.at, one])).values()];
  await using device = await connectNbd(await openNodeNet(), `unix:${socket}`, exportName);
  await forEachAtMost(16, last, async ({ at, bytes }) => {
    await device.write(at, bytes, { durable: false });
  });
  await device.flush();
  return last;
}
