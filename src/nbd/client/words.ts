/** "NBD_REPLY_TYPE_ERROR": no text is longer. */
const TEXT_MAX_BYTES = 4096;

/**
 * What a server says, fit for a log or a terminal: cut, never refused, and without what would move
 * a cursor.
 */
export function forPeople(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(0, TEXT_MAX_BYTES));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what has to go
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim();
}

/** "Values": a string of at most 4096 bytes of UTF-8, without NUL. */
export function isProtocolString(text: string): boolean {
  const whole = new TextEncoder().encode(text);
  return whole.length <= TEXT_MAX_BYTES && !text.includes('\0') && text.isWellFormed();
}
