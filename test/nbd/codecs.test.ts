import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FAULTS, SheepError } from '../../src/base/errors.ts';
import { CHUNK, CMD, CMD_FLAG, ERRNO, nameOf, OPT } from '../../src/nbd/constants.ts';
import { refusalOf } from '../../src/nbd/errno.ts';
import {
  decodeOptionHeader,
  exportNameReply,
  greeting,
  optionReply,
  putChunkHeader,
  putExtendedChunkHeader,
  putNumber64,
  putSimpleReply,
} from '../../src/nbd/frames.ts';
import { Head } from '../../src/nbd/head.ts';
import { Inbound, type RequestSink } from '../../src/nbd/inbound.ts';
import { checkLimits, NBD_LIMITS } from '../../src/nbd/limits.ts';
import {
  cutUtf8,
  decodeExportName,
  decodeInfoOption,
  decodeMetaOption,
} from '../../src/nbd/options.ts';
import { refusal, type Terms } from '../../src/nbd/validate.ts';
import { Carry, pieceLength, WritePieces } from '../../src/nbd/write-pieces.ts';
import { infoData, metaData, optionBytes, requestBytes } from './client.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('frames are the bytes of doc/proto.md', () => {
  const repeated = {
    cookieHigh: 0x01234567,
    cookieLow: 0x89abcdef,
    offsetHigh: 0xfedcba98,
    offsetLow: 0x76543210,
  };

  test('"Newstyle negotiation"', () => {
    expect(hex(greeting())).toBe('4e42444d4147494349484156454f50540003');
    expect(decodeOptionHeader(optionBytes(7, new Uint8Array(5)))).toEqual({ option: 7, length: 5 });
    expect(hex(optionReply(7, 0x8000_0001, Uint8Array.of(1, 2)))).toBe(
      '0003e889045565a90000000780000001000000020102',
    );
  });

  test('"NBD_OPT_EXPORT_NAME"', () => {
    expect(hex(exportNameReply(2 ** 40 + 1, 0x0d6d, false))).toBe('00000100000000010d6d');
    expect(exportNameReply(1, 1, true)).toHaveLength(134);
  });

  test('"Simple reply message"', () => {
    const view = new DataView(new ArrayBuffer(18));
    putSimpleReply(view, 2, repeated, 28);
    expect(hex(new Uint8Array(view.buffer))).toBe('0000674466980000001c0123456789abcdef');
  });

  test('"Structured reply chunk message"', () => {
    const view = new DataView(new ArrayBuffer(28));
    putChunkHeader(view, 0, repeated, CHUNK.OFFSET_DATA, true, 16);
    putNumber64(view, 20, 2 ** 53 - 1);
    expect(hex(new Uint8Array(view.buffer))).toBe(
      '668e33ef000100010123456789abcdef00000010001fffffffffffff',
    );
  });

  test('"Extended reply chunk message"', () => {
    const view = new DataView(new ArrayBuffer(33));
    putExtendedChunkHeader(view, 1, repeated, CHUNK.BLOCK_STATUS_EXT, false, 2 ** 32 + 8);
    expect(hex(new Uint8Array(view.buffer))).toBe(
      '006e8a278c000000060123456789abcdeffedcba98765432100000000100000008',
    );
  });

  test('a number has the name of the protocol, or is said in hex', () => {
    expect([nameOf(OPT, 7), nameOf(CMD, 6), nameOf(CMD, 200)]).toEqual([
      'GO',
      'WRITE_ZEROES',
      '0xc8',
    ]);
  });
});

