import fc from 'fast-check';
import { mutated } from '../nbd/wires.ts';

/** A length, in so many bytes, and what it counts (RFC 8446, "Presentation Language"). */
function counted(bytes: number, body: Uint8Array): Buffer {
  const length = Buffer.alloc(bytes);
  length.writeUIntBE(body.length, 0, bytes);
  return Buffer.concat([length, body]);
}

function extension(type: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type);
  return Buffer.concat([head, counted(2, body)]);
}

const numbers = (...values: number[]) =>
  Buffer.concat(values.map((value) => Buffer.of(value >> 8, value & 0xff)));

/** One record of TLS: 20 change cipher spec, 21 alert, 22 handshake, 23 data. */
function tlsRecord(type: number, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(type, 3, 1), counted(2, body)]);
}

interface Hello {
  readonly newest: boolean;
  readonly random: Uint8Array;
  readonly session: Uint8Array;
  /** A public key of X25519; any 32 bytes are one. */
  readonly share: Uint8Array;
}

/** A first message that a server answers with all that it has to say (RFC 8446, 4.1.2). */
function clientHello({ newest, random, session, share }: Hello): Buffer {
  const x25519 = 0x1d;
  const signatures = numbers(0x0403, 0x0804, 0x0401);
  const extensions = [
    extension(10, counted(2, numbers(x25519))),
    extension(13, counted(2, signatures)),
    ...(newest
      ? [
          extension(43, counted(1, numbers(0x0304, 0x0303))),
          extension(51, counted(2, Buffer.concat([numbers(x25519), counted(2, share)]))),
        ]
      : []),
  ];
  const body = Buffer.concat([
    numbers(0x0303),
    random,
    counted(1, session),
    counted(2, numbers(0x1301, 0x1303, 0xc02b, 0xc02f)),
    counted(1, Buffer.of(0)),
    counted(2, Buffer.concat(extensions)),
  ]);
  return tlsRecord(22, Buffer.concat([Buffer.of(1), counted(3, body)]));
}

const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const hellos = fc
  .record({
    newest: fc.boolean(),
    random: key,
    session: fc.constantFrom(new Uint8Array(), new Uint8Array(32)),
    share: key,
  })
  .map(clientHello);

/** What may come next, and is never right: nobody who sends it knows the keys. */
const records = fc
  .record({
    type: fc.constantFrom(20, 21, 22, 23, 24),
    body: fc.oneof(fc.constantFrom(Buffer.of(1), Buffer.of(1, 0), Buffer.of(2, 40)), key),
  })
  .map(({ type, body }) => tlsRecord(type, body));

const handshakes = fc
  .tuple(hellos, fc.array(records, { maxLength: 4 }))
  .map(([hello, more]) => Buffer.concat([hello, ...more]));

/** Half a handshake of TLS, or what looks like one: it never comes to its end. */
export const halfHandshakes: fc.Arbitrary<Uint8Array> = fc.oneof(
  { weight: 3, arbitrary: handshakes },
  { weight: 4, arbitrary: mutated(handshakes) },
  // It stops in the middle of the first message.
  {
    weight: 2,
    arbitrary: fc.tuple(hellos, fc.nat(150)).map(([hello, to]) => hello.subarray(0, to)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
);
