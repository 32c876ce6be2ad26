import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasTool } from '../../scripts/tools.ts';
import type { Shell } from '../../src/cli/completion/shell-names.ts';
import { completionFor } from '../../src/cli/completion/shells.ts';
import { sheepCommand } from '../../src/cli/sheep-options.ts';
import { collieSays } from './collie-says.ts';

/** What `collie vdi list --json` says, of one that has names as nasty as they may be. */
const LISTED = {
  vdis: [{ export: 'root' }, { export: 'web' }, { export: '$(>ran)' }],
  snapshots: [{ export: 'root@monday' }, { export: 'root@morning' }],
};

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sheepdog-completion-'));
  const listed = JSON.stringify(LISTED, null, 2);
  const fake = `#!/bin/sh\necho "$*" >> ${folder}/asked\ncat <<'END'\n${listed}\nEND\n`;
  writeFileSync(join(folder, 'collie'), fake);
  chmodSync(join(folder, 'collie'), 0o755);
  for (const shell of ['bash', 'zsh'] as const) {
    writeFileSync(join(folder, `collie.${shell}`), await collieSays('completion', shell));
    const sheep = sheepCommand('1.0.0', { out: () => undefined, err: () => undefined });
    writeFileSync(join(folder, `sheep.${shell}`), completionFor(shell, sheep));
    if (shell !== 'zsh') continue;
    for (const program of ['collie', 'sheep']) {
      copyFileSync(join(folder, `${program}.zsh`), join(folder, `_${program}`));
    }
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What an interactive shell makes of a line at a Tab or two: as it stands then, and what it lists. */
const TYPE = `
import os, pty, select, sys, time
folder, shell, line = sys.argv[1:4]
START = {'bash': ['bash', '--norc', '--noprofile', '-i'], 'zsh': ['zsh', '-f', '-i']}
SET_UP = {
    'bash': "bind 'set bell-style none'; . ./collie.bash; . ./sheep.bash",
    'zsh': "PS1='rea''dy> '; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; unsetopt beep; bindkey -e",
}
pid, fd = pty.fork()
if pid == 0:
    os.chdir(folder)
    os.environ.update(PATH=folder + ':' + os.environ['PATH'], PS1='ready> ', TERM='dumb', HOME=folder)
    os.execvp(START[shell][0], START[shell])
seen = b''
def until(mark):
    global seen
    end = time.time() + 20
    while mark not in seen and time.time() < end:
        if select.select([fd], [], [], 0.1)[0]: seen += os.read(fd, 65536)
    if mark not in seen: sys.exit('no %r in %r' % (mark, seen))
# What is written is echoed, so no mark may stand in it as it is waited for.
os.write(fd, SET_UP[shell].encode() + b"; echo sourc''ed\\n")
until(b'sourced\\r\\n')
seen = seen[seen.index(b'sourced\\r\\n'):]
until(b'ready> ')
seen = b''
# bash rings at the first Tab where it knows of several, and lists them at the second.
os.write(fd, line.encode() + (b'\\t\\t' if shell == 'bash' else b'\\t'))
os.write(fd, b'\\x01\\x0b')  # to the beginning, and all of it taken away
os.write(fd, b"echo o''ver\\n")
until(b'over\\r\\n')
print(seen.decode())
os.write(fd, b'exit\\n')
`;
// libnbd's Python comes with Python.
const canType = hasTool('nbdsh');
const typed = (shell: Shell, line: string) =>
  execFileSync('python3', ['-c', TYPE, folder, shell, line], { encoding: 'utf8' });

describe.skipIf(!canType || !hasTool('zsh'))('in a real zsh', () => {
  test.for<[string, string]>([
    ['collie vdi cre', 'collie vdi create '],
    ['collie -a unix:/run/s.sock vdi info root@mon', 'vdi info root@monday '],
    ['sheep --log-level deb', 'sheep --log-level debug '],
  ])('%s⇥ becomes %s', ([line, expected]) => {
    expect(typed('zsh', line)).toContain(expected);
  });
});

describe.skipIf(!canType)('in a real bash', () => {
  test.for<[string, string]>([
    ['collie v', 'collie vdi '],
    ['collie vdi cre', 'collie vdi create '],
    ['collie --js', 'collie --json '],
    ['collie vdi info we', 'collie vdi info web '],
    ['collie vdi info root@mon', 'collie vdi info root@monday '],
    ['collie -a unix:/run/s.sock vdi info we', 'collie -a unix:/run/s.sock vdi info web '],
    ['collie completion b', 'collie completion bash '],
    ['sheep --log-level deb', 'sheep --log-level debug '],
    ['sheep --config coll', 'sheep --config collie'],
  ])('%s⇥ becomes %s', ([line, expected]) => {
    expect(typed('bash', line)).toContain(expected);
  });
});

describe.skipIf(!hasTool('zsh'))('in zsh, at the function', () => {
  /** Runs the function with what completion offers to it replaced by what prints. */
  const offered = (program: string, ...words: string[]) =>
    execFileSync(
      'zsh',
      [
        '-fc',
        `compdef() { : }
         compadd() { if [[ $1 == -a ]]; then print -l -- "\${(@P)2}"; else shift; print -l -- "$@"; fi }
         _describe() { print -l -- "\${(@P)@[-1]}"; }
         _files() { print files "$@" }
         . ./${program}.zsh
         words=("$@"); CURRENT=$#words; _${program}`,
        'zsh',
        program,
        ...words,
      ],
      {
        cwd: folder,
        encoding: 'utf8',
        env: { ...process.env, PATH: `${folder}:${process.env['PATH']}` },
      },
    )
      .trim()
      .split('\n');

  test('commands and options come with what they are', () => {
    expect(offered('collie', '')).toContain('vdi:virtual disk images');
    expect(offered('collie', 'vdi', '')).toContain(
      'create:make a VDI; it takes space only where it is written',
    );
    expect(offered('collie', 'vdi', 'create', '--')).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^--object-size:/),
        expect.stringMatching(/^--json:/),
      ]),
    );
  });

  test('names are those of the sheep that is meant', () => {
    expect(offered('collie', '-a', 'unix:/run/s', 'vdi', 'info', '')).toEqual([
      ...['root', 'web', '$(>ran)', 'root@monday', 'root@morning'],
    ]);
    expect(offered('collie', 'vdi', 'list', '')).toEqual(['root', 'web', '$(>ran)']);
    const asked = execFileSync('cat', [`${folder}/asked`], { encoding: 'utf8' });
    expect(asked).toContain('-a unix:/run/s vdi list --json\n');
  });

  test('values are files, folders or words', () => {
    expect(offered('sheep', '--config', '')).toEqual(['files']);
    expect(offered('sheep', '')).toEqual(['files -/']);
    expect(offered('sheep', '--log-level', '')).toEqual(['debug', 'info', 'warn', 'error']);
    expect(offered('collie', 'vdi', 'create', '')).toEqual(['']);
  });
});

