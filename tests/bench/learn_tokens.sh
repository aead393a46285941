#!/usr/bin/env bash
# Learns one intent of CLINC150 while a gateway runs, and measures before and after.
#
#   OCTOGATE_TEST_DATA=DATA tests/bench/learn_tokens.sh BIN_DIR [MODEL_ROOT]
#
# BIN_DIR has octogate and octoctl. With MODEL_ROOT, whose folder minilm is all-MiniLM-L6-v2, an
# encoder head follows the lexical one; without, the lexical head is alone. The intent play_music is
# held out of the graph and learned from 32 of its training texts; all else are test texts.
set -euo pipefail
bin=$(realpath "$1")
models=${2:+$(realpath "$2")}
data=${OCTOGATE_TEST_DATA:?names no folder with routing/clinc150}
folder=$(mktemp -d)
gateway=
trap '[ -z "$gateway" ] || { kill "$gateway"; wait "$gateway" || true; }; rm -rf "$folder"' EXIT

python3 - "$data/routing/clinc150/data_full.json" "$folder" "$models" <<'PYTHON'
import json, sys
source, folder, models = sys.argv[1:]
data = json.load(open(source))
held_out = "play_music"
intents = {}
for text, intent in data["train"]:
    intents.setdefault(intent, []).append(text)
name = lambda intent: intent.replace("_", "-")
node = ["    - name: {}", "      tool: {{tool: reply, parameters: {{text: ok}}}}"]
lines = ["apiVersion: octogate/v1", "kind: Graph", "metadata: {name: clinc150}", "spec:",
         "  entry: main"]
heads = ["{threshold: 0.5, lexical: {hashBits: 16, epochs: 8}}"]
if models:
    lines += ["  models: [{name: minilm, path: minilm}]"]
    heads = ["{threshold: 0.8, lexical: {hashBits: 16, epochs: 8}}",
             "{threshold: 0.5, encoder: {model: minilm}}"]
lines += ["  nodes:", "    - name: main", "      router:", "        fallback: none-of-these",
          "        members: [" + ", ".join(map(name, intents)) + "]", "        heads:"]
lines += ["          - " + head for head in heads]
def add(label, examples):
    lines.extend(line.format(label) for line in node)
    if examples:
        lines.append("      examples:")
        lines.extend("        - " + json.dumps(text) for text in examples)
for intent, texts in intents.items():
    add(name(intent), [] if intent == held_out else texts)
add("none-of-these", [text for text, _ in data["oos_train"]])
def write(file, rows):
    with open(f"{folder}/{file}", "w") as out:
        out.writelines(row + "\n" for row in rows)
write("graph.yaml", lines)
write("learn.txt", intents[held_out][:32])
write("others.tsv", [f"{name(i)}\t{t}" for t, i in data["test"] if i != held_out] +
                    [f"none\t{t}" for t, _ in data["oos_test"]])
write("new.tsv", [f"{name(i)}\t{t}" for t, i in data["test"] if i == held_out])
PYTHON

"$bin/octogate" --listen 127.0.0.1:0 --data-dir "$folder/data" --model-root "${models:-.}" \
  2> "$folder/log" &
gateway=$!
port=
for _ in $(seq 100); do
  port=$(sed -n 's/.*listens on port \([0-9]*\).*/\1/p' "$folder/log")
  [ -z "$port" ] || break
  sleep 0.1
done
octoctl() { "$bin/octoctl" --server "127.0.0.1:$port" --timeout 600 "$@"; }
octoctl apply -f "$folder/graph.yaml" | tail -n 1
echo "== the other intents, before"
octoctl tokens evaluate --set "$folder/others.tsv"
echo "== learn"
octoctl tokens learn play-music --examples "$folder/learn.txt"
echo "== the other intents, after"
octoctl tokens evaluate --set "$folder/others.tsv"
echo "== the new one"
octoctl tokens evaluate --set "$folder/new.tsv"
echo "== forget"
octoctl tokens forget play-music
