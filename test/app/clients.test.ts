import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import { MiB } from '../../src/base/units.ts';
import { scratch } from '../cluster/scratch.ts';
import {
  fioTrim,
  fioVerify,
  libnbdSuite,
  nbdClientList,
  nbdcopyRoundTrip,
  nbdinfo,
  nbdinfoList,
  qemuImgRoundTrip,
  qemuIo,
} from '../interop/nbd-clients.ts';
import { Daemon } from './daemon.ts';

/** Every client of test/interop, against VDIs of a real daemon instead of the server alone. */
const SIZE = 64 * MiB;
const NAMES = ['info', 'copy', 'img', 'io', 'fio', 'lib'] as const;
const owned = new AsyncDisposableStack();
let daemon: Daemon;
let directory: string;

beforeAll(async () => {
  directory = owned.use(await scratch()).path;
  const vdis = NAMES.flatMap((name) => ['--vdi', `${name}:${SIZE}`]);
  const addresses = ['-n', '127.0.0.1:0', '-n', `unix:${directory}/nbd`];
  const admin = ['--admin', `unix:${directory}/admin`];
  daemon = owned.use(await Daemon.start([`${directory}/store`, ...addresses, ...admin, ...vdis]));
  // A file system, because its holes and its small files are what clients meet.
  const tree = new URL('../../src', import.meta.url).pathname;
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', tree, `${directory}/image`, '64M']);
});
afterAll(async () => {
  expect(await daemon.stop('SIGTERM')).toBe(0);
  expect(daemon.log.filter(({ level }) => level === 'error')).toEqual([]);
  await owned[Symbol.asyncDispose]();
});

const uri = (name: string) => `nbd+unix:///${name}?socket=${directory}/nbd`;

test.skipIf(!hasTool('nbdinfo'))('nbdinfo and nbd-client see every VDI', async () => {
  expect(await nbdinfo(uri('info'))).toMatchObject({ 'export-size': SIZE, can_multi_conn: true });
  expect(await nbdinfoList(uri(''))).toEqual([...NAMES].sort());
  const [host = '', port] = daemon.nbd.split(':');
  const described = [...NAMES].sort().map((name) => `${name}: VDI ${name}`);
  expect(await nbdClientList(host, Number(port))).toEqual(described);
});

test.skipIf(!hasTool('nbdcopy'))('nbdcopy there and back, in four ways', () =>
  nbdcopyRoundTrip(uri('copy'), `${directory}/image`, directory),
);

test.skipIf(!hasTool('qemu-img'))('qemu-img convert and compare', () =>
  qemuImgRoundTrip(uri('img'), `${directory}/image`, directory),
);

test.skipIf(!hasTool('qemu-io'))('qemu-io: every command, read back', () => qemuIo(uri('io')));

test.skipIf(!hasTool('fio'))('fio verifies what it wrote', async () => {
  await fioVerify(uri('fio'));
  await fioTrim(uri('fio'));
});

test.skipIf(!hasTool('nbdsh'))('libnbd: what is legal, what is not, and many at once', () =>
  libnbdSuite(uri('lib')),
);
