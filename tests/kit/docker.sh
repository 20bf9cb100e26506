#!/usr/bin/env bash
# A real Docker Engine for tests: the host's own Docker, if any, is neither used nor touched. It and all it starts live in
# network, mount and process namespaces of their own, so bridges, addresses and firewall rules of two runs can't meet, and
# nothing outlives the first process.
#
#   docker.sh fetch        says whether everything is there: dockerd, the client, a static busybox, and root
#   docker.sh start DIR    start, return when it answers: socket DIR/docker.sock, image `prescale-test` (busybox), a swarm of
#                          one node on loopback
#   docker.sh stop DIR     end it with its containers
set -euo pipefail

start_tries=600 # of 0.1 s
group=prescale-tests # the parent of all containers' control groups is below it

fail() {
  echo "docker.sh: $*" >&2
  exit 1
}

fetch() {
  [ "$(id -u)" = 0 ] || fail "needs root, for namespaces"
  local program
  for program in dockerd docker unshare ip; do
    command -v "$program" >/dev/null || fail "$program is not installed (Debian: apt-get install docker.io iproute2)"
  done
  busybox=$(command -v busybox) || fail "busybox is not installed (Debian: apt-get install busybox-static)"
  ! ldd "$busybox" >/dev/null 2>&1 || fail "busybox is not static (Debian: apt-get install busybox-static)"
}

engine() { docker --host "unix://$dir/docker.sock" "$@"; }

running() { [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

# An image without a registry: one program under the names that it knows.
import_image() {
  local tree=$dir/tree name
  mkdir -p "$tree/bin" "$tree/tmp"
  cp "$busybox" "$tree/bin/busybox"
  for name in $("$busybox" --list); do [ "$name" = busybox ] || ln -sf busybox "$tree/bin/$name"; done
  tar -C "$tree" -c . | engine import --change 'ENV PATH=/bin' --change 'CMD ["sleep", "86400"]' - prescale-test >/dev/null
  rm -rf "$tree"
}

start() {
  running && return 0
  # The first process of the namespaces is dockerd itself: with it ends everything in them.
  # shellcheck disable=SC2016 # the inner shell's own words
  unshare --net --mount --pid --fork --kill-child --mount-proc sh -c '
    ip link set lo up
    exec dockerd --host "unix://$1/docker.sock" --data-root "$1/data" --exec-root "$1/run" --pidfile "$1/docker.pid" \
      --storage-driver vfs --cgroup-parent "/$2" --exec-opt native.cgroupdriver=cgroupfs --config-file "$1/daemon.json"
  ' sh "$dir" "$group/$$" >"$dir/server.log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  echo "$group/$$" >"$dir/group"
  disown
  local try
  for ((try = 0; try < start_tries; try++)); do
    running || {
      tail -n 20 "$dir/server.log" >&2
      fail "the engine ended while it started"
    }
    if engine version >/dev/null 2>&1; then
      import_image
      engine swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null
      return 0
    fi
    sleep 0.1
  done
  stop
  fail "the engine did not start in $((start_tries / 10)) s, see $dir/server.log"
}

# At once: what it holds is thrown away, and with its first process end all in its namespaces, mounts and bridges too.
stop() {
  local outer inner try below left
  outer=$(cat "$dir/pid" 2>/dev/null) || return 0
  inner=$(tr -d ' ' 2>/dev/null <"/proc/$outer/task/$outer/children" || true)
  kill -KILL "$outer" 2>/dev/null || true # which the kernel passes on to its child, dockerd
  left=$(cat "$dir/group")
  for ((try = 0; try < 100; try++)); do
    # The empty control groups are all that is left, in one hierarchy or in many.
    for below in /sys/fs/cgroup /sys/fs/cgroup/*; do
      [ ! -d "$below/$left" ] || find "$below/$left" -depth -type d -exec rmdir {} + 2>/dev/null || true
      rmdir "$below/$group" 2>/dev/null || true # unless another run is in it
    done
    [ -n "$inner" ] && kill -0 "$inner" 2>/dev/null && sleep 0.1 && continue
    ls -d /sys/fs/cgroup/"$left" /sys/fs/cgroup/*/"$left" >/dev/null 2>&1 || break
    sleep 0.1
  done
  rm -f "$dir/pid" "$dir/group"
}

verb=${1:-}
case $verb in
  fetch) fetch ;;
  start)
    mkdir -p "${2:?DIR is missing}"
    dir=$(cd "$2" && pwd)
    fetch
    echo '{}' >"$dir/daemon.json"
    start
    ;;
  stop)
    dir=${2:?DIR is missing}
    stop
    ;;
  *)
    sed -n '2,10p' "$0" >&2
    exit 2
    ;;
esac
