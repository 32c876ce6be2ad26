import { Command } from 'commander';
import type { VdiSetView } from '../app/admin-views.ts';
import { SheepError } from '../base/errors.ts';
import type { Collie } from './collie-command.ts';
import { pathOf, vdiRef } from './vdi-names.ts';

/** Rules on a command line: in none of them stands a comma. */
export const ruleList = (text: string): readonly string[] => text.split(',');

/** What can be set, and what a command line's value means to the admin API. */
const SETTINGS: Readonly<Record<string, (value: string) => unknown>> = {
  allow: ruleList,
};

export function setCommand({ call, show }: Collie): Command {
  return new Command('set')
    .description('change what a VDI is served by; its snapshots follow it')
    .argument('<name>')
    .argument('<key=value...>', 'allow=RULE,...: who may attach it')
    .option('--dry-run', 'only tell whom it would shut out')
    .addHelpText('after', HELP_AFTER)
    .action(async (text: string, pairs: readonly string[], options: { dryRun?: true }) => {
      const { name, snapshot } = vdiRef(text);
      if (snapshot !== undefined) {
        const message = `'${text}' is a snapshot and follows its VDI; set '${name}', or clone it`;
        throw new SheepError('ERR_BAD_INPUT', message, { text });
      }
      const dryRun = options.dryRun === true;
      const asked = { ...parseSettings(pairs), dryRun };
      const vdi = await call<VdiSetView>('PATCH', pathOf({ name }), asked);
      show(vdi, (out) => {
        out.line(`${vdi.export} allow=${vdi.allow.join(',')}${dryRun ? ' would be set' : ''}`);
        const verb = dryRun ? 'would be disconnected' : 'disconnected';
        for (const each of vdi.shutOut) out.line(`${each.name} ${verb} from ${each.export}`);
      });
    });
}

const HELP_AFTER = `
Access rules, of which one has to fit:
  default       programs of this machine, and certificates of the sheep's authority
  unix          whoever can open a unix socket of the sheep
  cidr:A/N      the network A/N, IPv4 or IPv6; an address alone is a network of one
  cert:NAME     a client with a certificate of this common name
  psk:USER      a client with the pre-shared key of this user
In names , and % are written %2C and %25. Who is shut out is disconnected; he is told that there is no
such export.

Examples:
  collie vdi set root allow=unix
  collie vdi set root allow=cert:web1.lan,cidr:10.1.0.0/16
  collie vdi set root allow=default,psk:alice
`;

/** @throws SheepError `ERR_BAD_INPUT` for what cannot be set, or is set twice */
function parseSettings(pairs: readonly string[]): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    const key = equals < 0 ? pair : pair.slice(0, equals);
    const parse = Object.hasOwn(SETTINGS, key) ? SETTINGS[key] : undefined;
    if (parse === undefined) throw badSetting(`there is no setting '${key}'`, pair);
    if (equals < 0) throw badSetting(`'${key}' has no value`, pair);
    if (Object.hasOwn(settings, key)) throw badSetting(`'${key}' is set twice`, pair);
    settings[key] = parse(pair.slice(equals + 1));
  }
  return settings;
}

function badSetting(what: string, pair: string): SheepError {
  const known = Object.keys(SETTINGS).join(', ');
  const message = `${what}; give KEY=VALUE with one of these keys: ${known}`;
  return new SheepError('ERR_BAD_INPUT', message, { pair });
}
