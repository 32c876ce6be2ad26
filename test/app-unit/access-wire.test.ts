import { createConnection } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAddress } from '../../src/base/address.ts';
import { OPT } from '../../src/nbd/constants.ts';
import { scratch } from '../cluster/scratch.ts';
import { infoData, metaData, optionBytes } from '../nbd/client.ts';
import { collie, startTestSheep, type TestSheep } from './test-sheep.ts';

const owned = new AsyncDisposableStack();
let sheep: TestSheep;
beforeAll(async () => {
  const { path } = owned.use(await scratch());
  sheep = owned.use(await startTestSheep(path, { nbd: ['127.0.0.1:0', `unix:${path}/nbd.sock`] }));
  for (const line of [
    'vdi create shut 8M --allow unix',
    'vdi snapshot -s monday shut',
    'vdi create open 8M',
  ]) {
    expect(await collie(['-a', sheep.socket, ...line.split(' ')])).toMatchObject({ status: 0 });
  }
});
afterAll(() => owned.disposeAsync());

/** Everything that the server says to a client that sends these options, ABORT, and no more. */
async function answers(address: string, ...options: readonly Uint8Array[]): Promise<string> {
  const where = parseAddress(address);
  if ('fd' in where) throw new Error('no such address');
  const socket = createConnection(where);
  const closed = new Promise<void>((settle) => socket.once('close', () => settle()));
  let said = '';
  socket
    .on('error', () => undefined)
    .on('data', (chunk) => {
      said += chunk.toString('latin1');
    });
  const flags = Uint8Array.of(0, 0, 0, 3);
  const structured = optionBytes(OPT.STRUCTURED_REPLY);
  for (const bytes of [flags, structured, ...options, optionBytes(OPT.ABORT)]) socket.write(bytes);
  socket.end();
  await closed;
  return said;
}

const text = (words: string) => new TextEncoder().encode(words);
const OPTIONS: Readonly<Record<string, (name: string) => Uint8Array>> = {
  INFO: (name) => optionBytes(OPT.INFO, infoData(name)),
  GO: (name) => optionBytes(OPT.GO, infoData(name)),
  EXPORT_NAME: (name) => optionBytes(OPT.EXPORT_NAME, text(name)),
  LIST_META_CONTEXT: (name) => optionBytes(OPT.LIST_META_CONTEXT, metaData(name)),
  SET_META_CONTEXT: (name) => optionBytes(OPT.SET_META_CONTEXT, metaData(name, 'base:allocation')),
};

test.for(
  Object.keys(OPTIONS).flatMap((option) => [
    [option, 'shut', 'none'],
    [option, 'shut@monday', 'none@monday'],
    [option, 'shut@1', 'none@1'],
  ]),
)('%s of %s says what it says of %s, byte for byte', async ([option, forbidden, unknown]) => {
  const [ask, tcp, unix] = [OPTIONS[option!]!, sheep.nbd[0]!, sheep.nbd[1]!];
  const refused = await answers(tcp, ask(forbidden!));
  expect(refused.replaceAll(forbidden!, unknown!)).toBe(await answers(tcp, ask(unknown!)));
  // And something else where it is allowed.
  const served = await answers(unix, ask(forbidden!));
  expect(served.length).not.toBe(refused.length);
  expect(served).not.toContain('no export is named');
});

test('LIST names what a client may have, to each his own', async () => {
  const list = optionBytes(OPT.LIST);
  const overTcp = await answers(sheep.nbd[0]!, list);
  expect(overTcp).toContain('open');
  expect(overTcp).not.toContain('shut');
  const overUnix = await answers(sheep.nbd[1]!, list);
  for (const name of ['open', 'shut', 'shut@monday']) expect(overUnix).toContain(name);
});
