/**
 * What holds where nothing is set. Apart from load.ts, because whoever only looks for a sheep must not
 * wait until all that checks settings is loaded.
 */
export const DIRECTORY_DEFAULT = './sheepdog-data';
export const NBD_DEFAULT = '127.0.0.1:10809';
export const ADMIN_TCP_DEFAULT = '127.0.0.1:7001';
export const SLOW_REQUEST_MS_DEFAULT = 1000;
