import { describe, expect, test } from 'vitest';
import { quoted, refuseForeign } from '../../src/app/transfer/image-formats.ts';

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
