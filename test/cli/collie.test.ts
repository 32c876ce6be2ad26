import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collie, startTestSheep, type TestSheep } from '../app-unit/test-sheep.ts';
import { scratch } from '../cluster/scratch.ts';

describe('collie with a sheep', () => {
  let owned: AsyncDisposableStack;
  let sheep: TestSheep;
  let path: string;
  beforeAll(async () => {
    owned = new AsyncDisposableStack();
    path = owned.use(await scratch()).path;
    const admin = [`unix:${path}/admin.sock`, '127.0.0.1:0'];
    sheep = owned.use(await startTestSheep(path, { admin }));
  });
  afterAll(() => owned.disposeAsync());

  const run = (...args: string[]) => collie(['-a', sheep.socket, ...args]);

  test('makes, lists, shows and deletes a VDI', async () => {
    expect(await run('vdi', 'create', 'demo', '8G')).toEqual({
      status: 0,
      out: 'demo 8 GiB\n',
      err: '',
    });
    const { out: list } = await run('vdi', 'list');
    const [head, row] = list.trimEnd().split('\n');
    expect(head).toMatch(/^NAME +SIZE +OBJECTS +ID +CREATED +CLIENTS$/);
    expect(row).toMatch(/^demo +8 GiB +4 MiB +\d+ +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +0$/);
    const { out: info } = await run('vdi', 'info', 'demo');
    expect(info).toContain('size:        8 GiB (8589934592 bytes)\n');
    expect(info).toContain('clients:     none\n');
    expect((await run('vdi', 'delete', 'demo', '--dry-run')).out).toBe(
      'demo 8 GiB would be deleted\n',
    );
    expect((await run('vdi', 'delete', 'demo')).out).toBe('demo 8 GiB deleted\n');
    expect((await run('vdi', 'list')).out.trimEnd().split('\n')).toHaveLength(1);
  });

  test('--json, anywhere on the line, is what the API says', async () => {
    const made = await run('--json', 'vdi', 'create', 'json', '1M', '--object-size', '2M');
    expect(JSON.parse(made.out)).toMatchObject({ name: 'json', objectBytes: 2 ** 21 });
    const listed = await run('vdi', 'list', '--json');
    expect(JSON.parse(listed.out)).toMatchObject({ vdis: [{ name: 'json' }], deleting: [] });
    expect((await run('vdi', 'delete', 'json')).status).toBe(0);
  });

  test('shows the cluster, its health and its nodes', async () => {
    expect((await run('cluster', 'info')).out).toMatch(
      /^cluster: +[0-9a-f-]{36}\ndriver: +local\n/,
    );
    expect((await run('cluster', 'health')).out).toMatch(/^(ok|warning|error)\n/);
    expect((await run('node', 'list')).out).toContain(sheep.nbd[0]);
    expect((await run('node', 'info')).out).toMatch(/event loop delay: \d+ ms/);
    const node = JSON.parse((await run('node', 'info', '--json')).out);
    expect(node).toMatchObject({ store: path, connections: [] });
  });

  test('over TCP it shows the token, from the file that it is told', async () => {
    const args = ['-a', sheep.admin[1]!, 'cluster', 'info'];
    expect(await collie(args, { COLLIE_TOKEN_FILE: `${path}/admin.token` })).toMatchObject({
      status: 0,
    });
    await writeFile(`${path}/wrong.token`, `${'0'.repeat(64)}\n`);
    const refused = [
      await collie(args),
      await collie(args, { COLLIE_TOKEN_FILE: `${path}/wrong.token` }),
    ];
    for (const said of refused) {
      expect(said).toMatchObject({ status: 1, out: '' });
      expect(said.err).toMatch(/^collie: this needs the token.*COLLIE_TOKEN_FILE.*\n$/);
    }
    const missing = await collie(args, { COLLIE_TOKEN_FILE: `${path}/none` });
    expect(missing).toMatchObject({ status: 1, err: expect.stringContaining(`${path}/none`) });
    const token = await readFile(`${path}/admin.token`, 'utf8');
    for (const said of [...refused, missing]) expect(said.err).not.toContain(token.trim());
  });

  test.for<[string, number, RegExp]>([
    ['vdi create a@b 1G', 2, /contains '@'/],
    ['vdi create a/b 1G', 2, /contains '\/'/],
    ['vdi create demo 0', 2, /empty/],
    ['vdi create demo 8GB', 2, /"8GB" is not a size.*as in 8G/],
    ['vdi create demo 2P', 2, /at most 1PiB/],
    ['vdi create demo 1G --object-size 3M', 2, /give 1M, 2M, 4M/],
    ['vdi create demo 1P --object-size 1M', 2, /object size of 4M or more/],
    ['vdi create demo', 2, /missing required argument 'size'/],
    ['vdi create demo 1G extra', 2, /too many arguments/],
    ['vdi create demo 1G --copies 3', 2, /unknown option '--copies'/],
    ['vdi info nothing', 1, /no VDI 'nothing'; 'collie vdi list'/],
    ['vdi info demo@monday', 1, /the VDI 'demo' has no snapshot 'monday'; 'collie vdi list'/],
    ['vdi info demo+writeback', 1, /no VDI 'demo\+writeback'/],
    ['vdi delete nothing', 1, /no VDI 'nothing'/],
    ['vdi delete', 2, /missing required argument 'name'/],
    ['vdi delete nothing --dryrun', 2, /unknown option '--dryrun'\n.*Did you mean --dry-run/],
    ['vdi rename a b', 2, /unknown command 'rename'/],
    ['cluster format', 2, /unknown command 'format'/],
    ['cluster health --explain', 2, /unknown option '--explain'/],
    ['node weight 1 2', 2, /unknown command 'weight'/],
    ['nonsense', 2, /unknown command 'nonsense'/],
    ['-a nowhere vdi list', 2, /"nowhere" is no address: give host:port/],
    ['-a fd:3 vdi list', 2, /host:port or unix:\/path/],
  ])('"%s" ends with %i and says why', async ([line, status, message]) => {
    const said = await run(...line.split(' '));
    expect(said).toMatchObject({ status, out: '' });
    expect(said.err).toMatch(message);
    expect(said.err).toMatch(/^collie: /);
  });

  test('a name in use is told, and nothing changes', async () => {
    await run('vdi', 'create', 'twice', '1M');
    const said = await run('vdi', 'create', 'twice', '2M');
    expect(said).toMatchObject({ status: 1, err: expect.stringContaining("'twice' already") });
    expect((await run('vdi', 'info', 'twice')).out).toContain('1 MiB');
    await run('vdi', 'delete', 'twice');
  });

  test('asks for a stop', async () => {
    const stopping = sheep.stopRequested;
    expect(await run('cluster', 'shutdown')).toMatchObject({ status: 0, out: 'stopping\n' });
    await stopping;
  });
});

