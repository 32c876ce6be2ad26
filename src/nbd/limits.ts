import { assert } from '../base/assert.ts';
import { BLOCK_BYTES, GiB, KiB, MiB } from '../base/units.ts';

/** Everything a stranger could ask too much of, and how much we give. */
export const NBD_LIMITS = {
  // Told to clients ("NBD_INFO_BLOCK_SIZE").
  /** Any offset and length is served; what is smaller than a block costs a read before the write. */
  blockMinBytes: 1,
  /** Not the object size: clients would raise their requests to it. */
  blockPreferredBytes: 64 * KiB,
  /** Some clients send 48 MiB without asking. */
  payloadMaxBytes: 64 * MiB,

  // Handshake.
  /** From accept to the first request; the clock does not start anew with each option. */
  handshakeMs: 10_000,
  /** Clients in handshake at once; who leaves when one more comes: see admission.ts. An honest one
   * whose handshake takes half a second is safe from up to 2,000 strangers a second. */
  handshakesMax: 1024,
  /** Of these, how many may be in the handshake of TLS, which holds 60 KiB more; the others wait. */
  tlsHandshakesMax: 128,
  /** After so long in it a client has to leave if others wait. */
  tlsTurnMs: 1_000,
  /** Clients at once, those in handshake included; fewer where few files may be open. */
  connectionsMax: 4096,
  /** Of both, what one host may have; so no host locks the others out. */
  hostShare: 0.5,
  /** Of each event that clients cause before they are attached, so many lines in so long. */
  strangerLines: 10,
  strangerLinesMs: 60_000,
  /** Options that a client may send, and as many more for each export that it was shown: tools ask
   * two or three questions about each. */
  optionsMax: 64,
  optionsPerExport: 4,
  /** The largest legal option needs 132 KiB. */
  optionBytesMax: 1 * MiB,
  /** Up to here a larger option is skipped and refused; above, the connection ends. */
  optionSkipMaxBytes: 16 * MiB,
  /** An option, or the replies to one, longer than this … */
  optionAssuredBytes: 16 * KiB,
  /** … takes what it needs from this, which all handshakes share; nothing left: it is refused. */
  optionsSharedBytes: 16 * MiB,
  /** Names, contexts and descriptions ("Values": strings). */
  stringMaxBytes: 4096,
  /** Queries for metadata contexts in one option. */
  queriesMax: 1024,
  /** Metadata contexts that a client may select. */
  contextsMax: 64,
  /** Of a name that we repeat to somebody else. */
  echoMaxCharacters: 80,

  // Transmission.
  /** Requests of one connection that wait for the device; then it is read no further. */
  requestsMax: 1024,
  /** Requests of one connection are begun for so long; then the others have their turn. */
  turnMs: 5,
  /** One unit of reply memory. Replies of one received chunk are sent together. */
  slabBytes: 256 * KiB + BLOCK_BYTES,
  /** Reply memory of one connection, unsent or being filled; then it is read no further. */
  slabsMax: 32,
  /** Each connection may have this much while all together have less than `slabsTotalMax`, … */
  slabsAssured: 9,
  /** … and more only while all together have less than this. */
  slabsSharedMax: 512,
  /** All together; above, a connection may have one, and the next when that has left. */
  slabsTotalMax: 1024,
  /** Free slabs that are kept. A fresh one for each chunk cost a factor of forty. */
  slabsIdleMax: 64,
  /** Gathered replies are sent when they are this many, so that the client can go to work. */
  gatherBytes: 128 * KiB,
  /** A larger READ is cut at multiples of this. */
  readPieceBytes: 256 * KiB,
  /** Up to here a READ that must not be cut on the wire is complete in memory before its header
   * goes out, so that an error can still be told. Longer: see large-read.ts. */
  readWholeMaxBytes: 2 * MiB,
  /** From this size on the device is asked whether a READ is all zeroes. */
  holeProbeBytes: 64 * KiB,
  /** Payload goes to the device in pieces. Larger ones make large folios in the page cache, and
   * later 4 KiB writes to the same bytes cost more; 64 KiB and less cost the large write more. */
  writePieceBytes: 256 * KiB,
  /** The payload of a refused WRITE is swallowed up to here; above, the connection ends. */
  writeSkipMaxBytes: 128 * MiB,
  /** Extents in one BLOCK_STATUS reply, all contexts together. */
  extentsMax: 8192,
  /** BLOCK_STATUS requests of one connection that wait for the device; then it is read no further:
   * each may come to as many extents as above, and where the device knows them all, it goes through
   * them for milliseconds without a turn for others. */
  statusesMax: 2,
  /** Of a CACHE so much is followed, in steps of so much. */
  prefetchMaxBytes: 64 * MiB,
  prefetchStepBytes: 4 * MiB,
  /** A request that takes this long or longer is told in the log; 0: none is. */
  slowRequestMs: 1_000,
  /** Lines for them in `slowLinesMs`; the next one says how many were left out. */
  slowLines: 5,
  slowLinesMs: 1_000,
  /** Exports whose requests are counted, of those that nobody has attached any more. */
  metersMax: 4096,
  /** A client that takes none of its replies for so long is gone. */
  unreadMs: 60_000,
  /** A connection whose last reply has left waits so long for the other side to close too. */
  lingerMs: 2_000,
  /** So long after the end of what a client sends it may be there still, and wait for answers; then
   * what goes on in steps is given up. One that is gone looks the same. */
  goneMs: 10_000,
  /** How often the four times above are looked at. */
  sweepMs: 1_000,
  /** Different events of one connection that are said; each is said once. */
  connectionLines: 64,
  /** Of an error's text ("NBD_REPLY_TYPE_ERROR" allows 4096). */
  errorTextMaxBytes: 512,
  /** Served sizes stay exact as numbers. */
  sizeMaxBytes: 2 ** 53 - 1,
};
export type NbdLimits = Readonly<typeof NBD_LIMITS>;

