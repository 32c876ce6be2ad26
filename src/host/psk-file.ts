import { SheepError } from '../base/errors.ts';

/** A shorter key could be found by trying, from one handshake that somebody recorded. */
const KEY_BYTES_MIN = 16;
/** What every TLS library takes, keys and names. */
const KEY_BYTES_MAX = 64;
const USER_BYTES_MAX = 128;

/**
 * Reads pre-shared keys: a line `user:key` for each user, the key in hexadecimal digits, as
 * psktool(1) writes them and QEMU and libnbd read them. Empty lines mean nothing.
 * @throws SheepError `ERR_BAD_INPUT` with the number of the line, and never what stands in it
 */
export function parsePskFile(text: string, path: string): ReadonlyMap<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const bad = (why: string) =>
      new SheepError('ERR_BAD_INPUT', `line ${index + 1} of ${path}: ${why}`, { path });
    if (line.trim() === '') continue;
    const colon = line.lastIndexOf(':');
    if (colon === -1) throw bad('a line is USER:KEY');
    const [user, key] = [line.slice(0, colon), line.slice(colon + 1).trim()];
    // GnuTLS reads a name after `#` as hexadecimal digits: it would mean another user here.
    if (!/^[^\p{Cc}#][^\p{Cc}]*$/u.test(user)) throw bad("no name of a user stands before the ':'");
    if (new TextEncoder().encode(user).length > USER_BYTES_MAX) {
      throw bad(`a name of more than ${USER_BYTES_MAX} bytes`);
    }
    if (!/^(?:[0-9a-f]{2})+$/i.test(key)) {
      throw bad("the key after the ':' is not in hexadecimal digits, two for each byte");
    }
    const bytes = Buffer.from(key, 'hex');
    if (bytes.length < KEY_BYTES_MIN || bytes.length > KEY_BYTES_MAX) {
      throw bad(
        `a key has ${KEY_BYTES_MIN} to ${KEY_BYTES_MAX} bytes; make one: openssl rand -hex 32`,
      );
    }
    if (keys.has(user)) throw bad('this user has a key already');
    keys.set(user, bytes);
  }
  if (keys.size > 0) return keys;
  throw new SheepError('ERR_BAD_INPUT', `${path} holds no key: a line is USER:KEY`, { path });
}