describe('option payloads', () => {
  const decoders = [
    (bytes: Uint8Array) => decodeInfoOption(bytes, NBD_LIMITS),
    (bytes: Uint8Array) => decodeMetaOption(bytes, NBD_LIMITS),
    (bytes: Uint8Array) => decodeExportName(bytes, NBD_LIMITS),
    (bytes: Uint8Array) => decodeOptionHeader(bytes),
  ];

  test('any bytes are decoded or refused by name', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 200 }), (bytes) => {
        for (const decode of decoders) {
          try {
            decode(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(SheepError);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  const word = fc
    .string({ unit: 'grapheme', maxLength: 100 })
    .filter((text) => !text.includes('\0'));

  test('what a client encodes is what is decoded', () => {
    fc.assert(
      fc.property(word, fc.array(fc.nat(0xffff)), fc.array(word), (name, wanted, queries) => {
        expect(decodeInfoOption(infoData(name, ...wanted), NBD_LIMITS)).toEqual({
          name,
          wanted: new Set(wanted),
        });
        const meta = metaData(name, ...queries);
        expect(decodeMetaOption(meta, NBD_LIMITS)).toEqual({ name, queries });
        const bytes = new TextEncoder().encode(name);
        expect(decodeExportName(bytes, NBD_LIMITS)).toBe(name);
      }),
    );
  });

  test('every truncation is refused', () => {
    const whole = metaData('disk', 'base:allocation', 'x:y');
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => decodeMetaOption(whole.subarray(0, length), NBD_LIMITS)).toThrow(SheepError);
    }
  });

  test('text is cut between characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(40), (text, max) => {
        const bytes = cutUtf8(text, max);
        expect(bytes.length).toBeLessThanOrEqual(max);
        expect(text.startsWith(new TextDecoder('utf-8', { fatal: true }).decode(bytes))).toBe(true);
      }),
    );
  });
});

/** Notes what it is told, as text: the header by its bytes and by what was read of it. */
class Notes implements RequestSink {
  readonly lines: string[] = [];
  #payload: number[] = [];
  blockedAfter = Number.POSITIVE_INFINITY;
  readonly #head: Head;
  readonly #bytes: number;

  constructor(extended: boolean) {
    this.#head = new Head(extended);
    this.#bytes = extended ? 32 : 28;
  }

  get blocked(): boolean {
    return this.lines.length >= this.blockedAfter;
  }
  request(view: DataView, at: number): number {
    const head = this.#head;
    head.read(view, at);
    const bytes = hex(new Uint8Array(view.buffer, view.byteOffset + at, this.#bytes));
    this.lines.push(`${bytes} type ${head.type} flags ${head.flags}`);
    return head.type === CMD.WRITE || head.hasExtraPayload ? head.length : 0;
  }
  malformed(): void {
    this.lines.push('malformed');
  }
  payload(bytes: Uint8Array, last: boolean): void {
    expect(bytes.length).toBeGreaterThan(0);
    this.#payload.push(...bytes);
    if (last) this.lines.push(`payload ${hex(Uint8Array.from(this.#payload.splice(0)))}`);
  }
}

const request = fc.record({
  type: fc.oneof(fc.constant(CMD.WRITE), fc.nat(9)),
  flags: fc.nat(0xffff),
  cookie: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  offset: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  length: fc.nat(0xffff_ffff),
  payload: fc.uint8Array({ maxLength: 60 }),
});
interface Wire {
  readonly type: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly length: number;
}
const carries = ({ type, flags }: Wire, extended: boolean) =>
  type === CMD.WRITE || (extended && (flags & CMD_FLAG.PAYLOAD_LEN) !== 0);
const wireOf = (fields: Wire, extended: boolean) =>
  carries(fields, extended)
    ? requestBytes({ ...fields, length: fields.payload.length }, extended)
    : requestBytes({ ...fields, payload: new Uint8Array(0) }, extended);

describe.for([
  ['compact', false],
  ['extended', true],
] as const)('received chunks, with %s headers,', ([, extended]) => {
  const push = (inbound: Inbound, bytes: Uint8Array, cuts: readonly number[], notes: Notes) => {
    for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
      const length = cuts[turn % cuts.length] ?? 1;
      // A copy, so that whoever keeps borrowed bytes is found out.
      const chunk = Uint8Array.from(bytes.subarray(at, at + length));
      expect(inbound.push(chunk, 0, notes)).toBe(chunk.length);
      chunk.fill(0xee);
      at += length;
    }
  };

  test('cut in any way give the same requests', () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 12 }), cuts, (requests, cut) => {
        const wire = Buffer.concat(requests.map((one) => wireOf(one, extended)));
        const [whole, pieces] = [new Notes(extended), new Notes(extended)];
        push(new Inbound(extended), wire, [wire.length], whole);
        push(new Inbound(extended), wire, cut, pieces);
        expect(pieces.lines).toEqual(whole.lines);
        const full = requests.filter((one) => carries(one, extended) && one.payload.length > 0);
        expect(whole.lines).toHaveLength(requests.length + full.length);
      }),
    );
  });

  test('a blocked sink gets no further request, and the rest when it is free', () => {
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 12 }),
        fc.nat(10),
        (requests, stop) => {
          const wire = Buffer.concat(requests.map((one) => wireOf(one, extended)));
          const [whole, stopped] = [new Notes(extended), new Notes(extended)];
          new Inbound(extended).push(wire, 0, whole);
          stopped.blockedAfter = stop;
          const inbound = new Inbound(extended);
          const at = inbound.push(wire, 0, stopped);
          // A request that has begun gets its payload.
          expect(stopped.lines.length).toBeLessThanOrEqual(stop + 1);
          stopped.blockedAfter = Number.POSITIVE_INFINITY;
          expect(inbound.push(wire, at, stopped)).toBe(wire.length);
          expect(stopped.lines).toEqual(whole.lines);
        },
      ),
    );
  });

  test('after another magic nothing is passed on', () => {
    const notes = new Notes(extended);
    const inbound = new Inbound(extended);
    const bad = requestBytes({ type: CMD.WRITE, payload: new Uint8Array(50) }, !extended);
    const good = requestBytes({ type: CMD.READ }, extended);
    for (const chunk of [Buffer.concat([good, bad, good]), good, good.subarray(0, 3)]) {
      expect(inbound.push(chunk, 0, notes)).toBe(chunk.length);
    }
    expect(notes.lines).toEqual([`${hex(good)} type 0 flags 0`, 'malformed']);
  });
});

