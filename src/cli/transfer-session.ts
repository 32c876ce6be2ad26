import { setTimeout as sleep } from 'node:timers/promises';
import type { InfoView, VdiInfoView, VdiListView, VdiView } from '../app/admin-views.ts';
import { checkStemsFrom } from '../app/transfer/ancestry.ts';
import { changesContext } from '../app/transfer/changes.ts';
import { nbdAddresses, openExport } from '../app/transfer/open-export.ts';
import type { Export } from '../app/transfer/spread.ts';
import { describeError, isFault, SheepError } from '../base/errors.ts';
import type { Tls } from '../contracts/tls.ts';
import { openNodeNet } from '../host/node-net.ts';
import type { Collie } from './collie-command.ts';
import { pathOf, type VdiRef, vdiRef } from './vdi-names.ts';

/** Options that every transfer has. */
export interface TransferOptions {
  /** Of `collie` itself: where the sheep is asked. */
  readonly address?: string;
  /** Where it serves NBD, if that is not where it says. */
  readonly nbd?: string;
  /** Also of `collie` itself: with what NBD is spoken inside TLS. */
  readonly tlsCerts?: string;
  readonly tlsPsk?: string;
  readonly tlsUser?: string;
  readonly tlsHostname?: string;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Between two questions whether a connection that we have closed is over for the sheep too. */
const RELEASE_STEP_MS = 50;
const RELEASE_MAX_MS = 10_000;
/** A client that is there for so long is no earlier command of ours. */
const IN_USE_MS = 1000;

/** What a transfer does with a sheep besides moving bytes. */
export class TransferSession {
  readonly call: Collie['call'];
  readonly signal: AbortSignal;
  readonly #options: TransferOptions;
  #sheep: Promise<InfoView> | undefined;
  #addresses: readonly string[] | undefined;
  #tls: Tls | undefined;

  private constructor(collie: Collie, options: TransferOptions, signal: AbortSignal) {
    this.call = collie.call;
    this.#options = options;
    this.signal = signal;
  }

  /**
   * Runs `work`. The first signal that asks the process to end makes it clean up and fail; a second
   * one ends the process.
   */
  static async run<T>(
    collie: Collie,
    options: TransferOptions,
    work: (session: TransferSession) => Promise<T>,
  ): Promise<T> {
    const stopped = new AbortController();
    const stop = (signal: string) =>
      stopped.abort(new SheepError('ERR_SHUTDOWN', `stopped by ${signal}`, { signal }));
    for (const signal of SIGNALS) process.once(signal, stop);
    try {
      return await work(new TransferSession(collie, options, stopped.signal));
    } catch (error) {
      // A source that was ended by the stop says only that it ended too early.
      throw stopped.signal.aborted && !(error instanceof SheepError)
        ? stopped.signal.reason
        : error;
    } finally {
      for (const signal of SIGNALS) process.off(signal, stop);
    }
  }

  /** Who is asked, and of which cluster it is. */
  sheep(): Promise<InfoView> {
    this.#sheep ??= this.call<InfoView>('GET', '/v1/info');
    return this.#sheep;
  }

