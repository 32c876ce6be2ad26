import { describe, expect, test } from 'vitest';
import { fromFile, fromFlags, insecureAddresses, loadConfig } from '../../src/config/load.ts';

const badInput = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_BAD_INPUT', message: expect.stringMatching(message) });
const flags = (settings: unknown) => loadConfig([fromFlags(settings)]);
const file = (settings: unknown) => loadConfig([fromFile('sheep.json', JSON.stringify(settings))]);

describe('the configuration', () => {
  test('without any setting a sheep serves this machine only', () => {
    expect(loadConfig([])).toEqual({
      directory: './sheepdog-data',
      nbd: ['127.0.0.1:10809'],
      admin: ['unix:./sheepdog-data/admin.sock', '127.0.0.1:7001'],
      vdis: [],
      tlsRequire: false,
      insecureNetwork: false,
      logLevel: 'info',
      slowRequestMs: 1000,
      checksums: true,
    });
    expect(insecureAddresses(loadConfig([]))).toEqual([]);
  });

  test('every setting can be given, and the admin socket follows the store', () => {
    const settings = {
      directory: '/srv/sheep',
      cluster: 'local',
      nbd: ['unix:/run/nbd', '[::1]:0'],
      nbdGroup: 'disk',
      nbdMode: '0660',
      vdis: ['demo:8G'],
      format: 'hash=sha1,codec=zlib',
      tlsCerts: '/etc/pki/sheep',
      tlsPsk: '/etc/sheep.psk',
      tlsRequire: true,
      insecureNetwork: true,
      logLevel: 'debug',
      slowRequest: 250,
      checksums: 'off',
    };
    const expected = {
      directory: '/srv/sheep',
      nbd: ['unix:/run/nbd', '[::1]:0'],
      nbdGroup: 'disk',
      nbdMode: 0o660,
      admin: ['unix:/srv/sheep/admin.sock', '127.0.0.1:7001'],
      vdis: ['demo:8G'],
      format: { hash: 'sha1', codec: 'zlib' },
      tls: { certs: '/etc/pki/sheep', psk: '/etc/sheep.psk' },
      tlsRequire: true,
      insecureNetwork: true,
      logLevel: 'debug',
      slowRequestMs: 250,
      checksums: false,
    };
    expect(flags(settings)).toEqual(expected);
    expect(file(settings)).toEqual(expected);
  });

  test('an object where none belongs is refused, whatever is in it', () => {
    for (const key of ['nbd', 'admin', 'directory', 'tlsCerts']) {
      const why = new RegExp(`^${key} in sheep.json: .*received object, not \\{"length"`);
      for (const length of [0, 7, { toString: false }]) {
        expect(() => file({ [key]: { length } })).toThrow(badInput(why));
      }
    }
  });

  test('flags beat the file, setting by setting, and the file beats the defaults', () => {
    const config = loadConfig([
      fromFlags({ logLevel: 'error' }),
      fromFile('sheep.json', '{"logLevel":"debug","checksums":"off"}'),
    ]);
    expect(config).toMatchObject({ logLevel: 'error', checksums: false, nbd: ['127.0.0.1:10809'] });
  });

  test.for<[string, unknown, RegExp]>([
    [
      'cluster',
      'etcd:http://a:2379',
      /^NAME: there is no cluster driver "etcd:http:\/\/a:2379".*local/,
    ],
    ['nbd', ['nowhere'], /^NAME: "nowhere" is no address: give host:port/],
    ['nbd', ['127.0.0.1:65536'], /^NAME: .*a port is at most 65535/],
    ['nbd', [`unix:/${'x'.repeat(107)}`], /^NAME: .*1 to 107 bytes/],
    ['nbd', ['fd:3'], /^NAME: give host:port.*not "fd:3"/],
    ['nbd', [], /^NAME: give at least one address/],
    ['admin', ['7001'], /^NAME: "7001" is no address/],
    ['nbdMode', '888', /^NAME: give permission bits in octal, as in 660, not "888"/],
    ['nbdGroup', '', /^NAME: give the name or the number of a group/],
    ['logLevel', 'loud', /^NAME: .*"debug".*not "loud"/],
    ['checksums', 'maybe', /^NAME: .*"off".*not "maybe"/],
    ['directory', '', /^NAME: give the folder of the store/],
    ['vdis', 'demo:8G', /^NAME: .*not "demo:8G"/],
    ['insecureNetwork', 'yes', /^NAME: .*not "yes"/],
  ])('%s cannot be %j', ([key, value, message]) => {
    const named = (name: string) => new RegExp(message.source.replace('NAME', name));
    const flag = key === 'directory' ? 'DIR' : key === 'vdis' ? '--vdi' : `--${key}`;
    const dashed = flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    expect(() => flags({ [key]: value })).toThrow(
      badInput(named(key === 'directory' ? 'DIR' : dashed)),
    );
    expect(() => file({ [key]: value })).toThrow(badInput(named(`${key} in sheep.json`)));
  });

  test('a setting that does not exist is refused, and those that exist are named', () => {
    expect(() => file({ nbds: [] })).toThrow(
      badInput(/no setting nbds in sheep.json.*nbd, nbdGroup/),
    );
  });

  test.for(['', '[]', '"x"', 'null', '{'])('a file with %j is refused by name', (text) => {
    expect(() => loadConfig([fromFile('sheep.json', text)])).toThrow(badInput(/sheep\.json/));
  });

  test.for([{ nbdMode: '660' }, { nbdGroup: 'disk' }])(
    'an option for unix sockets is refused where there is none: %j',
    (settings) => {
      expect(() => flags(settings)).toThrow(badInput(/unix sockets.*add --nbd unix:/));
    },
  );
});

