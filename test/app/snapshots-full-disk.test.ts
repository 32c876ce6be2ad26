import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { ERRNO } from '../../src/nbd/constants.ts';
import { canMount, smallDisk } from './bad-luck-small-disk.ts';
import { Attached, testStore } from './bad-luck-store.ts';

const BLOCK = 4096;
/** Of the VDI before its snapshot; all of it again does not fit. */
const FILLED = 40;

test.skipIf(!canMount())(
  'a disk that is full in the middle of copy-on-write harms neither snapshot nor VDI',
  async () => {
    await using it = await testStore(await smallDisk(96 * MiB));
    await using daemon = await it.start('--vdi', 'demo:1G');
    const attach = (name: string) => Attached.to(daemon.nbd, name);
    const values: number[] = [];
    {
      await using client = await attach('demo');
      for (let index = 0; index < FILLED; index += 1) {
        expect(await client.write(index * MiB, MiB, 1 + index)).toBe(0);
        values.push(1 + index);
      }
    }
    expect(await it.collie('vdi', 'snapshot', '-s', 'before', 'demo')).toMatchObject({ status: 0 });

    // Each MiB takes space of its own, in objects that inherit the rest.
    let written = 0;
    {
      await using client = await attach('demo');
      for (let errno = 0; errno === 0 && written < FILLED; written += errno === 0 ? 1 : 0) {
        errno = await client.write(written * MiB, MiB, 101 + written);
        if (errno === 0) values[written] = 101 + written;
        else expect(errno).toBe(ERRNO.ENOSPC);
      }
      expect(written).toBeLessThan(FILLED);
      expect(await client.write(FILLED * MiB, BLOCK, 7)).toBe(ERRNO.ENOSPC);
      expect(await client.flush()).toBe(0);
    }
    const proven = async () => {
      await using client = await attach('demo');
      await using snapshot = await attach('demo@before');
      for (let index = 0; index < FILLED; index += 1) {
        expect(await snapshot.read(index * MiB, MiB)).toBe(1 + index);
        // The one that met the end is of both, block by block.
        if (index !== written) expect(await client.read(index * MiB, MiB)).toBe(values[index]);
      }
      for (const name of ['demo', 'demo@before']) {
        expect((await it.collie('vdi', 'check', name)).out).toContain(`${name} is sound`);
      }
    };
    await proven();

    // Whatever is asked of it now is done, or refused and nothing of it is there.
    for (const [words, made] of [
      [['snapshot', '-s', 'full', 'demo'], 'demo@full'],
      [['clone', '-s', 'before', 'demo', 'twin'], 'twin'],
    ] as const) {
      const said = await it.collie('vdi', ...words);
      const there = await it.collie('vdi', 'info', made);
      expect(there.status).toBe(said.status);
      if (said.status !== 0) expect(said.err).toMatch(/^collie: the disk of \S+ is full: /);
      if (said.status === 0) expect((await it.collie('vdi', 'delete', made)).status).toBe(0);
    }
    await proven();

    // And what the snapshot alone holds can be given back.
    expect(await it.collie('vdi', 'delete', 'demo@before')).toMatchObject({ status: 0 });
    await using client = await attach('demo');
    expect(await client.write(FILLED * MiB, MiB, 7)).toBe(0);
    expect(await client.read(0, MiB)).toBe(values[0]);
    expect(await client.read((FILLED - 1) * MiB, MiB)).toBe(values[FILLED - 1]);
  },
  120_000,
);
