import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { modulesInOrder } from '../../scripts/vm/modules.ts';
import { scratch } from '../cluster/scratch.ts';

/** A folder like a kernel's, with modules that need others. */
async function kernel(modules: Readonly<Record<string, string>>, builtIn: readonly string[] = []) {
  const owned = await scratch();
  mkdirSync(join(owned.path, 'kernel'));
  for (const [file, depends] of Object.entries(modules)) {
    const info = `ELF\0license=GPL\0depends=${depends}\0retpoline=Y\0`;
    writeFileSync(join(owned.path, 'kernel', file), info);
  }
  const lines = builtIn.map((name) => `kernel/fs/${name}\n`);
  writeFileSync(join(owned.path, 'modules.builtin'), lines.join(''));
  return owned;
}

const names = (directory: string, wanted: readonly string[]) =>
  modulesInOrder(directory, wanted).map(({ name }) => name);

test('each module comes once, after all that it needs', async () => {
  await using it = await kernel({
    'net-card.ko': 'failover,ring,bus',
    'block.ko': 'bus,ring',
    'ring.ko': '',
    'bus.ko': 'ring',
    'failover.ko': '',
    'unwanted.ko': 'gone',
  });
  expect(names(it.path, ['block', 'net_card'])).toEqual([
    ...['ring', 'bus', 'block'],
    ...['failover', 'net_card'],
  ]);
});

test('what is built into the kernel is not loaded', async () => {
  await using it = await kernel({ 'disk.ko': 'crc' }, ['ext4.ko', 'crc.ko']);
  expect(names(it.path, ['ext4', 'disk'])).toEqual(['disk']);
});

test('a module that the kernel does not have is named', async () => {
  await using it = await kernel({ 'disk.ko': 'bus' });
  expect(() => names(it.path, ['disk'])).toThrow(/has no module bus$/);
});
