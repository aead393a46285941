#include <iostream>
#include <string>

#include "gateway/octoctl/commands.h"

namespace octogate::octoctl {
namespace {

// Node names and versions are asked from the gateway, briefly and in silence.
constexpr char kBash[] = R"BASH(# octoctl completion for bash: source <(octoctl completion bash)
_octoctl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' second='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $word in
      --server|--timeout|-o|--output|--tokenizer|--field|--segment-tokens|--examples|--set|--suite|--calls|--router|--graph|--traces|--session|--tenant|--kind|--model|--evidence|--budget|--style|--json-schema|--grammar) ((i++)) ;;
      -*) ;;
      *) if [[ -z $command ]]; then command=$word; elif [[ -z $second ]]; then second=$word; fi ;;
    esac
  done
  local words=''
  case $prev in
    -f|--filename|--out|--tokenizer|--examples|--set|--suite|--graph|--traces|--json-schema|--grammar) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --model) words=$(octoctl --timeout 1 get models -o name 2>/dev/null) ;;
    --router) words=$(octoctl --timeout 1 get nodes -o name 2>/dev/null) ;;
    -o|--output) words='table wide json yaml name text dot svg' ;;
    *)
      case $command in
        '') words='apply diff get describe route ask explain replay rollback drain tokens feedback bench catalog drafts cache view version completion --server --timeout --help --version' ;;
        apply) words='-f --dry-run --expected-version' ;;
        diff) words='-f --from --to' ;;
        get) [[ -z $second ]] && words='graph nodes models versions traces' || words='-o' ;;
        describe) [[ -z $second ]] && words='node model' || words=$(octoctl --timeout 1 get "${second}s" -o name 2>/dev/null) ;;
        drain) words="$(octoctl --timeout 1 get nodes -o name 2>/dev/null) --undo" ;;
        tokens)
          case $second in
            '') words='learn forget evaluate' ;;
            learn) words="$(octoctl --timeout 1 get nodes -o name 2>/dev/null) --examples --router --dry-run --expected-version -o" ;;
            forget) words="$(octoctl --timeout 1 get nodes -o name 2>/dev/null) --dry-run --expected-version -o" ;;
            evaluate) words='--set --router --all-heads -o' ;;
          esac ;;
        feedback)
          case $second in
            '') words='give list promote' ;;
            give) words="$(octoctl --timeout 1 get traces -o name 2>/dev/null) right wrong better --tenant -o" ;;
            list) words='--tenant -o' ;;
            promote) words="$(octoctl --timeout 1 feedback list -o name 2>/dev/null) --node --tenant --dry-run --expected-version -o" ;;
          esac ;;
        bench) [[ -z $second ]] && words='route' || words='--suite --router --calls --tenant -o' ;;
        catalog)
          case $second in
            '') words='add get describe refresh link' ;;
            add) words='--sqlite --ddl --spider --json --database --descriptions --encoder --postgresql --sensitive --max-values --dry-run --expected-version -o' ;;
            get|describe) words="$(octoctl --timeout 1 catalog get -o name 2>/dev/null) --tenant -o" ;;
            refresh) words="$(octoctl --timeout 1 catalog get -o name 2>/dev/null) -o" ;;
            link) words="$(octoctl --timeout 1 catalog get -o name 2>/dev/null) --evidence --budget --max-columns --style --focused --minimal --text --tenant -o" ;;
          esac ;;
        drafts)
          case $second in
            '') words='build append compact describe' ;;
            build) words="--tokenizer --output --field --segment-tokens -o $(compgen -f -- "$cur")" ;;
            append) words="--tokenizer --field --segment-tokens -o $(compgen -f -- "$cur")" ;;
            compact|describe) words="-o $(compgen -f -- "$cur")" ;;
          esac ;;
        cache)
          case $second in
            '') words='stats flush explain' ;;
            stats) words='--tenant --model -o' ;;
            flush) words='--kind --model --tenant -o' ;;
            explain) words='--node --max-tokens --temperature --seed --tenant -o' ;;
          esac ;;
        rollback) words=$(octoctl --timeout 1 get versions -o name 2>/dev/null) ;;
        explain) words="last $(octoctl --timeout 1 get traces -o name 2>/dev/null)" ;;
        route) words='--node --all-heads --explain --tenant --session -o' ;;
        ask) words='--trace --no-cache --node --max-tokens --temperature --seed --json --json-schema --grammar --tenant --session -o' ;;
        replay) words='--graph --graph-version --traces --tenant --limit --changes -o' ;;
        view) words='-o --out --graph-version' ;;
        completion) words='bash zsh' ;;
      esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _octoctl octoctl
)BASH";

}  // namespace

ExitStatus Completion(const std::string& shell) {
  if (shell == "zsh") {
    std::cout << "#compdef octoctl\n"
              << "# octoctl completion for zsh: source <(octoctl completion zsh)\n"
              << "autoload -U +X bashcompinit && bashcompinit\n";
  }
  std::cout << kBash;
  return kOk;
}

}  // namespace octogate::octoctl
