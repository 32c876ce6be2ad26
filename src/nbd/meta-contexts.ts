import { Writer } from '../base/bytes.ts';
import type { DeviceInfo } from '../contracts/block-device.ts';
import { BASE_ALLOCATION, REP } from './constants.ts';
import { optionReply } from './frames.ts';

/**
 * "Metadata querying": which contexts an export has, which of them a query means, and the reply
 * that names one. Besides `base:allocation` an export has those of its device; the namespace
 * `qemu` and its queries are those of QEMU's docs/interop/nbd.rst.
 */
export interface MetaContext {
  /** Unique on a connection; what BLOCK_STATUS calls it. */
  readonly id: number;
  readonly name: string;
}

/** What was selected, and the export for which it counts: no other one. */
export interface Selection {
  readonly exportName: string;
  readonly contexts: readonly MetaContext[];
}

/** What in a listing means all bitmaps; `NAMESPACE:` means all of a namespace. */
const ALL_BITMAPS = 'qemu:dirty-bitmap:';

/** LIST_META_CONTEXT: no query asks for all. Each context once, in the export's order. */
export function listed(info: DeviceInfo, queries: readonly string[]): string[] {
  const all = contextsOf(info);
  if (queries.length === 0) return all;
  const asked = new Set(queries);
  return all.filter(
    (context) =>
      asked.has(context) ||
      asked.has(context.slice(0, context.indexOf(':') + 1)) ||
      (context.startsWith(ALL_BITMAPS) && asked.has(ALL_BITMAPS)),
  );
}

/**
 * SET_META_CONTEXT: whole names only, no query selects nothing, and what does not exist is passed
 * over. In the order of the queries, each once; an id is the place in the export's order.
 */
export function select(info: DeviceInfo, queries: readonly string[]): MetaContext[] {
  const ids = new Map(contextsOf(info).map((name, place) => [name, place + 1]));
  return [...new Set(queries)].flatMap((name) => {
    const id = ids.get(name);
    return id === undefined ? [] : [{ id, name }];
  });
}

/** NBD_REP_META_CONTEXT: context id u32, name. The id in a listing has no meaning. */
export function contextReply(option: number, id: number, name: string): Uint8Array<ArrayBuffer> {
  return optionReply(option, REP.META_CONTEXT, new Writer().u32(id).text(name).done());
}

function contextsOf(info: DeviceInfo): string[] {
  return [BASE_ALLOCATION, ...(info.contexts ?? [])];
}
