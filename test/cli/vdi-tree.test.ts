import { expect, test } from 'vitest';
import { type TreeNode, treeRows } from '../../src/cli/vdi-tree.ts';

const STATES: Readonly<Record<string, string>> = { '!': 'deleting', '*': 'held', '~': 'released' };

interface Named extends TreeNode {
  readonly tag: string;
}

/** `vid<parent name@tag`, `!` behind it: deleted, `*` held, `~` released. */
function nodes(...lines: string[]): Named[] {
  return lines.map((line) => {
    const [, vid, parent, name, tag = '', mark = ''] =
      /^(\d+)<(\d+) ([^@!*~]+)@?([^!*~]*)([!*~]?)$/.exec(line) ?? [];
    return {
      ...{ name: name ?? '', tag, vid: Number(vid), parent: Number(parent) },
      state: STATES[mark] ?? (tag === '' ? 'ready' : 'snapshot'),
    };
  });
}

function drawn(...lines: string[]): string[][] {
  return treeRows(nodes(...lines)).map((family) =>
    family.map(({ node, lead }) => `${lead}${node.name}${node.tag && '@'}${node.tag}`),
  );
}

test('a VDI stands below its snapshots, its clones hang at them', () => {
  const family = ['1<0 demo@mon', '2<1 demo@tue', '3<1 web1', '4<1 web2@first', '5<4 web2'];
  expect(drawn(...family, '6<2 demo')).toEqual([
    ['demo@mon', '├─ web1', '├─ web2@first', '│  web2', 'demo@tue', 'demo'],
  ]);
});

test('without the VDI itself the last clone ends the branch', () => {
  const family = ['1<0 base@v1', '2<1 a@x', '3<2 b', '4<2 a', '5<1 c@y', '6<5 d'];
  expect(drawn(...family)).toEqual([['base@v1', '├─ a@x', '│  ├─ b', '│  a', '└─ c@y', '   └─ d']]);
});

test('what a rollback left behind hangs at the snapshot that it went back to', () => {
  expect(drawn('1<0 demo@mon', '2<1 demo@tue', '3<2 demo!', '4<1 demo')).toEqual([
    ['demo@mon', '├─ demo@tue', 'demo'],
  ]);
});

test('families stand apart, in the order of their making', () => {
  expect(drawn('7<0 b', '2<0 a@x', '3<2 a')).toEqual([['a@x', 'a'], ['b']]);
  expect(drawn()).toEqual([]);
});

test('the deleted stand where something hangs at them, and nowhere else', () => {
  expect(drawn('1<0 a@x!', '2<1 b', '3<1 a!', '4<0 c!')).toEqual([['a@x', '└─ b']]);
});

test('what is or was held for a snapshot of the cluster stands nowhere', () => {
  const family = ['1<0 demo~', '2<1 demo@mon', '3<2 demo~', '4<3 demo*', '5<2 web', '6<4 demo'];
  expect(drawn(...family)).toEqual([['demo@mon', '├─ web', 'demo']]);
  expect(drawn('1<0 demo*', '2<1 demo', '7<0 gone*')).toEqual([['demo']]);
});

test('what hangs at something unknown is a root', () => {
  expect(drawn('5<4 a')).toEqual([['a']]);
});

test('a thousand snapshots and a thousand clones are two thousand lines', () => {
  const snapshots = Array.from(
    { length: 1000 },
    (_, n) => `${2 * n + 1}<${n && 2 * n - 1} demo@t${n}`,
  );
  const clones = Array.from({ length: 1000 }, (_, n) => `${2 * n + 2}<${2 * n + 1} clone${n}`);
  const [family] = drawn(...snapshots, ...clones);
  expect(family).toHaveLength(2000);
  expect(family?.slice(0, 3)).toEqual(['demo@t0', '├─ clone0', 'demo@t1']);
  expect(family?.at(-1)).toBe('└─ clone999');
});
