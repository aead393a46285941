"""Other words for the words of a paraphrase, so that the model does not hang on the verbs of the intent files."""

from __future__ import annotations

import random
import re

SYNONYMS = {
    "find": "find|locate|search for|look for|look up|get|show me|give me|list",
    "list": "list|show|display|print|give me|get|show me|enumerate",
    "show": "show|display|print|list|give me|show me|tell me|output|view",
    "print": "print|show|display|output|give me|echo",
    "display": "display|show|print|show me",
    "delete": "delete|remove|erase|get rid of|wipe|trash|clear out",
    "remove": "remove|delete|get rid of|drop|erase",
    "create": "create|make|add|set up|generate|build",
    "make": "make|create|set up",
    "copy": "copy|duplicate|clone|put a copy of",
    "move": "move|put|transfer|relocate",
    "change": "change|modify|alter|switch|set",
    "rename": "rename|change the name of",
    "extract": "extract|unpack|untar|open|decompress",
    "compress": "compress|pack|archive|squeeze",
    "count": "count|tally|tell me the number of",
    "replace": "replace|swap|substitute|exchange",
    "stop": "stop|halt|shut down|terminate",
    "kill": "kill|terminate|end|stop",
    "start": "start|launch|bring up|run",
    "install": "install|set up|add|get",
    "download": "download|fetch|get|grab|save",
    "upload": "upload|send|transfer|push",
    "connect": "connect|log in|log on",
    "check": "check|verify|see|look at",
    "monitor": "monitor|watch|keep an eye on",
    "all": "all|every one of the|all of the|all the",
    "larger than": "larger than|bigger than|greater than|over|above|exceeding|more than",
    "bigger than": "bigger than|larger than|above|exceeding|beyond",
    "smaller than": "smaller than|below|under|less than",
    "modified": "modified|changed|altered|edited|touched|updated",
    "changed": "changed|modified|altered|edited|touched|updated",
    "older than": "older than|more than|at least|beyond",
    "containing": "containing|that mention|with|that include|having|which contain",
    "that contain": "that contain|mentioning|that have|that include",
    "named": "named|called|with the name",
    "in": "in|inside|within|under|below|from",
    "under": "under|in|below|beneath|inside",
    "directory": "directory|folder|dir",
    "folder": "folder|directory|dir",
    "largest": "largest|biggest|heaviest",
    "running": "running|active|currently running",
    "service": "service|daemon",
    "show me": "show me|give me|tell me",
    "logs": "logs|log|log output|log messages",
    "using": "using|with|by means of",
    "size": "size|space used",
    "open": "open|start",
    "without": "without|leaving out",
    "the last": "the last|the final|the latest",
    "the first": "the first|the initial|the top",
}
_WORDS = re.compile(r"(?<![\w{./-])(" + "|".join(sorted(map(re.escape, SYNONYMS), key=len, reverse=True)) + r")(?![\w}./-])")
PREFIXES = "hey, |ok, |now |quick: |so |then |um, |just ".split("|")
SUFFIXES = " please| for me| now| thanks| thank you| right now|, please|, thanks| asap| again".split("|")


def vary(paraphrase: str, rng: random.Random) -> str:
    """Replaces some words outside slots; slots are still in their braces."""

    def one(match: re.Match[str]) -> str:
        return rng.choice(SYNONYMS[match.group(0)].split("|")) if rng.random() < 0.45 else match.group(0)

    return _WORDS.sub(one, paraphrase)
