import fc from 'fast-check';
import { CMD, CMD_FLAG, OPT } from '../../src/nbd/constants.ts';
import { infoData, metaData, optionBytes, requestBytes, statusPayload } from './client.ts';

/** What clients send, and what clients send that have gone mad: as bytes, for a server of any kind. */
export interface Names {
  /** An export that exists. */
  readonly known: string;
  readonly unknown: string;
  /** Metadata contexts besides base:allocation. */
  readonly contexts: readonly string[];
}

const BASE = 'base:allocation';

/** One option. */
function optionWires({ known, unknown, contexts }: Names): fc.Arbitrary<Uint8Array> {
  const [some = BASE] = contexts;
  return fc.oneof(
    fc.constantFrom(
      optionBytes(OPT.LIST),
      optionBytes(OPT.STRUCTURED_REPLY),
      optionBytes(OPT.EXTENDED_HEADERS),
      optionBytes(OPT.INFO, infoData(known, 1, 2, 3)),
      optionBytes(OPT.GO, infoData(known)),
      optionBytes(OPT.GO, infoData(unknown)),
      optionBytes(OPT.SET_META_CONTEXT, metaData(known, BASE)),
      optionBytes(OPT.SET_META_CONTEXT, metaData(known, some, BASE, ...contexts.slice(1))),
      optionBytes(OPT.SET_META_CONTEXT, metaData(unknown, some)),
      optionBytes(OPT.LIST_META_CONTEXT, metaData(known)),
      optionBytes(OPT.LIST_META_CONTEXT, metaData(known, 'qemu:', 'x:', some)),
      optionBytes(OPT.STARTTLS),
      optionBytes(OPT.ABORT),
      optionBytes(OPT.EXPORT_NAME, new TextEncoder().encode(known)),
    ),
    fc
      .record({ option: fc.nat(13), data: fc.uint8Array({ maxLength: 60 }) })
      .map(({ option, data }) => optionBytes(option, data.slice())),
    fc
      .record({ option: fc.nat(13), length: fc.nat(0xffff_ffff) })
      .map(({ option, length }) => optionBytes(option, new Uint8Array(0), length)),
    fc.uint8Array({ maxLength: 50 }),
  );
}

/** The client's flags and some options. */
export function handshakeWires(names: Names): fc.Arbitrary<Uint8Array> {
  return fc
    .record({
      flags: fc.constantFrom(0, 1, 2, 3, 3, 3, 4),
      options: fc.array(optionWires(names), { maxLength: 12 }),
    })
    .map(({ flags, options }) => Buffer.concat([Uint8Array.of(0, 0, 0, flags), ...options]));
}

const any64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

/** A request that means nothing in particular, without payload. */
export function strayRequests(): fc.Arbitrary<Uint8Array> {
  return fc
    .record({
      type: fc.nat(9),
      flags: fc.nat(0x3f),
      offset: any64,
      length: fc.oneof(fc.nat(5000), fc.nat(0xffff_ffff)),
      extended: fc.boolean(),
    })
    .map(({ extended, ...fields }) => requestBytes(fields, extended));
}

/**
 * A request as honest clients send them, inside of a disk of `sizeBytes`, in the form that was
 * agreed; now and then with a flag that does not belong to it, or with payload nobody asked for.
 */
export function honestRequests(sizeBytes: number, extended: boolean): fc.Arbitrary<Uint8Array> {
  const lengths = fc.oneof(fc.nat(9000), fc.constantFrom(0, 4096, 65_536, 300_000));
  const flags = fc.constantFrom(0, 0, 0, CMD_FLAG.FUA, CMD_FLAG.DF, CMD_FLAG.NO_HOLE, 8, 16);
  return fc
    .record({
      type: fc.constantFrom(...Object.values(CMD).filter((type) => type !== CMD.DISC)),
      flags,
      cookie: any64,
      at: fc.nat(sizeBytes),
      wanted: lengths,
      payload: fc.constantFrom('none', 'none', 'none', 'status', 'stray'),
    })
    .map(({ type, flags: some, cookie, at, wanted, payload }) => {
      const fields = { type, flags: some, cookie, offset: at };
      const length = Math.min(wanted, sizeBytes - at);
      if (type === CMD.WRITE) {
        return requestBytes({ ...fields, payload: new Uint8Array(length).fill(at) }, extended);
      }
      if (!extended || payload === 'none') return requestBytes({ ...fields, length }, extended);
      const extra = payload === 'status' ? statusPayload(length, 1) : new Uint8Array(length);
      const carrying = { ...fields, flags: some | CMD_FLAG.PAYLOAD_LEN, payload: extra };
      return requestBytes(carrying, extended);
    });
}

/** The same bytes with up to three faults: a byte changed, some left out, doubled or put in. */
export function mutated(wires: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const fault = fc.record({
    kind: fc.constantFrom('change', 'leave out', 'double', 'put in', 'cut off'),
    at: fc.nat(),
    length: fc.nat(40),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }),
  });
  return fc.tuple(wires, fc.array(fault, { maxLength: 3 })).map(([wire, faults]) => {
    let bytes: Uint8Array = wire;
    for (const { kind, at, length, bytes: others } of faults) {
      const place = bytes.length === 0 ? 0 : at % bytes.length;
      const [before, after] = [bytes.subarray(0, place), bytes.subarray(place)];
      if (kind === 'change') bytes = Buffer.concat([before, others, after.subarray(others.length)]);
      if (kind === 'leave out') bytes = Buffer.concat([before, after.subarray(length)]);
      if (kind === 'double') bytes = Buffer.concat([before, after.subarray(0, length), after]);
      if (kind === 'put in') bytes = Buffer.concat([before, others, after]);
      if (kind === 'cut off') bytes = before;
    }
    return bytes;
  });
}
