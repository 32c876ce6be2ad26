import { describe, expect, test } from 'vitest';
import { metricsText } from '../../src/app/metrics.ts';
import { Histogram } from '../../src/base/histogram.ts';
import { MiB } from '../../src/base/units.ts';
import { openNodeNet } from '../../src/host/node-net.ts';
import { CMD } from '../../src/nbd/constants.ts';
import { scratch } from '../cluster/scratch.ts';
import { TestClient } from '../nbd/client.ts';
import { pattern } from '../nbd/served.ts';
import { http } from './http.ts';
import { parseMetrics, samplesOf, theValue } from './prometheus.ts';
import { collie, startTestSheep } from './test-sheep.ts';

const { WRITE, FLUSH, TRIM } = CMD;

async function world(vdis = ['demo:64M']) {
  const owned = new AsyncDisposableStack();
  const { path } = owned.use(await scratch());
  const admin = [`unix:${path}/admin.sock`, '127.0.0.1:0'];
  const sheep = owned.use(await startTestSheep(path, { vdis, admin }));
  const net = await openNodeNet();
  return {
    ...{ sheep, path },
    client: async (name: string) => {
      const client = await TestClient.connect(net, sheep.nbd[0]!);
      owned.defer(() => client.stream.destroy());
      await client.go(name);
      return client;
    },
    scrape: async () => {
      const answer = await http(sheep.socket, 'GET', '/metrics');
      expect(answer.status).toBe(200);
      expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
      return parseMetrics(answer.text);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe('GET /metrics', () => {
  test('counts what clients did, by export and command', async () => {
    await using it = await world();
    const client = await it.client('demo');
    for (let count = 0; count < 5; count += 1) {
      await client.request({ type: WRITE, offset: count * 4096, payload: pattern(4096) });
    }
    await client.read(0, 4096);
    await client.request({ type: FLUSH });
    await client.request({ type: TRIM, offset: 2 ** 40, length: 1 });
    const metrics = await it.scrape();
    const value = (name: string, labels = {}) =>
      theValue(metrics, `sheepdog_nbd_${name}`, { export: 'demo', ...labels });
    expect(value('request_duration_seconds_count', { command: 'WRITE' })).toBe(5);
    expect(value('request_duration_seconds_count', { command: 'READ' })).toBe(1);
    expect(value('request_duration_seconds_count', { command: 'FLUSH' })).toBe(1);
    expect(value('request_bytes_total', { command: 'WRITE' })).toBe(5 * 4096);
    expect(value('request_errors_total', { command: 'TRIM', errno: '22' })).toBe(1);
    expect(value('clients')).toBe(1);
    expect(value('requests_in_flight')).toBe(0);
    expect(theValue(metrics, 'sheepdog_nbd_connections_total')).toBe(1);
    expect(theValue(metrics, 'sheepdog_store_unsynced_bytes')).toBeGreaterThanOrEqual(5 * 4096);
    expect(theValue(metrics, 'sheepdog_store_open_objects')).toBeGreaterThan(0);
    expect(theValue(metrics, 'sheepdog_store_object_opens_total')).toBeGreaterThan(0);
    expect(theValue(metrics, 'sheepdog_store_waiting_changes')).toBe(0);
    expect(theValue(metrics, 'sheepdog_store_sync_duration_seconds_count')).toBeGreaterThan(0);
    expect(theValue(metrics, 'sheepdog_events_total', { event: 'nbd.attached' })).toBe(1);
    expect(theValue(metrics, 'sheepdog_build_info', { version: '1.2.3' })).toBe(1);
  });

  test('shows no export that is gone, and goes on counting one whose clients are', async () => {
    await using it = await world(['one:64M', 'two:64M']);
    for (const name of ['one', 'two']) {
      const client = await it.client(name);
      await client.read(0, 10);
      client.ask({ type: CMD.DISC });
      await client.gone;
    }
    const exports = async () =>
      samplesOf(await it.scrape(), 'sheepdog_nbd_request_duration_seconds_count').map(
        ({ labels }) => labels['export'],
      );
    expect(await exports()).toEqual(['one', 'two']);
    expect(await collie(['-a', it.sheep.socket, 'vdi', 'delete', 'one'])).toMatchObject({
      status: 0,
    });
    expect(await exports()).toEqual(['two']);
  });

  test('any name an export can have is a label', async () => {
    const name = 'a"b\\c{d}=é羊,';
    await using it = await world([`${name}:64M`]);
    await (await it.client(name)).read(0, 1);
    const count = theValue(await it.scrape(), 'sheepdog_nbd_request_duration_seconds_count', {
      export: name,
    });
    expect(count).toBe(1);
  });

  test('has the same guard as the rest', async () => {
    await using it = await world();
    for (const path of ['/metrics', '/healthz']) {
      expect((await http(it.sheep.admin[1]!, 'GET', path)).status).toBe(401);
    }
  });

  test('buckets hold what the histogram holds', async () => {
    await using it = await world();
    const [info, health, stats] = await Promise.all(
      ['info', 'health', 'stats'].map(
        async (what) => (await http(it.sheep.socket, 'GET', `/v1/${what}`)).body,
      ),
    );
    const histogram = new Histogram();
    for (const durationMs of [0.016, 0.017, 1, 40_000]) histogram.add(durationMs);
    const facts = { info, health, stats: { ...stats, diskSyncs: histogram.snapshot() } };
    const { text } = await metricsText(facts as never, async () => undefined);
    const metrics = parseMetrics(text);
    const name = 'sheepdog_store_sync_duration_seconds';
    const upTo = (le: string) => theValue(metrics, `${name}_bucket`, { le });
    expect([upTo('0.000016'), upTo('0.000032'), upTo('0.000512'), upTo('0.001024')]).toEqual([
      1, 2, 2, 3,
    ]);
    expect([upTo('33.554432'), upTo('+Inf')]).toEqual([3, 4]);
    expect(theValue(metrics, `${name}_sum`)).toBeCloseTo(40.001033, 6);
  });
});

describe('a page of metrics', () => {
  test('of thousands of exports holds nobody up, and is one page', async () => {
    await using it = await world();
    const [info, health, stats] = await Promise.all(
      ['info', 'health', 'stats'].map(
        async (what) => (await http(it.sheep.socket, 'GET', `/v1/${what}`)).body,
      ),
    );
    const histogram = new Histogram();
    histogram.add(1, 7);
    const command = { command: 'READ', durations: histogram.snapshot(), bytes: 5, errors: [] };
    const exports = Array.from({ length: 1000 }, (_, index) => ({
      ...{ exportName: `vdi-${index}`, commands: [command] },
    }));
    const nbd = { ...(stats!['nbd'] as object), exports };
    let pauses = 0;
    const facts = { info, health, stats: { ...stats, nbd } };
    const { text } = await metricsText(facts as never, async () => {
      pauses += 1;
    });
    expect(pauses).toBeGreaterThan(50);
    const counts = samplesOf(parseMetrics(text), 'sheepdog_nbd_request_duration_seconds_count');
    expect(counts.map(({ labels }) => labels['export'])).toEqual(
      exports.map(({ exportName }) => exportName),
    );
    expect(new Set(counts.map(({ value }) => value))).toEqual(new Set([7]));
  });
});

describe('GET /healthz', () => {
  test('is 200 while all is served, also with a warning', async () => {
    await using directory = await scratch();
    await using sheep = await startTestSheep(directory.path, { checksums: 'off' });
    expect(await http(sheep.socket, 'GET', '/healthz')).toMatchObject({
      status: 200,
      body: { status: 'warning', problems: [{ code: 'checksums-off' }] },
    });
  });

  test('is 503 while something is not', async () => {
    await using directory = await scratch();
    await using sheep = await startTestSheep(directory.path, {}, (host) => ({
      ...host,
      disk: { ...host.disk, space: async () => ({ totalBytes: 1024 * MiB, freeBytes: MiB }) },
    }));
    expect(await http(sheep.socket, 'GET', '/healthz')).toMatchObject({
      status: 503,
      body: { status: 'error', problems: [{ code: 'space-full' }] },
    });
    const { text } = await http(sheep.socket, 'GET', '/metrics');
    const problem = { code: 'space-full', level: 'error' };
    expect(theValue(parseMetrics(text), 'sheepdog_health_problems', problem)).toBe(1);
  });
});
