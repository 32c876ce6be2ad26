import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/base/units.ts';
import { blockDeviceContract, type DeviceWorld } from '../contracts/block-device.ts';
import { type DeviceCall, FileDevice, type FileDeviceOptions } from './file-device.ts';

async function world(before?: FileDeviceOptions['before']): Promise<DeviceWorld> {
  const folder = mkdtempSync(join(tmpdir(), 'sheepdog-device-'));
  const contexts = { 'qemu:allocation-depth': (block: number) => block >> 2 };
  const options = { path: join(folder, 'disk'), sizeBytes: 64 * BLOCK_BYTES, contexts };
  const waiting = before === undefined ? {} : { before };
  const devices: FileDevice[] = [];
  const open = (readOnly: boolean) => {
    const device = new FileDevice({ ...options, ...waiting, readOnly });
    devices.push(device);
    return device;
  };
  return {
    device: open(false),
    reopen: async () => open(false),
    openReadOnly: async () => open(true),
    [Symbol.asyncDispose]: async () => {
      for (const device of devices) if (!device.closed) await device[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

blockDeviceContract('a file', () => world());
blockDeviceContract('a file that always waits', () =>
  world(() => new Promise((done) => setImmediate(done))),
);

test('a failing hook fails the operation, at once or later, and the next one goes on', async () => {
  const failing = new Set(['write', 'read']);
  let later = false;
  await using made = await world((call: DeviceCall) => {
    if (!failing.has(call.name)) return undefined;
    if (later) return Promise.reject(new Error('later'));
    throw new Error('at once');
  });
  const { device } = made;
  expect(() => device.read(0, new Uint8Array(1))).toThrow('at once');
  later = true;
  await expect(device.write(0, new Uint8Array(1), { durable: false })).rejects.toThrow('later');
  failing.clear();
  await device.write(0, Uint8Array.of(3), { durable: true });
  const into = new Uint8Array(1);
  await device.read(0, into);
  expect(into[0]).toBe(3);
});
