import fc from 'fast-check';
import { OPT } from '../../src/nbd/constants.ts';
import { infoData, metaData, optionBytes } from '../nbd/client.ts';
import { handshakeWires, honestRequests, mutated, strayRequests } from '../nbd/wires.ts';
import { type Case, ENDS, type Surface } from './cases.ts';
import { halfHandshakes } from './hellos.ts';

/** What clients of NBD do their worst to. */
export const FUZZED = { name: 'fuzzed', sizeBytes: 64 * 1024 * 1024 } as const;
/** What administrators do: never more than these, and small, so that no run fills a disk. */
const VDIS = ['f1', 'f2', 'f3'];
const TAGS = ['t0', 't1', '1', 'none'];

/** With these a session begins, but not inside of TLS: there they were sent before. */
const FLAGS_BYTES = 4;

const contexts = ['qemu:allocation-depth', 'qemu:dirty-bitmap:t0'];
const names = { known: FUZZED.name, unknown: 'nobody', contexts };

/** A handshake that succeeds, and requests in the form that it agreed on. */
const attached = fc
  .record({ extended: fc.boolean(), meta: fc.boolean(), name: fc.constantFrom(FUZZED.name, 'f1') })
  .chain(({ extended, meta, name }) => {
    const form = extended ? OPT.EXTENDED_HEADERS : OPT.STRUCTURED_REPLY;
    const select = optionBytes(
      OPT.SET_META_CONTEXT,
      metaData(name, 'base:allocation', ...contexts),
    );
    const hello = [Uint8Array.of(0, 0, 0, 3), optionBytes(form), ...(meta ? [select] : [])];
    const go = optionBytes(OPT.GO, infoData(name, 3));
    const requests = fc.array(honestRequests(FUZZED.sizeBytes, extended), { maxLength: 40 });
    return requests.map((all) => Buffer.concat([...hello, go, ...all]));
  });

const sessions = fc.oneof(
  { weight: 4, arbitrary: attached },
  { weight: 8, arbitrary: mutated(attached) },
  { weight: 4, arbitrary: mutated(handshakeWires(names)) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(attached, fc.array(strayRequests(), { maxLength: 6 }))
      .map(([first, more]) => Buffer.concat([first, ...more])),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }) },
);

const vdi = fc.constantFrom(...VDIS);
/** What snapshots are taken of. */
const source = fc.constantFrom(FUZZED.name, ...VDIS);
const tag = fc.constantFrom(...TAGS);
const size = fc.constantFrom<unknown>('8M', '64M', 4096, 0, -1, '9P', 'x', null);
const json = fc.jsonValue({ maxDepth: 3 });
const post = (path: string, body: unknown) => ['POST', path, JSON.stringify(body)] as const;

/** Requests of the admin API that mean something, and some that do not. */
const adminRequests: fc.Arbitrary<readonly [string, string, string]> = fc.oneof(
  fc
    .constantFrom('info', 'health', 'stats', 'vdis', 'deletions', 'events', 'nothing', '../v1/info')
    .map((path) => ['GET', `/v1/${path}`, ''] as const),
  fc
    .constantFrom('/metrics', '/healthz', '/', '//', '/%', '*')
    .map((path) => ['GET', path, ''] as const),
  fc
    .tuple(vdi, size, size)
    .map(([name, bytes, object]) =>
      post('/v1/vdis', { name, size: bytes, ...(object !== 'x' && { objectSize: object }) }),
    ),
  vdi.map((name) => ['GET', `/v1/vdis/${name}`, ''] as const),
  fc
    .tuple(vdi, fc.constantFrom('', '?dryRun=true', '?dryRun=1'))
    .map(([name, query]) => ['DELETE', `/v1/vdis/${name}${query}`, ''] as const),
  fc.tuple(vdi, size).map(([name, bytes]) => post(`/v1/vdis/${name}/resize`, { size: bytes })),
  fc
    .tuple(vdi, fc.array(fc.oneof(fc.constantFrom('unix', 'cidr:0.0.0.0/0', 'psk:x'), fc.string())))
    .map(([name, allow]) => ['PATCH', `/v1/vdis/${name}`, JSON.stringify({ allow })] as const),
  fc.tuple(source, tag).map(([name, one]) => post(`/v1/vdis/${name}/snapshots`, { tag: one })),
  fc
    .tuple(source, tag, fc.constantFrom('clones', 'rollback', 'check'), vdi)
    .map(([name, one, what, other]) =>
      post(`/v1/vdis/${name}/snapshots/${one}/${what}`, what === 'clones' ? { name: other } : {}),
    ),
  fc
    .tuple(source, tag)
    .map(([name, one]) => ['DELETE', `/v1/vdis/${name}/snapshots/${one}`, ''] as const),
  vdi.map((name) => post(`/v1/vdis/${name}/check`, {})),
  fc
    .constantFrom('snapshots', 'snapshots/t0', 'snapshots/none')
    .map((path) => ['GET', `/v1/cluster/${path}`, ''] as const),
  tag.map((one) => post('/v1/cluster/snapshots', { tag: one })),
  fc
    .tuple(tag, source, vdi, fc.boolean(), fc.boolean())
    .map(([one, name, as, replace, dryRun]) =>
      post(`/v1/cluster/snapshots/${one}/load`, { vdi: name, as, replace, dryRun }),
    ),
  tag.map((one) => post(`/v1/cluster/snapshots/${one}/load`, {})),
  fc
    .tuple(tag, fc.constantFrom('', '?dryRun=true', '?dryRun=1'))
    .map(([one, query]) => ['DELETE', `/v1/cluster/snapshots/${one}${query}`, ''] as const),
  fc.boolean().map((dryRun) => post('/v1/cluster/gc', { dryRun })),
  fc
    .constantFrom(100, 1, 0, 'x')
    .map((samplePercent) => post('/v1/cluster/check', { samplePercent })),
  fc
    .tuple(fc.constantFrom('GET', 'POST', 'PATCH', 'DELETE', 'PUT', 'BREW'), fc.webPath(), json)
    .map(([method, path, body]) => [method, `/v1${path}`, JSON.stringify(body)] as const),
);

