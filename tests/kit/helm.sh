#!/usr/bin/env bash
# Builds Helm from its module, as tests/kit/helm/go.mod pins it, into the cache, once for each version: three minutes of one
# core, 67 MB. Its Kubernetes modules are those of tests/kit/kube; some that are below them are newer.
#
#   helm.sh     prints the program's path
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/helm" && pwd)
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}/helm

if ! command -v go >/dev/null; then
  echo "helm.sh: go is not installed (Go 1.26 or newer, https://go.dev/dl)" >&2
  exit 1
fi
version=$(cat "$source"/go.mod "$source"/go.sum | sha256sum | cut -c1-16)
program=$cache/$version/helm
if [ ! -x "$program" ]; then
  mkdir -p "$cache/$version"
  # Two runs may want it at once: the second waits for the first one's.
  exec 9>"$cache/$version.lock"
  flock 9
fi
if [ ! -x "$program" ]; then
  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0
  number=$(cd "$source" && go list -m -f '{{.Version}}' helm.sh/helm/v4)
  # Under another name until it is whole. Without its version it would say that of its sources.
  (cd "$source" && nice -n 15 go build -trimpath -o "$program.new" \
    -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$number" helm.sh/helm/v4/cmd/helm) >&2
  mv "$program.new" "$program"
fi
echo "$program"
