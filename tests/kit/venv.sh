#!/usr/bin/env bash
# venv.sh NAME REQUIREMENTS: a Python virtual environment in the cache that holds exactly what the file asks for; prints
# the path of its Python. A changed file makes a new one; a half-made one is never used.
set -euo pipefail

name=$1
requirements=$2
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}
# Nested Pythons that a version manager provides by directory would change with the caller's folder: resolve it once.
base=$(python3 -c 'import sys; print(sys.executable)')
# The cache may outlive the interpreter that made an environment in it.
stamp=$({ cat "$requirements"; "$base" --version; echo "$base"; } | cksum | cut -d' ' -f1)
home=$cache/venv-$name-$stamp
if [ ! -f "$home/complete" ]; then
  rm -rf "$home"
  "$base" -m venv "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
    --requirement "$requirements" >&2
  touch "$home/complete"
fi
echo "$home/bin/python"