describe('in bash, at the function', () => {
  const replies = (...words: string[]) =>
    execFileSync(
      'bash',
      [
        '-c',
        `. ./collie.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _collie
         printf "%s\\n" "\${COMPREPLY[@]}"`,
        'bash',
        'collie',
        ...words,
      ],
      {
        cwd: folder,
        encoding: 'utf8',
        env: { ...process.env, PATH: `${folder}:${process.env['PATH']}` },
      },
    )
      .trim()
      .split('\n');

  test('a name that is a command is quoted, and never run', () => {
    expect(replies('vdi', 'info', '$')).toEqual(['\\$\\(\\>ran\\)']);
    expect(execFileSync('ls', [folder], { encoding: 'utf8' })).not.toMatch(/^ran$/m);
  });

  test('snapshots are offered where one can be meant, by what bash puts in its place', () => {
    expect(replies('vdi', 'info', 'root', '@', 'mo')).toEqual(['@monday', '@morning']);
    expect(replies('vdi', 'info', 'root', '@')).toEqual(['@monday', '@morning']);
    expect(replies('vdi', 'resize', 'ro')).toEqual(['root']);
    expect(replies('vdi', 'create', 'ro')).toEqual(['']);
  });

  test('every command of collie is offered, and each of its options', () => {
    const commands = replies('');
    expect(commands).toEqual(expect.arrayContaining(['cluster', 'node', 'vdi', 'events', 'top']));
    expect(replies('vdi', 'delete', '--')).toEqual(
      expect.arrayContaining(['--snapshot', '--dry-run', '--json', '--address', '--help']),
    );
  });
});

test.for(['bash', 'zsh'] as const satisfies Shell[])('%s takes the script', (shell) => {
  if (shell === 'zsh' && !hasTool('zsh')) return;
  for (const program of ['collie', 'sheep']) {
    execFileSync(shell, ['-n', join(folder, `${program}.${shell}`)]);
  }
});
