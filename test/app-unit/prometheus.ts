/**
 * A strict reader of the text format of Prometheus, version 0.0.4: what it says must be sound, or it
 * throws.
 */

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: Sample[];
}

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/y;

export function parseMetrics(text: string): Metric[] {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const metrics: Metric[] = [];
  let help: RegExpExecArray | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    if (line.startsWith('# HELP ')) {
      help = /^# HELP (\S+) (.+)$/.exec(line) ?? fail(line);
    } else if (line.startsWith('# TYPE ')) {
      const [, name, type] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? fail(line);
      if (help?.[1] !== name || !NAME.test(name!)) fail(line);
      if (metrics.some((metric) => metric.name === name)) fail(`${name} twice`);
      metrics.push({ name: name!, help: help![2]!, type: type as Metric['type'], samples: [] });
    } else {
      const metric = metrics.at(-1) ?? fail(line);
      metric.samples.push(parseSample(line, metric));
    }
  }
  for (const metric of metrics) check(metric);
  return metrics;
}

/** The value of the one sample with these labels, and perhaps more. */
export function theValue(
  metrics: readonly Metric[],
  name: string,
  labels = {},
): number | undefined {
  const found = samplesOf(metrics, name, labels);
  if (found.length > 1) throw new Error(`${name} has ${found.length} such samples`);
  return found[0]?.value;
}

export function samplesOf(
  metrics: readonly Metric[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Sample[] {
  return metrics
    .flatMap(({ samples }) => samples)
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([key, text]) => sample.labels[key] === text));
}

function parseSample(line: string, { name, type }: Metric): Sample {
  const [, sampleName, labelText = '', valueText] = SAMPLE.exec(line) ?? fail(line);
  const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  if (!suffixes.some((suffix) => sampleName === name + suffix)) fail(line);
  const labels: Record<string, string> = {};
  for (LABEL.lastIndex = 0; LABEL.lastIndex < labelText.length; ) {
    const [, label, escaped] = LABEL.exec(labelText) ?? fail(line);
    if (label! in labels) fail(line);
    labels[label!] = escaped!.replace(/\\(.)/g, (_, sign) => (sign === 'n' ? '\n' : sign));
  }
  const value = Number(valueText);
  if (!Number.isFinite(value)) fail(line);
  return { name: sampleName!, labels, value };
}

/** What a type promises. */
function check({ name, type, samples }: Metric): void {
  const keys = samples.map((sample) => JSON.stringify([sample.name, sample.labels]));
  if (new Set(keys).size !== keys.length) fail(`${name} has a sample twice`);
  if (type === 'counter' && !name.endsWith('_total')) fail(`${name} is a counter`);
  if (type !== 'gauge' && samples.some(({ value }) => value < 0)) fail(`${name} is negative`);
  if (type !== 'histogram') return;
  const groups = Map.groupBy(samples, ({ labels: { le: _, ...rest } }) => JSON.stringify(rest));
  for (const group of groups.values()) {
    const buckets = group.filter((sample) => sample.name.endsWith('_bucket'));
    const bounds = buckets.map(({ labels }) => Number(labels['le']!.replace('+Inf', 'Infinity')));
    const values = buckets.map(({ value }) => value);
    if (bounds.some((bound, index) => !(bound > (bounds[index - 1] ?? 0)))) fail(`${name}: bounds`);
    if (values.some((value, index) => value < (values[index - 1] ?? 0))) fail(`${name}: falls`);
    const count = group.find((sample) => sample.name === `${name}_count`)?.value;
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY || values.at(-1) !== count) {
      fail(`${name}: +Inf`);
    }
    if (!group.some((sample) => sample.name === `${name}_sum`)) fail(`${name}: no sum`);
  }
}

function fail(what: string): never {
  throw new Error(`not as Prometheus wants it: ${what}`);
}
