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
export function tlsRecord(type: number, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(type, 3, 1), counted(2, body)]);
}

export interface Hello {
  readonly newest: boolean;
  readonly random: Uint8Array;
  readonly session: Uint8Array;
  /** A public key of X25519; any 32 bytes are one. */
  readonly share: Uint8Array;
}

/** A first message that a server answers with all that it has to say (RFC 8446, 4.1.2). */
export function clientHello({ newest, random, session, share }: Hello): Buffer {
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