  /** A VDI or snapshot. @throws SheepError `ERR_NOT_FOUND` */
  info(ref: VdiRef): Promise<VdiInfoView> {
    return this.call<VdiInfoView>('GET', pathOf(ref));
  }
  async find(ref: VdiRef): Promise<VdiInfoView | undefined> {
    try {
      return await this.info(ref);
    } catch (error) {
      if (isFault(error, 'ERR_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /**
   * Waits until the connections of an earlier command are over for the sheep too; who still uses it
   * then does so for good. @throws SheepError `ERR_BUSY` with what to do instead
   */
  async refuseInUse(vdi: VdiInfoView, instead: string): Promise<void> {
    const { name } = vdi;
    let { clients } = vdi;
    for (
      let waitedMs = 0;
      clients.length > 0 && waitedMs < IN_USE_MS;
      waitedMs += RELEASE_STEP_MS
    ) {
      await sleep(RELEASE_STEP_MS);
      clients = (await this.info({ name })).clients;
    }
    const client = clients[0]?.name;
    if (client === undefined) return;
    const message = `'${name}' is in use by ${client}; ${instead}`;
    throw new SheepError('ERR_BUSY', message, { name, client });
  }

  /** Opens an export where the sheep serves it. */
  async open(exportName: string, contexts: readonly string[] = []): Promise<Export> {
    this.#addresses ??= await this.#findAddresses();
    this.#tls ??= await clientTls(this.#options);
    const net = await openNodeNet();
    const call = { tls: this.#tls, signal: this.signal };
    try {
      return await openExport(net, this.#addresses, exportName, contexts, call);
    } catch (error) {
      if (error instanceof SheepError && error.facts['reply'] === 'ERR_TLS_REQD') {
        throw withAftermath(error, 'give --tls-certs DIR or --tls-psk FILE');
      }
      if (!isFault(error, 'ERR_NOT_FOUND')) throw error;
      const vdi = await this.find(vdiRef(exportName));
      throw vdi === undefined ? error : notLetIn(vdi);
    }
  }

  /**
   * For what is done with an export: aborted by a stop, and when the connection is lost, because a
   * transfer that waits for its other side would not notice.
   */
  callFor({ lost }: Export): { readonly signal: AbortSignal } {
    return { signal: AbortSignal.any([this.signal, lost]) };
  }

  /** Opens `later` with what changed in it since `earlier`. @throws SheepError `ERR_BAD_INPUT` */
  async openWithChanges(later: VdiInfoView, earlier: VdiInfoView): Promise<Export> {
    checkStemsFrom(await this.everyRecord(), later, earlier);
    return this.open(later.export, [changesContext(earlier.tag)]);
  }

  /** Every VDI and snapshot, also those that are deleted and of which something is left. */
  async everyRecord(): Promise<VdiView[]> {
    const { vdis, snapshots, deleting, kept } = await this.call<VdiListView>('GET', '/v1/vdis');
    return [...vdis, ...snapshots, ...deleting, ...kept];
  }

  /**
   * Asks for what is refused while a VDI is in use, when it was used last by us: the sheep may hear
   * a little later than we that the connection is over.
   */
  async whenReleased<T>(ask: () => Promise<T>): Promise<T> {
    for (let waitedMs = 0; ; waitedMs += RELEASE_STEP_MS) {
      try {
        return await ask();
      } catch (error) {
        if (!isFault(error, 'ERR_BUSY') || waitedMs >= RELEASE_MAX_MS) throw error;
        await sleep(RELEASE_STEP_MS);
      }
    }
  }

  async #findAddresses(): Promise<readonly string[]> {
    const { nbd, address } = this.#options;
    if (nbd !== undefined) return [nbd];
    const { node } = await this.sheep();
    return nbdAddresses(node.nbd, address);
  }
}

/** What NBD keeps from us and the admin API knows. */
function notLetIn({ name, export: exportName, allow }: VdiInfoView): SheepError {
  const rules = allow.join(',');
  return new SheepError(
    'ERR_FORBIDDEN',
    `'${exportName}' does not let this collie in, its rules are allow=${rules}; go through an ` +
      `address that they allow (--nbd), or change them: collie vdi set ${name} allow=${rules},unix`,
    { exportName, rules },
  );
}

/** Undefined if nothing was given for it. @throws SheepError `ERR_BAD_INPUT` */
async function clientTls(options: TransferOptions): Promise<Tls | undefined> {
  const { tlsCerts: certs, tlsPsk: psk, tlsUser: user, tlsHostname: hostname } = options;
  if (certs === undefined && psk === undefined) return undefined;
  const files = { ...(certs !== undefined && { certs }), ...(psk !== undefined && { psk }) };
  const { openClientTls } = await import('../host/node-tls-client.ts');
  return openClientTls(files, {
    ...(user !== undefined && { user }),
    ...(hostname !== undefined && { hostname }),
  });
}

/** The same failure, with what it means for whoever asked. */
export function withAftermath(error: unknown, aftermath: string): SheepError {
  const message = `${describeError(error)}; ${aftermath}`;
  if (!(error instanceof SheepError)) return new SheepError('ERR_IO', message);
  return new SheepError(error.code, message, error.facts);
}
