import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { encodeDifferenceHeader } from '../../src/app/transfer/difference-stream.ts';
import { MiB } from '../../src/base/units.ts';
import { encodeHeader, encodeRecord, readLog } from '../../src/cluster/coordinator-log.ts';
import type { Disk } from '../../src/contracts/disk.ts';
import type { Random } from '../../src/contracts/seams.ts';
import { openIdentity, parseIdentity } from '../../src/farm/identity.ts';
import { encodeSegmentHeader } from '../../src/farm/journal-format.ts';
import { encodeHeader as encodeObjectHeader } from '../../src/farm/object-format.ts';
import { encodePackHeader } from '../../src/farm/snapshots/pack-format.ts';
import { encodeSnap } from '../../src/farm/snapshots/snap-contents.ts';
import { encodeSnapLine } from '../../src/farm/snapshots/snap-log-format.ts';
import { encodeStaleList } from '../../src/farm/snapshots/stale-list.ts';
import { encodeTrunk } from '../../src/farm/snapshots/trunk-format.ts';
import { SimDisk } from '../../src/sim/sim-disk.ts';
import { encodeInodeHeader } from '../../src/vdi/inode-format.ts';
import {
  decodeRecord,
  encodeRecord as encodeVolumeRecord,
  type VolumeRecord,
} from '../../src/vdi/record.ts';
import { contents } from '../farm/store.ts';
import { golden } from '../golden/golden.ts';

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (string: string) => new TextEncoder().encode(string);

/** 0, 1, 2, …: what is random in a store, held still. */
function counting(): Random {
  let next = 0;
  return {
    below: () => 0,
    bytes: (length) =>
      Uint8Array.from({ length }, () => {
        next += 1;
        return next - 1;
      }),
  };
}

async function storeJson(disk: Disk): Promise<Uint8Array> {
  await openIdentity(disk, '/store', counting());
  return contents(disk, '/store/store.json');
}

const record: VolumeRecord = {
  name: 'demo',
  vid: 42,
  family: 41,
  parent: 0,
  tag: '',
  shrunkFromBytes: 0,
  sizeBytes: 8 * 1024 * MiB,
  objectBytes: 4 * MiB,
  attachEpoch: 3,
  createdMs: 1_795_000_000_000,
  allow: ['unix', 'cidr:10.0.0.0/8', 'cert:web'],
  state: 'ready',
};

/** A base of one key; then a swap of two, one removed and one leased; then a swap alone. */
function coordinatorLog() {
  const base = [
    { revision: 7n, keys: [{ key: 'vdi/next-vid', value: bytes('43'), leased: false }] },
  ];
  const changes = [
    {
      revision: 8n,
      keys: [
        { key: 'vdi/names/old', leased: false },
        { key: 'nodes/1', value: bytes('here'), leased: true },
      ],
    },
    {
      revision: 9n,
      keys: [{ key: 'vdi/names/demo', value: bytes('0000002a'), leased: false }],
    },
  ];
  const baseRecord = encodeRecord(base);
  const clusterId = Uint8Array.from({ length: 16 }, (_, index) => index);
  const header = { clusterId, baseRevision: 7n, baseEnd: 64 + baseRecord.length };
  const parts = [encodeHeader(header), baseRecord, ...changes.map((each) => encodeRecord([each]))];
  return { log: Uint8Array.from(Buffer.concat(parts)), header, base, changes };
}

describe('each format is these bytes and no others', () => {
  test('of store.json', async () => {
    const made = await storeJson(new SimDisk({ directories: ['/store'] }));
    const stored = golden('store-v1', made);
    expect(text(made)).toBe(text(stored));
    expect(parseIdentity(text(stored), 'store.json')).toEqual({
      formatVersion: 1,
      clusterId: '00010203-0405-4607-8809-0a0b0c0d0e0f',
      nodeId: '10111213-1415-4617-9819-1a1b1c1d1e1f',
    });
  });

  test('of the coordinator’s log', () => {
    const { log, header, base, changes } = coordinatorLog();
    const stored = golden('coordinator-log-v1', log);
    expect(log).toEqual(stored);
    expect(readLog(stored, 'log')).toMatchObject({ header, base, changes, tail: 'clean' });
  });

  test('of the volume record', () => {
    const made = encodeVolumeRecord(record);
    const stored = golden('volume-record-v4', made);
    expect(text(made)).toBe(text(stored));
    expect(decodeRecord(stored, 'key')).toEqual(record);
  });

  test.for([1, 2, 3])('of the volume record in version %i, which is refused', (version) => {
    const stored = golden(`volume-record-v${version}`, new Uint8Array(0));
    expect(() => decodeRecord(stored, 'key')).toThrow(
      expect.objectContaining({ code: 'ERR_VERSION', facts: { version, supported: 4 } }),
    );
  });
});

