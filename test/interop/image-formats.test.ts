import { execFile } from 'node:child_process';
import { open, readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { refuseForeign, TAIL_BYTES } from '../../src/app/transfer/image-formats.ts';
import { scratch } from '../cluster/scratch.ts';

const HEAD_BYTES = 4096;
const MiB = 2 ** 20;

/** What refuses these bytes, as a sentence; undefined if they are taken. */
function refusal(file: Uint8Array, path: string): string | undefined {
  try {
    refuseForeign(file.subarray(0, HEAD_BYTES), file.subarray(-TAIL_BYTES), path, 'demo');
    return undefined;
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_BAD_INPUT' });
    return (error as Error).message;
  }
}

describe.skipIf(!hasTool('qemu-img'))('an image that qemu-img made', () => {
  test.for([
    ['qcow2', [], 'qcow2'],
    ['qcow', [], 'qcow'],
    ['qed', [], 'qed'],
    ['vmdk', [], 'vmdk'],
    ['vmdk', ['-o', 'subformat=streamOptimized'], 'vmdk'],
    ['vmdk', ['-o', 'subformat=monolithicFlat'], 'vmdk'],
    ['vhdx', [], 'vhdx'],
    ['vdi', [], 'vdi'],
    ['vpc', [], 'vpc'],
    ['vpc', ['-o', 'subformat=fixed'], 'vpc'],
    ['parallels', [], 'parallels'],
  ] as const)(
    'as %s %j is refused with the command that converts it',
    async ([format, options, said]) => {
      await using directory = await scratch();
      const path = `${directory.path}/image`;
      await promisify(execFile)('qemu-img', ['create', '-q', '-f', format, ...options, path, '4M']);
      const message = refusal(await readFile(path), path);
      const command = `qemu-img convert -f ${said} -O raw ${path} ${path}.raw`;
      expect(message).toContain(command);
      // The command is one that works.
      if (format === 'qed' || format === 'parallels') return; // qemu-img of some distributions only reads them
      await promisify(execFile)('/bin/sh', ['-c', command]);
      expect((await stat(`${path}.raw`)).size).toBeGreaterThanOrEqual(4 * MiB);
      expect(refusal(await head(`${path}.raw`), path)).toBeUndefined();
    },
  );
});

async function head(path: string): Promise<Uint8Array> {
  await using file = await open(path);
  const bytes = new Uint8Array(HEAD_BYTES);
  await file.read(bytes, 0, HEAD_BYTES, 0);
  return bytes;
}
