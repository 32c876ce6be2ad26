import { type FaultCode, SheepError } from '../base/errors.ts';

const CODES: Readonly<Record<string, FaultCode>> = {
  ENOENT: 'ERR_NOT_FOUND',
  EEXIST: 'ERR_EXISTS',
  ENOSPC: 'ERR_NO_SPACE',
  EDQUOT: 'ERR_NO_SPACE',
};

/** What the operating system refused, as a SheepError; anything else is a bug and stays as it is. */
export function diskError(error: unknown, operation: string, path: string): unknown {
  const errno = systemCode(error);
  if (errno === undefined) return error;
  // Only flock answers EAGAIN here: files are opened without O_NONBLOCK.
  const code = errno === 'EAGAIN' ? 'ERR_BUSY' : (CODES[errno] ?? 'ERR_IO');
  return new SheepError(code, `cannot ${operation} ${path}: ${errno}`, { path, errno }, error);
}

/** The name of a system call's failure, such as ENOENT. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error && 'syscall' in error && 'code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** What `act` gives; what it throws becomes a SheepError. */
export async function attempt<T>(
  operation: string,
  path: string,
  act: () => Promise<T>,
): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw diskError(error, operation, path);
  }
}
