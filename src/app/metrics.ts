import type { HealthView, InfoView, StatsView } from './admin-views.ts';
import { MetricsPage, type Value } from './metrics-page.ts';

/** What a scrape is made of. */
export interface MetricsFacts {
  readonly info: InfoView;
  readonly health: HealthView;
  readonly stats: StatsView;
}

/**
 * Everything that is measured, in the text format of Prometheus. The page is made anew each time: what
 * counts is counted where it happens, and what is gone is on no page.
 * @param pause  called between parts of a long page
 */
export async function metricsText(
  facts: MetricsFacts,
  pause: () => Promise<void>,
): Promise<{ type: string; text: string }> {
  const page = new MetricsPage();
  addNbd(page, facts.stats);
  addStore(page, facts.stats);
  addSnapshots(page, facts.stats);
  addProcess(page, facts);
  return page.text(pause);
}

/** Requests, by export and command, and the clients that send them. */
function addNbd(page: MetricsPage, { nbd, connections }: StatsView): void {
  const each = nbd.exports.flatMap(({ exportName, commands }) =>
    commands.map((stats) => ({ labels: { export: exportName, command: stats.command }, stats })),
  );
  page.histogram(
    'sheepdog_nbd_request_duration_seconds',
    'Time from the begin of a request until its reply was given to the socket',
    ['export', 'command'],
    each.map(({ labels, stats }) => [labels, stats.durations]),
  );
  page.counter(
    'sheepdog_nbd_request_bytes_total',
    'Bytes that requests were about: data of READ and WRITE, the range of the others',
    ['export', 'command'],
    each.map(({ labels, stats }) => [labels, stats.bytes]),
  );
  page.counter(
    'sheepdog_nbd_request_errors_total',
    'Requests that were answered with an error, by its number in the NBD protocol',
    ['export', 'command', 'errno'],
    each.flatMap(({ labels, stats }) =>
      stats.errors.map(({ errno, count }): Value => [{ ...labels, errno: `${errno}` }, count]),
    ),
  );
  const by = (value: (one: (typeof connections)[number]) => number) =>
    [...Map.groupBy(connections, (one) => one.exportName)].map(
      ([name, some]): Value => [{ export: name }, some.reduce((sum, one) => sum + value(one), 0)],
    );
  page.gauge(
    'sheepdog_nbd_clients',
    'Connections attached to an export',
    ['export'],
    by(() => 1),
  );
  page.gauge(
    'sheepdog_nbd_requests_in_flight',
    'Requests that wait for the disk',
    ['export'],
    by((one) => one.inFlight),
  );
  page.gauge(
    'sheepdog_nbd_untaken_reply_bytes',
    'Replies that their clients have not taken yet',
    ['export'],
    by((one) => one.untakenBytes),
  );
  page.gauge(
    'sheepdog_nbd_handshakes',
    'Connections that have not chosen an export yet',
    nbd.handshakes,
  );
  page.counter('sheepdog_nbd_connections_total', 'Connections that were accepted', nbd.accepted);
  page.counter(
    'sheepdog_nbd_connections_refused_total',
    'Connections that were closed at once because there was no place for them',
    nbd.refused,
  );
  page.counter(
    'sheepdog_nbd_handshakes_evicted_total',
    'Connections that lost their place to a newer one before they had chosen an export',
    nbd.evicted,
  );
  page.counter(
    'sheepdog_nbd_accept_failures_total',
    'Times the system could not accept a connection',
    nbd.acceptFailures,
  );
}