describe('collie without a sheep', () => {
  test('says where it looked and what to do', async () => {
    await using directory = await scratch();
    const socket = `unix:${directory.path}/none.sock`;
    expect(await collie(['-a', socket, 'vdi', 'list'])).toEqual({
      status: 1,
      out: '',
      err: `collie: no sheep answers at ${socket}; start one, or give its address with -a\n`,
    });
  });

  test('takes nothing for a sheep that is none', async () => {
    await using stack = new AsyncDisposableStack();
    const server = createServer((_request, answer) => void answer.end('<html>\u001b[2J'));
    await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
    stack.defer(() => void server.close());
    const { port } = server.address() as { port: number };
    const said = await collie(['-a', `127.0.0.1:${port}`, 'vdi', 'list']);
    expect(said).toMatchObject({ status: 1, out: '' });
    expect(said.err).toMatch(/^collie: what answers at .* is no sheep/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what it is about
    expect(said.err.trimEnd()).not.toMatch(/[\u0000-\u001f]/);
  });

  test.for([
    ['{"is":"progress","objects":1,"totalObjects":9}\n', 'broke off; is the sheep still there?'],
    ['{"is":"progress"}\n{"is":', 'broke off; is the sheep still there?'],
    ['', 'broke off'],
    ['<html>\n', 'is no sheep'],
    ['7\n', 'is no sheep'],
    [`${'x'.repeat(100_000)}`, 'broke off'],
    ['{"is":"error","error":{"code":"ERR_IO","message":"the disk is gone"}}\n', 'the disk is gone'],
  ])('an answer by lines that ends as %j is a failure', async ([text, message]) => {
    await using stack = new AsyncDisposableStack();
    const server = createServer((_request, answer) => void answer.end(text));
    await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
    stack.defer(() => void server.close());
    const { port } = server.address() as { port: number };
    const said = await collie(['-a', `127.0.0.1:${port}`, 'vdi', 'check', 'demo']);
    expect(said).toMatchObject({ status: 1, out: '', err: expect.stringContaining(message!) });
  });

  test('a result is as long as it has to be, and comes in whatever pieces', async () => {
    const made = Array.from({ length: 3000 }, (_, index) => {
      return { export: `disk-${index}`, sizeBytes: 4096, writtenBytes: 4096, zeroedBytes: 0 };
    });
    const result = { tag: 'mon', dryRun: true, made, reused: [], replaced: [], writtenBytes: 4096 };
    const answers = [
      '{"is":"progress","doneBytes":1}\n{"is":"pro',
      'gress","doneBytes":2}\n',
      JSON.stringify({ is: 'end', result }).slice(0, 150_000),
      `${JSON.stringify({ is: 'end', result }).slice(150_000)}\n`,
    ];
    await using stack = new AsyncDisposableStack();
    const server = createServer((_request, answer) => {
      for (const piece of answers) answer.write(piece);
      answer.end();
    });
    await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
    stack.defer(() => void server.close());
    const { port } = server.address() as { port: number };
    const where = ['-a', `127.0.0.1:${port}`, '--json'];
    const said = await collie([...where, 'cluster', 'snapshot', 'load', 'mon', '--dry-run']);
    expect(said).toMatchObject({ status: 0, err: '' });
    expect(JSON.parse(said.out)).toEqual(result);
  });

  test.for([[], ['vdi'], ['cluster'], ['node']])(
    '%j is no command: its help, and 2',
    async (args) => {
      const said = await collie(args);
      expect(said).toMatchObject({ status: 2, out: '' });
      expect(said.err).toContain('Usage: collie');
    },
  );

  test('every command stands in the help, and has one', async () => {
    const { out } = await collie(['--help']);
    const commands = [
      'cluster info',
      'cluster health',
      'cluster shutdown',
      'node list',
      'node info',
    ];
    commands.push('vdi create', 'vdi list', 'vdi tree', 'vdi info', 'vdi check', 'vdi snapshot');
    commands.push('vdi clone', 'vdi rollback', 'vdi resize', 'vdi delete');
    commands.push('vdi import', 'vdi export', 'vdi diff', 'vdi map');
    for (const command of commands) {
      const [group, name] = command.split(' ') as [string, string];
      expect(out).toMatch(new RegExp(`${group} .*\\b${name}\\b`));
      const help = await collie([group, name, '--help']);
      expect(help).toMatchObject({ status: 0, err: '' });
      expect(help.out).toContain(`Usage: collie ${command}`);
    }
  });
});
