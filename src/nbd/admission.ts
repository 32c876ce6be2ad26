import { formatIp, masked, parseIp, unmapped } from '../base/ip.ts';
import type { ByteStream } from '../contracts/net.ts';
import type { NbdLimits } from './limits.ts';

/** Of an IPv6 address: what a provider gives to one customer. */
const IPV6_HOST_BITS = 64;

/** A place inside, perhaps one that another has to leave; or whose places are all taken. */
export type Verdict<One> =
  | { readonly place: true; readonly evicted?: One }
  | { readonly place: false; readonly full: 'server' | 'host' };

/** The connections of one host. */
interface Crowd<One> {
  readonly host: string;
  places: number;
  /** In handshake, the oldest first. */
  readonly waiting: Set<One>;
}

/**
 * Who may be inside at once; bookkeeping only, no connection is touched. An attached client is never
 * put out, because it holds a disk. A newcomer takes the place of the handshake that lasts longest
 * where none is free: an honest client is through in milliseconds, so the oldest is the one that
 * does not mean it, and refusing the newcomer would let silent strangers lock everybody out. No host
 * has more than its share, so that a flood from one costs its own connections first.
 */
export class Admission<One> {
  readonly #connectionsMax: number;
  readonly #handshakesMax: number;
  readonly #hostShare: number;
  readonly #crowds = new Map<string, Crowd<One>>();
  readonly #inside = new Map<One, Crowd<One>>();
  readonly #waiting = new Set<One>();

  constructor({ connectionsMax, handshakesMax, hostShare }: NbdLimits) {
    this.#connectionsMax = connectionsMax;
    this.#handshakesMax = handshakesMax;
    this.#hostShare = hostShare;
  }

  /** In handshake, the oldest first. */
  get waiting(): ReadonlySet<One> {
    return this.#waiting;
  }

  /** Whether one more from `host` may come in; whoever is `evicted` is inside no longer. */
  ask(host: string): Verdict<One> {
    const crowd = this.#crowds.get(host);
    const ofHost = crowd !== undefined && this.#hasItsShare(crowd);
    const ofAll =
      this.#inside.size >= this.#connectionsMax || this.#waiting.size >= this.#handshakesMax;
    if (!ofHost && !ofAll) return { place: true };
    const [evicted] = ofHost ? crowd.waiting : this.#waiting;
    if (evicted === undefined) return { place: false, full: ofHost ? 'host' : 'server' };
    this.leave(evicted);
    return { place: true, evicted };
  }

  /** It is in handshake from now on. */
  enter(one: One, host: string): void {
    const crowd = this.#crowds.get(host) ?? { host, places: 0, waiting: new Set() };
    this.#crowds.set(host, crowd);
    crowd.places += 1;
    crowd.waiting.add(one);
    this.#inside.set(one, crowd);
    this.#waiting.add(one);
  }

  /** It is through the handshake. */
  attached(one: One): void {
    this.#inside.get(one)?.waiting.delete(one);
    this.#waiting.delete(one);
  }

  /** It is gone, or as good as gone; nothing happens if it left before. */
  leave(one: One): void {
    const crowd = this.#inside.get(one);
    if (crowd === undefined) return;
    this.attached(one);
    this.#inside.delete(one);
    crowd.places -= 1;
    if (crowd.places === 0) this.#crowds.delete(crowd.host);
  }

  #hasItsShare({ places, waiting }: Crowd<One>): boolean {
    const share = (max: number) => Math.ceil(max * this.#hostShare);
    return places >= share(this.#connectionsMax) || waiting.size >= share(this.#handshakesMax);
  }
}

/**
 * Who counts as one: an IPv4 address, a network of IPv6 as a provider gives it to one customer, or
 * all clients of one unix socket.
 */
export function hostOf({ peerAddress, peerName }: ByteStream): string {
  const [text = ''] = (peerAddress ?? '').split('%');
  const parsed = parseIp(text);
  if (parsed === undefined) return peerName;
  const address = unmapped(parsed);
  return formatIp(address.length === 4 ? address : masked(address, IPV6_HOST_BITS));
}
