import { CMD, ERRNO } from './constants.ts';
import type { Refusal } from './errno.ts';
import type { Head } from './head.ts';
import type { InFlight } from './in-flight.ts';
import type { MetaContext } from './meta-contexts.ts';
import type { Statuses } from './statuses.ts';
import { refusal, type Terms } from './validate.ts';

const NO_PAYLOAD: Refusal = { errno: ERRNO.EINVAL, text: 'no payload belongs to this request' };
const BAD_LIST: Refusal = { errno: ERRNO.EINVAL, text: 'the payload is no list of contexts' };
/** effect length u64, then context id u32 for each ("NBD_CMD_BLOCK_STATUS"). */
const LENGTH_BYTES = 8;
const ID_BYTES = 4;

/**
 * Payload of other commands than WRITE, which extended headers make possible ("NBD_CMD_FLAG_
 * PAYLOAD_LEN"). Only that of a BLOCK_STATUS means something: it names some of the contexts. All
 * others are swallowed, and their requests refused.
 */
export class ExtraPayload {
  readonly #flight: InFlight;
  readonly #head: Head;
  readonly #terms: Terms;
  readonly #statuses: Statuses;
  #refused: Refusal | undefined;
  /** What has come of the current payload, unless it is refused. */
  #bytes = new Uint8Array(0);
  #length = 0;

  /** @param head  the connection's: it stays what it is until the payload is over */
  constructor(flight: InFlight, head: Head, terms: Terms, statuses: Statuses) {
    this.#flight = flight;
    this.#head = head;
    this.#terms = terms;
    this.#statuses = statuses;
  }

  /** @returns false if the payload is too long to be swallowed */
  begin(): boolean {
    const head = this.#head;
    const refused = unwanted(this.#terms, head);
    this.#refused = refused;
    this.#length = 0;
    if (refused === undefined) this.#bytes = new Uint8Array(head.length);
    else if (head.length === 0) this.#refuse(refused);
    return head.length <= this.#flight.limits.payloadMaxBytes;
  }

  push(bytes: Uint8Array, last: boolean): void {
    if (this.#refused === undefined) {
      this.#bytes.set(bytes, this.#length);
      this.#length += bytes.length;
      if (last) this.#status();
    } else if (last) {
      this.#refuse(this.#refused);
    }
  }

  #refuse(refused: Refusal): void {
    this.#flight.stopwatch.take(this.#head, 0);
    this.#flight.answerRefusal(this.#head, refused);
  }

  #status(): void {
    const head = this.#head;
    const view = new DataView(this.#bytes.buffer);
    const chosen = chosenContexts(this.#terms, view);
    // From here on it says how much it is about, as in any other request.
    head.length = Number(view.getBigUint64(0));
    const refused =
      chosen.length === 0 ? BAD_LIST : refusal(this.#terms, this.#flight.limits, head);
    if (refused !== undefined) {
      this.#refuse(refused);
      return;
    }
    this.#flight.stopwatch.take(head, head.length);
    this.#statuses.begin(head, chosen);
  }
}

/** Why a payload is only swallowed, or undefined. Pure. */
function unwanted({ contexts }: Terms, { type, length }: Head): Refusal | undefined {
  if (type !== CMD.BLOCK_STATUS || contexts.length === 0) return NO_PAYLOAD;
  const listBytes = length - LENGTH_BYTES;
  // A longer one names a context twice, or one that was not agreed.
  const fits = listBytes >= 0 && listBytes <= ID_BYTES * contexts.length;
  return fits && listBytes % ID_BYTES === 0 ? undefined : BAD_LIST;
}

/** The contexts that a payload names, in the terms' order; none if it names one wrongly. Pure. */
function chosenContexts({ contexts }: Terms, view: DataView): readonly MetaContext[] {
  const ids = new Set<number>();
  for (let at = LENGTH_BYTES; at < view.byteLength; at += ID_BYTES) ids.add(view.getUint32(at));
  const chosen = contexts.filter(({ id }) => ids.has(id));
  return LENGTH_BYTES + ID_BYTES * chosen.length === view.byteLength ? chosen : [];
}
