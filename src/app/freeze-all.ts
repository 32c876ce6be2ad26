import { allSettled, forEachAtMost } from '../base/parallel.ts';
import { Rendezvous } from '../base/rendezvous.ts';
import type { Call } from '../contracts/call.ts';
import type { ObjectStore } from '../contracts/object-store.ts';
import type { Clock } from '../contracts/seams.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import type { BegunFreeze, Frozen } from '../vdi/freezing.ts';
import { type Entries, readRoot } from '../vdi/inode-nodes.ts';
import { makeVolume } from '../vdi/open-volume.ts';
import type { VolumeRecord } from '../vdi/record.ts';
import type { Volume } from '../vdi/volume.ts';
import type { Attachments } from './attachments.ts';
import { namedFailure } from './named-failure.ts';

/** Unattached VDIs that are opened at once, to be frozen. */
const OPENED_AT_ONCE = 4;

/** A working VDI in the instant: what it held, frozen, and its record. */
export interface FrozenVdi {
  readonly held: VolumeRecord;
  readonly working: VolumeRecord;
}

/** The whole cluster in one instant. */
export interface FrozenCluster {
  /** Wall time, whole milliseconds. */
  readonly instantMs: number;
  /** In order of names. */
  readonly vdis: readonly FrozenVdi[];
  readonly snapshots: readonly VolumeRecord[];
}

export interface FreezeParts {
  readonly directory: VdiDirectory;
  readonly store: ObjectStore;
  readonly attachments: Attachments;
  readonly clock: Pick<Clock, 'wallMs'>;
  /** What each change waits before all have to. */
  readonly pace: () => Promise<void>;
}

/**
 * Freezes every working VDI in one instant: what was answered before it is in, whichever VDI it was
 * of, and nothing that is sent after this settles. Nobody attaches, detaches, makes or takes away any
 * of them meanwhile: that is the caller's duty.
 *
 * What takes long comes first: all that was written is flushed, and what nobody has attached, and
 * so does not change, is made ready as a whole. Then changes of all that is attached wait while the
 * last of it is flushed, until all of them are at that point.
 * @throws what fails of any before the instant: then nothing has happened to any. What fails later
 *         leaves some of them held.
 */
export async function freezeAll(parts: FreezeParts, { signal }: Call = {}): Promise<FrozenCluster> {
  const { directory, attachments } = parts;
  const working = await directory.list();
  const snapshots = await directory.snapshots();
  const freeze = new FreezeOfAll(parts);
  try {
    for (const record of working) {
      signal?.throwIfAborted();
      await freeze.begin(record);
    }
    signal?.throwIfAborted();
    const { instantMs, vdis } = await freeze.run(({ name }) => attachments.volume(name), signal);
    return { instantMs, vdis, snapshots };
  } catch (error) {
    await freeze.abandon();
    throw error;
  }
}

class FreezeOfAll {
  readonly #parts: FreezeParts;
  readonly #begun: BegunFreeze[] = [];
  readonly #unchanged: FrozenVdi[] = [];
  #instantMs = 0;
  /** What fails all. */
  #failure: unknown;

  constructor(parts: FreezeParts) {
    this.#parts = parts;
  }

  /** One after the other: each takes the next vid. */
  async begin(record: VolumeRecord): Promise<void> {
    const held = await this.#unchangedSince(record);
    if (held !== undefined) this.#unchanged.push({ held, working: record });
    else this.#begun.push(await this.#parts.directory.freezing.begin(record.name));
  }

