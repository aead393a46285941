#!/usr/bin/env bash
# `octoctl cache` says what its commands can be restricted to and what they leave, and refuses what excludes itself.
set -euo pipefail
octoctl=$1

help=$("$octoctl" cache flush --help)
for words in --model --tenant --kind 'they do not tell the models' 'What drafters have learned stays' 'nobody counts' \
             'within an hour' 'A replica that does not answer'; do
  grep -qF -- "$words" <<<"${help//$'\n'/ }" || { echo "--help does not say: $words"; echo "$help"; exit 1; }
done
help=$("$octoctl" cache stats --help)
for words in --model --tenant 'every 5 seconds' 'None of the three is counted by tenant'; do
  grep -qF -- "$words" <<<"${help//$'\n'/ }" || { echo "--help does not say: $words"; echo "$help"; exit 1; }
done
status=0
message=$("$octoctl" --server 127.0.0.1:1 cache flush --model m --kind answers 2>&1) || status=$?
[ "$status" = 2 ] || { echo "--model with --kind: status $status: $message"; exit 1; }
