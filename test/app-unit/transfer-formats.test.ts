import { execFile } from 'node:child_process';
import { open, readFile, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { quoted, refuseForeign } from '../../src/app/transfer/image-formats.ts';
import { scratch } from '../cluster/scratch.ts';

const HEAD_BYTES = 4096;

/** What refuses these bytes, as a sentence; undefined if they are taken. */
function refusal(file: Uint8Array, path = '/images/disk.img', vdi = 'demo'): string | undefined {
  try {
    refuseForeign(file.subarray(0, HEAD_BYTES), file.subarray(-512), path, vdi);
    return undefined;
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_BAD_INPUT' });
    return (error as Error).message;
  }
}

/** `file` with `text` at a place, in a head of zeroes. */
function withAt(at: number, text: string, bytes = 8192): Uint8Array {
  const file = new Uint8Array(bytes);
  file.set(Buffer.from(text, 'latin1'), at);
  return file;
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
      expect((await stat(`${path}.raw`)).size).toBeGreaterThanOrEqual(4 * 2 ** 20);
      expect(refusal(await head(`${path}.raw`))).toBeUndefined();
    },
  );
});

async function head(path: string): Promise<Uint8Array> {
  await using file = await open(path);
  const bytes = new Uint8Array(HEAD_BYTES);
  await file.read(bytes, 0, HEAD_BYTES, 0);
  return bytes;
}

describe('what is packed', () => {
  test.for([
    ['gzip', '\x1f\x8b\x08', 'gzip -dc'],
    ['xz', '\xfd7zXZ\0', 'xz -dc'],
    ['zstd', '\x28\xb5\x2f\xfd', 'zstd -dc'],
    ['bzip2', 'BZh9', 'bzip2 -dc'],
  ] as const)('with %s is refused with the pipe that unpacks it', ([name, magic, command]) => {
    const message = refusal(withAt(0, magic), '/images/disk.img');
    expect(message).toContain(` ${name} file by its first bytes`);
    expect(message).toContain(`${command} /images/disk.img | collie vdi import - demo --size SIZE`);
  });
});

describe('the raw content of a disk', () => {
  test.for([
    ['zeroes', new Uint8Array(8192)],
    ['nothing', new Uint8Array()],
    ['a boot sector', withAt(510, '\x55\xaa')],
    ['a LUKS header', withAt(0, 'LUKS\xba\xbe\0\x02')],
    ['a magic in the wrong place', withAt(1, 'QFI\xfb\0\0\0\x03')],
    ['less than a magic', Uint8Array.from(Buffer.from('QFI\xfb', 'latin1'))],
  ] as const)('such as %s is taken', ([, bytes]) => {
    expect(refusal(bytes)).toBeUndefined();
  });
});

describe('the command that would be right', () => {
  test('names a file as a shell takes it, and standard input as FILE', () => {
    const qcow2 = withAt(0, 'QFI\xfb\0\0\0\x03');
    expect(refusal(qcow2, "/my disk's.img")).toContain(
      "raw '/my disk'\\''s.img' '/my disk'\\''s.img.raw'",
    );
    expect(refusal(qcow2, '-')).toContain('standard input is a qcow2 file');
    expect(refusal(qcow2, '-')).toContain('-O raw FILE FILE.raw');
    expect(quoted('plain-1.img')).toBe('plain-1.img');
  });
});
