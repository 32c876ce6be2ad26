import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, test } from 'vitest';
import { MiB } from '../../src/base/units.ts';
import { Daemon } from '../app/daemon.ts';
import { scratch } from '../cluster/scratch.ts';
import { Authority } from '../tls/authority.ts';

const AT_ONCE = 20;
/** After so many everything is as large as it gets; a lost certificate would be 4 KiB. */
const WARM_UP = 500;
const CONNECTIONS = 2500;
const LOST_MAX_BYTES = 4 * MiB;

test('a client that has shown its certificate and is gone leaves nothing in memory', async () => {
  using authority = new Authority();
  const certs = authority.directory('own');
  await using directory = await scratch();
  await using daemon = await Daemon.start([
    ...[`${directory.path}/store`, '-n', '127.0.0.1:0', '--tls-certs', certs],
    ...['--admin', `unix:${directory.path}/admin`, '--admin', '0.0.0.0:0'],
  ]);
  const [, port] = /https:\/\/0\.0\.0\.0:(\d+)/.exec(daemon.out) ?? [];
  const read = (name: string) => readFileSync(join(certs, name));
  const [ca, cert, key] = ['ca-cert.pem', 'client-cert.pem', 'client-key.pem'].map(read);
  const visit = () =>
    new Promise<void>((gone, failed) => {
      const options = { host: '127.0.0.1', port: Number(port), ca, cert, key };
      const socket = connect({ ...options, checkServerIdentity: () => undefined }, () => {
        socket.write('GET', () => socket.destroy());
      });
      socket.on('close', () => gone()).on('error', failed);
    });
  const visits = async (count: number) => {
    for (let at = 0; at < count; at += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, visit));
    }
  };
  await visits(WARM_UP);
  const before = await heapBytes(daemon.child.pid);
  await visits(CONNECTIONS);
  expect((await heapBytes(daemon.child.pid)) - before).toBeLessThan(LOST_MAX_BYTES);
}, 60_000);

/** What the C library has for a process, and V8 does not know of. */
async function heapBytes(pid: number | undefined): Promise<number> {
  const [, kib] =
    /\[heap\]\n(?:.*\n)*?Rss:\s+(\d+)/.exec(await readFile(`/proc/${pid}/smaps`, 'latin1')) ?? [];
  return Number(kib) * 1024;
}
