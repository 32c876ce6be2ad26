/** Arguments and options that several commands have; apart from what they need to run. */

/** The argument of every command on backups. */
export const DIRECTORY = ['<directory>', 'the store of backups'] as const;
/** The argument of those on one of them. */
export const ID = ['<id>', 'the beginning of the ID of a backup, or its tag'] as const;

/** Of what moves the bytes of VDIs. */
export const NBD_OPTION = [
  '--nbd <address>',
  'where the sheep serves NBD (default: where it says it does)',
] as const;