describe('rule 1: what other machines can reach', () => {
  test.for(['0.0.0.0:10809', '[::]:10809', '192.168.0.1:0', 'example.org:10809', '127.1:80'])(
    '%s is refused for NBD and admin, unless the network is said to be trusted',
    (address) => {
      const refusal = badInput(/other machines.*--insecure-network/);
      expect(() => flags({ nbd: [address] })).toThrow(refusal);
      expect(() => flags({ admin: [address] })).toThrow(refusal);
      const config = flags({ nbd: [address], insecureNetwork: true });
      expect(insecureAddresses(config)).toEqual([address]);
    },
  );

  test('NBD may be reached inside TLS if there is no other way in, the admin API with certificates', () => {
    const [nbd, admin] = [['0.0.0.0:10809'], ['0.0.0.0:7001']];
    const [certs, psk] = [{ tlsCerts: '/c' }, { tlsPsk: '/p' }];
    const refusal = badInput(/other machines.*--tls-certs DIR and --tls-require/);
    for (const open of [
      { nbd, ...certs },
      { nbd, ...psk },
      { admin, ...psk, tlsRequire: true },
    ]) {
      expect(() => flags(open)).toThrow(refusal);
    }
    for (const closed of [
      { nbd, ...certs, tlsRequire: true },
      { nbd, ...psk, tlsRequire: true },
      { admin, ...certs },
    ]) {
      expect(insecureAddresses(flags(closed))).toEqual([]);
    }
  });

  test('to insist on TLS without anything to make it with is refused', () => {
    expect(() => flags({ tlsRequire: true })).toThrow(
      badInput(/--tls-certs DIR or --tls-psk FILE/),
    );
  });

  test.for(['127.0.0.1:0', '127.8.8.8:1', '[::1]:10809', 'localhost:10809', 'unix:/run/x'])(
    '%s is only for this machine',
    (address) => {
      expect(flags({ nbd: [address] }).nbd).toEqual([address]);
    },
  );
});

describe('the shape of the store of snapshots', () => {
  test.for<[string, object]>([
    ['', {}],
    ['codec=none', { codec: 'none' }],
    ['codec=zstd,hash=sha256', { codec: 'zstd', hash: 'sha256' }],
  ])('%j is one', ([format, shape]) => {
    expect(flags({ format }).format).toEqual(shape);
  });

  test.for(['x', 'hash', 'hash=', 'hash=md5', 'codec=zstd,codec=none', 'hash=sha1=', 'hash=sha1,'])(
    '%j is none, and the sentence says what could be',
    (format) => {
      expect(() => flags({ format })).toThrow(
        badInput(/^--format: give hash=sha256\|sha1 and codec=zstd\|zlib\|none, .*, not "/),
      );
    },
  );

  test('the folder of the store is not taken for one', () => {
    expect(() => flags({ format: '/srv/sheep' })).toThrow(badInput(/not "\/srv\/sheep"/));
  });
});
