import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const INSTALL_MS = 50_000;
const BOOT_MS = 60_000;

/** The environment of a user's shell: nothing of npm's, vitest's or node_modules/.bin. */
const shell = Object.fromEntries(
  Object.entries({
    ...process.env,
    PATH: (process.env['PATH'] ?? '')
      .split(':')
      .filter((directory) => !directory.includes('node_modules'))
      .join(':'),
  }).filter(([name]) => !/^(npm_(?!config)|NODE_(ENV|OPTIONS|PATH)$|VITEST|INIT_CWD)/i.test(name)),
);

let directory: string;
let prefix: string;
let archive: string;
let daemon: ChildProcess | undefined;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sheepdog-package-'));
  prefix = join(directory, 'prefix');
  const run = (args: string[]) =>
    execFileSync('npm', args, { cwd: ROOT, env: shell, stdio: 'pipe', timeout: INSTALL_MS });
  run(['pack', '--pack-destination', directory, '--loglevel=error']);
  const [name = 'none'] = readdirSync(directory).filter((file) => file.endsWith('.tgz'));
  archive = join(directory, name);
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
  run(['install', '--global', '--prefix', prefix, ...quiet, archive]);
}, INSTALL_MS);

afterAll(() => {
  daemon?.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

/** The files of the installed package, without its dependencies. */
function installed(): string[] {
  const home = join(prefix, 'lib/node_modules/sheepdog-nbd');
  return readdirSync(home, { recursive: true, encoding: 'utf8' }).filter(
    (path) => !path.startsWith('node_modules'),
  );
}

test('it holds what runs and what is read, and nothing else', () => {
  const files = installed();
  expect(files).toContain('dist/cli/sheep.js');
  expect(files).toContain('dist/cli/collie.js');
  expect(files).toContain('README.md');
  const foreign = /^(src|test|scripts|bench|dist\/sim|\.)|\.(ts|map|stamp)$/;
  expect(files.filter((path) => foreign.test(path))).toEqual([]);
});

test('both programs answer, whatever Node the system has', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const program of ['sheep', 'collie']) {
    const said = execFileSync(join(prefix, 'bin', program), ['--version'], {
      env: shell,
      encoding: 'utf8',
    });
    expect(said).toContain(version);
  }
});

test('the manual, the units and an example of a configuration come with it', () => {
  expect(readdirSync(join(prefix, 'share/man/man8'))).toContain('sheep.8');
  expect(readdirSync(join(prefix, 'share/man/man1'))).toContain('collie.1');
  expect(installed()).toContain('packaging/systemd/sheep.service');
  const example = join(prefix, 'lib/node_modules/sheepdog-nbd/packaging/sheep.json');
  const said = execFileSync(join(prefix, 'bin/sheep'), ['--check-config', example], {
    env: shell,
    encoding: 'utf8',
  });
  expect(said).toBe(`${example} can be used\n`);
});

test.skipIf(!hasTool('nbdinfo'))(
  'the installed sheep serves a VDI, and SIGTERM ends it with status 0',
  async () => {
    const store = join(directory, 'store');
    const args = [store, '-n', '127.0.0.1:0', '--admin', `unix:${join(directory, 'admin.sock')}`];
    daemon = spawn(join(prefix, 'bin/sheep'), [...args, '--vdi', 'first:64M'], {
      cwd: directory,
      env: shell,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    daemon.stderr?.on('data', (chunk) => {
      log += chunk;
    });
    const ended = once(daemon, 'exit');
    const lines = createInterface({ input: daemon.stdout! });
    const port = await Promise.race([
      (async () => {
        for await (const line of lines) {
          const found = /127\.0\.0\.1:(\d+)/.exec(line);
          if (found && found[1] !== '0') return found[1];
        }
        return undefined;
      })(),
      ended.then(() => undefined),
    ]);
    expect(port, log).toBeDefined();
    const size = execFileSync('nbdinfo', ['--size', `nbd://127.0.0.1:${port}/first`], {
      encoding: 'utf8',
    });
    expect(Number(size)).toBe(64 * 1024 * 1024);
    daemon.kill('SIGTERM');
    expect(await ended, log).toEqual([0, null]);
    expect(existsSync(store)).toBe(true);
  },
);

// Namespaces and mounts are the superuser's; in CI that is who runs this.
test.skipIf(process.getuid?.() !== 0 && process.env['CI'] !== 'true')(
  'as a service of a booted systemd it is set up by the steps of the README, and comes back',
  () => {
    const said = join(directory, 'said');
    const here = join(import.meta.dirname, 'booted.sh');
    const steps = join(import.meta.dirname, 'service-steps.sh');
    const spaces = ['--mount', '--pid', '--net', '--uts', '--ipc', '--cgroup', '--fork'];
    // How systemd itself ends is nobody's concern.
    const { stderr } = spawnSync(
      'unshare',
      [...spaces, '--kill-child', here, prefix, steps, said],
      {
        ...{ env: shell, encoding: 'utf8', timeout: BOOT_MS, killSignal: 'SIGKILL' },
      },
    );
    expect(existsSync(said), stderr).toBe(true);
    expect(readFileSync(said, 'utf8').trimEnd().split('\n')).toEqual([
      '/etc/sheep/sheep.json can be used',
      'started: active, serving NBD on unix:/run/sheep.sock 127.0.0.1:10809',
      'user: sheep',
      'socket: root kvm 660',
      'store: sheep 700',
      'admin: demo',
      'size: 8589934592',
      'reloaded: active',
      'size after a kill: 8589934592',
      'restarts after a kill: 1',
      'restarts after it hung: 2',
      'size after it hung: 8589934592',
      'stopped: inactive, success',
      'end 0',
    ]);
  },
  BOOT_MS,
);