  async run(
    volumeOf: (record: VolumeRecord) => Volume | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Pick<FrozenCluster, 'instantMs' | 'vdis'>> {
    const attached: { readonly begun: BegunFreeze; readonly volume: Volume }[] = [];
    const resting: BegunFreeze[] = [];
    for (const begun of this.#begun) {
      const volume = volumeOf(begun.child);
      if (volume === undefined) resting.push(begun);
      else attached.push({ begun, volume });
    }
    // Before anybody has to wait.
    await forEachAtMost(OPENED_AT_ONCE, resting, async (begun) => {
      signal?.throwIfAborted();
      await this.#prepareResting(begun).catch((error) => {
        throw namedFailure(error, begun.child.name, 'frozen');
      });
    });
    const instant = () => {
      this.#instantMs = Math.floor(this.#parts.clock.wallMs());
    };
    const steps = [
      new Rendezvous(attached.length),
      new Rendezvous(attached.length),
      new Rendezvous(attached.length, instant),
    ];
    const frozen = await this.#inStep(attached, steps, signal);
    for (const done of await this.#commitAll(resting)) frozen.push(done);
    const vdis = [
      ...this.#unchanged,
      ...frozen.map(({ frozen: held, working }) => ({ held, working })),
    ];
    vdis.sort((a, b) => (a.working.name < b.working.name ? -1 : 1));
    return { instantMs: this.#instantMs, vdis };
  }

  /** What was begun and did not get so far. */
  async abandon(): Promise<void> {
    for (const begun of this.#begun) {
      // If this fails too, the next start abandons it: the first error is the one to be told.
      await this.#parts.directory.freezing.abandon(begun).catch(() => undefined);
    }
  }

  async #inStep(
    attached: readonly { readonly begun: BegunFreeze; readonly volume: Volume }[],
    steps: readonly Rendezvous[],
    signal: AbortSignal | undefined,
  ): Promise<Frozen[]> {
    const frozen: Frozen[] = [];
    const freeze = async (begun: BegunFreeze, volume: Volume) => {
      const queue = [...steps];
      const together = async () => {
        signal?.throwIfAborted();
        await queue.shift()?.meet();
      };
      const commit = async () => {
        const done = await this.#commit(begun);
        frozen.push(done);
        return done;
      };
      const prepare = (root: Entries) => this.#makeChild(begun, root);
      await volume.freeze(prepare, commit, this.#parts.pace, together).catch((error) => {
        this.#failure ??= namedFailure(error, begun.child.name, 'frozen');
        for (const step of steps) step.fail(this.#failure);
        throw this.#failure;
      });
    };
    await allSettled(attached.map(({ begun, volume }) => freeze(begun, volume)));
    return frozen;
  }

  /** As a freeze of what does not change: its last owner's leavings are cleared away first. */
  async #prepareResting(begun: BegunFreeze): Promise<void> {
    const { attachments, store } = this.#parts;
    const volume = await attachments.openOwned(begun.child.name);
    await volume.flush();
    await this.#makeChild(begun, await readRoot(store, volume.record));
  }

  #makeChild({ child }: BegunFreeze, root: Entries): Promise<void> {
    return makeVolume({ store: this.#parts.store, record: child }, root);
  }

  async #commitAll(resting: readonly BegunFreeze[]): Promise<Frozen[]> {
    const frozen: Frozen[] = [];
    await allSettled(resting.map(async (begun) => frozen.push(await this.#commit(begun))));
    return frozen;
  }

  #commit(begun: BegunFreeze): Promise<Frozen> {
    const as = { tag: '', frozenMs: this.#instantMs };
    return this.#parts.directory.freezing.commit(begun, as);
  }

  /**
   * What holds the same already: the last state of this VDI that was held, if nobody has it open and
   * nothing was written since, which leaves its root without a leaf of its own.
   */
  async #unchangedSince(record: VolumeRecord): Promise<VolumeRecord | undefined> {
    const { directory, store, attachments } = this.#parts;
    const { name, vid, parent, sizeBytes, shrunkFromBytes } = record;
    if (parent === 0 || attachments.volume(name) !== undefined) return undefined;
    const below = (await directory.read(parent))?.record;
    // By name: two VDIs may stem from one, once what lay between was deleted and forgotten.
    if (below?.state !== 'held' || below.name !== name) return undefined;
    if (below.sizeBytes !== sizeBytes || shrunkFromBytes !== 0) return undefined;
    return (await readRoot(store, record)).includes(vid) ? undefined : below;
  }
}