const headers = fc.constantFrom(
  '',
  'Connection: close\r\n',
  'Origin: http://example.org\r\n',
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
    'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n',
  'Expect: 100-continue\r\n',
  'Transfer-Encoding: chunked\r\n',
);

/** @param token  of the admin API, undefined where none is shown */
function http(token: string | undefined): fc.Arbitrary<Uint8Array> {
  const proof = token === undefined ? '' : `Authorization: Bearer ${token}\r\n`;
  const one = fc
    .tuple(adminRequests, headers)
    .map(([[method, path, body], header]) =>
      Buffer.from(
        `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${proof}${header}` +
          `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      ),
    );
  const several = fc.array(one, { minLength: 1, maxLength: 4 }).map((all) => Buffer.concat(all));
  return fc.oneof(several, mutated(several), fc.uint8Array({ maxLength: 200 }));
}

/** Settings as people write them, right and wrong. */
const settings = fc
  .dictionary(
    fc.constantFrom(
      'nbd',
      'admin',
      'directory',
      'vdis',
      'nbdMode',
      'logLevel',
      'tlsCerts',
      'checksums',
      'x',
    ),
    fc.oneof(
      json,
      fc.constantFrom(
        '127.0.0.1:0',
        'unix:/x',
        '0.0.0.0:1',
        'info',
        '600',
        '999',
        'a:8G',
        './d',
        'off',
      ),
      fc.array(fc.constantFrom('127.0.0.1:0', 'unix:/x', '[::]:9', 'a:8G', '', 'fd:3'), {
        maxLength: 3,
      }),
    ),
  )
  .map((value) => Buffer.from(JSON.stringify(value)));
const configs = fc.oneof(
  settings,
  mutated(settings),
  fc.string().map((text) => Buffer.from(text)),
);

function wires(at: Surface, token: string): fc.Arbitrary<Uint8Array> {
  switch (at) {
    case 'tcp':
    case 'unix':
      return sessions;
    case 'psk':
    case 'certificate':
      return sessions.map((whole) => whole.subarray(FLAGS_BYTES));
    case 'token':
    case 'https token':
      return http(token);
    case 'no token':
    case 'https no token':
    case 'admin':
      return http(undefined);
    case 'nbd tls':
    case 'https tls':
      return halfHandshakes;
    case 'settings':
    case 'config':
      return configs;
  }
}

/** Cases at one surface. */
export function cases(at: Surface, token: string): fc.Arbitrary<Case> {
  return fc
    .record({
      bytes: wires(at, token),
      cuts: fc.array(fc.nat(600), { maxLength: 3 }),
      end: fc.constantFrom(...ENDS),
      // Almost all of them are read: what is never read is asked for, to no end, by few.
      deaf: fc.nat(9).map((one) => one === 0),
    })
    .map(({ bytes, cuts, end, deaf }) => ({ at, parts: cutAt(bytes, cuts), end, deaf }));
}

function cutAt(whole: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [0, ...cuts.toSorted((a, b) => a - b), whole.length];
  return places
    .slice(1)
    .map((to, index) => whole.subarray(places[index], to))
    .filter((part) => part.length > 0);
}
