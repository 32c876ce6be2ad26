import type { BlockDevice, DeviceInfo } from './block-device.ts';

/** Who asks: what decides whether an export is shown and opened. */
export interface Client {
  /** `unix:PATH` or `ADDRESS:PORT`, for logs and lists. */
  readonly name: string;
  readonly transport: 'tcp' | 'unix';
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
