import type { BlockDevice, Extent } from '../../contracts/block-device.ts';
import type { Call } from '../../contracts/call.ts';
import { DEPTH_CONTEXT } from '../../vdi/device-info.ts';
import { described, RunCursor } from './changes.ts';
import { TRANSFER_LIMITS } from './limits.ts';

/** What a device has to be asked for. */
export const MAP_CONTEXTS = [DEPTH_CONTEXT];

/** What stands in a run of bytes, and who holds it. */
export interface MapEntry {
  readonly at: number;
  readonly length: number;
  /** `zero`: space is reserved for it, and it reads as zeroes. */
  readonly content: 'data' | 'zero' | 'hole';
  /** 0 nobody, 1 the VDI or snapshot itself, 2 the snapshot below it, and so on. */
  readonly depth: number;
}

/** The whole disk in order; neighbours differ. @param device  opened with `MAP_CONTEXTS` */
export async function* mapOf(device: BlockDevice, call: Call = {}): AsyncGenerator<MapEntry> {
  const { sizeBytes } = device.info;
  const extents = new RunCursor<Extent>(async (at) => {
    const asked = Math.min(sizeBytes - at, TRANSFER_LIMITS.extentBytes);
    return device.extents(at, asked, TRANSFER_LIMITS.extentsMax, call);
  });
  let last: MapEntry | undefined;
  for await (const { at: from, length, flags: depth } of described(device, DEPTH_CONTEXT, call)) {
    for (let at = from; at < from + length; ) {
      const { run, end: runEnd } = await extents.find(at);
      const end = Math.min(from + length, runEnd);
      const content = run.hole ? 'hole' : run.zero ? 'zero' : 'data';
      if (last?.content === content && last.depth === depth) {
        last = { ...last, length: end - last.at };
      } else {
        if (last !== undefined) yield last;
        last = { at, length: end - at, content, depth };
      }
      at = end;
    }
  }
  if (last !== undefined) yield last;
}
