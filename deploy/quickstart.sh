#!/usr/bin/env bash
# Installs what is missing, builds Octogate, starts it with the example graph on
# this machine alone, and asks it a dozen queries.
#   deploy/quickstart.sh                     the dozen; on a terminal, yours after that
#   deploy/quickstart.sh "query" ["query"…]  these instead
#   deploy/quickstart.sh --keep …            leave the gateway running at the end
# Needs Debian 12, and root or sudo where packages are missing. Nothing leaves
# the machine but the download of packages.
set -euo pipefail
cd "$(dirname "$0")/.."

keep=false
case "${1:-}" in
  -h|--help) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
  --keep) keep=true; shift ;;
  --) shift ;;
  -*) echo "unknown option '$1'; see deploy/quickstart.sh --help" >&2; exit 2 ;;
esac

queries=(
  "find files larger than 100 MB under /var"
  "undo my last commit but keep the changes"
  "what is 12.5% of 1,880?"
  "2^200 - 1"
  "what is twelve percent of 250?"
  "what time is it in Tokyo?"
  "how many days until Christmas?"
  "what weekday was 20 July 1969?"
  "what does 'tar -xzf backup.tar.gz -C /tmp' do?"
  "explain grep -rn main src"
  "which process is using port 8080?"
  "write me a poem about autumn"
)
[ $# -eq 0 ] || queries=("$@")

bold='' dim='' reset=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' reset=$'\e[0m'; fi
step() { printf '%s== %s%s\n' "$bold" "$*" "$reset"; }

step "Packages"
deploy/install-packages.sh deploy/packages.txt
step "Build (some minutes the first time)"
cmake --preset release >/dev/null
cmake --build build/release --target octogate octoctl
bin=$PWD/build/release/bin
export PATH=$bin:$PATH

step "Start"
state=$PWD/build/quickstart
mkdir -p "$state"
log=$state/octogate.log
port=${OCTOGATE_PORT:-7070}
export OCTOGATE_SERVER=127.0.0.1:$port
octogate --listen "$OCTOGATE_SERVER" --data-dir "$state/data" --model-root deploy/models \
  >"$log" 2>&1 &
gateway=$!
stop() { if ! $keep; then kill "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null; fi; return 0; }
trap stop EXIT
for _ in $(seq 300); do
  if octoctl --timeout 1 version >/dev/null 2>&1; then break; fi
  if ! kill -0 "$gateway" 2>/dev/null; then
    echo "octogate did not start; its log ($log) ends with:" >&2
    tail -n 5 "$log" >&2
    echo "If port $port is taken, set OCTOGATE_PORT to a free one." >&2
    exit 1
  fi
  sleep 0.1
done
octoctl apply -f deploy/graphs/example.yaml | tail -n 1
octoctl view

ask() {
  printf '\n%s> %s%s\n' "$bold" "$1" "$reset"
  octoctl ask "$1" 2>&1 || true
}
step "Ask"
for query in "${queries[@]}"; do ask "$query"; done

if [ -t 0 ] && [ -t 1 ] && [ $# -eq 0 ]; then
  printf '\n%sYour turn: a query, or an empty line to end.%s\n' "$dim" "$reset"
  while read -r -e -p '> ' query && [ -n "$query" ]; do ask "$query"; done
fi

echo
if $keep; then
  echo "The gateway runs on (process $gateway, log $log). Stop it with: kill $gateway"
  echo "Try: PATH=$bin:\$PATH; octoctl --server $OCTOGATE_SERVER explain last"
else
  echo "Run it again with --keep to leave the gateway running, then: octoctl explain last"
fi