describe('payload in pieces', () => {
  test('pieces follow each other, end at block borders, and are the payload', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 8 });
    const max = fc.constantFrom(4096, 8192, 65_536);
    fc.assert(
      fc.property(
        fc.nat(20_000),
        fc.integer({ min: 1, max: 60_000 }),
        sizes,
        max,
        fc.boolean(),
        check,
      ),
    );
    function check(
      at: number,
      length: number,
      cuts: readonly number[],
      max: number,
      hold: boolean,
    ) {
      const bytes = new Uint8Array(length).map((_, index) => index * 7 + (index >> 8));
      const disk = new Uint8Array(length);
      const held: { piece: Uint8Array; to: number }[] = [];
      let next = at;
      const pieces = new WritePieces(at, new Carry(), max, {
        piece: (where, piece, lent) => {
          expect(where).toBe(next);
          next += piece.length;
          expect(piece.length).toBeLessThanOrEqual(max);
          if (next !== at + length) expect(next % 4096).toBe(0);
          if (hold) {
            lent.hold();
            held.push({ piece, to: where - at });
          } else disk.set(piece, where - at);
        },
        abandoned: () => undefined,
      });
      const nobody = { hold: () => undefined, release: () => undefined };
      for (let from = 0, turn = 0; from < length; turn += 1) {
        const size = cuts[turn % cuts.length] ?? 1;
        const chunk = bytes.slice(from, from + size);
        from += chunk.length;
        pieces.push(chunk, from === length, nobody);
        if (!hold) chunk.fill(0xee);
      }
      for (const { piece, to } of held) disk.set(piece, to);
      expect(next).toBe(at + length);
      expect(Buffer.compare(disk, bytes)).toBe(0);
    }
  });

  test('a piece waits for the rest of its block', () => {
    expect(pieceLength(0, 4095, false, 65_536)).toBe(0);
    expect(pieceLength(0, 4095, true, 65_536)).toBe(4095);
    expect(pieceLength(100, 4096, false, 65_536)).toBe(3996);
    expect(pieceLength(100, 70_000, true, 65_536)).toBe(65_536 - 100);
  });
});

