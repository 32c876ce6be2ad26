import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Authority } from '../tls/authority.ts';
import { make, noGuest, world } from './world.ts';

describe.skipIf(noGuest)('the client of the Linux kernel, inside TLS', () => {
  test('carries a file system, and does not get in without a certificate', async ({ signal }) => {
    using authority = new Authority();
    const certs = authority.directory('guest');
    await using it = await world(['disk:64M'], signal, ['--tls-certs', certs, '--tls-require']);
    await using guest = await it.guest({ devices: [] });
    for (const name of ['ca-cert.pem', 'client-cert.pem', 'client-key.pem']) {
      const pem = await readFile(join(certs, name), 'utf8');
      await guest.succeed(`cat >/tmp/${name} <<'END'\n${pem}END`);
    }
    const attach = `nbd-client 10.0.2.2 ${it.port} -N disk /dev/nbd0`;
    const certificate =
      '-certfile /tmp/client-cert.pem -keyfile /tmp/client-key.pem -cacertfile /tmp/ca-cert.pem';
    expect(await guest.run(attach)).not.toMatchObject({ status: 0 });
    await guest.succeed(`${attach} ${certificate} -tlshostname localhost`);
    await guest.succeed(make('/dev/nbd0'));
    await guest.succeed('dd if=/dev/urandom of=/srv/file bs=1M count=8 2>/dev/null; sync');
    const before = await guest.succeed('sha256sum /srv/file');
    await guest.succeed('umount /srv; echo 3 >/proc/sys/vm/drop_caches');
    await guest.succeed('e2fsck -f -n /dev/nbd0; mount -t ext4 /dev/nbd0 /srv');
    expect(await guest.succeed('sha256sum /srv/file')).toBe(before);
    await guest.succeed('umount /srv; nbd-client -d /dev/nbd0');
    await guest.powerOff();
    expect(it.daemon.err).toContain('"proof":"cert:guest"');
    expect(it.errors).toEqual([]);
  });
});
