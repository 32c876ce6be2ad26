import { Counter, Gauge, Registry } from 'prom-client';
import { countUpTo, type Durations } from '../base/histogram.ts';

type Labels = Readonly<Record<string, string>>;
export type Value = readonly [Labels, number];
type Counts = readonly [Labels, Durations];

/** Lines of a page that are made in one go: a fraction of a millisecond for most, some for histograms. */
const VALUES_AT_ONCE = 32;

/** Upper bounds of the buckets in microseconds: each octave from 16 µs to 34 s. */
const BOUNDS_US = Array.from({ length: 22 }, (_, power) => 2 ** (power + 4));

/** What a page has of one metric. */
interface Family {
  readonly name: string;
  readonly help: string;
  readonly labelNames: string[];
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly values: readonly (Value | Counts)[];
}

/** One answer to a scrape, metric by metric. */
export class MetricsPage {
  readonly #families: Family[] = [];

  gauge(name: string, help: string, value: number): void;
  gauge(name: string, help: string, labelNames: string[], values: readonly Value[]): void;
  gauge(name: string, help: string, some: number | string[], values?: readonly Value[]): void {
    this.#add('gauge', name, help, some, values);
  }

  counter(name: string, help: string, value: number): void;
  counter(name: string, help: string, labelNames: string[], values: readonly Value[]): void;
  counter(name: string, help: string, some: number | string[], values?: readonly Value[]): void {
    this.#add('counter', name, help, some, values);
  }

  histogram(name: string, help: string, labelNames: string[], values: readonly Counts[]): void {
    this.#families.push({ type: 'histogram', name, help, labelNames, values });
  }

  /** Calls `pause` often enough that nobody waits for a page of thousands of VDIs. */
  async text(pause: () => Promise<void>): Promise<{ type: string; text: string }> {
    const parts: string[] = [];
    for (const family of this.#families) {
      for (let from = 0; from === 0 || from < family.values.length; from += VALUES_AT_ONCE) {
        if (from > 0) await pause();
        const values = family.values.slice(from, from + VALUES_AT_ONCE);
        const text = await registered({ ...family, values }).metrics();
        // HELP and TYPE stand before the first of them only.
        parts.push(from === 0 ? text : text.split('\n').slice(2).join('\n'));
      }
    }
    return { type: Registry.PROMETHEUS_CONTENT_TYPE, text: parts.join('') };
  }

  #add(
    type: 'gauge' | 'counter',
    name: string,
    help: string,
    some: number | string[],
    values: readonly Value[] = [],
  ): void {
    const labelled = typeof some !== 'number';
    this.#families.push({
      ...{ type, name, help },
      // Without names of labels the library shows a 0 where nothing was counted.
      labelNames: labelled ? some : [],
      values: labelled ? values : [[{}, some]],
    });
  }
}

function registered({ type, name, help, labelNames, values }: Family): Registry {
  const registry = new Registry();
  const named = { name, help, labelNames, registers: [registry] };
  if (type === 'histogram') {
    new Counted(named, values as Counts[]);
  } else {
    const gauge = type === 'gauge' ? new Gauge(named) : undefined;
    const counter = type === 'counter' ? new Counter(named) : undefined;
    for (const [labels, value] of values as Value[]) {
      gauge?.set(labels, value);
      counter?.inc(labels, value);
    }
  }
  return registry;
}

type Shown = Awaited<ReturnType<Gauge['get']>>;
/** The types of the library have a number here, the library itself has this word. */
const HISTOGRAM = 'histogram' as unknown as Shown['type'];

/** A histogram that was counted before; the library's own can only count. */
class Counted extends Gauge {
  readonly #all: readonly Counts[];

  constructor(named: ConstructorParameters<typeof Gauge>[0], all: readonly Counts[]) {
    super(named);
    this.#all = all;
  }

  override async get(): Promise<Shown> {
    const metric = await super.get();
    const { name } = metric;
    const values = this.#all.flatMap(([labels, durations]) => [
      ...BOUNDS_US.map((us) => ({
        metricName: `${name}_bucket`,
        labels: { ...labels, le: `${us / 1e6}` },
        value: countUpTo(durations, us),
      })),
      {
        metricName: `${name}_bucket`,
        labels: { ...labels, le: '+Inf' },
        value: durations.count,
      },
      { metricName: `${name}_sum`, labels, value: durations.sumMs / 1000 },
      { metricName: `${name}_count`, labels, value: durations.count },
    ]);
    return { ...metric, type: HISTOGRAM, values };
  }
}
