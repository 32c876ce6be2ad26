import { SheepError } from '../base/errors.ts';

/** A VDI, or one of its snapshots by tag or ID. */
export interface VdiRef {
  readonly name: string;
  readonly snapshot?: string;
}

/**
 * What a command line means by `NAME`, `NAME@TAG` or `-s TAG NAME`; whether there is such a one is
 * the sheep's to say. @throws SheepError `ERR_BAD_INPUT` for an empty part, or two snapshots
 */
export function vdiRef(text: string, tag?: string): VdiRef {
  const at = text.indexOf('@');
  const name = at < 0 ? text : text.slice(0, at);
  const behind = at < 0 ? undefined : text.slice(at + 1);
  if (name === '') throw badInput(`'${text}' has no name of a VDI; give NAME or NAME@TAG`, text);
  const snapshot = behind ?? tag;
  if (snapshot === undefined) return { name };
  if (snapshot === '') throw badInput('a tag has at least one character; give NAME@TAG', text);
  if (tag === undefined || tag === snapshot) return { name, snapshot };
  const message = `'${text}' is the snapshot '${snapshot}', and -s says '${tag}'; give one of them`;
  throw badInput(message, text);
}

/**
 * The same, where there must be a snapshot.
 * @param use  the command as it is written with one, for the refusal
 */
export function snapshotRef(text: string, tag: string | undefined, use: string): Required<VdiRef> {
  const { name, snapshot } = vdiRef(text, tag);
  if (snapshot !== undefined) return { name, snapshot };
  throw badInput(`which snapshot? Give its tag: 'collie vdi ${use}'`, text);
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

function badInput(message: string, text: string): SheepError {
  return new SheepError('ERR_BAD_INPUT', message, { text });
}
