import { isFault, SheepError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { checkLocalCoordinator, openLocalCoordinator } from '../cluster/local-coordinator.ts';
import { insecureAddresses, refuseInsecure, type SheepConfig } from '../config/load.ts';
import type { Exports } from '../contracts/exports.ts';
import type { Address } from '../contracts/net.ts';
import type { ServerTls, TlsState } from '../contracts/tls.ts';
import { storeIsEmpty } from '../farm/empty.ts';
import type { Farm } from '../farm/farm.ts';
import type { Identity } from '../farm/identity.ts';
import { limitsFor } from '../farm/limits.ts';
import { openFarm } from '../farm/open-farm.ts';
import { type NbdServer, serveNbd } from '../nbd/server.ts';
import { VdiDirectory } from '../vdi/directory.ts';
import { checkObjectCount, OBJECT_BYTES_DEFAULT, parseNameAndSize } from '../vdi/names.ts';
import type { VolumeRecord } from '../vdi/record.ts';
import { Access } from './access.ts';
import { openToken, serveAdmin } from './admin.ts';
import type { AdminSubject } from './admin-subject.ts';
import { Checks } from './checks.ts';
import { ClusterSnapshots } from './cluster-snapshots/cluster-snapshots.ts';
import type { Place } from './cluster-snapshots/open.ts';
import { Deletions } from './deletions.ts';
import { Events } from './events.ts';
import { healthOf } from './health.ts';
import type { Host } from './host.ts';
import { shareFiles } from './open-files.ts';
import { writeSmallFile } from './small-file.ts';
import { expiresSoon, openTls, reloadTls } from './tls.ts';
import { Volumes } from './volumes.ts';

/** A running daemon. Disposing stops it in order: clients drained, all flushed, all released. */
export interface Sheep extends AsyncDisposable {
  /** Where NBD and the admin API are served, with the real ports. */
  readonly nbd: readonly Address[];
  readonly admin: readonly Address[];
  /** What is said here is told to who listens to the events, besides the log of the host. */
  readonly log: Log;
  /** Settles when somebody asked for a stop over the admin API. */
  readonly stopRequested: Promise<void>;
  /** Reads certificates and keys again. @throws SheepError as `reloadTls`, which logs it too */
  reload(): Promise<TlsState>;
}

/** What clients may need to finish when the daemon stops. */
const DRAIN_MS = 30_000;

/** @throws SheepError if anything of it cannot be opened; then nothing is left open */
export function startSheep(host: Host, config: SheepConfig): Promise<Sheep> {
  const events = new Events(host.log, host.clock);
  return openSheep({ ...host, log: events }, events, config);
}

/** The whole daemon, once, in order. Disposing it undoes each line from the last to the first. */
async function openSheep(host: Host, events: Events, config: SheepConfig): Promise<Sheep> {
  const { disk, clock, random, log } = host;
  const { directory: store, checksums } = config;
  const wanted = checkVdis(config);
  const tls = await openTls(host, config);
  await using owned = new AsyncDisposableStack();

  const files = shareFiles(host.filesMax);
  const limits = limitsFor(files.objects, host.memoryBytes);
  const coordinatorOf = async ({ clusterId }: Identity) => ({
    ...{ disk, directory: store, clusterId: uuidBytes(clusterId) },
    create: await storeIsEmpty(disk, store),
  });
  const opening = openFarm({
    ...{ directory: store, disk, clock, random, log, checksums, limits },
    inspect: async (identity) => checkLocalCoordinator(await coordinatorOf(identity)),
  });
  const farm = owned.use(await opening.catch((error) => refuseInUse(error, store)));
  const coordinator = owned.use(
    await openLocalCoordinator({ ...(await coordinatorOf(farm.identity)), log }),
  );
  const directory = new VdiDirectory(coordinator, clock);
  const deletions = owned.use(new Deletions(directory, farm, clock, log));
  await deletions.start();
  const replaced = (record: VolumeRecord) => deletions.begin(record);
  const volumes = owned.use(new Volumes(directory, farm, log, replaced, clock));
  for (const vdi of wanted) await createIfMissing(vdi, directory, volumes, host);
  const circumstances = { networkTrusted: config.insecureNetwork };
  const access = new Access({ volumes, directory, clock, log, circumstances });

  const checks = new Checks(volumes, clock, log);
  const nbdAddresses: Address[] = [];
  const vdis = { volumes, directory, objects: farm, deletions, checks };
  const clusterSnapshots = await openSnapshots({ host, config, farm, nbdAddresses }, vdis);

  const nbd = await openNbd(host, config, access, tls, files.connections);
  owned.defer(() => nbd.drain(DRAIN_MS));
  nbdAddresses.push(...nbd.addresses);
  // What a socket that was passed on is bound to is known only now.
  const served = { ...config, nbd: nbd.addresses };
  refuseInsecure(insecureAddresses(served), config.insecureNetwork);
  const stop = Promise.withResolvers<void>();
  const startedMs = clock.wallMs();
  const parts: Parts = {
    ...{ host, config, farm, directory, volumes, access, deletions, checks, clusterSnapshots },
    ...{ events, nbd, tls, startedMs },
  };
  const adminAddresses: Address[] = [];
  const subject = subjectOf(parts, adminAddresses, stop.resolve);
  const token = await openToken(host, store);
  const admin = owned.use(await serveAdmin(host, subject, token, config.admin, tls));
  adminAddresses.push(...admin.addresses);

  // Before the admin API, whose answers may wait for a deletion, a check or a snapshot.
  owned.defer(() => deletions[Symbol.asyncDispose]());
  owned.use(checks);
  owned.use(clusterSnapshots);
  for (const address of insecureAddresses(served)) {
    log.event('warn', 'sheep.insecure-network', { address });
  }
  await writeSmallFile(disk, `${store}/sheep.json`, readyText(parts, admin.addresses));
  owned.defer(() => disk.remove(`${store}/sheep.json`));
  clusterSnapshots.start();
  log.event('info', 'sheep.ready', { nbd: nbd.addresses.join(' '), store });

  owned.defer(() => {
    log.event('info', 'sheep.draining', { clients: nbd.connections().length });
  });
  const held = owned.move();
  return {
    nbd: nbd.addresses,
    admin: admin.addresses,
    log,
    stopRequested: stop.promise,
    reload: () => reloadTls(host, tls),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

async function openSnapshots(
  parts: Pick<Parts, 'host' | 'config' | 'farm'> & { readonly nbdAddresses: readonly Address[] },
  vdis: Pick<Place, 'volumes' | 'directory' | 'objects' | 'deletions' | 'checks'>,
): Promise<ClusterSnapshots> {
  const { host, config, farm, nbdAddresses } = parts;
  const { directory: store, format } = config;
  const { clusterId, nodeId } = farm.identity;
  const { clock, log, version } = host;
  const nodes = () => [{ nodeId, version, store, nbd: nbdAddresses }];
  const folder = `${store}/farm`;
  const snapshots = new ClusterSnapshots({ ...vdis, host, folder, clusterId, clock, log, nodes });
  if (format !== undefined) await snapshots.makeStore(format);
  return snapshots;
}

function openNbd(
  { net, clock, log, fatal }: Host,
  { nbd: addresses, nbdMode, nbdGroup, slowRequestMs, tlsRequire }: SheepConfig,
  exports: Exports,
  tls: ServerTls | undefined,
  connectionsMax: number,
): Promise<NbdServer> {
  const unix = {
    ...(nbdMode !== undefined && { unixMode: nbdMode }),
    ...(nbdGroup !== undefined && { unixGroup: nbdGroup }),
  };
  const limits = { connectionsMax, slowRequestMs };
  return serveNbd({
    ...{ net, clock, log, fatal, exports, addresses, unix, limits },
    ...(tls !== undefined && { tls: { side: tls, required: tlsRequire } }),
  });
}

interface Parts {
  readonly host: Host;
  readonly config: SheepConfig;
  readonly farm: Farm;
  readonly directory: VdiDirectory;
  readonly volumes: Volumes;
  readonly access: Access;
  readonly deletions: Deletions;
  readonly checks: Checks;
  readonly clusterSnapshots: ClusterSnapshots;
  readonly events: Events;
  readonly nbd: NbdServer;
  readonly tls: ServerTls | undefined;
  readonly startedMs: number;
}

function subjectOf(parts: Parts, admin: readonly Address[], requestStop: () => void): AdminSubject {
  const { host, config, farm, directory, volumes, deletions, checks, nbd, startedMs } = parts;
  const { access, clusterSnapshots, events, tls } = parts;
  const node = () => ({
    nodeId: farm.identity.nodeId,
    version: host.version,
    store: config.directory,
    nbd: nbd.addresses,
    admin,
    startedMs,
  });
  return {
    directory,
    volumes,
    access,
    deletions,
    checks,
    clusterSnapshots,
    events,
    clock: host.clock,
    requestStop,
    reload: () => reloadTls(host, tls),
    forgetGone: () => forgetGone(nbd, volumes),
    info: async () => ({
      cluster: { driver: 'local', clusterId: farm.identity.clusterId, nodes: 1 },
      node: node(),
      space: await farm.space(),
    }),
    health: async () => {
      const insecure = insecureAddresses({ ...config, nbd: nbd.addresses });
      const expiresInDays = expiresSoon(tls, host.clock.wallMs());
      const [space, [pending]] = await Promise.all([
        farm.space(),
        Promise.allSettled([deletions.pending()]),
      ]);
      const directoryError = pending.status === 'rejected' ? pending.reason : undefined;
      const { namingError } = clusterSnapshots;
      const errors = { directoryError, namingError, storeError: farm.failure };
      return {
        ...healthOf({ insecure, expiresInDays, checksums: config.checksums, space, ...errors }),
        deleting: pending.status === 'rejected' ? 0 : pending.value.length,
      };
    },
    stats: async () => ({
      upMs: host.clock.wallMs() - startedMs,
      process: host.processStats(),
      farm: farm.stats(),
      space: await farm.space(),
      diskSyncs: host.diskSyncs(),
      connections: nbd.connections(),
      nbd: nbd.stats(),
      events: events.counts(),
      clusterSnapshots: clusterSnapshots.stats(),
    }),
  };
}

/** Counts of what was deleted are no longer shown: there may be any number of it in the end. */
async function forgetGone(nbd: NbdServer, volumes: Volumes): Promise<void> {
  const names = nbd.stats().exports.map(({ exportName }) => exportName);
  const found = await Promise.all(names.map((name) => volumes.info(name)));
  const present = new Set(names.filter((_, index) => found[index] !== undefined));
  nbd.retain((name) => present.has(name));
}

/** What a store's lock means to a person. */
function refuseInUse(error: unknown, store: string): never {
  if (!isFault(error, 'ERR_BUSY')) throw error;
  throw new SheepError(
    'ERR_BUSY',
    `another sheep has the store ${store}; stop that one, or give another folder`,
    { store },
    error,
  );
}

/** The VDIs that are made if they do not exist. @throws SheepError `ERR_BAD_INPUT` */
export function checkVdis({ vdis }: SheepConfig): readonly Wanted[] {
  return vdis.map(parseWanted);
}
type Wanted = ReturnType<typeof parseWanted>;

function parseWanted(text: string) {
  const vdi = { ...parseNameAndSize(text), objectBytes: OBJECT_BYTES_DEFAULT };
  checkObjectCount(vdi.sizeBytes, vdi.objectBytes);
  return vdi;
}

async function createIfMissing(
  wanted: Wanted,
  directory: VdiDirectory,
  volumes: Volumes,
  { log }: Host,
): Promise<void> {
  const { name, sizeBytes } = wanted;
  const found = await directory.find(name);
  if (found === undefined) {
    await volumes.create(wanted);
    log.event('info', 'vdi.created', { vdi: name, sizeBytes });
  } else if (found.sizeBytes !== sizeBytes) {
    const facts = { vdi: name, sizeBytes: found.sizeBytes, wantedBytes: sizeBytes };
    log.event('warn', 'vdi.size-differs', facts);
  }
}

/** `sheep.json`: where a running daemon can be found; it is gone after a clean stop. */
function readyText({ host, farm, nbd, startedMs }: Parts, admin: readonly Address[]): string {
  const { clusterId, nodeId } = farm.identity;
  const facts = { version: host.version, clusterId, nodeId, nbd: nbd.addresses, admin, startedMs };
  return `${JSON.stringify(facts, null, 2)}\n`;
}

function uuidBytes(uuid: string): Uint8Array {
  return Uint8Array.from(uuid.replaceAll('-', '').match(/../g) ?? [], (pair) =>
    Number.parseInt(pair, 16),
  );
}
