#!/usr/bin/env bash
# The test command. Fetches what the tests need, starts a real Kafka, a schema registry, a moto server, a recording proxy, a
# Docker Engine and a Kubernetes control plane on free ports of this machine, runs every test of the workspace, and ends what
# it started.
#
#   tests/run.sh [FILTER...]                    all tests and those of legacy/, or those that nextest's filters name
#   tests/run.sh --services-only -- COMMAND...  only the services, around one command
#
# What it could not have is reported by name; the tests that need it say that they were skipped. With CI=true a lack is a
# failure. Downloads go to PRESCALE_CACHE (default ~/.cache/prescale). Real traces are read from PRESCALE_TRACES.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kit=$root/tests/kit
export PRESCALE_CACHE=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}
mkdir -p "$PRESCALE_CACHE"
state=$(mktemp -d "${TMPDIR:-/tmp}/prescale-tests.XXXXXX")
lacks=()
proxy_pid=
kube_job=
helm_job=
cbor_pid=

say() { echo "tests/run.sh: $*"; }
lack() {
  lacks+=("$*")
  say "lacks $*"
}

finish() {
  local status=$?
  trap - EXIT
  [ -z "$proxy_pid" ] || kill "$proxy_pid" 2>/dev/null || true
  [ -z "$kube_job" ] || kill "$kube_job" 2>/dev/null || true
  [ -z "$helm_job" ] || kill "$helm_job" 2>/dev/null || true
  "$kit/kube.sh" stop "$state/kube" || true
  [ -z "$cbor_pid" ] || kill "$cbor_pid" 2>/dev/null || true
  "$kit/moto.sh" stop "$state/moto" || true
  "$kit/docker.sh" stop "$state/docker" || true
  "$kit/registry.sh" stop "$state/registry" || true
  "$kit/kafka.sh" stop "$state/kafka" || true
  if [ "$status" -ne 0 ] && [ -n "${PRESCALE_KEEP_STATE:-}" ]; then say "logs are kept in $state"; else rm -rf "$state"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

timed() { # what, command...: the command's status, and its seconds in words
  local what=$1 start=$SECONDS status=0
  shift
  "$@" || status=$?
  say "$what: $((SECONDS - start)) s"
  return "$status"
}

free_ports() { # so many, each with the one after it free as well (for a controller or a management); bound together so that they differ
  python3 - "$1" <<'PY'
import random, socket, sys
found = []
while len(found) < int(sys.argv[1]):
    port = random.randrange(20000, 30000)  # below the range that the kernel hands out to clients
    held = []
    try:
        for candidate in (port, port + 1):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", candidate))
    except OSError:
        continue
    finally:
        for one in held:
            one.close()
    if all(abs(port - other) > 1 for other in found):
        found.append(port)
print(*found)
PY
}

await_port() {
  local try
  for ((try = 0; try < 100; try++)); do
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
    sleep 0.1
  done
  return 1
}

debian_package() { # program, package: there already, or installed where this is root on Debian
  command -v "$1" >/dev/null && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  if [ -z "${apt_updated:-}" ]; then
    apt-get update -qq >"$state/apt.log" 2>&1 || return 1
    apt_updated=yes
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >>"$state/apt.log" 2>&1 </dev/null &&
    command -v "$1" >/dev/null
}

start_docker() {
  debian_package dockerd docker.io && debian_package busybox busybox-static && debian_package ip iproute2
  "$kit/docker.sh" start "$state/docker" >"$state/docker.out" 2>&1 # which names what is not there
}

start_services() {
  local kafka_port moto_port proxy_port registry_port cbor_port etcd_port kube_port
  read -r kafka_port moto_port proxy_port registry_port cbor_port etcd_port kube_port <<<"$(free_ports 7)"
  # Everything that is slow to fetch or to start goes at once.
  "$kit/kube.sh" start "$state/kube" "$etcd_port" "$kube_port" >"$state/kube.out" 2>&1 &
  kube_job=$!
  # After the control plane, of whose modules it is partly made: both at once would compile the same.
  ("$kit/kube.sh" fetch && "$kit/helm.sh") >"$state/helm.out" 2>"$state/helm.log" &
  helm_job=$!
  "$kit/kafka.sh" start "$state/kafka" "$kafka_port" >"$state/kafka.out" 2>&1 &
  local kafka_job=$!
  "$kit/moto.sh" start "$state/moto" "$moto_port" >"$state/moto.out" 2>&1 &
  local moto_job=$!
  "$kit/registry.sh" start "$state/registry" "$registry_port" >"$state/registry.out" 2>&1 &
  local registry_job=$!
  if wait "$kafka_job"; then
    export PRESCALE_TEST_KAFKA=127.0.0.1:$kafka_port
    say "Kafka at $PRESCALE_TEST_KAFKA"
  else
    lack "Apache Kafka: $(tail -n 3 "$state/kafka.out" | tr '\n' ' ')"
  fi
  if wait "$moto_job"; then
    PRESCALE_TEST_PYTHON=$("$kit/moto.sh" fetch)
    export PRESCALE_TEST_PYTHON PRESCALE_TEST_MOTO=http://127.0.0.1:$moto_port
    say "moto at $PRESCALE_TEST_MOTO"
    python3 "$kit/proxy.py" --listen "$proxy_port" --upstream "$moto_port" >"$state/proxy.log" 2>&1 </dev/null &
    proxy_pid=$!
    if await_port "$proxy_port"; then
      export PRESCALE_TEST_AWS_PROXY=http://127.0.0.1:$proxy_port
      say "recording proxy at $PRESCALE_TEST_AWS_PROXY"
    else
      lack "the recording proxy: $(tail -n 1 "$state/proxy.log")"
    fi
    AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_DEFAULT_REGION=eu-west-1 "$PRESCALE_TEST_PYTHON" \
      "$kit/cbor.py" --listen "$cbor_port" --upstream "$moto_port" >"$state/cbor.log" 2>&1 </dev/null &
    cbor_pid=$!
    # It loads boto3 first, which takes seconds on a busy machine.
    if await_port "$cbor_port" || await_port "$cbor_port" || await_port "$cbor_port"; then
      export PRESCALE_TEST_CLOUDWATCH=http://127.0.0.1:$cbor_port
      say "CloudWatch at $PRESCALE_TEST_CLOUDWATCH"
    else
      lack "CloudWatch before moto: $(tail -n 1 "$state/cbor.log")"
    fi
  else
    lack "moto: $(tail -n 3 "$state/moto.out" | tr '\n' ' ')"
  fi
  if wait "$registry_job"; then
    export PRESCALE_TEST_REGISTRY=http://127.0.0.1:$registry_port/apis/ccompat/v7
    say "schema registry at $PRESCALE_TEST_REGISTRY"
  else
    lack "Apicurio Registry: $(tail -n 3 "$state/registry.out" | tr '\n' ' ')"
  fi
  if start_docker; then
    export PRESCALE_TEST_DOCKER=unix://$state/docker/docker.sock
    say "Docker Engine at $PRESCALE_TEST_DOCKER"
  else
    lack "a Docker Engine: $(tail -n 3 "$state/docker.out" | tr '\n' ' ')"
  fi
  # What moto takes for an account; nothing here reaches a real one.
  export AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_EC2_METADATA_DISABLED=true
  export AWS_REGION=eu-west-1 AWS_DEFAULT_REGION=eu-west-1
  unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL
}

# Both are waited for last: on a machine that has not compiled them before, the tests are compiled beside them.
await_kube() {
  if kill -0 "$helm_job" 2>/dev/null; then
    say "the control plane and Helm are being compiled, once: some 20 minutes of one core"
    [ -n "$only" ] || compile_tests || true
  fi
  if wait "$kube_job"; then
    PRESCALE_TEST_KUBECONFIG=$(tail -n 1 "$state/kube.out")
    PRESCALE_TEST_KUBE=$("$kit/kube.sh" fetch)
    export PRESCALE_TEST_KUBECONFIG PRESCALE_TEST_KUBE
    say "Kubernetes at $PRESCALE_TEST_KUBECONFIG"
  else
    lack "Kubernetes: $(tail -n 3 "$state/kube.out" | tr '\n' ' ')"
  fi
}

find_programs() {
  if debian_package chromium chromium; then
    PRESCALE_TEST_CHROMIUM=$(command -v chromium)
    export PRESCALE_TEST_CHROMIUM
  else
    lack "Chromium (Debian: apt-get install chromium)"
  fi
  debian_package faketime faketime || lack "libfaketime (Debian: apt-get install faketime)"
  if debian_package prometheus prometheus && command -v promtool >/dev/null; then
    PRESCALE_TEST_PROMETHEUS=$(command -v prometheus)
    export PRESCALE_TEST_PROMETHEUS
  else
    lack "Prometheus (Debian: apt-get install prometheus)"
  fi
  if PRESCALE_TEST_GRPC_CLIENT=$("$kit/grpc_client.sh" 2>"$state/grpc_client.log"); then
    export PRESCALE_TEST_GRPC_CLIENT
  else
    lack "the clients of KEDA and Envoy: $(tail -n 1 "$state/grpc_client.log")"
  fi
  local validate
  if validate=$("$kit/venv.sh" manifests "$kit/manifests.txt" 2>"$state/manifests.log"); then
    export PRESCALE_TEST_KUBERNETES_VALIDATE=${validate%/python}/kubernetes-validate
  else
    lack "kubernetes-validate: $(tail -n 1 "$state/manifests.log")"
  fi
  if debian_package docker-compose docker-compose; then
    PRESCALE_TEST_COMPOSE=$(command -v docker-compose)
    export PRESCALE_TEST_COMPOSE
  else
    lack "docker-compose (Debian: apt-get install docker-compose)"
  fi
}

await_helm() {
  if wait "$helm_job"; then
    PRESCALE_TEST_HELM=$(tail -n 1 "$state/helm.out")
    export PRESCALE_TEST_HELM
  else
    lack "Helm: $(tail -n 1 "$state/helm.log")"
  fi
}

find_traces() {
  local default=$root/../shared/data
  if [ -z "${PRESCALE_TRACES:-}" ] && [ -d "$default" ]; then PRESCALE_TRACES=$(cd "$default" && pwd); fi
  if [ -n "${PRESCALE_TRACES:-}" ]; then
    export PRESCALE_TRACES
    say "real traces from $PRESCALE_TRACES"
  else
    say "no real traces (PRESCALE_TRACES is not set): the generated ones stand in for them"
  fi
}

has_nextest() {
  local tools
  tools=$("$kit/venv.sh" tools "$kit/tools.txt" 2>"$state/tools.log") && [ -x "${tools%/python}/cargo-nextest" ] || return 1
  PATH=${tools%/python}:$PATH
}

compile_tests() {
  if has_nextest; then
    (cd "$root" && cargo nextest run --workspace --no-run)
  else
    (cd "$root" && cargo test --workspace --no-run)
  fi
}

run_tests() {
  if has_nextest; then
    (cd "$root" && cargo nextest run --workspace --no-fail-fast "$@")
  else
    say "no cargo-nextest ($(tail -n 1 "$state/tools.log")): cargo test runs the tests"
    (cd "$root" && cargo test --workspace --no-fail-fast -- "$@")
  fi
}

only=
if [ "${1:-}" = --services-only ]; then
  only=yes
  shift
  [ "${1:-}" = -- ] && shift
fi

timed "services" start_services
timed "programs" find_programs
find_traces
timed "Kubernetes" await_kube
timed "Helm" await_helm
if [ "${#lacks[@]}" -gt 0 ]; then
  say "could not have: ${#lacks[@]}"
  printf '  - %s\n' "${lacks[@]}"
  if [ "${CI:-}" = true ]; then
    say "CI needs all of it"
    exit 1
  fi
fi
[ "${CI:-}" = true ] && export PRESCALE_TEST_REQUIRE=1
if [ -n "$only" ]; then
  "$@"
else
  status=0
  timed "tests" run_tests "$@" || status=$?
  # Not among those that a filter names.
  if [ "$#" -eq 0 ]; then timed "legacy" "$kit/legacy.sh" || status=$?; fi
  exit "$status"
fi