/** The longest frame before the data of a READ: an extended header and its offset. */
const READ_HEADER_BYTES = 40;

/** Relations that the code relies on; a set of limits that breaks one is refused at start. */
export function checkLimits(limits: NbdLimits): NbdLimits {
  const whole = Math.ceil(limits.readWholeMaxBytes / limits.readPieceBytes) + 1;
  assert(limits.slabBytes >= limits.readPieceBytes + READ_HEADER_BYTES, 'a piece fits a slab');
  assert(limits.slabsAssured >= whole, 'a whole READ fits what one is assured of');
  assert(limits.slabsMax >= limits.slabsAssured, 'the assured slabs are some of all');
  assert(limits.slabsTotalMax >= limits.slabsSharedMax, 'what is shared is a part of the total');
  assert(limits.slabsTotalMax >= limits.slabsAssured, 'one connection has what it is assured of');
  assert(limits.slabBytes >= 40 + 16 * limits.extentsMax, 'an extent list fits a slab');
  assert(limits.extentsMax >= limits.contextsMax, 'each context has an extent');
  assert(limits.slabBytes >= 38 + limits.errorTextMaxBytes, 'an error fits a slab');
  assert(limits.readPieceBytes % BLOCK_BYTES === 0, 'pieces end at block borders');
  assert(limits.writePieceBytes % BLOCK_BYTES === 0, 'pieces end at block borders');
  assert(limits.readWholeMaxBytes >= 64 * KiB, 'an unfragmented READ of 64 KiB must work');
  assert(limits.payloadMaxBytes >= 32 * MiB, 'payloads up to 32 MiB must work');
  assert(limits.writeSkipMaxBytes >= limits.payloadMaxBytes, 'what is legal can be skipped');
  assert(limits.writeSkipMaxBytes < 4 * GiB, 'a length is 32 bits');
  assert(limits.optionBytesMax >= 135_172, 'the largest legal GO is accepted');
  assert(limits.optionsSharedBytes >= limits.optionBytesMax, 'the largest option is accepted');
  assert(limits.optionAssuredBytes >= 16 * KiB, 'what is skipped needs nothing of the others');
  assert(limits.optionSkipMaxBytes >= limits.optionBytesMax, 'what is legal can be skipped');
  assert(limits.hostShare > 0 && limits.hostShare <= 1, 'a share is a part of all');
  assert(limits.blockPreferredBytes >= 512, 'the preferred block is at least a sector');
  return limits;
}
