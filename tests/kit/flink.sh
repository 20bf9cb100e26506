#!/usr/bin/env bash
# An Apache Flink cluster (JobManager, TaskManager, SQL gateway) on 127.0.0.1, for benches that compare with it.
#
#   flink.sh fetch               copy the jars through pip and Maven into the cache, once
#   flink.sh start DIR PORT      start, return when all answer; PORT is its REST, PORT+1 its RPC, PORT+2 its SQL gateway
#   flink.sh stop DIR            end it
#   flink.sh with [--] COMMAND...  all of it around one command, which finds DIR in PRESCALE_BENCH_FLINK
#
# DIR holds `rest.url`, `gateway.url` and, for each process, NAME.pid and NAME.log. PRESCALE_CACHE holds the jars. FLINK_VERSION,
# FLINK_CONNECTOR (its Kafka connector), FLINK_SLOTS (of the TaskManager, and the parallelism) and FLINK_HEAP are optional.
set -euo pipefail

version=${FLINK_VERSION:-2.3.0}
connector=${FLINK_CONNECTOR:-5.0.0-2.2}
slots=${FLINK_SLOTS:-2}
heap=${FLINK_HEAP:-2g}
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}
jars=$cache/flink-$version-$connector
start_tries=900 # of 0.2 s

fail() {
  echo "flink.sh: $*" >&2
  exit 1
}

# Python's package has the distribution, whose jars Maven Central has not; the gateway and the connector come from there.
fetch() {
  [ -f "$jars/complete" ] && return 0
  command -v mvn >/dev/null || fail "mvn is not installed (Debian: apt-get install maven)"
  command -v java >/dev/null || fail "java is not installed (Debian: apt-get install default-jre-headless)"
  local work=$jars.part.$$
  mkdir -p "$work/lib" "$work/gateway"
  python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps --target "$work/python" \
    "apache-flink-libraries==$version" >&2 || fail "pip could not fetch apache-flink-libraries $version"
  mv "$work"/python/pyflink/lib/*.jar "$work/lib/"
  mv "$work"/python/pyflink/opt/flink-python*.jar "$work/gateway/"
  rm -rf "$work/python"
  cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>prescale.tests</groupId><artifactId>flink</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.flink</groupId><artifactId>flink-sql-gateway</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.flink</groupId><artifactId>flink-sql-connector-kafka</artifactId><version>$connector</version></dependency>
  </dependencies>
</project>
POM
  mvn --batch-mode --quiet --no-transfer-progress --file "$work/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DexcludeTransitive=true -DoutputDirectory="$work/gateway" >&2 || fail "Maven could not copy Flink's gateway and connector"
  mv "$work"/gateway/flink-sql-connector-kafka*.jar "$work/lib/"
  touch "$work/complete"
  # Two runs may fetch at once: the first to rename wins and the other's copy goes.
  mv -T "$work" "$jars" 2>/dev/null || rm -rf "$work"
}

configure() {
  mkdir -p "$dir/conf" "$dir/plugins" "$dir/tmp"
  # Checkpoints are off: the job is bounded and ends. All memory that is not the heap is kept small.
  cat >"$dir/conf/config.yaml" <<CONF
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: $((port + 1))
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.process.size: 1024m
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: $port
blob.server.port: 0
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: $slots
taskmanager.cpu.cores: $slots.0
taskmanager.memory.task.heap.size: $heap
taskmanager.memory.task.off-heap.size: 0m
taskmanager.memory.managed.size: 128m
taskmanager.memory.network.min: 64m
taskmanager.memory.network.max: 64m
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
parallelism.default: $slots
sql-gateway.endpoint.rest.address: 127.0.0.1
sql-gateway.endpoint.rest.bind-address: 127.0.0.1
sql-gateway.endpoint.rest.port: $((port + 2))
io.tmp.dirs: $dir/tmp
CONF
  cat >"$dir/conf/log4j.properties" <<'LOG'
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
LOG
  echo "http://127.0.0.1:$port" >"$dir/rest.url"
  echo "http://127.0.0.1:$((port + 2))" >"$dir/gateway.url"
}

launch() { # name, heap, class path, class and arguments
  local name=$1 heap=$2 class_path=$3 package opens=()
  shift 3
  for package in java.lang java.net java.io java.nio sun.nio.ch java.lang.reflect java.text java.time java.util \
    java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks; do
    opens+=("--add-opens=java.base/$package=ALL-UNNAMED")
  done
  FLINK_CONF_DIR=$dir/conf FLINK_PLUGINS_DIR=$dir/plugins FLINK_OPT_DIR=$jars/gateway \
    java "-Xmx$heap" "${opens[@]}" "-Dlog4j2.configurationFile=$dir/conf/log4j.properties" -cp "$class_path" "$@" \
    >"$dir/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/$name.pid"
  disown
}

answers() { # whether the TaskManager has registered and the gateway is up
  python3 - "$port" <<'PY' 2>/dev/null
import json, sys, urllib.request as http
port = int(sys.argv[1])
overview = json.load(http.urlopen(f"http://127.0.0.1:{port}/overview", timeout=2))
http.urlopen(f"http://127.0.0.1:{port + 2}/info", timeout=2)
sys.exit(0 if overview["taskmanagers"] >= 1 else 1)
PY
}

start() {
  configure
  launch jobmanager 768m "$jars/lib/*" org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint \
    --configDir "$dir/conf" -D jobmanager.memory.heap.size=640m -D jobmanager.memory.off-heap.size=64m \
    -D jobmanager.memory.jvm-metaspace.size=160m -D jobmanager.memory.jvm-overhead.min=160m \
    -D jobmanager.memory.jvm-overhead.max=160m
  launch taskmanager "$heap" "$jars/lib/*" org.apache.flink.runtime.taskexecutor.TaskManagerRunner \
    --configDir "$dir/conf" -D taskmanager.resource-id=one
  launch gateway 512m "$jars/lib/*:$jars/gateway/*" org.apache.flink.table.gateway.SqlGateway
  local try name
  for ((try = 0; try < start_tries; try++)); do
    for name in jobmanager taskmanager gateway; do
      kill -0 "$(cat "$dir/$name.pid")" 2>/dev/null || {
        tail -n 20 "$dir/$name.log" >&2
        fail "the $name ended while it started"
      }
    done
    answers && return 0
    sleep 0.2
  done
  fail "Flink did not start in $((start_tries / 5)) s, see $dir"
}

stop() {
  local file pid try
  for file in "$dir"/*.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || true
    for ((try = 0; try < 100; try++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$file"
  done
}

free_port() { # the first of three, below the range that the kernel hands out to clients
  python3 - <<'PY'
import random, socket
while True:
    port = random.randrange(20000, 30000)
    held = []
    try:
        for candidate in range(port, port + 3):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", candidate))
    except OSError:
        continue
    finally:
        for one in held:
            one.close()
    print(port)
    break
PY
}

verb=${1:-}
case $verb in
  fetch) fetch ;;
  start)
    mkdir -p "${2:?DIR is missing}"
    dir=$(cd "$2" && pwd)
    port=${3:?PORT is missing}
    fetch
    start
    ;;
  stop)
    dir=${2:?DIR is missing}
    stop
    ;;
  with)
    shift
    [ "${1:-}" = -- ] && shift
    fetch
    dir=$(mktemp -d "${TMPDIR:-/tmp}/prescale-flink.XXXXXX")
    port=$(free_port)
    trap 'stop; rm -rf "$dir"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    start
    PRESCALE_BENCH_FLINK=$dir "$@"
    ;;
  *)
    sed -n '2,10p' "$0" >&2
    exit 2
    ;;
esac
