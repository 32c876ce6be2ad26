/**
 * The architecture as data. Domain folders never import each other: they meet in contracts/ and are
 * joined in app/, which is given its host. A folder that is not listed may not exist.
 */
export const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  contracts: ['base'],
  nbd: ['base', 'contracts'],
  vdi: ['base', 'contracts'],
  cache: ['base', 'contracts'],
  farm: ['base', 'contracts'],
  cluster: ['base', 'contracts'],
  host: ['base', 'contracts'],
  sim: ['base', 'contracts', 'app'],
  config: ['base'],
  app: ['base', 'contracts', 'config', 'nbd', 'vdi', 'cache', 'farm', 'cluster'],
  cli: ['base', 'contracts', 'config', 'app', 'host'],
};

/** Each package in one folder, so that one folder changes when it goes; a cache is needed in many. */
export const PACKAGE_FOLDERS: Readonly<Record<string, readonly string[]>> = {
  commander: ['cli'],
  zod: ['config'],
  pino: ['host'],
  koffi: ['host'],
  fastify: ['app'],
  '@fastify/websocket': ['app'],
  'prom-client': ['app'],
  ws: ['cli'],
  'lru-cache': ['host', 'vdi', 'cache', 'farm', 'cluster'],
};

/** What computes and neither waits nor does I/O: the same arguments give the same result. */
const PURE_NODE = ['node:assert', 'node:crypto', 'node:zlib'] as const;

/** 'any', or the modules that may be imported; `typesOnly`: as types, gone at run time. */
export const NODE_MODULES: Readonly<
  Record<
    string,
    'any' | { readonly use: readonly string[]; readonly typesOnly?: readonly string[] }
  >
> = {
  base: { use: PURE_NODE },
  contracts: { use: [] },
  nbd: { use: PURE_NODE },
  vdi: { use: PURE_NODE },
  cache: { use: PURE_NODE },
  farm: { use: PURE_NODE },
  cluster: { use: PURE_NODE },
  sim: { use: PURE_NODE },
  config: { use: [] },
  app: { use: PURE_NODE, typesOnly: ['node:http'] },
  host: 'any',
  cli: 'any',
};

/** What would make two runs of one simulated world differ, and what to write instead. */
export interface Forbidden {
  readonly name: string;
  readonly pattern: RegExp;
  readonly instead: string;
  /** Folders besides host and cli where it is allowed. */
  readonly allowedIn?: readonly string[];
}

const global = (name: string) => new RegExp(`(?<![.\\w$#])${name}`, 'g');
const CLOCK = 'take a Clock';
const RANDOM = 'take a Random';

export const FORBIDDEN: readonly Forbidden[] = [
  { name: 'Date.now', pattern: global('Date\\s*\\.\\s*now\\b'), instead: CLOCK },
  { name: 'new Date()', pattern: global('(?:new\\s+)?Date\\s*\\(\\s*\\)'), instead: CLOCK },
  { name: 'performance', pattern: global('performance\\s*[.[]'), instead: CLOCK },
  { name: 'setTimeout', pattern: global('setTimeout\\b(?!\\s*\\??:)'), instead: CLOCK },
  { name: 'setInterval', pattern: global('setInterval\\b(?!\\s*\\??:)'), instead: CLOCK },
  {
    name: 'setImmediate',
    pattern: global('setImmediate\\b(?!\\s*\\??:)'),
    instead: CLOCK,
    // The simulated world lets every promise settle between two events.
    allowedIn: ['sim'],
  },
  { name: 'process', pattern: global('process\\s*[.[]'), instead: 'take what you need of it' },
  { name: 'AbortSignal.timeout', pattern: /\bAbortSignal\s*\.\s*timeout\b/g, instead: CLOCK },
  { name: 'Math.random', pattern: /\bMath\s*\.\s*random\b/g, instead: RANDOM },
  {
    name: 'crypto.random',
    pattern: /\b(?:randomBytes|randomUUID|randomInt|randomFill(?:Sync)?|getRandomValues)\b/g,
    instead: RANDOM,
  },
  {
    name: 'FinalizationRegistry',
    pattern: /\b(?:FinalizationRegistry|WeakRef)\b/g,
    instead: 'give it an owner that disposes it',
  },
  { name: 'console', pattern: global('console\\s*[.[]'), instead: 'take a Log' },
  { name: 'fetch', pattern: global('fetch\\s*\\('), instead: 'take a Net' },
  { name: 'globalThis', pattern: /\bglobalThis\b/g, instead: 'name what you need' },
];

/** Where the real world begins: these may use all of the above. */
export const REAL_WORLD: readonly string[] = ['host', 'cli'];

export const LINES_MAX = 350;

/** Names that say nothing about what is inside. */
export const EMPTY_NAMES = /(?:^|[/-])(?:utils?|helpers?|managers?|misc|common|index)\.ts$/;

/** The files that package.json's bins run; everything in src/ is there because one needs it. */
export const ENTRIES: readonly string[] = ['cli/sheep.ts', 'cli/collie.ts'];

/**
 * Built and tested before what will call it: recovery, when there are several nodes. What an entry
 * needs by now is to be taken out of here.
 */
export const AHEAD: readonly string[] = ['farm/snapshots/stale-objects.ts'];

/** What tests put in place of the real world: reached from tests, never from an entry. */
export const TEST_FOLDERS: readonly string[] = ['sim'];
