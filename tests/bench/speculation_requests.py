#!/usr/bin/env python3
"""Writes what models have answered as token ids, one request a line, for speculation_bench.

  speculation_requests.py DATA OUT.jsonl

DATA has specdec/ and tokenizers/llama2. A line is {"task", "prompt": [ids], "output": [ids]}:
- mt-bench, a category each: greedy answers of Vicuna-7B, recorded with Medusa, both turns; the
  second one's prompt has the first one. Prompts in Vicuna's template.
- cnn: greedy summaries by Vicuna-7B. Of most articles only the first 100 characters are recorded:
  they are the prompt, so nothing can be copied from the article. Those whose article is there are
  cnn-whole; how the model was asked is not recorded, and the article comes under "Summarize:".
- humaneval, mbpp: solutions by people, not by a model. Prompt and solution are one text.

Says on stderr what the recorded counts of new tokens and accepted lengths come to, and how many of
the answers have as many tokens here as were recorded.
"""
import json
import sys

from tokenizers import Tokenizer

SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. "
          "The assistant gives helpful, detailed, and polite answers to the user's questions.")
BEGIN, END = 1, 2


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def main(data, out):
    tokenizer = Tokenizer.from_file(f"{data}/tokenizers/llama2/tokenizer.json")
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    requests = []
    recorded = f"{data}/specdec/recorded"

    def answer(text, new_tokens, counts):
        # A recorded count includes the end of the answer, unless it was cut off.
        ids = encode(text)
        counts[new_tokens - len(ids)] = counts.get(new_tokens - len(ids), 0) + 1
        return ids + [END] if len(ids) == new_tokens - 1 else ids

    questions = {q["question_id"]: q for q in lines(f"{recorded}/mt_bench_question.jsonl")}
    for name in ("medusa-float16-temperature-0.0", "sps-68m-float16-temp-0.0"):
        counts, emitted, steps, said, said_steps = {}, 0, 0, 0, 0
        for line in lines(f"{recorded}/vicuna-7b-v1.3-{name}.jsonl"):
            question = questions[line["question_id"]]
            choice = line["choices"][0]
            emitted += sum(choice["accept_lengths"])
            steps += len(choice["accept_lengths"])
            said += sum(choice["new_tokens"])
            said_steps += sum(choice["decoding_steps"])
            prompt = [BEGIN] + encode(SYSTEM)
            for asked, text, new in zip(question["turns"], choice["turns"], choice["new_tokens"]):
                prompt = prompt + encode(f"USER: {asked} ASSISTANT:")
                ids = answer(text, new, counts)
                if name.startswith("medusa") and ids:
                    requests.append({"task": f"mt-bench {line['category']}", "prompt": prompt,
                                     "output": ids})
                prompt = prompt + (ids if ids[-1:] == [END] else ids + [END])
        print(f"mt-bench, {name}: {emitted} tokens in {steps} steps by accepted lengths, "
              f"{emitted / steps:.3f} a step; {said} new tokens in {said_steps} steps, "
              f"{said / said_steps:.3f} a step; recorded less counted tokens: "
              f"{dict(sorted(counts.items()))}", file=sys.stderr)

    with open(f"{recorded}/cnn_dailymail/val_200_metadata.json", encoding="utf-8") as file:
        articles = json.load(file)["articles"]
    plain = f"{recorded}/cnn_dailymail/model_answer/vicuna-7b-v1.3-vanilla-float16-temp-0.0.jsonl"
    counts, whole, said, said_steps = {}, 0, 0, 0
    for line in lines(plain):
        begin = line["article"].removesuffix("...")
        found = [article for article in articles if article.startswith(begin)]
        choice = line["choices"][0]
        said += choice["new_tokens"]
        said_steps += choice["decoding_steps"]
        ids = answer(choice["summary"], choice["new_tokens"], counts)
        whole += len(found)
        article = found[0] if found else begin
        if ids:
            prompt = [BEGIN] + encode(f"{SYSTEM} USER: Summarize: {article} ASSISTANT:")
            requests.append({"task": "cnn-whole" if found else "cnn", "prompt": prompt,
                             "output": ids})
    same = sum(number for less, number in counts.items() if less in (0, 1))
    print(f"cnn: {said} new tokens in {said_steps} steps; {same} of {sum(counts.values())} with as "
          f"many tokens as recorded, the others between {-max(counts)} and {-min(counts)} more; "
          f"{whole} with whole articles", file=sys.stderr)

    def solution(task, prompt, text):
        encoded = tokenizer.encode(prompt + text, add_special_tokens=False)
        split = sum(1 for begin, _ in encoded.offsets if begin < len(prompt))
        requests.append({"task": task, "prompt": [BEGIN] + encoded.ids[:split],
                         "output": encoded.ids[split:] + [END]})

    for line in lines(f"{data}/specdec/code/humaneval-python.jsonl"):
        solution("humaneval", line["prompt"], line["canonical_solution"])
    for line in lines(f"{data}/specdec/code/mbpp.jsonl"):
        tests = "\n".join(line["test_list"])
        solution("mbpp", f'"""\n{line["text"]}\n{tests}\n"""\n', line["code"])

    with open(out, "w", encoding="utf-8") as file:
        for request in requests:
            file.write(json.dumps(request, separators=(",", ":")) + "\n")
    print(f"{len(requests)} requests, {sum(len(r['output']) for r in requests)} tokens of output",
          file=sys.stderr)


if len(sys.argv) != 3:
    raise SystemExit(__doc__)
main(*sys.argv[1:])
