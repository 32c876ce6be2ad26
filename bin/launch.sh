# Sourced by sheep and collie: runs dist/cli/$program.js with Node 24 or later, whatever the
# system's. `root` is the directory of the package, be it a clone or installed.

# The Node of the package itself: below it in a clone, beside it where npm put both on one level.
for node in "$root"/node_modules/node-linux-*/bin/node "$root"/../node-linux-*/bin/node; do
  if [ -x "$node" ]; then break; fi
  node=
done

if [ -z "$node" ] && [ -f "$root/tsconfig.json" ]; then
  echo "$program: this clone has no packages yet; in $root run: npm run build" >&2
  exit 1
fi
if [ ! -f "$root/dist/cli/$program.js" ]; then
  echo "$program: dist/ is not built yet; in $root run: npm run build" >&2
  exit 1
fi
if [ -z "$node" ]; then
  node=$(command -v node) || {
    echo "$program: needs Node 24 or later, and there is no node in PATH" >&2
    exit 1
  }
fi
# The data path makes little garbage; a young generation of V8's own choice grows to 100 MB of it.
# One arena of the C library for all threads: four of them hold 13 MiB more for the same work.
MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-1}
export MALLOC_ARENA_MAX
exec "$node" --max-semi-space-size=4 "$root/dist/cli/$program.js" "$@"
