import type { SheepError } from '../base/errors.ts';
import type { Vid } from '../base/ids.ts';
import { allSettled } from '../base/parallel.ts';
import type { OpenObject } from './open-object.ts';

interface Work {
  readonly objects: ReadonlySet<OpenObject>;
  readonly homes: boolean;
  readonly done: Promise<void>;
}

/** The flushes and syncs under way: what comes later and touches the same objects waits for them. */
export class Works {
  readonly #underWay = new Set<Work>();
  readonly #failed: (error: unknown) => SheepError;
  readonly #relax: (object: OpenObject) => void;

  /**
   * @param failed  is told why one has failed, and says with what all fail from then on
   * @param relax   is told of objects that may be closed, for all that is known here
   */
  constructor(failed: (error: unknown) => SheepError, relax: (object: OpenObject) => void) {
    this.#failed = failed;
    this.#relax = relax;
  }

  /** @param homes  it syncs their files, and waits for no gate and no other work */
  begin(objects: readonly OpenObject[], homes: boolean, run: () => Promise<void>): Promise<void> {
    const done = run()
      .catch((error: unknown) => {
        throw this.#failed(error);
      })
      .finally(() => this.#end(work));
    const work: Work = { objects: new Set(objects), homes, done };
    this.#underWay.add(work);
    for (const object of work.objects) object.works += 1;
    return done;
  }

  /** Those of a VDI, or of some of its objects. */
  touching(vid: Vid, only?: readonly OpenObject[]): Promise<void>[] {
    return [...this.#underWay]
      .filter(({ objects }) =>
        only === undefined
          ? objects.values().some(({ name }) => name.vid === vid)
          : only.some((object) => objects.has(object)),
      )
      .map(({ done }) => done);
  }

  /** Settles once the syncs of files are done that are under way, of such objects. */
  homing(which: (object: OpenObject) => boolean): Promise<void> {
    const homes = [...this.#underWay].filter((work) => work.homes);
    const touching = homes.filter(({ objects }) => objects.values().some(which));
    return allSettled(touching.map(({ done }) => done));
  }

  /** Settles once nothing is under way any more. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all([...this.#underWay].map(({ done }) => done));
  }

  #end(work: Work): void {
    this.#underWay.delete(work);
    for (const object of work.objects) {
      object.works -= 1;
      if (!object.closed) this.#relax(object);
    }
  }
}
