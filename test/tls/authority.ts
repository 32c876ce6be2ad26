import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findTool } from '../../scripts/tools.ts';

export interface CertificateOptions {
  /** Default: the name. */
  readonly commonName?: string;
  /** Days from now; negative: it has expired already. */
  readonly days?: number;
  readonly usage?: 'serverAuth' | 'clientAuth' | 'serverAuth,clientAuth';
  /** Of a server; default: this machine. */
  readonly names?: string;
}

/**
 * A certificate authority in a folder of its own, made anew for each test file with openssl(1), and
 * directories of what it issued, as QEMU and libvirt lay them out. Disposing removes it.
 */
export class Authority implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'sheepdog-tls-'));
  readonly #ca = join(this.folder, 'authority');
  #serial = 1;

  constructor(name = 'Test Authority') {
    mkdirSync(this.#ca);
    writeFileSync(join(this.#ca, 'index.txt'), '');
    writeFileSync(
      join(this.#ca, 'ca.conf'),
      '[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\ndefault_md = sha256\n' +
        'default_crl_days = 30\n',
    );
    this.#openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
      ...['-days', '30', '-subj', `/CN=${name}`],
      ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    );
  }

  /** A directory with the certificates of both sides, good for localhost. */
  directory(name: string, options: CertificateOptions = {}): string {
    const directory = join(this.folder, name);
    mkdirSync(directory);
    copyFileSync(join(this.#ca, 'ca-cert.pem'), join(directory, 'ca-cert.pem'));
    this.issue(directory, 'server', { commonName: 'localhost', usage: 'serverAuth' });
    this.issue(directory, 'client', { commonName: name, usage: 'clientAuth', ...options });
    return directory;
  }

  /** Writes `SIDE-cert.pem` and `SIDE-key.pem` into the directory. @returns the serial number */
  issue(directory: string, side: 'server' | 'client', options: CertificateOptions = {}): string {
    const { commonName = side, days = 30, usage = 'serverAuth,clientAuth' } = options;
    const { names = 'DNS:localhost,IP:127.0.0.1,IP:::1' } = options;
    const serial = String(this.#serial++).padStart(2, '0');
    const path = (name: string) => join(directory, `${side}-${name}.pem`);
    writeFileSync(
      join(this.#ca, 'extensions'),
      `basicConstraints=critical,CA:FALSE\nextendedKeyUsage=${usage}\n` +
        `subjectAltName=${names}\n`,
    );
    this.#openssl(
      ...['req', '-new', ...NEW_KEY, '-keyout', path('key'), '-out', 'request.pem'],
      ...['-subj', `/O=Tests/CN=${commonName}`],
    );
    this.#openssl(
      ...['x509', '-req', '-in', 'request.pem', '-out', path('cert'), '-days', String(days)],
      ...['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-set_serial', `0x${serial}`],
      ...['-extfile', 'extensions'],
    );
    return serial;
  }

  /** Writes the list of what is revoked, these serial numbers, into the directory. */
  revoke(directory: string, ...serials: readonly string[]): void {
    const lines = serials.map(
      (serial) => `R\t491231235959Z\t200101000000Z\t${serial}\tunknown\t/CN=x\n`,
    );
    writeFileSync(join(this.#ca, 'index.txt'), lines.join(''));
    this.#openssl(
      ...['ca', '-gencrl', '-config', 'ca.conf', '-keyfile', 'ca-key.pem', '-cert', 'ca-cert.pem'],
      ...['-out', join(directory, 'ca-crl.pem')],
    );
  }

  /** A file of pre-shared keys, one for each user. */
  pskFile(name: string, keys: Readonly<Record<string, string>>): string {
    const path = join(this.folder, name);
    const lines = Object.entries(keys).map(([user, key]) => `${user}:${key}\n`);
    writeFileSync(path, lines.join(''), { mode: 0o600 });
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true });
  }

  #openssl(...args: readonly string[]): void {
    const openssl = findTool('openssl');
    if (openssl === undefined) throw new Error('openssl is missing (package openssl)');
    execFileSync(openssl, args, { cwd: this.#ca, stdio: ['ignore', 'ignore', 'pipe'] });
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'] as const;

/** A key as `openssl rand -hex 32` makes it; the same for the same letter. */
export function pskKey(letter: string): string {
  return letter.charCodeAt(0).toString(16).padStart(2, '0').repeat(32);
}
