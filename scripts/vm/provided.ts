import type { TestProject } from 'vitest/node';
import { type GuestFiles, provideGuestFiles } from './guest-files.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** null where a person cannot have a guest. */
    readonly guest: GuestFiles | null;
  }
}

/**
 * Global set-up of the suite `vm`: the guest, built once.
 * @throws Error where CI is set and there is none: there a test that does not run is a failure
 */
export default function setup(project: TestProject): void {
  project.provide('guest', guestFiles());
}

function guestFiles(): GuestFiles | null {
  try {
    return provideGuestFiles(() => undefined);
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    return null;
  }
}
