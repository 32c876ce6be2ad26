import { type Durations, Histogram } from '../base/histogram.ts';
import { CMD } from './constants.ts';

/** By request type; the last stands for every type that the protocol does not have. */
export const COMMANDS = [
  ...Object.entries(CMD)
    .toSorted(([, a], [, b]) => a - b)
    .map(([name]) => name),
  'OTHER',
];
const OTHER = COMMANDS.length - 1;

/** Where a request of this type is counted. */
export function commandOf(type: number): number {
  return Math.min(type, OTHER);
}

/** What became of the requests of one command. */
export interface CommandStats {
  readonly command: string;
  /** From when a request was begun until its reply was given to the socket. */
  readonly durations: Durations;
  /** Of data, or of the range that was meant. */
  readonly bytes: number;
  /** How many were answered with an error, by its number. */
  readonly errors: readonly { readonly errno: number; readonly count: number }[];
}

/** What became of the requests of one export, whoever sent them; commands never used are absent. */
export interface ExportStats {
  readonly exportName: string;
  readonly commands: readonly CommandStats[];
}

/** Counts the requests of one export. */
export class ExportMeter {
  readonly exportName: string;
  /** Connections that count here. */
  users = 0;
  readonly #durations: (Histogram | undefined)[] = [];
  readonly #bytes = new Float64Array(COMMANDS.length);
  readonly #errors: (Map<number, number> | undefined)[] = [];

  constructor(exportName: string) {
    this.exportName = exportName;
  }

  /** `count` requests of `command` were answered, each `durationMs` after it was begun. */
  answered(command: number, durationMs: number, count: number): void {
    let histogram = this.#durations[command];
    if (histogram === undefined) {
      histogram = new Histogram();
      this.#durations[command] = histogram;
    }
    histogram.add(durationMs, count);
  }

  asked(command: number, bytes: number): void {
    this.#bytes[command] = (this.#bytes[command] as number) + bytes;
  }

  failed(command: number, errno: number): void {
    const errors = this.#errors[command] ?? new Map<number, number>();
    this.#errors[command] = errors;
    errors.set(errno, (errors.get(errno) ?? 0) + 1);
  }

  stats(): ExportStats {
    const commands = COMMANDS.flatMap((command, index) => {
      const durations = this.#durations[index]?.snapshot();
      if (durations === undefined) return [];
      const errors = [...(this.#errors[index] ?? [])].map(([errno, count]) => ({ errno, count }));
      return [{ command, durations, bytes: this.#bytes[index] as number, errors }];
    });
    return { exportName: this.exportName, commands };
  }
}

/**
 * The meters of a server, one for each export that was ever attached. Those of exports that nobody
 * has attached any more are kept, because counters must not start anew at each reconnect, but no more
 * than so many, and only as long as `retain` wants them.
 */
export class Meters {
  readonly #meters = new Map<string, ExportMeter>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  /** The meter of an export, for one connection more. */
  take(exportName: string): ExportMeter {
    const meter = this.#meters.get(exportName) ?? this.#make(exportName);
    meter.users += 1;
    return meter;
  }
  /** One connection less. */
  give(meter: ExportMeter): void {
    meter.users -= 1;
  }

  /** Forgets what nobody has attached and `wanted` does not name. */
  retain(wanted: (exportName: string) => boolean): void {
    for (const [name, { users }] of this.#meters) {
      if (users === 0 && !wanted(name)) this.#meters.delete(name);
    }
  }

  stats(): ExportStats[] {
    return [...this.#meters.values()].map((meter) => meter.stats());
  }

  #make(exportName: string): ExportMeter {
    const meter = new ExportMeter(exportName);
    if (this.#meters.size >= this.#max) {
      const unused = this.#meters.values().find(({ users }) => users === 0);
      if (unused !== undefined) this.#meters.delete(unused.exportName);
    }
    this.#meters.set(exportName, meter);
    return meter;
  }
}
