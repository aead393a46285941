"""Pairs of instruction and command from tldr-pages (CC BY 4.0), made concrete.

tldr writes `{{[-a|--all]}}` for a choice and `{{path/to/file}}` for a placeholder. Of a choice the first (short) spelling
is taken. A placeholder keeps its generic text, or gets a concrete value that is then named in the instruction.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from slots import Slots

PLATFORMS = {"common", "linux"}
PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")
MNEMONIC = re.compile(r"\[([^\[\]]{1,3})\](?=\w)|(?<=\w)\[([^\[\]]{1,3})\]")
POPULAR = set(
    "find grep tar git docker ssh scp rsync curl wget sed awk chmod chown ls ps kill du df apt systemctl journalctl npm "
    "pip kubectl cp mv rm mkdir ln cat head tail sort uniq cut tr wc diff zip unzip gzip xargs tee ping ip ss netstat nc "
    "nmap dig whois top htop free uname lsblk mount umount fdisk dd useradd usermod passwd crontab at date cal tmux "
    "screen ffmpeg convert magick jq make gcc python python3 cargo go node openssl gpg ssh-keygen ssh-copy-id ufw "
    "iptables nginx mysql psql sqlite3 redis-cli terraform ansible helm brew yarn dpkg snap watch time nohup lsof pgrep "
    "pkill killall id who w last history alias export env printf echo seq yes shuf split paste join column comm file stat "
    "touch tree locate which less more nano vim vi bc expr sleep timeout base64 md5sum sha256sum hexdump xxd strings "
    "perl pandoc rg fd bat fzf gh gdb strace valgrind cmake traceroute tcpdump hostname hostnamectl timedatectl nmcli "
    "iwconfig lscpu lsusb lspci dmesg uptime shutdown reboot sudo su groups pipx uv poetry conda".split()
)


@dataclass(frozen=True)
class Pair:
    tool: str
    instruction: str
    command: str
    held_out: bool

    @property
    def popular(self) -> bool:
        return self.tool.split()[0] in POPULAR


def read_pairs(path: Path) -> list[Pair]:
    """The usable pairs of `tldr_pairs.jsonl[.zst]`; one in twenty, by hash, is held out."""
    if path.suffix == ".zst":
        text = subprocess.run(["zstd", "-dc", "--long=27", str(path)], check=True, capture_output=True).stdout.decode()
    else:
        text = path.read_text()
    pairs = []
    for line in text.splitlines():
        row = json.loads(line)
        instruction = MNEMONIC.sub(lambda m: m.group(1) or m.group(2), row["instruction"]).strip()
        command = row["command"]
        usable = (
            row["platform"] in PLATFORMS
            and len(command) <= 120
            and 8 <= len(instruction) <= 110
            and "\n" not in command
            and not command.startswith(("tldr ", "<"))
        )
        if usable:
            pairs.append(Pair(row["tool"], instruction, command, zlib.crc32((instruction + command).encode()) % 20 == 0))
    return pairs


def _concrete(placeholder: str, slots: Slots, rng: random.Random) -> str | None:
    """A value for a placeholder whose kind its name shows, else None."""
    text = placeholder.strip("'\"")
    if re.fullmatch(r"path/to/(directory|folder|dir|repository|project)\w*", text):
        return slots.directory_path()
    if match := re.fullmatch(r"(?:path/to/)?(?:file|source|target|archive|input|output|image|filename|script)\w*(\.\w+)?", text):
        return slots.identifier() + (match.group(1) or "." + rng.choice(["txt", "log", "md", "conf"]))
    if re.search(r"user", text):
        return slots.draw("user").arg
    if re.search(r"host|domain|server", text):
        return slots.host()
    if re.search(r"branch", text):
        return slots.branch()
    if re.search(r"port", text):
        return slots.draw("port").arg
    if re.search(r"pid|process_id", text):
        return slots.draw("pid").arg
    if re.search(r"url|https?:", text):
        return slots.url()
    if re.search(r"package", text):
        return slots.draw("package").arg
    if re.search(r"container", text):
        return slots.draw("container").arg
    if re.search(r"image", text):
        return slots.draw("image").arg
    if re.search(r"pattern|regex|string|word", text):
        return slots.search_word()
    if re.search(r"name|service|unit", text):
        return slots.identifier()
    return None


def concrete_pair(pair: Pair, slots: Slots, rng: random.Random) -> tuple[str, str, str]:
    """(instruction, command, description); the instruction names the tool and the concrete values."""
    fill, values = rng.random() < 0.6, []

    def one(match: re.Match[str]) -> str:
        text = match.group(1)
        if text.startswith("[") and text.endswith("]"):
            return text[1:-1].split("|")[0]
        text = text.split("|")[0]
        value = _concrete(text, slots, rng) if fill and len(values) < 2 else None
        if value is None:
            return text
        values.append(value)
        return value

    command = PLACEHOLDER.sub(one, pair.command)
    instruction = pair.instruction
    if pair.tool.split()[0].lower() not in instruction.lower():
        instruction = rng.choice(["{i} with {t}", "{i} using {t}", "{t}: {i}"]).format(i=instruction, t=pair.tool)
    if values:
        instruction += ": " + ", ".join(values)
    return instruction, command, pair.instruction.rstrip(".") + "."
