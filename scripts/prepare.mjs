/**
 * Makes a clone ready to run: installs the packages and builds dist/, each only if it is out of
 * date. Runs before `npm start` and `npm test` on whatever Node (18 or later) the machine has, so
 * it is plain JavaScript and needs no package.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { argv, env, execPath, exit, pid } from 'node:process';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/**
 * Runs npm the way the npm around us was started, or the one in PATH.
 * @param {string} root
 * @returns {boolean}
 */
function npmInstall(root) {
  // --no-save: another npm's way of writing package-lock.json must not change the clone.
  // --include=dev: also where NODE_ENV is "production", because the build needs the compiler.
  // --loglevel=error: an older Node is warned about packages that it will not be the one to run.
  const options = ['install', '--no-audit', '--no-fund', '--no-save', '--include=dev'];
  options.push('--loglevel=error');
  console.error('Installing the packages (once, and again when package-lock.json changes) …');
  const npm = env['npm_execpath'] ?? '';
  const [command, args] = npm.endsWith('npm-cli.js')
    ? [execPath, [npm, ...options]]
    : ['npm', options];
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] }).status === 0;
}

/**
 * @param {string} root
 * @param {string} outDir
 * @returns {boolean}
 */
function compile(root, outDir) {
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [tsc, '-p', join(root, 'tsconfig.json'), '--noEmitOnError', '--outDir', outDir];
  return spawnSync(execPath, args, { cwd: root, stdio: ['ignore', 2, 2] }).status === 0;
}

/**
 * A digest of these files' names and contents, and of the platform that packages are built for.
 * @param {string} root
 * @param {readonly string[]} paths  relative to `root`
 */
function digestOf(root, paths) {
  const hash = createHash('sha256');
  hash.update(`${process.platform} ${process.arch}\n`);
  for (const path of paths) {
    const bytes = existsSync(join(root, path)) ? readFileSync(join(root, path)) : '';
    hash.update(`${path} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}

/** @param {string} path */
function stampIn(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/**
 * Every file below `directory`, relative to `root`, in a fixed order.
 * @param {string} root
 * @param {string} directory
 * @returns {string[]}
 */
function filesBelow(root, directory) {
  const entries = readdirSync(join(root, directory), { withFileTypes: true });
  const paths = entries.flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(root, path) : [path];
  });
  return paths.sort();
}

/**
 * Puts the right Node into the PATH of npm scripts. npm does so itself, but npm 9 takes the link
 * away again together with the package for the other processor, which has one of the same name.
 * @param {string} root
 */
function linkNode(root) {
  const link = join(root, 'node_modules', '.bin', 'node');
  const ours = join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
  if (existsSync(ours) && !existsSync(link)) {
    symlinkSync(join('..', `node-linux-${process.arch}`, 'bin', 'node'), link);
  }
}

/** What decides about node_modules/. */
const MANIFEST = ['package.json', 'package-lock.json'];

/**
 * @param {string} root
 * @param {(root: string) => boolean} install
 * @returns {'done' | 'fresh' | 'failed'}
 */
export function installIfStale(root = ROOT, install = npmInstall) {
  const stamp = join(root, 'node_modules', '.sheepdog-stamp');
  const wanted = digestOf(root, MANIFEST);
  if (stampIn(stamp) === wanted) return 'fresh';
  if (!install(root)) return 'failed';
  linkNode(root);
  writeFileSync(stamp, wanted);
  return 'done';
}

/**
 * Builds beside dist/ and then changes the two over, so that a build that fails or is killed
 * leaves the last good one, and files whose source is gone go too.
 * @param {string} root
 * @param {(root: string, outDir: string) => boolean} build
 * @returns {'done' | 'fresh' | 'failed'}
 */
export function buildIfStale(root = ROOT, build = compile) {
  const dist = join(root, 'dist');
  const wanted = digestOf(root, [...MANIFEST, 'tsconfig.json', ...filesBelow(root, 'src')]);
  if (stampIn(join(dist, '.stamp')) === wanted) return 'fresh';
  const [next, last] = [join(root, `.build-${pid}`), join(root, `.build-${pid}-old`)];
  try {
    if (!build(root, next)) return 'failed';
    writeFileSync(join(next, '.stamp'), wanted);
    if (existsSync(dist)) renameSync(dist, last);
    renameSync(next, dist);
    return 'done';
  } finally {
    for (const path of [next, last]) rmSync(path, { recursive: true, force: true });
  }
}

function main() {
  if (installIfStale() === 'failed') {
    console.error('\nnpm install failed (see above). Once it works, run the same command again.');
    exit(1);
  }
  if (buildIfStale() === 'failed') {
    console.error('\nThe build failed: the errors above are in src/. dist/ is as it was.');
    exit(1);
  }
}

if (argv[1] !== undefined && resolve(argv[1]) === fileURLToPath(import.meta.url)) main();