/** The store and its disk. */
function addStore(page: MetricsPage, { farm, space, diskSyncs }: StatsView): void {
  page.gauge('sheepdog_store_size_bytes', 'Size of the file system', space.totalBytes);
  page.gauge('sheepdog_store_free_bytes', 'Free space of the file system', space.freeBytes);
  page.gauge(
    'sheepdog_store_reserved_bytes',
    'Free space that writes to new space may not take',
    space.reservedBytes,
  );
  page.gauge(
    'sheepdog_store_unsynced_bytes',
    'Written bytes that are not yet on the medium',
    farm.unsyncedBytes,
  );
  page.gauge(
    'sheepdog_store_waiting_changes',
    'Writes and the like that wait until more is on the medium',
    farm.waitingChanges,
  );
  page.gauge('sheepdog_store_journal_bytes', 'Space of the journal', farm.journalBytes);
  page.gauge('sheepdog_store_open_objects', 'Objects whose file is open', farm.openObjects);
  page.counter(
    'sheepdog_store_object_opens_total',
    'Objects that were opened or made',
    farm.objectOpens,
  );
  page.gauge(
    'sheepdog_store_listed_objects',
    'Objects on the activity log: they may be changing',
    farm.listedObjects,
  );
  page.histogram(
    'sheepdog_store_sync_duration_seconds',
    'Time to make a file of the store stable, the journal among them',
    [],
    [[{}, diskSyncs]],
  );
}

/** Operations on snapshots of the cluster. */
function addSnapshots(
  page: MetricsPage,
  { clusterSnapshots: { running, counts } }: StatsView,
): void {
  const name = (what: string) => `sheepdog_cluster_snapshot_${what}`;
  page.counter(
    name('operations_total'),
    'Operations on snapshots of the cluster that are over, by how they ended',
    ['operation', 'result'],
    counts.flatMap(({ operation, results }) =>
      Object.entries(results).map(([result, count]): Value => [{ operation, result }, count]),
    ),
  );
  page.counter(
    name('seconds_total'),
    'Time that they took',
    ['operation'],
    counts.map(({ operation, tookMs }): Value => [{ operation }, tookMs / 1000]),
  );
  page.counter(
    name('bytes_total'),
    'Bytes that they were about',
    ['operation'],
    counts.map(({ operation, bytes }): Value => [{ operation }, bytes]),
  );
  page.gauge(
    name('running'),
    'Operations that run now',
    ['operation'],
    [...Map.groupBy(running, ({ operation }) => operation)].map(
      ([operation, some]): Value => [{ operation }, some.length],
    ),
  );
  page.gauge(
    name('progress_ratio'),
    'How far the one that changes something is, from 0 to 1',
    ['operation'],
    running
      .filter(({ operation }) => operation !== 'check')
      .map(({ operation, doneBytes, totalBytes = 0 }): Value => {
        return [{ operation }, totalBytes === 0 ? 0 : Math.min(1, doneBytes / totalBytes)];
      }),
  );
}

/** The daemon itself. */
function addProcess(page: MetricsPage, { info, health, stats }: MetricsFacts): void {
  const { node } = info;
  const build = { version: node.version, node_id: node.nodeId };
  page.gauge(
    'sheepdog_build_info',
    'Always 1; the labels say what runs',
    ['version', 'node_id'],
    [[build, 1]],
  );
  page.gauge(
    'sheepdog_health_problems',
    'What is wrong, by code: collie cluster health says it in words',
    ['code', 'level'],
    health.problems.map(({ code, level }): Value => [{ code, level }, 1]),
  );
  page.counter(
    'sheepdog_events_total',
    'Events of the log from level info on',
    ['event', 'level'],
    stats.events.map(({ event, level, count }): Value => [{ event, level }, count]),
  );
  page.gauge(
    'sheepdog_deletions_pending',
    'Deleted VDIs and snapshots whose space is not free yet',
    health.deleting,
  );
  page.histogram(
    'sheepdog_event_loop_delay_seconds',
    'How late timers came, looked at every 10 ms',
    [],
    [[{}, stats.process.loopDelays]],
  );
  page.counter(
    'process_cpu_seconds_total',
    'Processor time, of user and system',
    stats.process.cpuMs / 1000,
  );
  page.gauge(
    'process_resident_memory_bytes',
    'Memory that is resident',
    stats.process.residentBytes,
  );
  page.gauge('process_heap_bytes', 'Memory of the JavaScript heap in use', stats.process.heapBytes);
  page.gauge(
    'process_start_time_seconds',
    'When the process started, in seconds since 1970',
    node.startedMs / 1000,
  );
}
