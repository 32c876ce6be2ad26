import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Gathering } from '../../src/host/gathering.ts';
import { ReceiveRooms } from '../../src/host/receive-buffer.ts';

const RECORD = 16 * 1024;

/** A gathering, and what it passed on. */
function gather() {
  const it = { chunks: [] as Uint8Array[], may: true, more: true, told: [] as boolean[] };
  const gathering = new Gathering(
    new ReceiveRooms(() => undefined),
    (chunk) => {
      it.chunks.push(chunk.slice());
      return it.more;
    },
    () => it.may,
    (more) => it.told.push(more),
  );
  return Object.assign(it, { gathering });
}
const record = (value: number, length = RECORD) => new Uint8Array(length).fill(value);
const sizes = (chunks: readonly Uint8Array[]) => chunks.map(({ length }) => length);

test('what comes in one turn of the event loop is one chunk, in order', async () => {
  const { gathering, chunks } = gather();
  for (const value of [1, 2, 3]) expect(gathering.add(record(value, 100))).toBe(100);
  expect(chunks).toEqual([]);
  await turn();
  expect(sizes(chunks)).toEqual([300]);
  expect([...(chunks[0] ?? [])].filter((_, at) => at % 100 === 0)).toEqual([1, 2, 3]);
  await turn();
  expect(chunks).toHaveLength(1);
});

test('much comes in chunks of many records', async () => {
  const { gathering, chunks } = gather();
  for (let count = 0; count < 64; count += 1) gathering.add(record(count));
  await turn();
  expect(
    Buffer.compare(
      Buffer.concat(chunks),
      Buffer.concat(Array.from({ length: 64 }, (_, value) => record(value))),
    ),
  ).toBe(0);
  expect(Math.max(...sizes(chunks))).toBeGreaterThan(8 * RECORD);
});

test('nothing is passed on while it may not be; what does not fit is left with who brought it', async () => {
  const it = gather();
  it.may = false;
  expect(it.gathering.add(record(1))).toBe(RECORD);
  await turn();
  expect([it.chunks, it.gathering.waiting]).toEqual([[], true]);
  expect(it.gathering.add(record(2))).toBe(0);
  it.may = true;
  it.gathering.schedule();
  await turn();
  expect(sizes(it.chunks)).toEqual([RECORD]);
  expect(it.gathering.waiting).toBe(false);
});

test('whoever wants no more is passed no more', async () => {
  const it = gather();
  it.more = false;
  expect(it.gathering.add(record(1))).toBe(RECORD);
  expect(it.gathering.add(record(2))).toBe(0);
  expect([sizes(it.chunks), it.told]).toEqual([[RECORD], [false]]);
});
