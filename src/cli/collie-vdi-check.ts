import { Command } from 'commander';
import type { CheckLine } from '../app/admin-views.ts';
import type { Flaw } from '../app/check-device.ts';
import type { Collie } from './collie-command.ts';
import { formatBytes } from './output.ts';
import { pathOf, vdiRef } from './vdi-names.ts';

/** `collie vdi check`. */
export function checkCommand({ lines, show, progress, fail }: Collie): Command {
  return new Command('check')
    .description('read and prove all of a VDI or snapshot; exit status 1 if something is wrong')
    .argument('<name[@tag]>')
    .action(async (text: string) => {
      const flaws: Flaw[] = [];
      using bar = progress(`proving the objects of ${text}`, (count) => `${Math.round(count)}`);
      const path = `${pathOf(vdiRef(text))}/check`;
      const { checked } = await lines<CheckLine>('POST', path, (line) => {
        if (line.is === 'progress') bar.update(line.objects, line.totalObjects);
        else flaws.push(line.flaw);
      });
      bar.update(checked.objects, checked.objects);
      bar.done();
      show({ ...checked, flaws }, (out) => {
        for (const { kind, at, length, message } of flaws) {
          out.line(`${kind}: bytes ${at} to ${at + length - 1}: ${message}`);
        }
        const { flawCount } = checked;
        if (flawCount > flaws.length) out.line(`and ${flawCount - flaws.length} more`);
        const read = `${checked.objects} objects, ${formatBytes(checked.readBytes)} read`;
        out.line(
          flawCount === 0
            ? `${checked.export} is sound (${read})`
            : `${checked.export} is not sound (${read}, flaws: ${flawCount}); clients get I/O errors ` +
                'there, all else is served',
        );
      });
      if (checked.flawCount > 0) fail();
    });
}
