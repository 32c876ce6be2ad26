import { EXPORT_FLAG } from '../constants.ts';
import type { ReplyForm } from '../validate.ts';

/** What a server told of its export and agreed to; fixed for a connection. */
export interface ServerTerms {
  readonly sizeBytes: number;
  /** For people; '' if it told none. */
  readonly description: string;
  /** "Transmission flags". */
  readonly flags: number;
  readonly form: ReplyForm;
  /** The metadata contexts that were selected, with the id of each. */
  readonly contexts: ReadonlyMap<string, number>;
  readonly blocks: BlockSizes;
}

/** "NBD_INFO_BLOCK_SIZE": powers of two but for the last. */
export interface BlockSizes {
  /** Offsets and lengths are multiples of it. */
  readonly minimumBytes: number;
  readonly preferredBytes: number;
  /** Of the data in one READ or WRITE. */
  readonly payloadMaxBytes: number;
}

/** What holds for a server that tells no sizes ("Block size constraints"). */
export const DEFAULT_BLOCKS: BlockSizes = {
  minimumBytes: 1,
  preferredBytes: 4096,
  payloadMaxBytes: 32 * 1024 * 1024,
};

export function offers(terms: ServerTerms, flag: keyof typeof EXPORT_FLAG): boolean {
  return (terms.flags & EXPORT_FLAG[flag]) !== 0;
}