describe('FORMATS.md', () => {
  const root = new URL('../../', import.meta.url);
  const page = readFileSync(new URL('FORMATS.md', root), 'utf8');
  /** The first table: format, version, where, code, golden files. */
  const rows = page
    .slice(0, page.indexOf('## How'))
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| format'))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const version = (format: string) => Number(rows.find((row) => row[1] === format)?.[2]);

  test('names every golden file, and no other', () => {
    const named = rows.flatMap((row) => [...(row[5] ?? '').matchAll(/`(.+?)`/g)].map((m) => m[1]));
    const files = readdirSync(new URL('test/golden/', root))
      .filter((name) => name.endsWith('.hex'))
      .map((name) => name.slice(0, -'.hex'.length));
    expect(named.toSorted()).toEqual(files.toSorted());
  });

  test('names code that is there', () => {
    const paths = [...page.matchAll(/`((?:src|test)\/[\w./-]+)`/g)].map((match) => match[1] ?? '');
    expect(paths.length).toBeGreaterThan(6);
    for (const path of paths) expect(() => readdirOrRead(new URL(path, root)), path).not.toThrow();
  });

  test('says the versions that are written', async () => {
    const name = { kind: 0, vid: 1, index: 0, slot: 0 } as const;
    const stamp = { epoch: 1, attachEpoch: 1 };
    const object = { name, stamp, objectBytes: 4096, life: 1n, pageSums: [0], originSums: [] };
    const segment = { storeId: 'x', segment: 1, record: 1, bootId: 'y' };
    const inode = { vid: 1, family: 1, sizeBytes: 4096, objectBytes: MiB };
    const store = await storeJson(new SimDisk({ directories: ['/store'] }));
    const sizes = { baseSizeBytes: 4096, sizeBytes: 4096 };
    const difference = { name: 'demo', baseTag: 'a', tag: '', ...sizes };
    const storeId = new Uint8Array(16);
    const snap = { log: 'user', epoch: 0, timeMs: 0, tag: '', nodes: [], disks: [] } as const;
    const line = { kind: 'snap', epoch: 0, timeMs: 0, name: new Uint8Array(32), tag: '' } as const;
    const view = (made: Uint8Array) => new DataView(made.buffer, made.byteOffset);
    expect({
      store: JSON.parse(text(store)).formatVersion,
      'object file': view(encodeObjectHeader(object)).getUint16(4),
      journal: view(encodeSegmentHeader(segment)).getUint32(4),
      inode: view(encodeInodeHeader(inode)).getUint32(4),
      'coordinator log': view(coordinatorLog().log).getUint32(8),
      'volume record': JSON.parse(text(encodeVolumeRecord(record))).version,
      'snapshot store': JSON.parse(text(golden('farm-v1', new Uint8Array(0)))).formatVersion,
      pack: view(encodePackHeader({ kind: 'data', storeId, createdMs: 0 })).getUint32(8),
      trunk: view(encodeTrunk(0, new Uint8Array(32).fill(1))!).getUint16(0),
      snap: JSON.parse(text(encodeSnap(snap))).version,
      'snap log': view(encodeSnapLine(line, storeId)).getUint16(16),
      'stale list': view(encodeStaleList([])).getUint16(0),
      'difference stream': view(encodeDifferenceHeader(difference)).getUint32(8),
    }).toEqual(
      Object.fromEntries(
        rows
          .map((row) => row[1] ?? '')
          .filter((format) => format !== 'NBD')
          .map((format) => [format, version(format)]),
      ),
    );
  });
});

function readdirOrRead(url: URL): void {
  try {
    readFileSync(url);
  } catch (error) {
    if ((error as { code?: string }).code !== 'EISDIR') throw error;
  }
}
