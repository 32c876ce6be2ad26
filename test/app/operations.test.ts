import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface as readLines } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import type { EventView } from '../../src/app/admin-views.ts';
import { Authority } from '../tls/authority.ts';
import { COLLIE, Daemon, ROOT, run, SHEEP, succeed } from './daemon.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sheepdog-drills-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('the drills of docs/OPERATIONS.md', () => {
  const page = readFileSync(join(ROOT, 'docs/OPERATIONS.md'), 'utf8');
  const drills = [...page.matchAll(/```sh\n(.*?)```/gs)].map(([, lines]) => lines!);

  test.skipIf(!hasTool('qemu-io'))('go as they are written', async () => {
    expect(drills).toHaveLength(3);
    // What a drill leaves running when it breaks off goes with its shell.
    const cleanUp = "trap 'jobs -p | xargs -r kill -9 2>/dev/null' EXIT";
    const marked = drills.map((lines, index) => `${lines}\necho "== drill ${index + 1} is over"`);
    const script = ['set -uo pipefail', cleanUp, ...marked].join('\n');
    const path = `${dirname(COLLIE)}:${process.env['PATH']}`;
    const { status, out, err } = await run('bash', ['-c', script], {
      cwd: folder,
      environment: { PATH: path },
    });
    expect(status, err).toBe(0);
    const [killed, damaged, hung] = out.split(/== drill \d is over\n/);
    expect(killed).toMatch(/wrote 67108864\/67108864 .*read 67108864\/67108864 .*"suspects"/s);
    expect(killed).not.toContain('verification failed');
    expect(damaged).toMatch(/8192/);
    expect(damaged).toContain('read failed: Input/output error');
    expect(damaged).toContain('read 4096/4096 bytes at offset 12288');
    expect(damaged).toContain('"command":"READ"');
    expect(damaged).toMatch(/demo is sound/);
    expect(hung).toMatch(/^unix:\S+ +demo .* [1-9][\d.]* (?:KiB|MiB)$/m);
  });
});

describe('a real daemon', () => {
  const store = () => join(folder, 'slow');

  test.skipIf(!hasTool('qemu-io'))('tells of slow requests, live and afterwards', async () => {
    const socket = `unix:${join(folder, 'slow.sock')}`;
    await using _daemon = await Daemon.start([
      ...[store(), '-n', `unix:${join(folder, 'nbd.sock')}`, '--admin', socket],
      ...['--vdi', 'demo:1G', '--slow-request', '1'],
    ]);
    const uri = `nbd+unix:///demo?socket=${join(folder, 'nbd.sock')}`;
    await succeed('qemu-io', ['-f', 'raw', '-c', 'write -f 0 64M', uri]);
    const listening = spawn(COLLIE, ['-a', socket, '--json', 'events', '--since-start']);
    const ended = once(listening, 'exit');
    const lines = readLines({ input: listening.stdout })[Symbol.asyncIterator]();
    let told: EventView | undefined;
    while (told?.event !== 'nbd.slow-request') {
      const { done, value } = await lines.next();
      if (done) throw new Error('no slow request was told');
      told = JSON.parse(value) as EventView;
    }
    const times = { deviceMs: expect.any(Number), totalMs: expect.any(Number) };
    expect(told).toMatchObject({ level: 'warn', facts: { export: 'demo', ...times } });
    await succeed(COLLIE, ['-a', socket, 'cluster', 'shutdown']);
    expect((await ended)[0]).toBe(1);
  });

  const noCertificates = !hasTool('openssl');
  test.skipIf(noCertificates)('tells events, numbers and metrics inside TLS too', async () => {
    using authority = new Authority();
    const certs = authority.directory('operator');
    const outside = join(folder, 'tls');
    await using daemon = await Daemon.start([
      ...[outside, '-n', `unix:${join(folder, 'tls.sock')}`, '--tls-certs', certs],
      ...['--admin', `unix:${join(folder, 'tls-admin.sock')}`, '--admin', '0.0.0.0:0'],
    ]);
    const port = /https:\/\/0\.0\.0\.0:(\d+)/.exec(daemon.out)?.[1];
    const ask = [
      COLLIE,
      '-a',
      `https://localhost:${port}`,
      '--tls-certs',
      certs,
      '--json',
    ] as const;
    const environment = { COLLIE_TOKEN_FILE: join(outside, 'admin.token') };
    const [command, ...args] = ask;
    const top = await succeed(command, [...args, 'top', '--count', '1', '--interval', '0.1'], {
      environment,
    });
    expect(JSON.parse(top)).toMatchObject({ openObjects: expect.any(Number) });
    const child = spawn(command, [...args, 'events', '--since-start'], {
      env: { ...process.env, ...environment },
    });
    const ended = once(child, 'exit');
    for await (const line of readLines({ input: child.stdout })) {
      const { event }: EventView = JSON.parse(line);
      if (event === 'sheep.ready') break;
    }
    child.kill();
    await ended;
  });

  test('refuses a threshold that is none', async () => {
    for (const value of ['x', '-1', '1.5']) {
      const { status, err } = await run(SHEEP, [store(), `--slow-request=${value}`]);
      expect(status).toBe(2);
      expect(err).toContain('--slow-request');
    }
  });
});
