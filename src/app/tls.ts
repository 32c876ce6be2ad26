import { describeError, type Facts, SheepError } from '../base/errors.ts';
import type { SheepConfig } from '../config/load.ts';
import type { ServerTls, TlsState } from '../contracts/tls.ts';
import type { Host } from './host.ts';

/** So long before a certificate ends whoever looks after it is told. */
const EXPIRY_WARNING_MS = 14 * 24 * 60 * 60 * 1000;

/** @throws SheepError `ERR_BAD_INPUT` if its files cannot be used; undefined without any */
export async function openTls(host: Host, config: SheepConfig): Promise<ServerTls | undefined> {
  if (config.tls === undefined) return undefined;
  const tls = await host.openTls(config.tls);
  tell(host, 'tls.ready', tls.state);
  return tls;
}

/**
 * Reads the certificates and keys again: they hold for connections that begin from now on. Those
 * that are there stay as they are.
 * @throws SheepError `ERR_BAD_INPUT` if they cannot be used: those before stay in force
 */
export async function reloadTls(host: Host, tls: ServerTls | undefined): Promise<TlsState> {
  if (tls === undefined) {
    const why =
      'this sheep was started without --tls-certs and --tls-psk: there is nothing to reload';
    host.log.event('warn', 'tls.not-reloaded', { cause: why });
    throw new SheepError('ERR_BAD_INPUT', why);
  }
  try {
    const state = await tls.reload();
    tell(host, 'tls.reloaded', state);
    return state;
  } catch (error) {
    const cause = describeError(error);
    host.log.event('error', 'tls.not-reloaded', { cause });
    if (!(error instanceof SheepError)) throw error;
    const message = `${cause}; what was in force stays in force`;
    throw new SheepError(error.code, message, error.facts);
  }
}

/** How many whole days the certificate is still good for, once they are few; negative: it is not. */
export function expiresSoon(
  tls: Pick<ServerTls, 'state'> | undefined,
  wallMs: number,
): number | undefined {
  const expiresAtMs = tls?.state.certificate?.expiresAtMs;
  if (expiresAtMs === undefined) return undefined;
  const leftMs = expiresAtMs - wallMs;
  return leftMs < EXPIRY_WARNING_MS ? Math.floor(leftMs / (24 * 60 * 60 * 1000)) : undefined;
}

function tell({ log }: Host, name: string, { certificate, pskUsers }: TlsState): void {
  const facts: Facts = {
    certificate: certificate?.subject,
    expires: certificate && new Date(certificate.expiresAtMs).toISOString(),
    revocations: certificate?.revocations,
    pskUsers,
  };
  log.event('info', name, facts);
}
