import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findTool, hasTool } from '../../scripts/tools.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { scratch } from '../cluster/scratch.ts';
import { TestClient } from '../nbd/client.ts';
import { Daemon, ROOT, run, SHEEP, succeed } from './daemon.ts';

const UNITS = join(ROOT, 'packaging/systemd');
/** Of 10, as `systemd-analyze security` counts what a service could still do. */
const EXPOSURE_MAX = 1.8;

/** The units as they would be installed, but for where this clone has its program. */
async function installed() {
  const { path, ...directory } = await scratch();
  const text = await readFile(join(UNITS, 'sheep.service'), 'utf8');
  await writeFile(`${path}/sheep.service`, text.replace('/usr/local/bin/sheep', SHEEP));
  await copyFile(join(UNITS, 'sheep.socket'), `${path}/sheep.socket`);
  return { path, text, ...directory };
}

describe.skipIf(!hasTool('systemd-analyze'))('the units for systemd', () => {
  test('are what systemd understands, without a warning', async () => {
    await using units = await installed();
    const files = ['sheep.service', 'sheep.socket'].map((name) => join(units.path, name));
    const said = await run('systemd-analyze', ['verify', '--man=no', ...files]);
    expect(said).toEqual({ status: 0, out: '', err: '' });
  });

  test('have their user made by sysusers.d', async () => {
    const said = await run('systemd-sysusers', ['--dry-run', join(UNITS, 'sheep.conf')]);
    expect(said).toMatchObject({ status: 0, err: expect.stringMatching(/user 'sheep'/) });
  });

  test('leave the service little that it could do if it were taken over', async () => {
    await using units = await installed();
    const file = join(units.path, 'sheep.service');
    const said = await succeed('systemd-analyze', ['security', '--offline=yes', file]);
    const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1]);
    expect(exposure).toBeLessThanOrEqual(EXPOSURE_MAX);
  });

  /** Allows what its arguments before `--` name, lets everything else fail, and becomes the rest. */
  const CONFINE = `
import ctypes, os, sys
calls, command = sys.argv[1].split(), sys.argv[2:]
lib = ctypes.CDLL('libseccomp.so.2')
lib.seccomp_init.restype = ctypes.c_void_p
ALLOW, EPERM = 0x7fff0000, 0x00050001
context = ctypes.c_void_p(lib.seccomp_init(EPERM))
for name in calls:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0 and lib.seccomp_rule_add(context, ALLOW, number, 0) != 0: sys.exit('rule ' + name)
if lib.seccomp_load(context) != 0: sys.exit('the filter is not taken')
os.execv(command[0], command)
`;
  // libnbd's Python comes with Python, and systemd with libseccomp.
  const python = hasTool('nbdsh') ? findTool('python3') : undefined;
  test.skipIf(python === undefined)('let the daemon do all that it has to do', async () => {
    await using units = await installed();
    const store = `${units.path}/store`;
    const calls = (await allowedCalls(units.text)).join(' ');
    const sheep = [SHEEP, store, '-n', '127.0.0.1:0', '--admin', `unix:${units.path}/admin`];
    const nbd = ['-n', `unix:${units.path}/n`, '--nbd-mode', '660', '--nbd-group', '0'];
    const args = ['-c', CONFINE, calls, ...sheep, ...nbd, '--vdi', 'demo:64M'];
    await using daemon = await Daemon.start(args, { command: python! });
    expect(await readFile(`/proc/${daemon.child.pid}/status`, 'utf8')).toMatch(/^Seccomp:\s+2$/m);
    expect((await stat(`${units.path}/n`)).mode & 0o777).toBe(0o660);
    const client = await TestClient.connect(await openNodeNet(), daemon.nbd);
    await client.go('demo');
    const payload = new Uint8Array(4 * 2 ** 20).fill(7);
    for (const request of [
      { type: CMD.WRITE, payload, flags: 1 },
      { type: CMD.WRITE, offset: 8 * 2 ** 20, payload },
      { type: CMD.FLUSH },
      { type: CMD.TRIM, length: 2 ** 20 },
      { type: CMD.WRITE_ZEROES, offset: 9 * 2 ** 20, length: 2 ** 20, flags: 2 },
    ]) {
      expect(await client.request(request)).toMatchObject({ errno: 0 });
    }
    expect((await client.read(2 ** 20, 4096)).every((byte) => byte === 7)).toBe(true);
    client.stream.destroy();
    expect(await daemon.stop('SIGTERM')).toBe(0);
    expect(daemon.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });
});

/** The system calls that `SystemCallFilter=` of a unit lets through, line after line. */
async function allowedCalls(unit: string): Promise<string[]> {
  // What systemd always allows.
  const allowed = new Set(await callsIn('@default'));
  for (const [, sign, names = ''] of unit.matchAll(/^SystemCallFilter=(~?)(.*)$/gm)) {
    for (const name of names.split(' ')) {
      for (const call of await callsIn(name)) {
        if (sign === '~') allowed.delete(call);
        else allowed.add(call);
      }
    }
  }
  return [...allowed];
}

async function callsIn(name: string): Promise<string[]> {
  if (!name.startsWith('@')) return [name];
  const text = await succeed('systemd-analyze', ['syscall-filter', name]);
  const members = text.split('\n').map((line) => line.trim());
  const named = members.filter((line) => /^@?\w[\w-]*$/.test(line) && line !== name);
  return (await Promise.all(named.map(callsIn))).flat();
}
