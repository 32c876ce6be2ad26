import { open, rm } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { KiB, MiB } from '../../src/base/units.ts';
import { CMD, ERRNO } from '../../src/nbd/constants.ts';
import { canMount, smallDisk } from './bad-luck-small-disk.ts';
import { Attached, logged, type TestStore, testStore } from './bad-luck-store.ts';
import type { Daemon } from './daemon.ts';

const DISK_BYTES = 96 * MiB;
const BLOCK = 4 * KiB;
const TAIL = 255;
const VDI = ['--vdi', 'demo:1G'] as const;

/** A store on a disk of its own, which a client has filled to the last write that was answered. */
class FullStore implements AsyncDisposable {
  readonly it: TestStore;
  daemon: Daemon;
  /** What the client was told is there: a value for each whole MiB from 0 on … */
  readonly values: number[] = [];
  /** … and then so many blocks of `TAIL`. */
  tailBlocks = 0;

  private constructor(it: TestStore, daemon: Daemon) {
    this.it = it;
    this.daemon = daemon;
  }

  static async fill(): Promise<FullStore> {
    const it = await testStore(await smallDisk(DISK_BYTES));
    const full = new FullStore(it, await it.start(...VDI));
    await using client = await full.attach();
    for (let errno = 0; errno === 0; ) {
      const value = 1 + (full.values.length % 250);
      errno = await client.write(full.endBytes, MiB, value);
      if (errno === 0) full.values.push(value);
      else expect(errno).toBe(ERRNO.ENOSPC);
    }
    expect(full.values.length).toBeGreaterThan(16);
    await full.#fillTail(client);
    return full;
  }

  /** Takes also what the journal has given back; a client that leaves lets it give back more. */
  async stillFull<T>(look: () => Promise<T>): Promise<T> {
    await using client = await this.attach();
    await this.#fillTail(client);
    return await look();
  }

  async #fillTail(client: Attached): Promise<void> {
    while ((await client.write(this.endBytes + this.tailBlocks * BLOCK, BLOCK, TAIL)) === 0) {
      this.tailBlocks += 1;
    }
  }

  get endBytes(): number {
    return this.values.length * MiB;
  }

  attach(): Promise<Attached> {
    return Attached.to(this.daemon.nbd, 'demo');
  }

  /** Everything that was answered is there. */
  async expectValues(): Promise<void> {
    await using client = await this.attach();
    const found: (number | string)[] = [];
    for (const index of this.values.keys()) found.push(await client.read(index * MiB, MiB));
    expect(found).toEqual(this.values);
    if (this.tailBlocks === 0) return;
    expect(await client.read(this.endBytes, this.tailBlocks * BLOCK)).toBe(TAIL);
  }

  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const status = await this.daemon.stop(signal);
    if (signal === 'SIGTERM') expect(status).toBe(0);
    this.daemon = await this.it.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
    await this.it[Symbol.asyncDispose]();
  }
}

/** Another program's file takes every byte that the file system still gives to anybody. */
async function takeTheRest(folder: string): Promise<void> {
  await using file = await open(`${folder}/stranger`, 'wx');
  for (let piece = new Uint8Array(MiB); piece.length >= KiB; ) {
    try {
      await file.appendFile(piece);
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' });
      piece = piece.subarray(0, piece.length / 2);
    }
  }
  await file.sync();
}

