import { expect, test } from 'vitest';
import { exposure } from '../../src/base/secret-file.ts';

const OWN = { uid: 1000, own: true };
const ROOTS = { uid: 0, own: false };
const why = (mode: number, whose: { uid: number; own: boolean }) =>
  exposure('/srv/it', { mode, ...whose });

test('a file that nobody else may use is a place for a secret', () => {
  for (const mode of [0o600, 0o400, 0o700]) expect(why(mode, OWN)).toBeUndefined();
  expect(why(0o600, { uid: 0, own: true })).toBeUndefined();
});

test('one that others may read or change is none, and its mode and the right one are told', () => {
  const all = "so everybody on this machine may read it; first: chmod 600 '/srv/it'";
  expect(why(0o644, OWN)).toBe(`its mode is 0644, ${all}`);
  expect(why(0o666, OWN)).toBe(`its mode is 0666, ${all}`);
  expect(why(0o4604, OWN)).toBe(`its mode is 04604, ${all}`);
  const group = "so its group may read it; first: chmod 600 '/srv/it'";
  expect(why(0o640, OWN)).toBe(`its mode is 0640, ${group}`);
  expect(why(0o660, { uid: 0, own: true })).toBe(`its mode is 0660, ${group}`);
  const change = "so others may change it; first: chmod 600 '/srv/it'";
  for (const mode of [0o602, 0o620, 0o610]) {
    expect(why(mode, OWN)).toBe(`its mode is 0${mode.toString(8)}, ${change}`);
  }
});

test("what is root's may be read by a group, so that a daemon can, and no more", () => {
  for (const mode of [0o640, 0o440, 0o600]) expect(why(mode, ROOTS)).toBeUndefined();
  expect(why(0o644, ROOTS)).toMatch(/0644, so everybody .*chmod 640 /);
  expect(why(0o660, ROOTS)).toMatch(/0660, so others may change it; first: chmod 640 /);
});

test('what belongs to anybody else is none, whatever its mode', () => {
  for (const mode of [0o600, 0o640, 0o400]) {
    expect(why(mode, { uid: 1001, own: false })).toMatch(/belongs to user 1001, .*chown/);
  }
});
