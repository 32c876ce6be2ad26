import { join, relative } from 'node:path';
import { parseAddress } from '../base/address.ts';
import { ADMIN_TCP_DEFAULT, DIRECTORY_DEFAULT, NBD_DEFAULT } from '../config/defaults.ts';

const USUAL_ADMIN = [`unix:${DIRECTORY_DEFAULT}/admin.sock`, ADMIN_TCP_DEFAULT];

/**
 * What a person needs next: the commands to fill and to attach a VDI, as they can be pasted.
 * @param nbd    an address in use
 * @param admin  all addresses in use; collie finds the usual one by itself
 * @param vdi    the name in the examples
 * @param tlsOnly  NBD is served inside TLS only
 */
export function hintLines(
  nbd: string,
  admin: readonly string[],
  vdi: string,
  tlsOnly = false,
): string[] {
  const usual = admin.some((address) => USUAL_ADMIN.includes(address));
  // What needs no certificates is the shorter way.
  const place = admin.find((address) => !address.startsWith('https://')) ?? admin[0];
  const called = usual ? collie() : `${collie()} -a ${place}`;
  return [
    '',
    ...(tlsOnly ? INSIDE_TLS : attachLines(nbd, vdi)),
    'Keep it as it is now, begin another one from there, make an empty one:',
    `  ${called} vdi snapshot -s TAG '${vdi}'`,
    `  ${called} vdi clone -s TAG '${vdi}' NAME`,
    `  ${called} vdi create NAME 20G`,
    'See what there is, stop:',
    `  ${called} vdi list`,
    `  ${called} cluster shutdown`,
    '',
  ];
}

const INSIDE_TLS = [
  'NBD is served inside TLS only: docs/SECURITY.md shows how clients are told of their certificates.',
];

function attachLines(nbd: string, vdi: string): string[] {
  const uri = nbdUri(nbd, vdi);
  return [
    `Copy an image into the VDI '${vdi}':`,
    `  qemu-img convert -n -t writethrough -O raw IMAGE '${uri}'`,
    'Attach it to this machine, or to a virtual machine:',
    `  nbd-client ${nbdClientArguments(nbd, vdi)} /dev/nbd0`,
    `  qemu-system-x86_64 -drive 'file=${uri},format=raw,if=virtio'`,
  ];
}

function nbdUri(nbd: string, vdi: string): string {
  const name = encodeURIComponent(vdi);
  const where = parseAddress(nbd);
  if ('path' in where) return `nbd+unix:///${name}?socket=${where.path}`;
  // The default port can be left out.
  const host = nbd === NBD_DEFAULT ? nbd.slice(0, nbd.lastIndexOf(':')) : nbd;
  return `nbd://${host}/${name}`;
}

function nbdClientArguments(nbd: string, vdi: string): string {
  const where = parseAddress(nbd);
  if ('path' in where) return `-unix ${where.path} -N '${vdi}'`;
  if ('fd' in where) return `-N '${vdi}'`;
  return `-N '${vdi}' ${where.host}${nbd === NBD_DEFAULT ? '' : ` ${where.port}`}`;
}

/** How collie is called from here: an installed one by its name, that of a clone by its path. */
function collie(): string {
  const path = join(import.meta.dirname, '..', '..', 'bin', 'collie');
  if (path.includes('/node_modules/')) return 'collie';
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith('.') ? path : `./${fromHere}`;
}
