#!/usr/bin/env bash
# Builds grpc_client, which asks with the client code that KEDA and Envoy publish, into the cache, once for each of its sources.
#
#   grpc_client.sh     prints the program's path
set -euo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/grpc_client" && pwd)
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}/grpc_client

if ! command -v go >/dev/null; then
  echo "grpc_client.sh: no go" >&2
  exit 1
fi
version=$(cat "$source"/main.go "$source"/go.mod "$source"/go.sum | sha256sum | cut -c1-16)
program=$cache/$version/grpc_client
if [ ! -x "$program" ]; then
  mkdir -p "$cache/$version"
  # Under another name until it is whole.
  (cd "$source" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -o "$program.new" .) >&2
  mv "$program.new" "$program"
fi
echo "$program"
