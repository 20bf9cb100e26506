#!/usr/bin/env bash
# Prints the line coverage of every crate by all tests but the long ones, or why it was not measured.
#
# Only the crates of the workspace are compiled with counters, so that the dependencies are those of the test build. The
# reports come from LLVM's own tools of the compiler's version (Debian: llvm-N), installed where this is root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

if [ -n "${PRESCALE_COVERAGE_WRAPPER:-}" ]; then
  # As the wrapper that cargo puts before the compiler: the counters' switch comes last.
  exec "$@" -C instrument-coverage
fi

unmeasured() {
  echo "line coverage: not measured, $*"
  exit 0
}

major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
if ! command -v "llvm-cov-$major" >/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || unmeasured "llvm-cov-$major is not installed (Debian: llvm-$major)"
  apt-get install -y -qq --no-install-recommends "llvm-$major" >/dev/null 2>&1 ||
    unmeasured "the package llvm-$major can't be installed"
fi

profiles=$(mktemp -d)
trap 'rm -rf "$profiles"' EXIT
export PRESCALE_COVERAGE_WRAPPER=1 RUSTC_WORKSPACE_WRAPPER=$root/tests/kit/coverage.sh
export LLVM_PROFILE_FILE=$profiles/%4m.profraw
tests/run.sh -E 'not test(/heavy_/)' >"$profiles/log" 2>&1 || {
  tail -n 20 "$profiles/log"
  unmeasured "the tests failed with counters"
}
"llvm-profdata-$major" merge --sparse --failure-mode=all "$profiles"/*.profraw -o "$profiles/all.profdata"
objects=$(cargo nextest list --workspace --list-type binaries-only --message-format json 2>/dev/null |
  python3 -c 'import json, sys
binaries = json.load(sys.stdin)
paths = {one["binary-path"] for one in binaries["rust-binaries"].values()}
for others in binaries["rust-build-meta"]["non-test-binaries"].values():
    paths |= {binaries["rust-build-meta"]["target-directory"] + "/" + one["path"] for one in others if one["kind"] == "bin-exe"}
print(" ".join("-object " + path for path in sorted(paths)))')
# shellcheck disable=SC2086  # several words
"llvm-cov-$major" export --summary-only --instr-profile "$profiles/all.profdata" $objects 2>/dev/null |
  python3 -c 'import collections, json, os, re, sys
root, lines = sys.argv[1] + "/", collections.Counter()
for one in json.load(sys.stdin)["data"][0]["files"]:
    name = one["filename"].removeprefix(root)
    if not name.startswith("src/") or re.search(r"(^|/)(tests?|fake)(\.rs|/)", name):
        continue
    crate = name.split("/")[1] if os.path.exists(root + "/".join(name.split("/")[:2]) + "/Cargo.toml") else "prescale"
    for key in (crate, "all"):
        lines[key, "count"] += one["summary"]["lines"]["count"]
        lines[key, "covered"] += one["summary"]["lines"]["covered"]
for crate in sorted({key for key, _ in lines}, key=lambda key: (key == "all", key)):
    print("line coverage %-12s %5.1f %% of %6d" % (crate, 100 * lines[crate, "covered"] / lines[crate, "count"], lines[crate, "count"]))' "$root"
