import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SheepError } from '../../src/base/errors.ts';
import { MiB } from '../../src/base/units.ts';
import { CMD, CMD_FLAG, REP } from '../../src/nbd/constants.ts';
import { FIRST_STATE, need, step } from '../../src/nbd/handshake.ts';
import { answer } from '../../src/nbd/handshake-answers.ts';
import type { Answer, Effect, State, TlsMode } from '../../src/nbd/handshake-state.ts';
import { NBD_LIMITS } from '../../src/nbd/limits.ts';
import { FORMS, type RequestFields } from './client.ts';
import { Served } from './served.ts';
import { handshakeWires, strayRequests } from './wires.ts';

interface Operation {
  readonly type: number;
  readonly fua: boolean;
  readonly range: { readonly at: number; readonly length: number };
  readonly value: number;
}

const DEPTH = 'qemu:allocation-depth';
const BITMAP = 'qemu:dirty-bitmap:a';
const contexts = { [DEPTH]: (block: number) => block % 3, [BITMAP]: () => 1 };
const info = { sizeBytes: 4096, readOnly: false, description: 'd', contexts: [DEPTH, BITMAP] };

const answers: fc.Arbitrary<Answer> = fc.constantFrom<Answer>(
  { info },
  { info: undefined },
  { entries: [{ name: 'a', description: 'b' }] },
  { entries: [] },
  { refused: REP.ERR_POLICY, text: 'no' },
);

const session = handshakeWires({ known: 'disk', unknown: 'none', contexts: [DEPTH, BITMAP] });

