import { exportName, type VolumeRecord } from '../vdi/record.ts';
import type { AdminSubject } from './admin-subject.ts';
import type { DeletionView, VdiInfoView, VdiView } from './admin-views.ts';

/** What requests of the admin API may look like, and how a record is shown. */

/** vdi/names.ts says which, and why; so of tags. */
export const NAME = { type: 'string', maxLength: 4096 } as const;
/** Bytes, or a text with a suffix: vdi/names.ts says which. */
export const SIZE = {
  anyOf: [
    { type: 'integer', minimum: 0 },
    { type: 'string', maxLength: 40 },
  ],
} as const;
export const DRY_RUN_QUERY = {
  type: 'object',
  additionalProperties: false,
  properties: { dryRun: { enum: ['true', 'false'] } },
} as const;

/** A body with these fields, and no other. */
export function body<Properties extends object>(
  properties: Properties,
  required: readonly (keyof Properties)[],
) {
  return { type: 'object', required, additionalProperties: false, properties } as const;
}

export const VDI_PATH = '/v1/vdis/:name';
export const SNAPSHOT_PATH = `${VDI_PATH}/snapshots/:snapshot`;

export interface ByName {
  readonly name: string;
}
export interface BySnapshot extends ByName {
  /** By tag or ID. */
  readonly snapshot: string;
}
export interface DryRunQuery {
  readonly dryRun?: 'true' | 'false';
}

export function shown(record: VolumeRecord, { volumes }: AdminSubject): VdiView {
  const name = exportName(record);
  const isServed = record.state === 'ready' || record.state === 'snapshot';
  const clients = isServed ? volumes.clients(name) : [];
  return {
    ...record,
    export: name,
    clients: clients.map((client) => ({ name: client.name, transport: client.transport })),
  };
}

/** With the access rules that count: a snapshot's are those of its VDI. */
export async function infoOf(record: VolumeRecord, subject: AdminSubject): Promise<VdiInfoView> {
  const { directory, volumes } = subject;
  const { own, all } = await volumes.countObjects(exportName(record));
  const parent = (await directory.ancestors(record)).find(({ state }) => state === 'snapshot');
  return {
    ...shown(record, subject),
    allow: await directory.rulesOf(record),
    ...{ objects: own, sharedObjects: all - own },
    ...(parent !== undefined && { madeFrom: exportName(parent) }),
  };
}

export async function deletionsOf(subject: AdminSubject): Promise<DeletionView[]> {
  return (await subject.deletions.pending()).map((record) => {
    const progress = subject.deletions.progress(record.vid);
    return { ...shown(record, subject), ...(progress !== undefined && { progress }) };
  });
}
