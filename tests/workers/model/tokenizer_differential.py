#!/usr/bin/env python3
"""Compares Octogate's tokenizer with the Python package `tokenizers` on random texts.

usage: tokenizer_differential.py TOOL [FOLDER...] [--strings N] [--seed S]

TOOL is the program tokenizer_tool; every FOLDER holds a tokenizer.json (without any, those of the
encoders in tests/fixtures and, where OCTOGATE_TEST_DATA names a folder, those in it, and variants of
two of them with other steps, which get a fifth of the texts each). N random texts (emoji,
CJK, right-to-left scripts, combining marks, control characters, long runs, spellings of special
tokens, …) are encoded with and without special tokens by both, and random ids are decoded by both.
Ends with 0 if there was no difference, 1 if there was one, and 77 (skipped) if `tokenizers`
cannot be imported.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

try:
    import tokenizers
except ImportError:
    print("SKIPPED: this Python has no package 'tokenizers'; nothing was compared", file=sys.stderr)
    sys.exit(77)

BATCH = 2000
SHOWN = 5

# Ranges of code points, by kind of text.
SCRIPTS = {
    "ascii": [(0x20, 0x7E)],
    "letters": [(0x41, 0x5A), (0x61, 0x7A)],
    "digits": [(0x30, 0x39), (0x660, 0x669), (0xB2, 0xB3), (0x2160, 0x217F), (0x966, 0x96F)],
    "punctuation": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0x2010, 0x2027)],
    "spaces": [(0x20, 0x20), (0x9, 0xD), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680),
               (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F),
               (0x3000, 0x3000), (0xFEFF, 0xFEFF), (0x200B, 0x200F)],
    "newlines": [(0xA, 0xA), (0xD, 0xD), (0x20, 0x20)],
    "control": [(0, 0x1F), (0x7F, 0x9F)],
    "latin": [(0xA1, 0x24F), (0x1E00, 0x1EFF)],
    "greek": [(0x370, 0x3FF), (0x400, 0x52F)],
    "rtl": [(0x590, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF)],
    "indic": [(0x900, 0xDFF), (0xE00, 0xEFF)],
    "combining": [(0x300, 0x36F), (0x1AB0, 0x1ACE), (0x20D0, 0x20F0), (0xFE20, 0xFE2F)],
    "cjk": [(0x4E00, 0x9FFF), (0x3040, 0x30FF), (0xF900, 0xFAD9), (0x20000, 0x2A6D6)],
    "hangul": [(0x1100, 0x11FF), (0xAC00, 0xD7A3), (0x3130, 0x318F)],
    "emoji": [(0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF)],
    "joiners": [(0x200D, 0x200D), (0xFE0F, 0xFE0F), (0x1F3FB, 0x1F3FF)],
    "symbols": [(0x2190, 0x23FF), (0x2500, 0x259F), (0x1D400, 0x1D7FF), (0xFFFC, 0xFFFD)],
    "private": [(0xE000, 0xE0FF), (0xF0000, 0xF00FF), (0x10FFFE, 0x10FFFF)],
    "anything": [(0, 0xD7FF), (0xE000, 0x10FFFF)],
}
WEIGHTED = list(SCRIPTS) + ["letters"] * 4 + ["ascii"] * 4 + ["spaces", "newlines"]
PHRASES = [
    "I'll", "don't", "WE'RE", "it'S", "'\u017f", "they've", "''s", "'ll'll", " 's", "\u2019s",
    "the quick brown fox", "hello world", "def f(x):\n    return x\n", "\r\n", "\n\n  \n", "  \t ",
    "3.14159", "1234567890", "\u2581", "\u2581\u2581the", "<0x0A>", "<0xE4>", "\U0001F468\u200D\U0001F469\u200D\U0001F467",
    "\U0001F3F3\uFE0F\u200D\U0001F308", "e\u0301", "\u1100\u1161\u11A8", "\u0130\u0131", "\ufb01", "\u212b",
    "https://example.org/?q=a%20b&c=d#e", "\u0e01\u0e33", "\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd", "\u0627\u0644\u0633\u0644\u0627\u0645",
]


def random_character(rng, script):
    first, last = rng.choice(SCRIPTS[script])
    return chr(rng.randint(first, last))


def random_text(rng, specials):
    parts = []
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8, 13))):
        kind = rng.random()
        if kind < 0.12 and specials:
            spelling = rng.choice(specials)
            if rng.random() < 0.2:
                cut = rng.randint(0, len(spelling))
                spelling = rng.choice((spelling[:cut], spelling[cut:], spelling.upper()))
            parts.append(rng.choice(("", " ", "  ", "\n")) + spelling + rng.choice(("", " ", "\n")))
        elif kind < 0.35:
            parts.append(rng.choice(PHRASES))
        elif kind < 0.42:
            script = rng.choice(WEIGHTED)
            parts.append(random_character(rng, script) * rng.choice((2, 3, 7, 40, 300)))
        else:
            script = rng.choice(WEIGHTED)
            length = rng.choice((1, 1, 2, 3, 5, 9, 20))
            parts.append("".join(random_character(rng, script) for _ in range(length)))
    return rng.choice(("", "", " ")).join(parts)


class Tool:
    """tokenizer_tool, asked in batches."""

    def __init__(self, path, folder):
        self.process = subprocess.Popen([path, folder], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(self, requests):
        # In small portions: both pipes have limits.
        answers = []
        for begin in range(0, len(requests), 16):
            portion = requests[begin:begin + 16]
            self.process.stdin.write("".join(json.dumps(r) + "\n" for r in portion))
            self.process.stdin.flush()
            answers += [json.loads(self.process.stdout.readline()) for _ in portion]
        return answers

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def known_characters(text):
    """The text without characters newer than this Python.

    Expressions that have no scanner run on ICU, whose Unicode may be older than the reference's.
    """
    return "".join(c for c in text if unicodedata.category(c) != "Cn")


def compare(tool_path, folder, count, seed, only_known=False):
    rng = random.Random(seed)
    reference = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    reference.no_truncation()  # Octogate applies neither
    reference.no_padding()
    # The reference decodes an added token that a normalizer changes to its normalized form, and
    # does not skip it (0.23); Octogate decodes it as the file spells it. Ids of such tokens are
    # left out of the comparison of decoders.
    added = reference.get_added_tokens_decoder()
    specials = [token.content for token in added.values()]
    odd_ids = {i for i, token in added.items()
               if reference.normalizer is not None and token.normalized
               and reference.normalizer.normalize_str(token.content) != token.content}
    plain_ids = [i for i in range(reference.get_vocab_size() + 3) if i not in odd_ids]
    tool = Tool(tool_path, folder)
    differences = 0
    done = 0
    while done < count:
        texts = [random_text(rng, specials) for _ in range(min(BATCH, count - done))]
        if only_known:
            texts = [known_characters(text) for text in texts]
        done += len(texts)
        flags = [(rng.random() < 0.5, rng.random() < 0.75) for _ in texts]
        answers = tool.ask([{"text": t, "add_special_tokens": a, "parse_special": p}
                            for t, (a, p) in zip(texts, flags)])
        id_lists = []
        for text, (add, parse), answer in zip(texts, flags, answers):
            reference.encode_special_tokens = not parse
            expected = reference.encode(text, add_special_tokens=add).ids
            if answer.get("ids") != expected:
                differences += 1
                if differences <= SHOWN:
                    print(f"{folder}: {text!r} (special tokens added: {add}, parsed: {parse})\n"
                          f"  reference {expected}\n  octogate  {answer}")
            ids = [i for i in expected if i not in odd_ids]
            for _ in range(rng.choice((0, 0, 1, 5))):
                ids.insert(rng.randint(0, len(ids)), rng.choice(plain_ids))
            id_lists.append(ids)
        skips = [rng.random() < 0.5 for _ in id_lists]
        answers = tool.ask([{"ids": i, "skip_special_tokens": s}
                            for i, s in zip(id_lists, skips)])
        for ids, skip, answer in zip(id_lists, skips, answers):
            expected = reference.decode(ids, skip_special_tokens=skip)
            if answer.get("text") != expected:
                differences += 1
                if differences <= SHOWN:
                    print(f"{folder}: decoding {ids} (special tokens skipped: {skip})\n"
                          f"  reference {expected!r}\n  octogate  {answer}")
    status = tool.close()
    print(f"{folder}: {done} texts, {differences} differences, tool ended with {status}",
          flush=True)
    return differences + status


def regex_split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(kind, *steps):
    return {"type": "Sequence", kind: list(steps)}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
SPACED_BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                "use_regex": True}
# Split patterns of vocabularies that are not among the files (o200k, DeepSeek, StarCoder).
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}

# (file it is made from, what replaces its steps)
VARIANTS = [
    ("gpt2", {"pre_tokenizer": sequence("pretokenizers", regex_split(O200K), BYTES)}),
    ("gpt2", {"pre_tokenizer": sequence("pretokenizers", regex_split(r"\p{N}{1,3}"),
                                        regex_split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                                        regex_split(DEEPSEEK), BYTES)}),
    ("gpt2", {"pre_tokenizer": sequence("pretokenizers",
                                        {"type": "Digits", "individual_digits": True},
                                        SPACED_BYTES)}),
    ("gpt2", {"pre_tokenizer": sequence("pretokenizers",
                                        regex_split(r"\w+|\h|[^\w\s]+", "Removed", True),
                                        SPACED_BYTES)}),
    ("gpt2", {"pre_tokenizer": sequence("pretokenizers",
                                        {"type": "WhitespaceSplit"}, BYTES)}),
    ("gpt2", {"normalizer": {"type": "NFD"},
              "pre_tokenizer": sequence("pretokenizers",
                                        regex_split(r"\s++|\p{Lu}(?=\p{Ll})", "MergedWithNext"),
                                        BYTES)}),
    ("gpt2", {"normalizer": sequence("normalizers", {"type": "NFKC"}, {"type": "Lowercase"},
                                     {"type": "Strip", "strip_left": True, "strip_right": True}),
              "pre_tokenizer": sequence("pretokenizers",
                                        regex_split(r"[a-e]+", "MergedWithPrevious"),
                                        regex_split(r"\d", "Contiguous"), BYTES)}),
    ("llama2", {"normalizer": None, "pre_tokenizer": METASPACE,
                "decoder": {"type": "Metaspace", "replacement": "\u2581",
                            "prepend_scheme": "first", "split": True}}),
    ("llama2", {"normalizer": sequence("normalizers",
                                       {"type": "Replace", "pattern": {"Regex": r"\s+"},
                                        "content": " "},
                                       {"type": "NFKD"}),
                "pre_tokenizer": dict(METASPACE, prepend_scheme="always", split=False)}),
    ("llama2", {"normalizer": {"type": "Prepend", "prepend": "_"}, "decoder": None}),
]


def write_variants(data, directory):
    folders = []
    for number, (base, changes) in enumerate(VARIANTS):
        with open(os.path.join(data, "tokenizers", base, "tokenizer.json"),
                  encoding="utf-8") as file:
            config = json.load(file)
        config.update(changes)
        folders.append(os.path.join(directory, f"variant{number}-{base}"))
        os.mkdir(folders[-1])
        with open(os.path.join(folders[-1], "tokenizer.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
    return folders


def fixture_folders():
    encoders = os.path.join(os.path.dirname(__file__), "..", "..", "fixtures", "encoders")
    return [os.path.join(encoders, name) for name in sorted(os.listdir(encoders))]


def data_folders():
    data = os.environ.get("OCTOGATE_TEST_DATA")
    if not data:
        print("OCTOGATE_TEST_DATA is not set: tokenizers of real models are not compared",
              file=sys.stderr)
        return []
    names = ["gpt2", "llama2", "llama3", "qwen2", "phi-3-mini"]
    return [os.path.join(data, "tokenizers", name) for name in names] + [
        os.path.join(data, "stories260K", "hf")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--strings", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    data = [] if arguments.folders else data_folders()
    folders = arguments.folders or fixture_folders() + data
    print(f"tokenizers {tokenizers.__version__}, seed {arguments.seed}", flush=True)
    failures = [compare(arguments.tool, folder, arguments.strings, arguments.seed)
                for folder in folders]
    if data:
        with tempfile.TemporaryDirectory() as directory:
            failures += [compare(arguments.tool, folder, arguments.strings // 5, arguments.seed,
                                 only_known=True)
                         for folder in write_variants(os.environ["OCTOGATE_TEST_DATA"], directory)]
    return 1 if any(failures) else 0


if __name__ == "__main__":
    sys.exit(main())