describe.skipIf(!canMount())('on a full disk', () => {
  test('writes are answered with ENOSPC; reads, overwrites, flush and shutdown work', async () => {
    await using full = await FullStore.fill();
    {
      await using client = await full.attach();
      expect(await client.write(full.endBytes + 64 * MiB, MiB, 1)).toBe(ERRNO.ENOSPC);
      expect(await client.write(0, MiB, 251)).toBe(0);
      full.values[0] = 251;
      expect(await client.write(MiB + 100, 17, full.values[1] as number)).toBe(0);
      expect(await client.flush()).toBe(0);
    }
    await full.expectValues();
    await expect
      .poll(() => logged(full.daemon, 'nbd.request-failed')[0])
      .toMatchObject({
        errno: ERRNO.ENOSPC,
        cause: expect.stringMatching(
          /the disk of \S+ is full: \d+ bytes free, \d+ of them reserved/,
        ),
      });
    expect(full.daemon.log.filter(({ event }) => String(event).startsWith('farm.'))).toHaveLength(
      1,
    );
    expect(await full.daemon.stop('SIGTERM')).toBe(0);
  });

  test('health says so, and what to do', async () => {
    await using full = await FullStore.fill();
    const health = () =>
      full.stillFull(async () =>
        JSON.parse((await full.it.collie('cluster', 'health', '--json')).out),
      );
    await expect.poll(health, { timeout: 60_000 }).toMatchObject({
      status: 'error',
      problems: [expect.objectContaining({ code: 'space-full', level: 'error' })],
    });
    const create = await full.it.collie('vdi', 'create', 'another', '1G');
    expect(create).toMatchObject({ status: 1, err: expect.stringMatching(/is full/) });
  });

  test.for(['SIGTERM', 'SIGKILL'] as const)(
    'everything answered is there after %s and a start on the full disk',
    async (signal) => {
      await using full = await FullStore.fill();
      // Twice, because a start must not use up what the next one needs.
      for (let time = 0; time < 2; time += 1) {
        await full.restart(signal);
        await full.expectValues();
      }
      await using client = await full.attach();
      expect(await client.write(full.endBytes + 64 * MiB, MiB, 1)).toBe(ERRNO.ENOSPC);
    },
  );

  test('flushed overwrites go on for longer than the journal has room at once', async () => {
    await using full = await FullStore.fill();
    await using client = await full.attach();
    // Each flush takes its bytes once more in the journal, and all of them would not fit the disk.
    for (let written = 0; written < DISK_BYTES; written += MiB) {
      const index = (written / MiB) % full.values.length;
      full.values[index] = 1 + ((written / MiB) % 250);
      expect(await client.write(index * MiB, MiB, full.values[index])).toBe(0);
      expect(await client.flush()).toBe(0);
    }
    await full.expectValues();
  });

  test.for(['SIGTERM', 'SIGKILL'] as const)(
    'what another program takes of the reserve costs nothing that was answered (%s)',
    async (signal) => {
      await using full = await FullStore.fill();
      await takeTheRest(full.it.path);
      {
        await using client = await full.attach();
        expect(await client.write(full.endBytes + 64 * MiB, MiB, 1)).toBe(ERRNO.ENOSPC);
        expect(await client.write(0, MiB, 251)).toBe(0);
        full.values[0] = 251;
      }
      await full.expectValues();
      const status = await full.daemon.stop(signal);
      if (signal === 'SIGTERM') expect(status).toBe(0);
      expect(await full.it.refused()).toMatchObject({
        status: 1,
        err: expect.stringMatching(/sheep: cannot write \S+\/journal\/\d+: ENOSPC/),
      });
      await rm(`${full.it.path}/stranger`);
      full.daemon = await full.it.start();
      await full.expectValues();
    },
  );

  test('after a trim writing works again, without a restart', async () => {
    await using full = await FullStore.fill();
    await using client = await full.attach();
    expect(await client.trim(0, full.endBytes / 2)).toBe(0);
    expect(await client.write(512 * MiB, 4 * MiB, 77)).toBe(0);
    expect(await client.flush()).toBe(0);
    expect(await client.read(512 * MiB, 4 * MiB)).toBe(77);
    expect(await client.read(0, MiB)).toBe(0);
    const last = full.values.length - 1;
    expect(await client.read(last * MiB, MiB)).toBe(full.values[last]);
  });

  test('writing zeroes with holes, and deleting a VDI, give space back as well', async () => {
    await using full = await FullStore.fill();
    {
      await using client = await full.attach();
      const half = { offset: 0, length: 16 * MiB + 100 };
      const zeroed = await client.client.request({ type: CMD.WRITE_ZEROES, ...half });
      expect(zeroed.errno).toBe(0);
      expect(await client.write(512 * MiB, 4 * MiB, 77)).toBe(0);
    }
    expect(await full.it.collie('vdi', 'delete', 'demo')).toMatchObject({ status: 0 });
    expect(await full.it.collie('vdi', 'create', 'next', '1G')).toMatchObject({ status: 0 });
    await using next = await Attached.to(full.daemon.nbd, 'next');
    expect(await next.write(0, 32 * MiB, 5)).toBe(0);
    expect(await next.read(0, 64 * KiB)).toBe(5);
  });
});
