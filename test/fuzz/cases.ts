/** One thing that somebody does to a sheep, as data: made at random, kept when it found something. */
export interface Case {
  /** What was found by it, or what it is about. */
  readonly why?: string;
  readonly at: Surface;
  /** Sent one after the other, with a pause between them: what comes along may matter. */
  readonly parts: readonly Uint8Array[];
  readonly end: End;
  /** What comes back is not taken. */
  readonly deaf: boolean;
}

/**
 * Where: the NBD socket, over TCP, a unix socket or inside of TLS with a key or a certificate, or where
 * TLS has to begin; the admin API with its token and without, over its unix socket, inside of TLS with
 * a certificate, and where TLS has to begin; settings, read in this process and by a sheep with
 * `--config`.
 */
export const SURFACES = [
  'tcp',
  'unix',
  'psk',
  'certificate',
  'nbd tls',
  'token',
  'no token',
  'admin',
  'https token',
  'https no token',
  'https tls',
  'settings',
  'config',
] as const;
export type Surface = (typeof SURFACES)[number];

/** How it ends: as clients go, at once, or not before everything else of its batch is over. */
export const ENDS = ['close', 'reset', 'hold'] as const;
export type End = (typeof ENDS)[number];

/** As it is kept in a file: bytes in base64, for the bytes of most are no text. */
export function caseToJson({ parts, ...rest }: Case): object {
  return { ...rest, parts: parts.map((part) => Buffer.from(part).toString('base64')) };
}

/** @throws Error for what `caseToJson` does not make */
export function caseFromJson(value: unknown): Case {
  const { why, at, parts, end, deaf } = value as Record<keyof Case, unknown>;
  const surface = SURFACES.find((one) => one === at);
  const how = ENDS.find((one) => one === end);
  if (surface === undefined || how === undefined || !Array.isArray(parts)) {
    throw new Error(`this is no case: ${JSON.stringify(value).slice(0, 200)}`);
  }
  return {
    ...(typeof why === 'string' && { why }),
    at: surface,
    parts: parts.map((part) => Buffer.from(String(part), 'base64')),
    end: how,
    deaf: deaf === true,
  };
}
