import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNodeNet } from '../../src/host/node-net.ts';
import { connectNbd, type NbdClient } from '../../src/nbd/client/connect.ts';
import { collie, startTestSheep, type TestSheep } from '../app-unit/test-sheep.ts';
import { scratch } from '../cluster/scratch.ts';

const owned = new AsyncDisposableStack();
const folder = mkdtempSync(join(tmpdir(), 'sheepdog-access-'));
const nbdSocket = `unix:${folder}/nbd.sock`;
let sheep: TestSheep;
beforeAll(async () => {
  const { path } = owned.use(await scratch());
  sheep = owned.use(await startTestSheep(path, { nbd: ['127.0.0.1:0', nbdSocket] }));
});
afterAll(async () => {
  await owned.disposeAsync();
  rmSync(folder, { recursive: true });
});

const run = (line: string) => collie(['-a', sheep.socket, ...line.split(' ')]);
async function told(line: string): Promise<string> {
  const said = await run(line);
  expect(said, line).toMatchObject({ status: 0, err: '' });
  return said.out;
}
const attach = async (address: string, name: string): Promise<NbdClient> =>
  connectNbd(await openNodeNet(), address, name);
const tcp = () => sheep.nbd[0]!;

describe('collie vdi set', () => {
  test('says who may attach a VDI, and info shows it, of its snapshots too', async () => {
    await told('vdi create one 8M');
    expect(await told('vdi info one')).toMatch(/^allow: +default$/m);
    await told('vdi snapshot -s monday one');
    expect(await told('vdi set one allow=unix,cidr:10.0.0.1,cert:a%2cb')).toBe(
      'one allow=unix,cidr:10.0.0.1/32,cert:a%2Cb\n',
    );
    expect(await told('vdi info one@monday')).toMatch(
      /^allow: +unix,cidr:10\.0\.0\.1\/32,cert:a%2Cb$/m,
    );
    const { vdis, snapshots } = JSON.parse(await told('--json vdi list one'));
    for (const vdi of [...vdis, ...snapshots]) expect(vdi.allow).toHaveLength(3);
    expect(await told('vdi set one allow=default')).toBe('one allow=default\n');
  });

  test('is not needed for a VDI that is made with its rules', async () => {
    await told('vdi create made 8M --allow psk:alice,unix');
    expect(await told('vdi info made')).toMatch(/^allow: +psk:alice,unix$/m);
    expect(await run('vdi create other 8M --allow nobody')).toMatchObject({
      status: 2,
      err: expect.stringContaining('"nobody" is no access rule'),
    });
  });

  test('shuts out whom the new rules do not let in, and says whom', async () => {
    await told('vdi create two 8M');
    await using near = await attach(nbdSocket, 'two');
    await using gone = await attach(tcp(), 'two');
    await gone.write(0, new Uint8Array(4096).fill(7), { durable: false });
    const dry = await told('vdi set two allow=unix --dry-run');
    expect(dry).toMatch(
      /^two allow=unix would be set\n127\.0\.0\.1:\d+ would be disconnected from two\n$/,
    );
    await gone.flush();
    const set = JSON.parse(await told('--json vdi set two allow=unix'));
    expect(set).toMatchObject({
      ...{ allow: ['unix'], dryRun: false },
      shutOut: [{ name: expect.stringMatching(/^127/), transport: 'tcp', export: 'two' }],
      clients: [{ name: nbdSocket }],
    });
    await expect(gone.read(0, new Uint8Array(1))).rejects.toThrow();
    const into = new Uint8Array(1);
    await near.read(0, into);
    expect(into[0]).toBe(7);
    const unknown = expect.objectContaining({ code: 'ERR_NOT_FOUND' });
    await expect(attach(tcp(), 'two')).rejects.toEqual(unknown);
    await expect(attach(tcp(), 'none')).rejects.toEqual(unknown);
    expect(sheep.events.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['vdi.access-changed', 'nbd.shut-out', 'nbd.export-forbidden']),
    );
  });

  test.for<[string, number, RegExp]>([
    ['two', 2, /missing required argument/],
    ['two allow', 2, /'allow' has no value; give KEY=VALUE .* these keys: allow/],
    ['two Allow=unix', 2, /there is no setting 'Allow'; .* these keys: allow/],
    ['two toString=unix', 2, /there is no setting 'toString'/],
    ['two cache=none', 2, /there is no setting 'cache'/],
    ['two allow=unix allow=unix', 2, /'allow' is set twice/],
    ['two allow=', 2, /"" is no access rule: give default, unix/],
    ['two allow=unix,', 2, /"" is no access rule/],
    ['two allow=cidr:10.0.0.1/8', 2, /the network cidr:10\.0\.0\.0\/8\?/],
    ['two@monday allow=unix', 2, /'two@monday' is a snapshot and follows its VDI/],
    ['none allow=unix', 1, /there is no VDI 'none'/],
  ])('%s is refused with what to do', async ([line, status, message]) => {
    const said = await run(`vdi set ${line}`);
    expect(said).toMatchObject({ status, out: '', err: expect.stringMatching(message) });
    expect(JSON.parse(await told('--json vdi info two')).allow).toEqual(['unix']);
  });
});

describe('transfers', () => {
  test('go through whichever address lets them in', async () => {
    await told('vdi create three 8M');
    await told('vdi set three allow=cidr:127.0.0.0/8');
    expect(await told('vdi map three')).toMatch(/a hole/);
    await told('vdi set three allow=unix');
    expect(await told('vdi map three')).toMatch(/a hole/);
  });

  test('that the rules do not let in say so, and what to change', async () => {
    await told('vdi create four 8M');
    await told('vdi set four allow=psk:alice');
    const said = await run('vdi map four');
    expect(said).toMatchObject({ status: 1, out: '' });
    expect(said.err).toContain(
      "'four' does not let this collie in, its rules are allow=psk:alice; go through an address " +
        'that they allow (--nbd), or change them: collie vdi set four allow=psk:alice,unix',
    );
  });
});

describe('the token', () => {
  test('goes to another machine only inside TLS, or where the network is trusted', async () => {
    const place = '192.0.2.1:7001';
    const said = await collie(['-a', place, 'vdi', 'list']);
    expect(said).toMatchObject({
      status: 2,
      err: expect.stringContaining(
        `the token would go to ${place} in the clear; give https://${place} with --tls-certs DIR`,
      ),
    });
    const inside = await collie(['-a', `https://${place}`, 'vdi', 'list']);
    expect(inside).toMatchObject({
      status: 2,
      err: expect.stringMatching(/needs --tls-certs DIR, .* ca-cert\.pem, client-cert\.pem/),
    });
    for (const wrong of ['https://', 'https://host', 'https://unix:/x', 'http://host:1']) {
      const { status, err } = await collie(['-a', wrong, 'vdi', 'list']);
      expect({ status, err }).toMatchObject({
        status: 2,
        err: expect.stringContaining('is no address'),
      });
    }
  });
});
