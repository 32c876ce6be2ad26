/** What the tree knows of a VDI or snapshot. */
export interface TreeNode {
  readonly name: string;
  readonly vid: number;
  /** The vid it was made from; 0, or one that is not listed: none. */
  readonly parent: number;
  readonly state: string;
}

/** One line of the tree, and what stands before its name. */
export interface TreeRow<Node> {
  readonly node: Node;
  readonly lead: string;
}

/**
 * Families as trees, each from its oldest snapshot on. A VDI stands below its snapshots, in one
 * column, however many they are; what was cloned from one of them, or left behind by a rollback,
 * hangs at it. The deleted are shown where something still hangs at them; what is held for snapshots of
 * the cluster never is, and what was made from it hangs below.
 */
export function treeRows<Node extends TreeNode>(all: readonly Node[]): TreeRow<Node>[][] {
  const nodes = withoutHeld(all);
  const vids = new Set(nodes.map((node) => node.vid));
  const children = Map.groupBy(
    nodes.toSorted((a, b) => a.vid - b.vid),
    ({ parent }) => (vids.has(parent) ? parent : 0),
  );
  const shown = shownVids(nodes);
  const below = (vid: number) => (children.get(vid) ?? []).filter((node) => shown.has(node.vid));
  return below(0).map((root) => {
    const rows: TreeRow<Node>[] = [];
    addChain(root, { first: '', rest: '' }, below, rows);
    return rows;
  });
}

interface Leads {
  readonly first: string;
  readonly rest: string;
}

/** A VDI's snapshots from `start` on and the VDI itself, with what hangs at each. */
function addChain<Node extends TreeNode>(
  start: Node,
  { first, rest }: Leads,
  below: (vid: number) => Node[],
  rows: TreeRow<Node>[],
): void {
  let lead = first;
  for (let node: Node | undefined = start; node !== undefined; lead = rest) {
    rows.push({ node, lead });
    const all = below(node.vid);
    const { name }: TreeNode = node;
    const next: Node | undefined = all.findLast((child) => child.name === name);
    const branches = all.filter((child) => child !== next);
    for (const branch of branches) {
      const last = next === undefined && branch === branches.at(-1);
      const leads = {
        first: `${rest}${last ? '└─ ' : '├─ '}`,
        rest: `${rest}${last ? '   ' : '│  '}`,
      };
      addChain(branch, leads, below, rows);
    }
    node = next;
  }
}

/** What hangs at something that nobody knows of hangs at what that hangs at. */
function withoutHeld<Node extends TreeNode>(all: readonly Node[]): Node[] {
  const isHeld = ({ state }: TreeNode) => state === 'held' || state === 'released';
  const above = new Map(all.filter(isHeld).map(({ vid, parent }) => [vid, parent]));
  return all
    .filter((node) => !isHeld(node))
    .map((node) => {
      let { parent }: TreeNode = node;
      for (let next = above.get(parent); next !== undefined; next = above.get(parent))
        parent = next;
      return { ...node, parent };
    });
}

/** All but the deleted at which nothing hangs. */
function shownVids(nodes: readonly TreeNode[]): Set<number> {
  const byVid = new Map(nodes.map((node) => [node.vid, node]));
  const shown = new Set<number>();
  for (const node of nodes.filter(({ state }) => state !== 'deleting')) {
    let up: TreeNode | undefined = node;
    for (; up !== undefined && !shown.has(up.vid); up = byVid.get(up.parent)) shown.add(up.vid);
  }
  return shown;
}
