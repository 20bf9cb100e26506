#!/usr/bin/env bash
# Builds and tests what is kept outside the workspace: `legacy/rusoto`, with a lock file of its own. Its target folder lies in
# the main one, so that one cache keeps both.
#
#   legacy.sh [ARGUMENTS...]   of cargo test
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/legacy
# Incremental state doubles what is written and helps nobody who builds once.
export CARGO_INCREMENTAL=0
cd "$root"
exec cargo test --locked --manifest-path legacy/rusoto/Cargo.toml "$@"
