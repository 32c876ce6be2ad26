import type { Proof } from '../contracts/exports.ts';

/** What an administrator wants to know of an attached client. */
export interface ConnectionInfo {
  readonly client: string;
  readonly transport: 'tcp' | 'unix';
  /** What it has proven inside TLS. */
  readonly proof?: Proof;
  readonly exportName: string;
  readonly readOnly: boolean;
  /** Wall time, in milliseconds. */
  readonly attachedAtMs: number;
  readonly requests: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly inFlight: number;
  /** Replies that wait for the client to take them. */
  readonly untakenBytes: number;
}

/** As a rule of access would name it. */
export function proofText(proof: Proof | undefined): string | undefined {
  if (proof === undefined) return undefined;
  return proof.kind === 'psk' ? `psk:${proof.user}` : `cert:${proof.commonName}`;
}
