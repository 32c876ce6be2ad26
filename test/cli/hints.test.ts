import { expect, test } from 'vitest';
import { hintLines } from '../../src/cli/hints.ts';

const usual = ['unix:./sheepdog-data/admin.sock'];
const lines = (nbd: string, admin = usual, vdi = 'demo') => hintLines(nbd, admin, vdi).join('\n');

test('the usual addresses are left out of the commands', () => {
  const text = lines('127.0.0.1:10809');
  expect(text).toContain("qemu-img convert -n -t writethrough -O raw IMAGE 'nbd://127.0.0.1/demo'");
  expect(text).toContain("nbd-client -N 'demo' 127.0.0.1 /dev/nbd0");
  expect(text).toMatch(/collie vdi list/);
  expect(text).toMatch(
    /collie vdi snapshot -s TAG 'demo'\n.*collie vdi clone -s TAG 'demo' NAME\n/,
  );
});

test('others are not', () => {
  const text = lines('[::1]:1234', ['unix:/srv/admin.sock']);
  expect(text).toContain("'nbd://[::1]:1234/demo'");
  expect(text).toContain("nbd-client -N 'demo' ::1 1234 /dev/nbd0");
  expect(text).toMatch(/collie -a unix:\/srv\/admin\.sock vdi list/);
  const both = ['https://0.0.0.0:7001', 'unix:/srv/admin.sock'];
  expect(lines('127.0.0.1:1', both)).toMatch(/collie -a unix:\/srv\/admin\.sock vdi list/);
});

test('a unix socket is attached by its path', () => {
  const text = lines('unix:/run/nbd.sock');
  expect(text).toContain("'nbd+unix:///demo?socket=/run/nbd.sock'");
  expect(text).toContain("nbd-client -unix /run/nbd.sock -N 'demo' /dev/nbd0");
});

test('a name is written as a URI needs it', () => {
  expect(lines('127.0.0.1:1', usual, 'a b?')).toContain('nbd://127.0.0.1:1/a%20b%3F');
});

test('where NBD is inside TLS only, no command is told that would be refused', () => {
  const text = hintLines('127.0.0.1:10809', usual, 'demo', true).join('\n');
  expect(text).not.toMatch(/nbd:\/\/|nbd-client/);
  expect(text).toContain('docs/SECURITY.md');
  expect(text).toMatch(/collie vdi list/);
});
