import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES, KiB, MiB } from '../../src/base/units.ts';
import { TransferWorld } from './transfer-world.ts';

const B = BLOCK_BYTES;

interface Created {
  readonly id: string;
  readonly base: string | null;
  readonly created: boolean;
  readonly readBytes: number;
  readonly newBytes: number;
  readonly sharedBytes: number;
}

let world: TransferWorld;
beforeAll(async () => {
  world = await TransferWorld.open();
});
afterAll(() => world[Symbol.asyncDispose]());

const store = (name: string) => `${world.path}/${name}`;
const create = async (source: string, to: string, ...more: string[]) =>
  (await world.json('backup', 'create', source, '--to', store(to), ...more)) as unknown as Created;
const restore = (from: string, id: string, name: string, ...more: string[]) =>
  world.json('backup', 'restore', store(from), id, name, ...more);

describe('collie backup', () => {
  test('a snapshot goes into a new store and comes back as another VDI, holes as holes', async () => {
    await world.json('vdi', 'create', 'disk', '64M', '--object-size', '1M');
    await world.write('disk', 3 * MiB, 200 * KiB, 0x11);
    await world.write('disk', 40 * MiB + B, B, 0x22);
    await world.json('vdi', 'snapshot', '-s', 'monday', 'disk');
    const made = await create('disk@monday', 'first');
    expect(made).toMatchObject({ base: null, created: true });
    await world.write('disk', 3 * MiB, MiB, 0x33);
    await restore('first', made.id, 'again');
    await world.expectSame('again', await world.bytesOf('disk@monday'));
    const info = { sizeBytes: 64 * MiB, objectBytes: MiB, objects: 2 };
    expect(await world.json('vdi', 'info', 'again')).toMatchObject(info);
    const map = await world.json('vdi', 'map', 'again');
    expect(map).toMatchObject({
      extents: [
        { offset: 0, content: 'hole' },
        { offset: 3 * MiB, length: 200 * KiB, content: 'data' },
        { content: 'hole' },
        { offset: 40 * MiB + B, length: B, content: 'data' },
        { content: 'hole' },
      ],
    });
  });
});
