#!/usr/bin/env bash
# From a bare Debian 12 to a search over real vectors: installs what is missing, builds, starts a standalone
# server, loads 6,500 Debian packages with text embeddings, finds the nearest to one, and says what to type next.
#
#   ./quickstart.sh [PACKAGE]        the package to find neighbours of (default postgresql)
#   ./quickstart.sh stop             stops the server it started
#
# Safe to run again: the build is incremental, the server and its data are kept. Data and logs: build/quickstart/.
# KITH_GRPC_PORT and KITH_HTTP_PORT choose other ports than 7441 and 7440.
set -euo pipefail
cd "$(dirname "$0")"

home=build/quickstart bin=build/release/bin set_dir=bench/datasets/debian-packages
grpc_port=${KITH_GRPC_PORT:-7441} http_port=${KITH_HTTP_PORT:-7440}
name=${1:-postgresql}

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
our_pid() { # the server of an earlier run, if it lives
    local pid
    pid=$(cat "$home/pid" 2>/dev/null) && [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" -ef "$bin/kithd" ] && echo "$pid"
}
ready() { curl -fsS -m 2 "http://127.0.0.1:$http_port/readyz" >/dev/null 2>&1; }
port_busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

case "$name" in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    stop)
        pid=$(our_pid) || fail "no server of an earlier run is running"
        kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        echo "stopped"; exit 0 ;;
esac

step "1/4  Build"
mkdir -p "$home"
./install-deps.sh
cmake --preset release >"$home/build.log" 2>&1 && cmake --build build/release --target kithd kith >>"$home/build.log" 2>&1 ||
    fail "the build failed: see $home/build.log"
echo "built $bin/kithd and $bin/kith"

step "2/4  Server"
pid=$(our_pid) || pid=
if [ -n "$pid" ] && ready; then
    echo "already running (pid $pid)"
else
    [ -z "$pid" ] || fail "the server of an earlier run (pid $pid) does not answer on port $http_port; end it with: kill $pid"
    for port in "$grpc_port" "$http_port"; do
        ! port_busy "$port" ||
            fail "port $port is in use by another program; choose others: KITH_GRPC_PORT=17441 KITH_HTTP_PORT=17440 $0"
    done
    "$bin/kithd" --role standalone --data-dir "$home/data" --grpc-port "$grpc_port" --http-port "$http_port" \
        >"$home/kithd.log" 2>&1 &
    echo $! >"$home/pid"
    for _ in $(seq 100); do
        ready && break
        kill -0 "$(cat "$home/pid")" 2>/dev/null || fail "the server did not start: $(tail -n 1 "$home/kithd.log")"
        sleep 0.1
    done
    ready || fail "the server is not ready after 10 s: see $home/kithd.log"
    echo "kithd runs as pid $(cat "$home/pid"): gRPC 127.0.0.1:$grpc_port, metrics http://127.0.0.1:$http_port/metrics"
fi
kith=("$bin/kith" --server "127.0.0.1:$grpc_port")

step "3/4  Real vectors: Debian packages by what their descriptions mean"
rows=$(wc -l <"$set_dir/payload.jsonl")
"${kith[@]}" create debian-packages --dim 384 --metric cosine
if [ "$("${kith[@]}" count debian-packages)" != "$rows" ]; then
    "${kith[@]}" load debian-packages "$set_dir/vectors.npy" --payload "$set_dir/payload.jsonl"
fi
echo "count: $("${kith[@]}" count debian-packages)"

step "4/4  Search: the packages nearest to $name"
id=$(grep -nF "\"name\": \"$name\"" "$set_dir/payload.jsonl" | head -n 1 | cut -d: -f1) || true
[ -n "$id" ] || fail "there is no package '$name' in the sample; try gimp, nginx, vlc or emacs"
id=$((id - 1))
"${kith[@]}" search debian-packages --id "$id" --k 8 --payload --json | python3 -c '
import json, sys
for line in sys.stdin:
    for hit in json.loads(line)["hits"]:
        payload = hit["payload"]
        print("  {:.3f}  {:24} {}".format(hit["score"], payload["name"][:24], payload["description"][:70]))'
printf '\nLatency of one exact search at a time, and recall against brute force in float64:\n'
"${kith[@]}" bench debian-packages --queries "$set_dir/queries.npy" --k 10 --groundtruth "$set_dir/groundtruth.ivecs" \
    --connections 1 --requests 1000

k="$bin/kith"
[ "$grpc_port" = 7441 ] || k="$bin/kith --server 127.0.0.1:$grpc_port"
cat <<END

Next:
  ./quickstart.sh gimp                                      neighbours of another package
  $k status
  $k create mine --dim 768 --metric cosine
  $k load mine vectors.npy --payload rows.jsonl
  $k search mine --file queries.npy --k 10
  $k --help
  ./quickstart.sh stop
END
