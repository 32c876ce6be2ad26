import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SheepError } from '../../src/base/errors.ts';
import { fromFile, loadConfig } from '../../src/config/load.ts';
import { run, SHEEP } from '../app/daemon.ts';
import type { Case } from './cases.ts';

/** What was refused, or undefined for settings that a sheep would start with. */
function refused(text: string): SheepError | undefined {
  try {
    loadConfig([fromFile('sheep.json', text)]);
    return undefined;
  } catch (error) {
    if (error instanceof SheepError && error.code === 'ERR_BAD_INPUT') return error;
    throw new Error('settings end in an error that is no refusal', { cause: error });
  }
}

/**
 * Settings are taken, or refused with a sentence. Refused ones are shown to a real sheep too; others
 * it would start with, wherever they say.
 * @param directory  for the file
 * @throws Error if it is otherwise
 */
export async function playSettings({ at, parts }: Case, directory: string): Promise<void> {
  const text = Buffer.concat(parts).toString();
  if (refused(text) === undefined || at === 'settings') return;
  const path = join(directory, 'settings.json');
  await writeFile(path, text);
  const { status, err } = await run(SHEEP, ['--config', path]);
  const sentence = err.startsWith('sheep: ') && !/\n\s+at /.test(err);
  if (status !== 2 || !sentence) throw new Error(`sheep ended with ${status} and said: ${err}`);
}
