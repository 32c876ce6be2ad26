import { CommanderError } from 'commander';
import { describe, expect, test } from 'vitest';
import { nodeRefusal } from '../../src/cli/node-version.ts';
import { parseSheepArguments, type SheepArguments } from '../../src/cli/sheep-options.ts';
import { Settings } from '../../src/config/schema.ts';

interface Parsed {
  readonly given?: SheepArguments;
  readonly status?: number;
  readonly out: string;
  readonly err: string;
}

function parse(...args: string[]): Parsed {
  const said = { out: '', err: '' };
  const output = {
    out: (text: string) => {
      said.out += text;
    },
    err: (text: string) => {
      said.err += text;
    },
  };
  try {
    return { given: parseSheepArguments(args, '1.2.3', output), ...said };
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return { status: error.exitCode, ...said };
  }
}

describe('the arguments of sheep', () => {
  test('none are needed', () => {
    expect(parse().given).toEqual({ settings: {} });
  });

  test('each becomes the setting of its name', () => {
    const args =
      '/srv/s -c local -n unix:/n --nbd 127.0.0.1:0 --nbd-group g --nbd-mode 660 --admin unix:/a ' +
      '--vdi a:1G --vdi b:2G --format hash=sha1 --tls-certs /c --tls-psk /p --tls-require --insecure-network ' +
      '--checksums=off --log-level debug';
    expect(parse(...args.split(' ')).given).toEqual({
      settings: {
        directory: '/srv/s',
        cluster: 'local',
        nbd: ['unix:/n', '127.0.0.1:0'],
        nbdGroup: 'g',
        nbdMode: '660',
        admin: ['unix:/a'],
        vdis: ['a:1G', 'b:2G'],
        format: 'hash=sha1',
        tlsCerts: '/c',
        tlsPsk: '/p',
        tlsRequire: true,
        insecureNetwork: true,
        checksums: 'off',
        logLevel: 'debug',
      },
    });
  });

  test('those for the process itself are no settings', () => {
    const { given } = parse('--config', 'f.json', '--ready-fd', '7', '--no-hints');
    expect(given).toEqual({ settings: {}, configPath: 'f.json', readyFd: 7, hints: false });
  });

  test('every setting has an option in the help', () => {
    const { out, status } = parse('--help');
    expect(status).toBe(0);
    for (const setting of Object.keys(Settings.shape)) {
      if (setting === 'directory') continue;
      const name = setting === 'vdis' ? 'vdi' : setting;
      expect(out).toContain(`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
    }
  });

  test('--version is the version', () => {
    expect(parse('--version')).toMatchObject({ status: 0, out: '1.2.3\n' });
  });

  test.for<[string[], RegExp]>([
    [['--nonsense'], /^sheep: unknown option '--nonsense'/],
    [['--cheksums', 'off'], /Did you mean --checksums/],
    [['a', 'b'], /^sheep: too many arguments/],
    [['--vdi'], /^sheep: option '--vdi <name:size>' argument missing/],
    [['--ready-fd', 'x'], /^sheep: .*'x' is invalid.*number of an open file descriptor/],
  ])('%j is wrong usage: status 2 and a sentence', ([args, message]) => {
    expect(parse(...args)).toMatchObject({
      status: 2,
      out: '',
      err: expect.stringMatching(message),
    });
  });
});

describe('the version of Node', () => {
  test.for(['24.0.0', '24.21.0', '25.1.0', '100.0.0'])('%s will do', (version) => {
    expect(nodeRefusal(version, 'sheep')).toBeUndefined();
  });

  test.for(['18.19.0', '20.1.0', '23.11.0', '9.0.0'])('%s is refused by name', (version) => {
    const refusal = nodeRefusal(version, 'sheep');
    expect(refusal).toContain(`this is Node ${version}`);
    expect(refusal).toContain('./bin/sheep');
  });
});
