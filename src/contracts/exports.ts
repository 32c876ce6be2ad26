import type { BlockDevice, DeviceInfo } from './block-device.ts';

/** What a client has proven over TLS: a certificate of our authority, or that it has a user's key. */
export type Proof =
  | { readonly kind: 'certificate'; readonly commonName: string }
  | { readonly kind: 'psk'; readonly user: string };

/** Who asks: what decides whether an export is shown and opened. */
export interface Client {
  /** `unix:PATH` or `ADDRESS:PORT`, for logs and lists. */
  readonly name: string;
  readonly transport: 'tcp' | 'unix';
  /** Its IP address as text, over TCP. */
  readonly address?: string;
  /** Set once the connection is inside TLS and the client has proven something there. */
  readonly proof?: Proof;
  /** Ends its connection at once. Absent: it is no connection, but a part of this program. */
  disconnect?(): void;
}

export interface ExportEntry {
  readonly name: string;
  readonly description: string;
}

/** What the NBD server serves. It knows nothing of VDIs: it asks by name and gets a BlockDevice. */
export interface Exports {
  list(client: Client): Promise<readonly ExportEntry[]>;
  /** Cheap: nothing is opened. Unknown and forbidden look alike: undefined. */
  info(name: string, client: Client): Promise<DeviceInfo | undefined>;
  /** One call a connection; disposing the device ends that connection's use of it. */
  open(name: string, client: Client): Promise<BlockDevice | undefined>;
}
