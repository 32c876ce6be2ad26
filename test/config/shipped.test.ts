import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { fromFile, loadConfig, problemsOf } from '../../src/config/load.ts';
import { configJsonSchema } from '../../src/config/schema.ts';

const shipped = (name: string) =>
  readFileSync(new URL(`../../packaging/${name}`, import.meta.url), 'utf8');

test('the example is a configuration, and names its schema', () => {
  const text = shipped('sheep.json');
  expect(loadConfig([fromFile('sheep.json', text)])).toMatchObject({
    directory: '/var/lib/sheep',
    nbd: ['127.0.0.1:10809'],
  });
  expect(JSON.parse(text).$schema).toBe('./sheep.schema.json');
});

test('the schema that is shipped is that of the settings; npm run shipped writes it', () => {
  expect(JSON.parse(shipped('sheep.schema.json'))).toEqual(
    JSON.parse(JSON.stringify(configJsonSchema())),
  );
});

test('every setting is described in it', () => {
  const { properties } = configJsonSchema() as { properties: Record<string, object> };
  const { $schema: _, ...settings } = properties;
  for (const setting of Object.values(settings)) {
    expect(setting).toMatchObject({ description: expect.stringMatching(/^\S.*\S$/) });
  }
});

test('a check tells everything that is wrong, not only the first', () => {
  const text = JSON.stringify({ nbd: ['nowhere'], checksum: 'off', nbdMode: 660, colour: 'red' });
  expect(problemsOf(fromFile('s.json', text))).toEqual([
    expect.stringMatching(/^nbd in s\.json: "nowhere" is no address: give host:port/),
    expect.stringMatching(/^nbdMode in s\.json: .*not 660$/),
    expect.stringMatching(/^there is no setting checksum in s\.json; 'checksums' is meant/),
    expect.stringMatching(/^there is no setting colour in s\.json; those that exist: directory/),
  ]);
  expect(problemsOf(fromFile('s.json', '{"$schema":"./sheep.schema.json"}'))).toEqual([]);
});

test('what is written as the flags are is recognised', () => {
  const [problem] = problemsOf(fromFile('s.json', '{"log-level":"debug"}'));
  expect(problem).toContain("'logLevel' is meant, perhaps");
});
