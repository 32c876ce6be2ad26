import { createPrivateKey, X509Certificate } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { SheepError } from '../base/errors.ts';
import { exposure } from '../base/secret-file.ts';
import type { TlsFiles } from '../contracts/tls.ts';
import { permissionsOf } from './permissions.ts';
import { parsePskFile } from './psk-file.ts';

/** A certificate of ours, the key that goes with it, and whom we believe; all as PEM. */
export interface CertificateMaterial {
  readonly ca: readonly string[];
  readonly cert: string;
  readonly key: string;
  /** Lists of what these authorities have revoked. */
  readonly crl?: readonly string[];
}

/** What the files of one side hold, checked. */
export interface TlsMaterial {
  readonly certificate?: CertificateMaterial;
  readonly pskKeys?: ReadonlyMap<string, Uint8Array>;
}

/** No such file is larger: whoever gives a disk image by mistake shall not wait for it. */
const BYTES_MAX = 4 * 1024 * 1024;

/**
 * Reads the files of one side. Their names are those that QEMU and libvirt use: ca-cert.pem,
 * ca-crl.pem (optional), and {server,client}-cert.pem and -key.pem.
 * @throws SheepError `ERR_BAD_INPUT`: one sentence with the file and what to do
 */
export async function readTlsFiles(
  { certs, psk }: TlsFiles,
  side: 'server' | 'client',
): Promise<TlsMaterial> {
  const certificate = certs === undefined ? undefined : await readCertificates(certs, side);
  const pskKeys = psk === undefined ? undefined : parsePskFile(await readSecret(psk), psk);
  return {
    ...(certificate !== undefined && { certificate }),
    ...(pskKeys !== undefined && { pskKeys }),
  };
}

async function readCertificates(
  directory: string,
  side: 'server' | 'client',
): Promise<CertificateMaterial> {
  const path = (name: string) => join(directory, name);
  const [caPath, certPath] = [path('ca-cert.pem'), path(`${side}-cert.pem`)];
  const [keyPath, crlPath] = [path(`${side}-key.pem`), path('ca-crl.pem')];
  const ca = certificatesIn(await readText(caPath), caPath);
  const cert = await readText(certPath);
  const key = await readSecret(keyPath);
  const crlText = await readText(crlPath, 'optional');
  // TLS reads one list from a text, and would not say that it has left others out.
  const crl = crlText === undefined ? undefined : blocksIn(crlText, crlPath, 'X509 CRL');
  const [own] = certificatesIn(cert, certPath).map((pem) => new X509Certificate(pem));
  if (own?.checkPrivateKey(privateKey(key, keyPath)) !== true) {
    throw unusable(keyPath, `it is not the key of ${certPath}`);
  }
  const material = { ca, cert, key, ...(crl !== undefined && { crl }) };
  try {
    createSecureContext(contextOptions(material));
  } catch (cause) {
    throw unusable(crl === undefined ? certPath : crlPath, 'TLS does not take it', cause);
  }
  return material;
}

/** As node:tls takes them. */
export function contextOptions({ ca, cert, key, crl }: CertificateMaterial): SecureContextOptions {
  return { ca: [...ca], cert, key, ...(crl !== undefined && { crl: [...crl] }) };
}

/** The certificates of a file, each as PEM. */
function certificatesIn(text: string, path: string): string[] {
  const blocks = blocksIn(text, path, 'CERTIFICATE');
  for (const block of blocks) {
    try {
      new X509Certificate(block);
    } catch (cause) {
      throw unusable(path, 'a certificate in it cannot be read', cause);
    }
  }
  return blocks;
}

function blocksIn(text: string, path: string, label: string): string[] {
  const blocks = text.match(new RegExp(`-----BEGIN ${label}-----[^-]*-----END ${label}-----`, 'g'));
  if (blocks !== null) return blocks;
  throw unusable(path, `there is no '-----BEGIN ${label}-----' in it`);
}

function privateKey(text: string, path: string) {
  try {
    return createPrivateKey(text);
  } catch (cause) {
    throw unusable(path, 'there is no key in it that can be used without a password', cause);
  }
}

/** @throws SheepError if others may read what must stay secret */
async function readSecret(path: string): Promise<string> {
  await using file = await opened(path);
  const why = exposure(path, permissionsOf(await file.stat()));
  if (why !== undefined) throw unusable(path, why);
  return await contents(file, path);
}

async function readText(path: string): Promise<string>;
async function readText(path: string, missing: 'optional'): Promise<string | undefined>;
async function readText(path: string, missing?: 'optional'): Promise<string | undefined> {
  try {
    await using file = await opened(path);
    return await contents(file, path);
  } catch (error) {
    if (missing === 'optional' && isMissing(error)) return undefined;
    throw error;
  }
}

async function opened(path: string): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (cause) {
    throw unusable(path, 'it cannot be opened', cause);
  }
}

async function contents(file: FileHandle, path: string): Promise<string> {
  const { size } = await file.stat();
  if (size > BYTES_MAX) throw unusable(path, `it has more than ${BYTES_MAX} bytes`);
  try {
    return await file.readFile('utf8');
  } catch (cause) {
    throw unusable(path, 'it cannot be read', cause);
  }
}

function isMissing(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
}

function unusable(path: string, why: string, cause?: unknown): SheepError {
  return new SheepError('ERR_BAD_INPUT', `${path} cannot be used for TLS: ${why}`, { path }, cause);
}
