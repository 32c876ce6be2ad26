import { z } from 'zod';
import { parseAddress } from '../base/address.ts';
import { describeError } from '../base/errors.ts';

/** `host:port`, `[v6]:port` or `unix:PATH`. */
const Address = z.string().superRefine((text, context) => {
  try {
    if ('fd' in parseAddress(text)) {
      context.addIssue('give host:port, [v6]:port or unix:PATH');
    }
  } catch (error) {
    context.addIssue(describeError(error));
  }
});

/**
 * What `sheep` can be told, by flags or in the file of `--config`; the names of the flags are these
 * with dashes. Unknown keys are refused: a misspelt setting must not become a silent default.
 */
export const Settings = z.strictObject({
  directory: z.string().min(1, 'give the folder of the store').optional(),
  cluster: z
    .literal('local', {
      error: ({ input }) =>
        `there is no cluster driver ${JSON.stringify(input)}; this sheep works alone: leave the ` +
        'option out, or give local',
    })
    .optional(),
  nbd: z.array(Address).min(1, 'give at least one address').optional(),
  nbdGroup: z.string().min(1, 'give the name or the number of a group').optional(),
  nbdMode: z
    .string()
    .regex(/^0?[0-7]{3}$/, 'give permission bits in octal, as in 660')
    .optional(),
  admin: z.array(Address).min(1, 'give at least one address').optional(),
  vdis: z.array(z.string()).optional(),
  tlsCerts: z.string().min(1, 'give a directory').optional(),
  tlsPsk: z.string().min(1, 'give a file').optional(),
  tlsRequire: z.boolean().optional(),
  insecureNetwork: z.boolean().optional(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).optional(),
  slowRequest: z
    .int('give whole milliseconds, or 0 for none')
    .min(0, 'give whole milliseconds, or 0 for none')
    .optional(),
  checksums: z.enum(['on', 'off']).optional(),
});
export type Settings = z.output<typeof Settings>;
