import { SheepError } from '../base/errors.ts';

/** A VDI, or one of its snapshots by tag or ID. */
export interface VdiRef {
  readonly name: string;
  readonly snapshot?: string;
}

/**
 * What a command line means by `NAME`, `NAME@TAG` or `-s TAG NAME`; whether there is such a name is
 * the sheep's to say. @throws SheepError `ERR_BAD_INPUT` if it names two snapshots
 */
export function vdiRef(text: string, tag?: string): VdiRef {
  const at = text.indexOf('@');
  if (at < 0) return tag === undefined ? { name: text } : { name: text, snapshot: tag };
  const [name, snapshot] = [text.slice(0, at), text.slice(at + 1)];
  if (tag === undefined || tag === snapshot) return { name, snapshot };
  throw new SheepError(
    'ERR_BAD_INPUT',
    `'${text}' is the snapshot '${snapshot}', and -s says '${tag}'; give one of them`,
    { text, tag },
  );
}

/**
 * The same, where there must be a snapshot.
 * @param use  the command as it is written with one, for the refusal
 */
export function snapshotRef(text: string, tag: string | undefined, use: string): Required<VdiRef> {
  const { name, snapshot } = vdiRef(text, tag);
  if (snapshot !== undefined) return { name, snapshot };
  throw new SheepError('ERR_BAD_INPUT', `which snapshot? Give its tag: 'collie vdi ${use}'`, {
    name,
  });
}

/** As its clients call it. */
export function exportOf({ name, snapshot }: VdiRef): string {
  return snapshot === undefined ? name : `${name}@${snapshot}`;
}

/** Where the admin API has it. */
export function pathOf({ name, snapshot }: VdiRef): string {
  const vdi = `/v1/vdis/${segment(name)}`;
  return snapshot === undefined ? vdi : `${vdi}/snapshots/${segment(snapshot)}`;
}

function segment(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}
