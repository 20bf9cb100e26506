#!/usr/bin/env bash
# A real Kubernetes control plane on 127.0.0.1, for tests: etcd, apiserver, controller manager and scheduler from their Go
# modules, and kwok, which keeps nodes and pods that exist only as objects. KEDA's and Karpenter's kinds are installed, their
# controllers are not.
#
#   kube.sh fetch                          compile it into the cache, once: some 15 minutes of one core; prints where it is
#   kube.sh start DIR ETCD_PORT API_PORT   start, return when it answers; ETCD_PORT+1 and API_PORT+1 are used as well.
#                                          Prints the path of a kubeconfig, with a context `nobody` that may do nothing
#   kube.sh stop DIR                       end it
#
# A node that carries the annotation `kwok.x-k8s.io/node: fake` becomes Ready, and so do the pods on it. PRESCALE_CACHE holds
# the binary; Go's own caches hold what it is made of.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PRESCALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/prescale}
kubernetes=v1.37.2
keda=github.com/kedacore/keda/v2@v2.21.0
karpenter=sigs.k8s.io/karpenter@v1.15.0
hash=$(cat "$here/kube/main.go" "$here/kube/go.mod" "$here/kube/go.sum" <(echo "$keda $karpenter") | sha256sum | cut -c1-16)
made=$cache/kube-$hash
start_tries=600 # of 0.2 s

fail() {
  echo "kube.sh: $*" >&2
  exit 1
}

fetch() {
  [ -f "$made/complete" ] && return 0
  command -v go >/dev/null || fail "go is not installed (Go 1.26 or newer, https://go.dev/dl)"
  mkdir -p "$cache"
  # Two runs may want it at once: the second waits for the first one's.
  exec 9>"$made.lock"
  flock 9
  [ -f "$made/complete" ] && return 0
  local work=$made.part.$$ version=k8s.io/component-base/version stage module
  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0
  mkdir -p "$work/crds"
  (cd "$here/kube" && nice -n 15 go build -trimpath -o "$work/kube" -ldflags \
    "-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=37" .) >&2 ||
    fail "the control plane could not be compiled"
  module=$(cd "$here/kube" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok) || fail "where is the module kwok?"
  for stage in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease \
    pod/fast/pod-ready pod/fast/pod-complete pod/fast/pod-delete; do
    cat "$module/kustomize/stage/$stage.yaml"
    echo ---
  done >"$work/stages.yaml"
  definitions "$keda" config/crd/bases >"$work/crds/keda.yaml"
  definitions "$karpenter" pkg/apis/crds >"$work/crds/karpenter.yaml"
  touch "$work/complete"
  rm -rf "$made"
  mv -T "$work" "$made"
}