describe('the handshake', () => {
  test('takes any bytes and any answers: bounded, never throwing, one question at a time', () => {
    const bytes = fc.oneof(session, fc.uint8Array({ maxLength: 300 }));
    const tls = fc.constantFrom<TlsMode>('none', 'offered', 'required');
    fc.assert(
      fc.property(
        bytes,
        fc.array(answers, { minLength: 1, maxLength: 5 }),
        tls,
        (wire, given, tls) => {
          const now = { limits: NBD_LIMITS, stopping: false, tls, followed: false };
          let secured = 0;
          let state: State = FIRST_STATE;
          let asked = 0;
          for (let at = 0, steps = 0; state.at !== 'over'; steps += 1) {
            let effects: readonly Effect[];
            if (state.at === 'asking') {
              const next = answer(state, given[asked % given.length] ?? { entries: [] }, now);
              asked += 1;
              ({ state, effects } = next);
            } else {
              const wanted = need(state);
              expect(wanted).toBeLessThanOrEqual(NBD_LIMITS.optionBytesMax);
              if (at + wanted > wire.length) return;
              ({ state, effects } = step(state, wire.subarray(at, at + wanted), now));
              at += wanted;
            }
            expect(steps).toBeLessThan(2 * wire.length + 10);
            const asks = effects.filter((effect) => effect.do === 'ask');
            expect(asks).toHaveLength(state.at === 'asking' ? 1 : 0);
            // Where TLS is required nothing is asked before it, and it begins once.
            secured += effects.filter((effect) => effect.do === 'secure').length;
            expect(secured).toBeLessThanOrEqual(tls === 'none' ? 0 : 1);
            if (tls === 'required' && secured === 0) expect(asks).toEqual([]);
            const ends = effects.filter(({ do: what }) => /^(refuse|begin|end)$/.test(what));
            expect(ends).toHaveLength(state.at === 'over' ? 1 : 0);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});

describe('the server', () => {
  test('outlives any bytes, in any chunks, at any point; others are served as before', async () => {
    await using served = await Served.start({ contexts });
    const steady = await served.client();
    const wires = fc.array(fc.oneof(strayRequests(), fc.uint8Array({ maxLength: 100 })), {
      maxLength: 6,
    });
    const before = fc.constantFrom('nothing', 'greeting', ...FORMS);
    await fc.assert(
      fc.asyncProperty(
        before,
        session,
        wires,
        fc.nat(200),
        async (from, options, requests, cut) => {
          const form = FORMS.find((one) => one === from);
          const client = form ? await served.client({ form }) : await served.connect();
          if (from === 'greeting') await client.greet();
          const wire = Buffer.concat(form ? requests : [options, ...requests]);
          await client.sent(wire.subarray(0, cut));
          await client.sent(wire.subarray(cut));
          client.stream.end();
          client.stream.resume();
          await client.gone;
          expect(await steady.request({ type: CMD.READ, length: 16 })).toMatchObject({ errno: 0 });
        },
      ),
      { numRuns: 300 },
    );
    await served.settle();
    expect(served.fatal).toEqual([]);
    expect(served.closed).toBe(served.opened - 1);
    expect(served.server.connections()).toHaveLength(1);
  });

  const SIZE = 2 * MiB;
  const range = fc
    .record({
      at: fc.oneof(
        fc.nat(SIZE - 1),
        fc.nat(SIZE / 4096 - 1).map((block) => block * 4096),
      ),
      length: fc.oneof(fc.nat(9000), fc.constantFrom(4096, 65_536, 300_000, 1_200_000)),
    })
    .map(({ at, length }) => ({ at, length: Math.min(length, SIZE - at) }));
  const operation: fc.Arbitrary<Operation> = fc.record({
    type: fc.constantFrom(CMD.READ, CMD.READ, CMD.WRITE, CMD.WRITE, CMD.WRITE_ZEROES, CMD.TRIM),
    fua: fc.boolean(),
    range,
    value: fc.integer({ min: 1, max: 255 }),
  });

  test.for(FORMS)(
    'with %s replies shows what a plain array would, however slow its device',
    { timeout: 60_000 },
    async (form) => {
      const run = async (
        operations: readonly Operation[],
        chunkBytes: number,
        patience: readonly number[],
      ) => {
        let turn = 0;
        await using served = await Served.start({
          sizeBytes: SIZE,
          chunkBytes,
          before: () => {
            turn += 1;
            const turns = patience[turn % patience.length] ?? 0;
            return turns === 0 ? undefined : served.turns(turns);
          },
        });
        const client = await served.client({ form });
        const model = new Uint8Array(SIZE);
        for (const { type, fua, range: where, value } of operations) {
          const { at, length } = where;
          const flags = fua ? CMD_FLAG.FUA : 0;
          const payload = new Uint8Array(type === CMD.WRITE ? length : 0).fill(value);
          const fields: RequestFields = { type, flags, offset: at, length, payload };
          const reply = await client.request(fields);
          expect(reply.errno).toBe(0);
          if (type === CMD.WRITE) model.fill(value, at, at + length);
          if (type === CMD.WRITE_ZEROES) model.fill(0, at, at + length);
          if (type === CMD.TRIM) trim(model, at, length);
          const shown = model.subarray(at, at + reply.data.length);
          expect(Buffer.compare(reply.data, shown)).toBe(0);
        }
        expect(Buffer.compare(await client.read(0, SIZE), model)).toBe(0);
      };
      const chunks = fc.constantFrom(1000, 4096, 65_536, 300_000);
      const patience = fc.array(fc.nat(3), { minLength: 1, maxLength: 5 });
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 12 }), chunks, patience, run),
        { numRuns: 40 },
      );
    },
  );

  test('answers every one of many requests in flight once, whatever the device does', async () => {
    const kind = fc.constantFrom('now', 'later', 'throw', 'reject');
    const types = fc.constantFrom(0, 1, 3, 4, 5, 6, 7);
    const forms = fc.constantFrom('structured', 'extended');
    const many = fc.array(fc.record({ type: types, length: fc.nat(600_000) }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(
        forms,
        many,
        fc.array(kind, { minLength: 1 }),
        async (form, requests, kinds) => {
          let turn = 0;
          await using served = await Served.start({
            contexts,
            before: () => {
              const how = kinds[turn++ % kinds.length];
              if (how === 'throw') throw new SheepError('ERR_IO', 'now');
              if (how === 'reject') return Promise.reject(new SheepError('ERR_IO', 'later'));
              return how === 'later' ? served.turns(2) : undefined;
            },
          });
          const client = await served.client({ form, meta: [BITMAP, 'base:allocation', DEPTH] });
          for (const [index, { type, length }] of requests.entries()) {
            const payload = new Uint8Array(type === CMD.WRITE ? length : 0);
            client.ask({ type, length, payload, cookie: BigInt(index) });
          }
          const answered = new Set<bigint>();
          for (let left = requests.length; left > 0; left -= 1) {
            answered.add((await client.reply()).cookie);
          }
          expect(answered.size).toBe(requests.length);
          client.ask({ type: CMD.DISC, cookie: 99n });
          expect(await client.rest()).toHaveLength(0);
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);
});

function trim(model: Uint8Array, at: number, length: number): void {
  const from = Math.ceil(at / 4096) * 4096;
  const to = Math.floor((at + length) / 4096) * 4096;
  if (from < to) model.fill(0, from, to);
}
