import fc from 'fast-check';
import { mutated } from '../nbd/wires.ts';
import { clientHello, tlsRecord } from '../tls/hello.ts';

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
