import { z } from 'zod';
import { parseAddress } from '../base/address.ts';
import { describeError } from '../base/errors.ts';
import { parseShape } from './store-shape.ts';

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
  directory: z
    .string()
    .min(1, 'give the folder of the store')
    .optional()
    .describe('the store of this node; made at the first start'),
  cluster: z
    .literal('local', {
      error: ({ input }) =>
        `there is no cluster driver ${JSON.stringify(input)}; this sheep works alone: leave the ` +
        'option out, or give local',
    })
    .optional()
    .describe('local: this sheep works alone'),
  format: z
    .string()
    .superRefine((text, context) => {
      try {
        parseShape(text);
      } catch (error) {
        context.addIssue(describeError(error));
      }
    })
    .optional()
    .describe('how cluster snapshots are stored: hash=sha256|sha1,codec=zstd|zlib|none'),
  nbd: z
    .array(Address)
    .min(1, 'give at least one address')
    .optional()
    .describe('where NBD is served: host:port, [v6]:port or unix:/path'),
  nbdGroup: z
    .string()
    .min(1, 'give the name or the number of a group')
    .optional()
    .describe('group of the unix sockets for NBD'),
  nbdMode: z
    .string()
    .regex(/^0?[0-7]{3}$/, 'give permission bits in octal, as in 660')
    .optional()
    .describe('permission bits of these sockets in octal'),
  admin: z
    .array(Address)
    .min(1, 'give at least one address')
    .optional()
    .describe('where collie is served'),
  vdis: z
    .array(z.string())
    .optional()
    .describe('NAME:SIZE of VDIs that are made if they do not exist'),
  tlsCerts: z
    .string()
    .min(1, 'give a directory')
    .optional()
    .describe('folder with ca-cert.pem, server-cert.pem and server-key.pem: offers TLS'),
  tlsPsk: z
    .string()
    .min(1, 'give a file')
    .optional()
    .describe('file with lines of USER:HEX-KEY: offers TLS to who has a key'),
  tlsRequire: z.boolean().optional().describe('serve NBD to nobody outside of TLS'),
  insecureNetwork: z
    .boolean()
    .optional()
    .describe('serve also where other machines can reach it without proof'),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error'])
    .optional()
    .describe('from which level on events are logged'),
  slowRequest: z
    .int('give whole milliseconds, or 0 for none')
    .min(0, 'give whole milliseconds, or 0 for none')
    .optional()
    .describe('requests that take so many milliseconds or longer are logged; 0: none'),
  checksums: z
    .enum(['on', 'off'])
    .optional()
    .describe('whether blocks that are written get a checksum'),
});
export type Settings = z.output<typeof Settings>;

/** The key by which editors find the schema; it is not a setting. */
export const SCHEMA_KEY = '$schema';

/**
 * The same as JSON Schema, for editors and whoever writes such a file by program. What an address
 * must look like is only described there.
 */
export function configJsonSchema(): object {
  const { properties, ...schema } = z.toJSONSchema(Settings, { io: 'input' });
  return {
    ...{ title: 'sheepdog-nbd: the file of sheep --config', ...schema },
    properties: { [SCHEMA_KEY]: { type: 'string' }, ...properties },
  };
}
