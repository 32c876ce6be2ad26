import type { Compressed, ContentType } from '../../base/content.ts';
import { PackDraft } from './pack-draft.ts';
import type { IndexEntry, PackKind } from './pack-format.ts';
import type { SnapshotStore } from './store.ts';

/** An object on its way: where it stands in a pack that has no name yet. */
export interface OnItsWay {
  readonly draft: PackDraft;
  readonly entry: IndexEntry;
}

interface OpenDraft {
  readonly id: string;
  readonly createdMs: number;
  readonly draft: PackDraft;
}

/**
 * Packs being written, one of each kind at a time. They get their names one after the other, in the
 * order in which they were closed, each stable before the next: so a pack that is there has all
 * before it beside it. After a failure everything fails with it.
 */
export class PackStream {
  readonly #store: SnapshotStore;
  /** Told of each object that is stable and in the index of the store. */
  readonly #stable: (name: Uint8Array) => void;
  readonly #drafts = new Map<PackKind, OpenDraft>();
  readonly #closing = new Set<Promise<void>>();
  #named: Promise<void> = Promise.resolve();
  #failure: unknown;
  /** Used again and again, by all drafts. */
  readonly #buffers: Uint8Array[] = [];

  constructor(store: SnapshotStore, stable: (name: Uint8Array) => void) {
    this.#store = store;
    this.#stable = stable;
  }

  /** @param stored  copied */
  append(
    type: ContentType,
    name: Uint8Array,
    rawBytes: number,
    form: Compressed,
    stored: Uint8Array,
  ): OnItsWay {
    if (this.#failure !== undefined) throw this.#failure;
    const kind: PackKind = type === 'data' ? 'data' : 'tree';
    const { draft } = this.#drafts.get(kind) ?? this.#begin(kind);
    const entry = draft.append(type, name, rawBytes, form, stored);
    if (draft.isFull) {
      // A tree that names what is not stable yet must not be there before it.
      if (kind === 'tree') this.#close('data');
      this.#close(kind);
    }
    return { draft, entry };
  }

  /** Settles when there is room for more. */
  async room(): Promise<void> {
    const { unwrittenBytes, packsClosing } = this.#store.limits;
    while (this.#closing.size >= packsClosing) await Promise.race(this.#closing);
    if (this.#failure !== undefined) throw this.#failure;
    for (const { draft } of this.#drafts.values()) {
      if (draft.unwrittenBytes >= unwrittenBytes) await draft.written();
    }
  }

  /** Everything that was appended is stable, and in the index. */
  async barrier(): Promise<void> {
    this.#close('data');
    this.#close('tree');
    await this.#named;
  }

  /** What is not named yet is given up. */
  async abandon(): Promise<void> {
    this.#failure ??= new Error('the writer is closed');
    await this.#named.catch(() => undefined);
    for (const opened of this.#drafts.values()) await this.#giveUp(opened);
    this.#drafts.clear();
  }

  #begin(kind: PackKind): OpenDraft {
    const { limits, options, packs } = this.#store;
    const { disk, random, clock } = options;
    const id = packs.freshId(random);
    const createdMs = clock.wallMs();
    const header = { kind, createdMs, storeId: this.#store.storeId };
    const path = packs.draftOf(id);
    const draft = new PackDraft({ disk, path, header, limits, buffers: this.#buffers });
    const opened = { id, createdMs, draft };
    this.#drafts.set(kind, opened);
    return opened;
  }

  #close(kind: PackKind): void {
    const opened = this.#drafts.get(kind);
    if (opened === undefined) return;
    this.#drafts.delete(kind);
    const sealed = opened.draft.seal();
    const before = this.#named;
    const named = (async () => {
      try {
        await Promise.all([sealed, before]);
        await this.#name(kind, opened);
      } catch (error) {
        this.#failure ??= error;
        await this.#giveUp(opened);
        throw error;
      }
    })();
    this.#named = named;
    this.#closing.add(named);
    const done = () => void this.#closing.delete(named);
    named.then(done, done);
  }

  async #name(kind: PackKind, { id, createdMs, draft }: OpenDraft): Promise<void> {
    const { packs, options } = this.#store;
    await options.disk.rename(packs.draftOf(id), packs.pathOf(id));
    await options.disk.syncDirectory(packs.directory);
    packs.enter(id, { kind, createdMs }, draft.entries, draft.length);
    for (const { name } of draft.entries) this.#stable(name);
    await draft.close();
  }

  /** Its space is free at once, and not with the next writer. */
  async #giveUp({ draft, id }: OpenDraft): Promise<void> {
    await draft.close();
    await this.#store.options.disk.remove(this.#store.packs.draftOf(id)).catch(() => undefined);
  }
}