definitions() { # module, folder: all that is in it
  local folder file
  # A module may ask for a newer Go than is here. Nothing of it is compiled, and its files come all the same.
  go mod download "$1" >&2 || true
  folder=$(go env GOMODCACHE)/$1/$2
  [ -d "$folder" ] || fail "the module $1 could not be had"
  for file in "$folder"/*.yaml; do
    cat "$file"
    echo
    echo ---
  done
}

secrets() {
  command -v openssl >/dev/null || fail "openssl is not installed (Debian: apt-get install openssl)"
  mkdir -p "$dir/pki"
  cd "$dir/pki"
  local name
  for name in ca front-proxy-ca; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$name" \
      -keyout "$name.key" -out "$name.crt" 2>/dev/null
  done
  signed apiserver ca kube-apiserver 'subjectAltName=IP:127.0.0.1,DNS:localhost,IP:10.96.0.1'
  signed front-proxy front-proxy-ca front-proxy-client extendedKeyUsage=clientAuth
  openssl genrsa -out sa.key 2048 2>/dev/null
  token=$(openssl rand -hex 16)
  nobody=$(openssl rand -hex 16)
  printf '%s,admin,1,"system:masters"\n%s,nobody,2\n' "$token" "$nobody" >tokens.csv
  cat >"$dir/kubeconfig" <<CONF
apiVersion: v1
kind: Config
clusters:
- {name: test, cluster: {server: "https://127.0.0.1:$api", certificate-authority: "$dir/pki/ca.crt"}}
users:
- {name: admin, user: {token: $token}}
- {name: nobody, user: {token: $nobody}}
contexts:
- {name: admin, context: {cluster: test, user: admin}}
- {name: nobody, context: {cluster: test, user: nobody}}
current-context: admin
CONF
}

signed() { # name, authority, common name, extension
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(echo "$4") 2>/dev/null
}

launch() { # program, arguments...
  "$made/kube" "$@" >"$dir/$1.log" 2>&1 </dev/null 9>&- &
  echo $! >"$dir/$1.pid"
  disown
}

kubectl() { "$made/kube" kubectl --kubeconfig "$dir/kubeconfig" "$@"; }

await() { # what, then a command that says that it is there
  local what=$1 try
  shift
  for ((try = 0; try < start_tries; try++)); do
    "$@" >"$dir/await.log" 2>&1 && return 0
    kill -0 "$(cat "$dir/$what.pid")" 2>/dev/null || {
      tail -n 20 "$dir/$what.log" >&2
      fail "$what ended while it started"
    }
    sleep 0.2
  done
  tail -n 5 "$dir/await.log" >&2
  fail "$what did not start in $((start_tries / 5)) s, see $dir/$what.log"
}

open_port() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start() {
  [ ! -f "$dir/kubeconfig" ] || fail "$dir was started before"
  secrets
  launch etcd --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$((etcd + 1))" --initial-advertise-peer-urls "http://127.0.0.1:$((etcd + 1))" \
    --initial-cluster "default=http://127.0.0.1:$((etcd + 1))"
  await etcd open_port "$etcd"
  local pki=$dir/pki
  launch kube-apiserver --etcd-servers "http://127.0.0.1:$etcd" --secure-port "$api" \
    --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --endpoint-reconciler-type none \
    --cert-dir "$pki" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --service-cluster-ip-range 10.96.0.0/16 --token-auth-file "$pki/tokens.csv" --authorization-mode RBAC \
    --service-account-issuer https://kubernetes.default.svc --service-account-signing-key-file "$pki/sa.key" \
    --service-account-key-file "$pki/sa.key" --disable-admission-plugins ServiceAccount \
    --requestheader-client-ca-file "$pki/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- --proxy-client-cert-file "$pki/front-proxy.crt" \
    --proxy-client-key-file "$pki/front-proxy.key"
  await kube-apiserver kubectl get --raw /readyz
  # What reacts within minutes in a real cluster does so within seconds here.
  launch kube-controller-manager --kubeconfig "$dir/kubeconfig" --leader-elect=false --secure-port 0 \
    --horizontal-pod-autoscaler-sync-period 2s --horizontal-pod-autoscaler-downscale-stabilization 10s \
    --kube-api-qps 200 --kube-api-burst 400
  launch kube-scheduler --kubeconfig "$dir/kubeconfig" --leader-elect=false --secure-port 0 \
    --kube-api-qps 200 --kube-api-burst 400
  launch kwok --kubeconfig "$dir/kubeconfig" --config "$made/stages.yaml" --manage-all-nodes=false \
    --manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake --server-address "127.0.0.1:$((api + 1))" \
    --node-lease-duration-seconds 40 # it renews them; by default it does not, and a node is NotReady after 50 s
  kubectl apply --server-side -f "$made/crds" >"$dir/crds.log" 2>&1 || {
    tail -n 5 "$dir/crds.log" >&2
    fail "the kinds of KEDA and Karpenter were refused"
  }
  kubectl wait --for condition=Established --timeout 60s crd --all >>"$dir/crds.log" 2>&1 ||
    fail "the kinds of KEDA and Karpenter are not served, see $dir/crds.log"
  await kwok open_port "$((api + 1))"
  await kube-controller-manager kubectl get serviceaccount default --namespace default
  echo "$dir/kubeconfig"
}

end() {
  local name pid try
  for name in kwok kube-scheduler kube-controller-manager kube-apiserver etcd; do
    [ -f "$dir/$name.pid" ] || continue
    pid=$(cat "$dir/$name.pid")
    # Nothing of it is wanted again.
    kill -KILL "$pid" 2>/dev/null || true
    for ((try = 0; try < 50; try++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    rm -f "$dir/$name.pid"
  done
}

case ${1:-} in
  fetch)
    fetch
    echo "$made/kube"
    ;;
  start)
    mkdir -p "${2:?DIR is missing}"
    dir=$(cd "$2" && pwd)
    etcd=${3:?ETCD_PORT is missing}
    api=${4:?API_PORT is missing}
    fetch
    start
    ;;
  stop)
    dir=${2:?DIR is missing}
    end
    ;;
  *)
    sed -n '2,15p' "$0" >&2
    exit 2
    ;;
esac
