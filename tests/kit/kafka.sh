#!/usr/bin/env bash
# Real Apache Kafka brokers (KRaft: broker and controller in one process) on 127.0.0.1, for tests.
#
#   kafka.sh fetch               copy the jars through Maven into the cache, once
#   kafka.sh start DIR PORT      format DIR if it is new, start, return when the broker answers; PORT+1 is its controller's
#   kafka.sh start DIR PORT NODE PORT1 PORT2 PORT3
#                                the same for the broker NODE (1 to 3) of a cluster on these ports; topics have three copies,
#                                of which two must be written. It answers when a second one has been started.
#   kafka.sh stop DIR            end it cleanly; after 20 s by force
#   kafka.sh kill DIR            end it at once, as a crash does; `start` with the same DIR and PORT brings it back
#
# PRESCALE_CACHE holds the jars. KAFKA_VERSION, KAFKA_PARTITIONS (of topics made on first use) and KAFKA_HEAP are optional.
set -euo pipefail

version=${KAFKA_VERSION:-4.4.0}
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}
jars=$cache/kafka-$version
start_tries=900 # of 0.1 s: a loaded machine with two cores has taken 30 s

fail() {
  echo "kafka.sh: $*" >&2
  exit 1
}

fetch() {
  [ -f "$jars/complete" ] && return 0
  command -v mvn >/dev/null || fail "mvn is not installed (Debian: apt-get install maven)"
  command -v java >/dev/null || fail "java is not installed (Debian: apt-get install default-jre-headless)"
  local work=$jars.part.$$
  mkdir -p "$work"
  cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>prescale.tests</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version></dependency>
  </dependencies>
</project>
POM
  mvn --batch-mode --quiet --no-transfer-progress --file "$work/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$work" >&2 || fail "Maven could not copy Kafka $version"
  touch "$work/complete"
  # Two runs may fetch at once: the first to rename wins and the other's copy goes.
  mv -T "$work" "$jars" 2>/dev/null || rm -rf "$work"
}

class_path_java() { # heap, then properties, class and arguments; replaces the shell that calls it
  local heap=$1
  shift
  exec java "-Xmx$heap" -XX:+UseSerialGC -cp "$jars/*" "-Dlog4j2.configurationFile=$dir/log.properties" "$@"
}

configure() {
  mkdir -p "$dir"
  local voters="" number=1 other copies=${#ports[@]} written=$(((${#ports[@]} + 1) / 2))
  for other in "${ports[@]}"; do
    voters+=${voters:+,}$number@127.0.0.1:$((other + 1))
    number=$((number + 1))
  done
  cat >"$dir/log.properties" <<'LOG'
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = ${sys:broker.log:-INFO}
rootLogger.appenderRef.out.ref = out
LOG
  # As many copies as there are brokers. Group rebalances start at once: tests wait for nobody.
  cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
num.partitions=${KAFKA_PARTITIONS:-4}
auto.create.topics.enable=true
default.replication.factor=$copies
min.insync.replicas=$written
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$written
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$written
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
CONF
  [ -f "$dir/data/meta.properties" ] && return 0
  local cluster=PrescaleTestClusterAAA # brokers of one cluster are formatted with the same
  [ "$copies" -gt 1 ] || cluster=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' | cut -c2-)
  (class_path_java 128m -Dbroker.log=ERROR -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format \
    --cluster-id "$cluster" --config "$dir/server.properties") >"$dir/format.log" 2>&1 || {
    cat "$dir/format.log" >&2
    fail "could not format $dir"
  }
}

running() { [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

start() {
  running && return 0
  configure
  [ ! -f "$dir/server.log" ] || mv "$dir/server.log" "$dir/server.log.$(date +%s%N)" # what one wrote before it was killed
  class_path_java "${KAFKA_HEAP:-512m}" kafka.Kafka "$dir/server.properties" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  disown
  local try
  for ((try = 0; try < start_tries; try++)); do
    running || {
      tail -n 20 "$dir/server.log" >&2
      fail "the broker ended while it started"
    }
    if grep -q 'Kafka Server started' "$dir/server.log" && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      return 0
    fi
    sleep 0.1
  done
  end -KILL
  fail "the broker did not start in $((start_tries / 10)) s, see $dir/server.log"
}

end() { # signal
  running || return 0
  local pid try
  pid=$(cat "$dir/pid")
  kill "$1" "$pid" 2>/dev/null || true
  for ((try = 0; try < 200; try++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$dir/pid"
}

verb=${1:-}
case $verb in
  fetch) fetch ;;
  start)
    mkdir -p "${2:?DIR is missing}"
    dir=$(cd "$2" && pwd)
    port=${3:?PORT is missing}
    node=${4:-1}
    ports=("${@:5}")
    [ "${#ports[@]}" -gt 0 ] || ports=("$port")
    fetch
    start
    ;;
  stop | kill)
    dir=${2:?DIR is missing}
    if [ "$verb" = stop ]; then end -TERM; else end -KILL; fi
    ;;
  *)
    sed -n '2,12p' "$0" >&2
    exit 2
    ;;
esac
