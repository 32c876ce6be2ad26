import { formatHostPort, isLocal, parseAddress, parseAdminAddress } from '../../base/address.ts';
import { describeError, isFault, SheepError } from '../../base/errors.ts';
import { allSettled } from '../../base/parallel.ts';
import type { Call } from '../../contracts/call.ts';
import type { Address, Net } from '../../contracts/net.ts';
import type { Tls } from '../../contracts/tls.ts';
import { connectNbd } from '../../nbd/client/connect.ts';
import { TRANSFER_LIMITS } from './limits.ts';
import { type Export, spread } from './spread.ts';

/** `0.0.0.0` and `::`: whatever leads to that machine. */
const ANY_HOST = /^(?:0\.0\.0\.0|::)$/;

/**
 * Where to try a sheep's NBD, the quickest way first.
 * @param served  its addresses, as it tells them
 * @param admin   where its admin API answered; undefined: on this machine
 * @throws SheepError `ERR_BAD_INPUT` if none of them leads there: another sheep of this machine
 *         must not be taken for one that is elsewhere
 */
export function nbdAddresses(served: readonly Address[], admin: Address | undefined): Address[] {
  const place = admin === undefined ? undefined : parseAdminAddress(admin).where;
  const asked = place !== undefined && 'host' in place ? place.host : 'localhost';
  const elsewhere = !isLocal({ host: asked });
  // `0.0.0.0` is not reached by ::1, and a name is tried both ways.
  const host = !elsewhere && asked.includes(':') ? 'localhost' : asked;
  const reachable = served.flatMap((address) => {
    const where = parseAddress(address);
    // As it was called by whoever asked: inside TLS it has to prove that this is its name.
    if ('host' in where && ANY_HOST.test(where.host)) return [formatHostPort(host, where.port)];
    const leadsThere = !elsewhere || ('host' in where && !isLocal(where));
    return leadsThere ? [address] : [];
  });
  if (reachable.length > 0) {
    const isUnix = (address: Address) => address.startsWith('unix:');
    return [...reachable.filter(isUnix), ...reachable.filter((address) => !isUnix(address))];
  }
  throw new SheepError(
    'ERR_BAD_INPUT',
    `the sheep at ${admin} serves NBD at ${served.join(', ')}, which does not lead there from ` +
      'here; give an address that does with --nbd',
    { admin },
  );
}

/**
 * Opens an export of a sheep, with several connections where it allows that, at the first address
 * where somebody answers and has it: access rules may let in who comes by one and not by another.
 * @throws SheepError as `connectNbd`
 */
export async function openExport(
  net: Net,
  addresses: readonly Address[],
  exportName: string,
  contexts: readonly string[],
  { tls, signal }: Call & { readonly tls?: Tls | undefined } = {},
): Promise<Export> {
  const options = {
    contexts,
    ...(tls !== undefined && { tls }),
    ...(signal !== undefined && { signal }),
  };
  const refusals: string[] = [];
  let unknown: SheepError | undefined;
  for (const address of addresses) {
    const connect = () => connectNbd(net, address, exportName, options);
    try {
      await using opening = new AsyncDisposableStack();
      const first = opening.use(await connect());
      const length = first.multiConn ? TRANSFER_LIMITS.connections - 1 : 0;
      const more = Array.from({ length }, async () => opening.use(await connect()));
      await allSettled(more);
      const others = await Promise.all(more);
      opening.move();
      return spread(first, others);
    } catch (error) {
      if (isFault(error, 'ERR_NOT_FOUND')) unknown = error;
      else if (!isFault(error, 'ERR_IO')) throw error;
      refusals.push(describeError(error));
    }
  }
  if (unknown !== undefined) throw unknown;
  throw new SheepError('ERR_IO', `the sheep cannot be reached by NBD: ${refusals.join('; ')}`);
}
