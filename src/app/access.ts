import { describeError, type Facts, isFault } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BlockDevice, DeviceInfo } from '../contracts/block-device.ts';
import type { Client, ExportEntry, Exports } from '../contracts/exports.ts';
import type { Clock } from '../contracts/seams.ts';
import { proofText } from '../nbd/connection-info.ts';
import { NBD_LIMITS } from '../nbd/limits.ts';
import { QuietLog } from '../nbd/quiet-log.ts';
import { type Circumstances, canonicalRules, ruleFor } from '../vdi/access-rules.ts';
import type { VdiDirectory } from '../vdi/directory.ts';
import type { VolumeRecord } from '../vdi/record.ts';
import type { Use } from './attachments.ts';
import type { Volumes } from './volumes.ts';

/**
 * So long after it was asked a refusal is answered: longer than the look-up takes, so that the clock
 * does not tell why.
 */
const REFUSAL_MS = 10;
/** Held against a client where there is nothing. */
const NOT_THERE: readonly string[] = ['unix'];

export interface AccessParts {
  readonly volumes: Pick<Volumes, 'list' | 'info' | 'open' | 'uses' | 'alone'>;
  readonly directory: VdiDirectory;
  readonly clock: Clock;
  readonly log: Log;
  readonly circumstances: Circumstances;
}

/**
 * The exports as each client may know of them. What its rules do not let a client have does not exist
 * for him: the answer is the same, what is looked up is the same, and so is when it comes. The log
 * tells the operator.
 */
export class Access implements Exports {
  readonly #parts: AccessParts;
  /** Whoever reaches NBD can be refused as often as he likes. */
  readonly #quietLog: QuietLog;
  /** What each connection was refused: one line for each, however often it asks. */
  readonly #told = new WeakMap<Client, Set<string>>();

  constructor(parts: AccessParts) {
    this.#parts = parts;
    const { strangerLines, strangerLinesMs } = NBD_LIMITS;
    this.#quietLog = new QuietLog(parts.log, parts.clock, strangerLines, strangerLinesMs);
  }

  async list(client: Client): Promise<readonly ExportEntry[]> {
    const entries = await this.#parts.volumes.list();
    return entries.filter(({ allow }) => this.#letsIn(client, allow));
  }

  async info(name: string, client: Client): Promise<DeviceInfo | undefined> {
    return (await this.#admits(name, client)) ? this.#parts.volumes.info(name) : undefined;
  }

  async open(name: string, client: Client): Promise<BlockDevice | undefined> {
    if (!(await this.#admits(name, client))) return undefined;
    const device = await this.#parts.volumes.open(name, client);
    if (device === undefined) return undefined;
    // Rules that changed since then have not met this client, whose use had not begun yet.
    let admitted = false;
    try {
      admitted = await this.#admits(name, client);
    } finally {
      if (!admitted) await device[Symbol.asyncDispose]();
    }
    return admitted ? device : undefined;
  }

  /**
   * Gives a VDI other rules, which hold for its snapshots too. Clients that they do not let in any
   * more are disconnected.
   * @param dryRun  only tells whom that would be
   * @returns the record, and who was disconnected: nothing of them is under way any more
   * @throws SheepError as `VdiDirectory.allow`
   */
  async change(
    name: string,
    rules: readonly string[],
    { dryRun }: { readonly dryRun: boolean },
  ): Promise<{ record: VolumeRecord; shutOut: readonly Use[] }> {
    const { directory, volumes, log } = this.#parts;
    const allow = canonicalRules(rules);
    const record = dryRun
      ? { ...(await directory.info(name)), allow }
      : await volumes.alone(name, () => directory.allow(name, allow));
    const shutOut = volumes
      .uses(name)
      .filter(({ client }) => client.disconnect !== undefined && !this.#letsIn(client, allow));
    if (dryRun) return { record, shutOut };
    log.event('info', 'vdi.access-changed', { vdi: name, allow: allow.join(',') });
    for (const { client, exportName: vdi } of shutOut) {
      log.event('warn', 'nbd.shut-out', { ...whoIs(client), vdi });
      client.disconnect?.();
    }
    await Promise.all(shutOut.map(({ released }) => released));
    return { record, shutOut };
  }

  /** Answers a refusal late, and always by the same steps. */
  async #admits(name: string, client: Client): Promise<boolean> {
    const { clock } = this.#parts;
    const answerMs = clock.monotonicMs() + REFUSAL_MS;
    const rules = await this.#rulesFor(name, client);
    const admitted = this.#letsIn(client, rules ?? NOT_THERE) && rules !== undefined;
    if (admitted) return true;
    if (rules !== undefined) this.#tell(client, name, { allow: rules.join(',') });
    // A timer counts whole milliseconds from a time before now: alone it would come the earlier, the
    // longer the look-up took.
    const leftMs = () => answerMs - clock.monotonicMs();
    for (let ms = leftMs(); ms > 0; ms = leftMs()) await clock.sleep(ms);
    return false;
  }

  /** What cannot be read lets nobody in, and no stranger learns that it is there. */
  async #rulesFor(name: string, client: Client): Promise<readonly string[] | undefined> {
    try {
      return await this.#parts.directory.rulesFor(name);
    } catch (error) {
      if (isFault(error, 'ERR_BAD_INPUT')) return undefined;
      if (!isFault(error, 'ERR_CORRUPT') && !isFault(error, 'ERR_VERSION')) throw error;
      this.#tell(client, name, { cause: describeError(error) });
      return undefined;
    }
  }

  #letsIn(client: Client, rules: readonly string[]): boolean {
    return ruleFor(client, rules, this.#parts.circumstances) !== undefined;
  }

  #tell(client: Client, vdi: string, why: { allow: string } | { cause: string }): void {
    const told = this.#told.get(client) ?? new Set();
    this.#told.set(client, told);
    if (told.has(vdi)) return;
    told.add(vdi);
    this.#quietLog.event('warn', 'nbd.export-forbidden', { ...whoIs(client), vdi, ...why });
  }
}

/** For the log: where a client comes from, and what it has proven. */
function whoIs({ name, proof }: Client): Facts {
  return { client: name, ...(proof !== undefined && { proof: proofText(proof) }) };
}
