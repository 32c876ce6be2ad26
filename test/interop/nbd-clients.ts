import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findTool, type Tool } from '../../scripts/tools.ts';

/**
 * Real NBD clients, each as a function of a URI: what it does to the export, and a failure with the
 * client's own words if the export does not behave. Every export needs 64 MiB, writable, and is
 * overwritten; `image` is a raw file of exactly its size.
 */

/** What a client printed. @throws Error with everything it printed, if it fails */
async function run(tool: Tool | 'python3', args: readonly string[]): Promise<string> {
  // libnbd's bindings are those of the system's Python, whatever stands first in PATH.
  const command = tool === 'python3' ? '/usr/bin/python3' : (findTool(tool) ?? tool);
  try {
    const { stdout } = await promisify(execFile)(command, args, { maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${tool} ${args.join(' ')}\n${stdout}${stderr}`, { cause: error });
  }
}

/** What `nbdinfo --json` says of one export. */
export interface ExportSeen {
  readonly 'export-size': number;
  readonly block_size_minimum: number;
  readonly block_size_preferred: number;
  readonly block_size_maximum: number;
  readonly 'export-name': string;
  readonly contexts: readonly string[];
  readonly [property: string]: unknown;
}

export async function nbdinfo(uri: string): Promise<ExportSeen> {
  const { exports } = JSON.parse(await run('nbdinfo', ['--json', uri])) as {
    exports: ExportSeen[];
  };
  const [only] = exports;
  if (only === undefined) throw new Error(`nbdinfo saw no export at ${uri}`);
  return only;
}

/** The names that a client is shown; `uri` names no export. */
export async function nbdinfoList(uri: string): Promise<string[]> {
  const { exports } = JSON.parse(await run('nbdinfo', ['--list', '--json', uri])) as {
    exports: ExportSeen[];
  };
  return exports.map((seen) => seen['export-name']);
}

/** What nbd-client lists over TCP; it says ABORT and goes without waiting for the answer. */
export async function nbdClientList(host: string, port: number): Promise<string[]> {
  const printed = await run('nbd-client', ['-l', host, String(port)]);
  return printed
    .split('\n')
    .slice(1)
    .filter((line) => line !== '');
}

export interface Run {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}
/** What one metadata context says of the whole export, as `nbdinfo --map` reads it. */
export async function nbdinfoMap(uri: string, context = 'base:allocation'): Promise<Run[]> {
  return JSON.parse(await run('nbdinfo', [`--map=${context}`, '--json', uri])) as Run[];
}

/**
 * The parts of an export that a bitmap says are dirty, as backup programs read them through QEMU:
 * its option takes over what is "allocated" from the bitmap, the other way round.
 */
export async function qemuImgDirty(
  socket: string,
  exportName: string,
  context: string,
): Promise<{ offset: number; length: number }[]> {
  const options = [
    'driver=nbd',
    `export=${exportName}`,
    'server.type=unix',
    `server.path=${socket}`,
    `x-dirty-bitmap=${context}`,
  ];
  const printed = await run('qemu-img', [
    ...['map', '--output=json', '--image-opts'],
    options.join(','),
  ]);
  const runs = JSON.parse(printed) as { start: number; length: number; data: boolean }[];
  return runs.filter((one) => !one.data).map(({ start, length }) => ({ offset: start, length }));
}

/** The image there and back, with four connections, and with the server's map of holes. */
export async function nbdcopyRoundTrip(uri: string, image: string, folder: string): Promise<void> {
  const back = join(folder, 'nbdcopy-back');
  await run('nbdcopy', ['--flush', '--allocated', '-C', '4', '-R', '64', image, uri]);
  await run('nbdcopy', ['--request-size=1048576', '-C', '4', uri, back]);
  await compareFiles(image, back);
  await run('nbdcopy', ['--flush', image, uri]);
  await run('nbdcopy', [uri, back]);
  await compareFiles(image, back);
  await run('nbdcopy', ['--synchronous', uri, back]);
  await compareFiles(image, back);
}

async function compareFiles(a: string, b: string): Promise<void> {
  await promisify(execFile)('cmp', [a, b]);
}

/** `qemu-img convert` with its three ways to write, each compared with the image afterwards. */
export async function qemuImgRoundTrip(uri: string, image: string, folder: string): Promise<void> {
  const raw = ['-f', 'raw', '-O', 'raw'];
  for (const how of [
    ['-t', 'writethrough'],
    ['-t', 'none', '-T', 'none', '-W', '-m', '16'],
    ['-S', '0'],
  ]) {
    await run('qemu-img', ['convert', '-n', ...raw, ...how, image, uri]);
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, uri]);
  }
  const qcow2 = join(folder, 'back.qcow2');
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-m', '8', '-W', uri, qcow2]);
  await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', qcow2, uri]);
  const info = JSON.parse(await run('qemu-img', ['info', '-f', 'raw', '--output=json', uri]));
  if (info['virtual-size'] !== 64 * 1024 * 1024)
    throw new Error(`qemu-img info: ${info['virtual-size']}`);
}

/** `qemu-img bench`: many requests in flight, with flushes among the writes. */
export async function qemuImgBench(uri: string): Promise<void> {
  const common = ['-f', 'raw', '-d', '64', '-s', '4096', '-S', '8192', '-t', 'none'];
  await run('qemu-img', ['bench', ...common, '-c', '5000', uri]);
  await run('qemu-img', ['bench', ...common, '-c', '5000', '-w', '--flush-interval', '100', uri]);
}

/** Every command and flag that qemu knows, each read back. */
export async function qemuIo(uri: string): Promise<void> {
  const printed = await run('qemu-io', [
    ...['-f', 'raw', '-d', 'unmap', '-t', 'none'],
    ...commands(
      'write -P 0xab 0 64k',
      'write -f -P 0xac 64k 64k',
      'write -P 0xad 128k 256k',
      'write -z 128k 64k',
      'write -z -u 192k 64k',
      'write -z -n 256k 64k',
      'discard 320k 64k',
      'write -P 0xae 1000003 777',
      'flush',
      'read -P 0xab 0 64k',
      'read -P 0xac 64k 64k',
      'read -P 0 128k 256k',
      'read -P 0xae 1000003 777',
      'write -P 0x11 1M 16M',
      'read -P 0x11 1M 16M',
      'aio_write -P 0x22 20M 4M',
      'aio_write -P 0x23 24M 4M',
      'aio_flush',
      'read -P 0x22 20M 4M',
      'read -P 0x23 24M 4M',
      'map',
    ),
    uri,
  ]);
  // qemu-io reports a wrong pattern in words, and goes on.
  if (/failed|error|wrong/i.test(printed)) throw new Error(printed);
}
function commands(...lines: readonly string[]): string[] {
  return lines.flatMap((line) => ['-c', line]);
}

/** Stops at the first wrong block; leaves no state file behind. */
const CHECKED = ['--do_verify=1', '--verify_fatal=1', '--verify_state_save=0'];

/** A minute's worth of trust: random writes and reads, every block with its own checksum. */
export async function fioVerify(uri: string): Promise<void> {
  const common = ['--ioengine=nbd', `--uri=${uri}`, '--size=32m', '--verify=crc32c'];
  for (const how of [
    ['--rw=randwrite', '--bs=4k', '--iodepth=32'],
    ['--rw=randrw', '--bsrange=512-256k', '--bs_unaligned=1', '--iodepth=16'],
    ['--rw=write', '--bs=1m', '--iodepth=8', '--fsync=4'],
    ['--rw=randwrite', '--bs=4k', '--iodepth=4', '--fsync=1', '--io_size=2m'],
  ]) {
    await run('fio', ['--name=verify', ...common, ...how, ...CHECKED]);
  }
}

/** Trims over the whole export, while nothing else is asked of it. */
export async function fioTrim(uri: string): Promise<void> {
  const common = ['--ioengine=nbd', `--uri=${uri}`, '--size=32m'];
  await run('fio', ['--name=trim', ...common, '--rw=randtrim', '--bs=64k', '--iodepth=8']);
}

/** A Python script with libnbd connected as `h`; an exception in it is a failure. */
async function libnbd(uri: string, script: string, handle = ''): Promise<string> {
  const program = [
    'import nbd, os, sys, errno',
    'h = nbd.NBD()',
    'h.set_uri_allow_local_file(True)', // certificates and keys
    handle,
    `uri = ${JSON.stringify(uri)}`,
    'h.connect_uri(uri)',
    script,
  ];
  return run('python3', ['-c', program.join('\n')]);
}

/** The contexts that a listing with these queries names. */
export async function libnbdListing(uri: string, queries: readonly string[]): Promise<string[]> {
  const script = `
found = []
for query in ${JSON.stringify(queries)}:
    h.add_meta_context(query)
h.opt_list_meta_context(lambda name: found.append(name) or 0)
h.opt_abort()
import json
print(json.dumps(found))
`;
  return JSON.parse(await libnbd(uri, script, 'h.set_opt_mode(True)')) as string[];
}

/** BLOCK_STATUS with several contexts: for each, in the order of the reply, lengths and flags. */
export async function libnbdStatuses(
  uri: string,
  contexts: readonly string[],
  range: { offset: number; length: number; one?: boolean },
): Promise<[context: string, numbers: number[]][]> {
  const handle = contexts
    .map((context) => `h.add_meta_context(${JSON.stringify(context)})`)
    .join('\n');
  const script = `
found = []
def status(context, offset, entries, error):
    assert offset == ${range.offset}
    found.append((context, entries))
h.block_status(${range.length}, ${range.offset}, status, ${range.one ? 'nbd.CMD_FLAG_REQ_ONE' : '0'})
h.shutdown()
import json
print(json.dumps(found))
`;
  return JSON.parse(await libnbd(uri, script, handle)) as [string, number[]][];
}

/**
 * Everything libnbd can ask, legal and not: results and error numbers stand in the script.
 * @param departures  how often a client goes without a word, with much in flight
 */
export async function libnbdSuite(uri: string, departures = 200): Promise<void> {
  await libnbd(uri, LEGAL, "h.add_meta_context('base:allocation')");
  await libnbd(uri, LEGAL_SIMPLE, 'h.set_request_structured_replies(False)');
  await libnbd(uri, ILLEGAL, "h.add_meta_context('base:allocation')");
  await libnbd(uri, `departures = ${departures}\n${MANY}`);
}

const LEGAL = `
size = h.get_size()
assert size == 64 << 20, size
assert h.get_structured_replies_negotiated()
assert h.can_df() and h.can_fua() and h.can_flush() and h.can_trim() and h.can_zero()
assert h.can_fast_zero() and h.can_cache() and h.can_multi_conn() and not h.is_read_only()
assert h.get_block_size(nbd.SIZE_MINIMUM) == 1
assert h.get_block_size(nbd.SIZE_PREFERRED) == 65536
assert h.get_block_size(nbd.SIZE_MAXIMUM) == 64 << 20
h.trim(size, 0)
h.zero(size, 0)
data = os.urandom(5 << 20)
h.pwrite(data, 12345)
assert h.pread(len(data), 12345) == data
h.pwrite(data[:1000], 5, nbd.CMD_FLAG_FUA)
assert h.pread(1000, 5) == data[:1000]
h.pwrite(data, 0, nbd.CMD_FLAG_FUA)
h.flush()
seen = []
def chunk(buf, offset, status, error):
    seen.append((offset, len(buf), status))
assert h.pread_structured(1 << 20, 4096, chunk, nbd.CMD_FLAG_DF) == data[4096:4096 + (1 << 20)]
assert len(seen) == 1, seen
assert h.pread_structured(4 << 20, 100, chunk) == data[100:100 + (4 << 20)]
h.zero(1 << 20, 0)
assert h.pread(1 << 20, 0) == bytes(1 << 20)
h.pwrite(data[:8192], 0)
h.zero(4096, 100, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(8192, 0) == data[:100] + bytes(4096) + data[4196:8192]
h.trim(8 << 20, 0, nbd.CMD_FLAG_FUA)
assert h.pread(8 << 20, 0) == bytes(8 << 20)
h.cache(1 << 20, 0)
extents = []
def extent(context, offset, entries, error):
    assert context == 'base:allocation'
    extents.append((offset, entries))
h.zero(size, 0)
h.pwrite(data[:65536], 1 << 20)
at = 0
while at < size:
    extents.clear()
    h.block_status(size - at, at, extent)
    assert len(extents) == 1 and extents[0][0] == at
    at += sum(extents[0][1][0::2])
assert at == size
extents.clear()
h.block_status(1000, 1 << 20, extent, nbd.CMD_FLAG_REQ_ONE)
assert extents == [(1 << 20, [1000, 0])], extents
h.pwrite(bytes([7]), size - 1)
assert h.pread(1, size - 1) == bytes([7])
h.shutdown()
`;

const LEGAL_SIMPLE = `
assert not h.get_structured_replies_negotiated()
assert not h.can_df()
data = os.urandom(9 << 20)
h.pwrite(data, 1)
assert h.pread(len(data), 1) == data
assert h.pread(300000, 4097) == data[4096:304096]
h.shutdown()
`;

const ILLEGAL = `
h.set_strict_mode(0)
size = h.get_size()
def refused(number, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == number, (error.errnum, number)
    else:
        raise AssertionError('not refused')
refused(errno.EINVAL, lambda: h.pread(1, size))
refused(errno.EINVAL, lambda: h.pread(4096, size - 4095))
refused(errno.ENOSPC, lambda: h.pwrite(bytes(2), size - 1))
refused(errno.ENOSPC, lambda: h.zero(2, size - 1))
refused(errno.EINVAL, lambda: h.trim(2, size - 1))
refused(errno.EINVAL, lambda: h.cache(2, size - 1))
refused(errno.EINVAL, lambda: h.pread(1, (1 << 63) - 1))
refused(errno.EINVAL, lambda: h.pwrite(bytes(4096), 0, nbd.CMD_FLAG_REQ_ONE))
refused(errno.EINVAL, lambda: h.pread(16, 0, nbd.CMD_FLAG_NO_HOLE))
refused(errno.EINVAL, lambda: h.block_status(0, 0, lambda *args: 0))
assert h.pread(0, 0) == bytes(0)
h.pwrite(bytes(0), 0)
h.trim(0, 0)
h.zero(0, 0)
assert len(h.pread(4096, 0, nbd.CMD_FLAG_FUA)) == 4096
h.shutdown()
`;

/** Many requests in flight, then DISC: all are answered; then many, and gone without a word. */
const MANY = `
def wave(count):
    buffers = [nbd.Buffer(4096) for _ in range(count)]
    return [h.aio_pread(buffer, 4096 * index) for index, buffer in enumerate(buffers)], buffers
cookies, buffers = wave(256)
while h.aio_in_flight() > 0:
    h.poll(-1)
for cookie in cookies:
    assert h.aio_command_completed(cookie)
cookies, buffers = wave(64)
h.aio_disconnect()
while not h.aio_is_closed() and h.aio_in_flight() > 0:
    h.poll(-1)
for cookie in cookies:
    assert h.aio_command_completed(cookie)
for _ in range(departures):
    h = nbd.NBD()
    h.set_uri_allow_local_file(True)
    h.connect_uri(uri)
    wave(256)
    h.poll(0)
    del h
`;
