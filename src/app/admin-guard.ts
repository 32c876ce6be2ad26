import { createHash, timingSafeEqual } from 'node:crypto';
import { isLocal } from '../base/address.ts';

/** Through which door an admin request came. */
export type Door =
  /** A unix socket: who may open it may ask everything. */
  | { readonly transport: 'unix' }
  | {
      readonly transport: 'tcp';
      /** What the request must carry as `Authorization: Bearer`. */
      readonly token: string;
      /** The host of the address in use, as it was configured. */
      readonly host: string;
      /** Inside TLS: whether the certificate is good for this name. */
      readonly isNamed?: (host: string) => boolean;
    };

type TcpDoor = Extract<Door, { transport: 'tcp' }>;

/** What decides, of a request's head. */
export interface RequestHead {
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly authorization: string | undefined;
}

export interface Refusal {
  readonly status: 401 | 403;
  readonly message: string;
}

/**
 * Nothing for browsers, and over TCP the token. A web page that makes a
 * browser send requests shows itself by its Origin, or, where it had a name resolve to this
 * machine, by a Host that is not ours.
 */
export function refusalOf(head: RequestHead, door: Door): Refusal | undefined {
  if (head.origin !== undefined) {
    return { status: 403, message: 'requests of web pages are not served' };
  }
  if (door.transport === 'unix') return undefined;
  if (head.host === undefined || !isOurs(hostOf(head.host), door)) {
    return {
      status: 403,
      message: `this is not the host ${JSON.stringify(head.host ?? '').slice(0, 100)}`,
    };
  }
  if (sameToken(head.authorization, door.token)) return undefined;
  return {
    status: 401,
    message:
      'this needs the token in admin.token of the store, as Authorization: Bearer TOKEN; ' +
      'collie reads it from the file that COLLIE_TOKEN_FILE names',
  };
}

/** `Host` without its port, and without the brackets of an IPv6 address. */
function hostOf(header: string): string {
  return header.replace(/:\d*$/, '').replace(/^\[(.*)\]$/, '$1');
}

/**
 * A name can be made to resolve to any machine, an address cannot; and nobody has a certificate for
 * the name of another.
 */
function isOurs(asked: string, { host: listening, isNamed }: TcpDoor): boolean {
  if (asked === listening || isLocal({ host: asked }) || isNamed?.(asked)) return true;
  return !isLocal({ host: listening }) && /^[\d.]+$|:/.test(asked);
}

/** Takes the same time wherever they differ. */
function sameToken(authorization: string | undefined, token: string): boolean {
  const given = /^Bearer ([\x21-\x7e]+)$/i.exec(authorization ?? '')?.[1] ?? '';
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
