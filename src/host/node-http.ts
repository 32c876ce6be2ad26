import type { Server } from 'node:http';
import type { Address, Listener } from '../contracts/net.ts';
import { bindServer } from './bind.ts';

/**
 * Lets an HTTP server listen. Disposing ends the listening and closes the connections that have no
 * request under way; the others end with their answer.
 * @throws SheepError as `Net.listen` does
 */
export async function listenHttp(server: Server, address: Address): Promise<Listener> {
  const real = await bindServer(server, address);
  return {
    address: real,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeIdleConnections();
    },
  };
}