describe('which requests are refused', () => {
  const terms = fc.record({
    sizeBytes: fc.oneof(fc.nat(10_000), fc.constantFrom(2 ** 40, 2 ** 53 - 1)),
    readOnly: fc.boolean(),
    form: fc.constantFrom('simple', 'structured', 'extended'),
    contexts: fc.constantFrom([], [{ id: 1, name: 'base:allocation' }]),
  });
  const offset = fc.oneof(
    fc.bigInt({ min: 0n, max: 12_000n }),
    fc.bigInt({ min: 2n ** 53n - 10n, max: 2n ** 53n + 10n }),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  const length = fc.oneof(
    fc.bigInt({ min: 0n, max: 12_000n }),
    fc.constantFrom(64n << 20n, (64n << 20n) + 1n, 0xffff_ffffn, 1n << 32n, 1n << 50n),
    fc.bigInt({ min: 2n ** 53n - 10n, max: 2n ** 53n + 10n }),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  const flags = fc.oneof(fc.constant(0), fc.constantFrom(1, 2, 4, 8, 16, 32), fc.nat(0xffff));

  /** The rules once more, in the words of the protocol and with exact numbers. */
  function expected(to: Terms, type: number, flag: number, at: bigint, size: bigint): number {
    const legal: Record<number, number> = { 0: 5, 1: 1, 3: 1, 4: 1, 5: 1, 6: 19, 7: 9 };
    const allowed = legal[type];
    if (allowed === undefined) return ERRNO.EINVAL;
    const extended = to.form === 'extended' && (type === CMD.WRITE || type === CMD.BLOCK_STATUS);
    if ((flag & ~(allowed | (extended ? CMD_FLAG.PAYLOAD_LEN : 0))) !== 0) return ERRNO.EINVAL;
    if ((flag & CMD_FLAG.DF) !== 0 && to.form === 'simple') return ERRNO.EINVAL;
    const writes = type === CMD.WRITE || type === CMD.TRIM || type === CMD.WRITE_ZEROES;
    if (writes && to.readOnly) return ERRNO.EPERM;
    if (type !== CMD.FLUSH && at + size > BigInt(to.sizeBytes)) {
      return type === CMD.WRITE || type === CMD.WRITE_ZEROES ? ERRNO.ENOSPC : ERRNO.EINVAL;
    }
    if ((type === CMD.READ || type === CMD.WRITE) && size > 64n << 20n) return ERRNO.EINVAL;
    if ((flag & CMD_FLAG.DF) !== 0 && size > 2n << 20n) return ERRNO.EOVERFLOW;
    if (type === CMD.BLOCK_STATUS && (to.contexts.length === 0 || size === 0n)) return ERRNO.EINVAL;
    return 0;
  }

  test('every command, flag, range and agreement', () => {
    fc.assert(
      fc.property(terms, fc.nat(9), flags, offset, length, (to, type, flag, at, asked) => {
        if (type === CMD.DISC) return; // it has no reply
        const extended = to.form === 'extended';
        const size = extended ? asked : BigInt.asUintN(32, asked);
        const wire = requestBytes({ type, flags: flag, offset: at, length: size }, extended);
        const head = new Head(extended);
        head.read(new DataView(wire.buffer), 0);
        const got = refusal(to, NBD_LIMITS, head)?.errno ?? 0;
        expect(got).toBe(expected(to, type, flag, at, size));
      }),
      { numRuns: 5000 },
    );
  });
});

describe('faults as numbers', () => {
  test('every fault has a number of the protocol and a sentence without its message', () => {
    for (const code of Object.keys(FAULTS) as (keyof typeof FAULTS)[]) {
      const error = new SheepError(code, '/secret/path');
      const told = refusalOf(error, { fastZero: false, df: false });
      expect(Object.values(ERRNO)).toContain(told.errno);
      expect([ERRNO.ENOTSUP, ERRNO.EOVERFLOW]).not.toContain(told.errno);
      expect(told.text).not.toContain('secret');
      expect(told.text.length).toBeGreaterThan(3);
    }
  });

  test('ENOTSUP reaches who asked for a fast zero; what is not ours is EIO', () => {
    const slow = new SheepError('ERR_NOT_FAST', 'slow');
    expect(refusalOf(slow, { fastZero: true, df: false }).errno).toBe(ERRNO.ENOTSUP);
    expect(refusalOf(new Error('?'), { fastZero: true, df: true }).errno).toBe(ERRNO.EIO);
  });
});

test('limits hold to their relations, and each relation is looked at', () => {
  expect(checkLimits(NBD_LIMITS)).toBe(NBD_LIMITS);
  const broken: Partial<typeof NBD_LIMITS>[] = [
    { slabBytes: 256 * 1024 },
    { slabsAssured: 8 },
    { slabsMax: 8 },
    { slabsTotalMax: 511 },
    { slabsSharedMax: 1, slabsTotalMax: 8 },
    { extentsMax: 100_000 },
    { contextsMax: 8193 },
    { errorTextMaxBytes: 300_000 },
    { readPieceBytes: 5000 },
    { writePieceBytes: 5000 },
    { readWholeMaxBytes: 1000 },
    { payloadMaxBytes: 1000 },
    { writeSkipMaxBytes: 33 * 2 ** 20 },
    { writeSkipMaxBytes: 2 ** 32 },
    { optionBytesMax: 1000 },
    { optionSkipMaxBytes: 1000 },
    { blockPreferredBytes: 1 },
  ];
  for (const change of broken) {
    expect(() => checkLimits({ ...NBD_LIMITS, ...change }), JSON.stringify(change)).toThrow();
  }
});
