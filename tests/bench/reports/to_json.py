#!/usr/bin/env python3
"""Writes a report of this folder as JSON, for programs.

  to_json.py router.md            writes router.json beside it
  to_json.py --check router.md    exits 1 where router.json is missing or not what router.md says

What a benchmark printed becomes {"section", "bench", "commit", "machine", "date", "figures"}, with
figures as `run.sh NAME --json` has them; a table of Markdown becomes {"section", "columns", "rows"}.
"""
import json
import re
import sys

HEAD = re.compile(r"^\s*(\S+) at (\S+) on (.+), (\d{4}-\d\d-\d\dT[\d:]+Z):?$")
FIGURE = re.compile(
    r"^(?P<name>\S.*?)\s{2,}(?P<value>-?[\d.]+(?:e[-+]?\d+)?)(?: (?P<unit>\S.*?))?\s+(?P<ratio>-|[\d.]+(?:e[-+]?\d+)?)"
    r"(?: \((?P<low>[\d.e+-]+) to (?P<high>[\d.e+-]+)\))?"
    r"\s{2,}(?P<beside>-|\S.*?)\s{2,}(?P<aim>-|(?:ratio )?[<>]= \S+)\s+(?P<met>-|yes|NO)$")


def figure(line, where):
    match = FIGURE.match(line)
    if match is None:
        raise SystemExit(f"{where}: not a figure: {line}")
    part = match.groupdict()
    known = lambda text: None if text in (None, "-") else text
    result = {"name": part["name"], "value": float(part["value"]), "unit": part["unit"] or ""}
    if known(part["ratio"]):
        result["ratio"] = float(part["ratio"])
    if part["low"]:
        result["ratio_between"] = [float(part["low"]), float(part["high"])]
    for name in ("beside", "aim"):
        if known(part[name]):
            result[name] = part[name]
    if known(part["met"]):
        result["met"] = part["met"] == "yes"
    return result


def cells(line):
    return [cell.strip().replace("**", "") for cell in line.strip().strip("|").split("|")]


def read(path):
    parts, section, head, table, figures = [], "", None, None, None
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text.startswith("#"):
                section = text.lstrip("# ")
            if HEAD.match(text):
                head = dict(zip(("bench", "commit", "machine", "date"), HEAD.match(text).groups()))
            elif text.startswith("FIGURE "):
                figures = []
                parts.append({"section": section, **(head or {}), "figures": figures})
            elif figures is not None and text:
                figures.append(figure(text, f"{path}:{number}"))
            elif text.startswith("|"):
                if table is None:
                    table = {"section": section, "columns": cells(text), "rows": []}
                    parts.append(table)
                elif not set(text) <= set("|-: "):
                    table["rows"].append(cells(text))
            if not text:
                figures = None
            if not text.startswith("|"):
                table = None
    return json.dumps({"report": parts}, indent=1, ensure_ascii=False) + "\n"


def main(arguments):
    check = arguments[:1] == ["--check"]
    files = arguments[1:] if check else arguments
    if not files:
        raise SystemExit(__doc__)
    for path in files:
        target = re.sub(r"\.md$", ".json", path)
        wanted = read(path)
        if not check:
            with open(target, "w", encoding="utf-8") as out:
                out.write(wanted)
            continue
        try:
            with open(target, encoding="utf-8") as found:
                same = found.read() == wanted
        except FileNotFoundError:
            same = False
        if not same:
            raise SystemExit(f"{target} is not what {path} says; run {sys.argv[0]} {path}")


main(sys.argv[1:])
