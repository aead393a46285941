#!/usr/bin/env bash
# The completion script loads in bash and offers what fits the place.
set -euo pipefail
PATH=$(dirname "$1"):$PATH
source <(octoctl completion bash)

complete_line() {  # WORD… : what is offered for the last word
  COMP_WORDS=(octoctl "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  _octoctl
  echo "${COMPREPLY[*]}"
}
expect() {  # WANTED WORD…
  local wanted=$1; shift
  local got; got=$(complete_line "$@")
  [ "$got" = "$wanted" ] || { echo "octoctl $*: '$got' instead of '$wanted'"; exit 1; }
}
expect "apply ask" a
expect "graph" get g
expect "node model" describe ""
expect "--trace" ask --tr
expect "bash zsh" completion ""
expect "json" get nodes -o j
expect "learn forget evaluate" tokens ""
expect "--examples --expected-version" tokens learn --ex
expect "--set" tokens evaluate --s
expect "give list promote" feedback ""
expect "route" bench ""
expect "--suite" bench route --s
expect "--explain" route --e
expect "catalog" cat
expect "add get describe refresh link" catalog ""
expect "--sqlite --spider --sensitive" catalog add --s
expect "--evidence" catalog link --ev
expect "--graph --graph-version" replay --g
expect "build append compact describe" drafts ""
expect "--tokenizer" drafts build --to
expect "--model" cache flush --m
zsh=$(octoctl completion zsh)
[ "${zsh%%$'\n'*}" = '#compdef octoctl' ] || { echo "zsh: '${zsh%%$'\n'*}'"; exit 1; }
