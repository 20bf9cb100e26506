#!/usr/bin/env bash
# A moto server (AWS protocols, state in memory) on 127.0.0.1, for tests.
#
#   moto.sh fetch              make the virtual environment in the cache, once; prints its Python
#   moto.sh start DIR PORT     start, return when it answers
#   moto.sh stop DIR           end it
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
  echo "moto.sh: $*" >&2
  exit 1
}

fetch() { "$here/venv.sh" moto "$here/requirements.txt"; }

# The server loads a service's code at the first call of it, which takes seconds on a busy machine.
warm_up() {
  AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_DEFAULT_REGION=eu-west-1 "$1" - "$port" <<'PY'
import sys, boto3
url = f"http://127.0.0.1:{sys.argv[1]}"
boto3.client("autoscaling", endpoint_url=url).describe_auto_scaling_groups()
boto3.client("ec2", endpoint_url=url).describe_images(Owners=["amazon"])
PY
}

start() {
  local python try
  python=$(fetch)
  "${python%/python}/moto_server" -H 127.0.0.1 -p "$port" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  disown
  for ((try = 0; try < 600; try++)); do
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || {
      tail -n 20 "$dir/server.log" >&2
      fail "the server ended while it started"
    }
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      warm_up "$python"
      return 0
    fi
    sleep 0.1
  done
  fail "the server did not start in 60 s, see $dir/server.log"
}

verb=${1:-}
case $verb in
  fetch) fetch ;;
  start)
    mkdir -p "${2:?DIR is missing}"
    dir=$(cd "$2" && pwd)
    port=${3:?PORT is missing}
    start
    ;;
  stop)
    dir=${2:?DIR is missing}
    if [ -f "$dir/pid" ]; then
      kill "$(cat "$dir/pid")" 2>/dev/null || true
      rm -f "$dir/pid"
    fi
    ;;
  *)
    sed -n '2,6p' "$0" >&2
    exit 2
    ;;
esac
