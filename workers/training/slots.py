"""Random values for the slots of a template: paths, sizes, names, hosts, dates and numbers.

A value has two spellings: `text` as a person says it ("100 MB") and `arg` as a command takes it ("100M"); most are
equal. Names are partitioned by a hash: one in ten is only ever drawn for held-out examples, so that a held-out score
says whether the model copies a name it has never seen.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numbers_dates
from value import Value


WORDS = (
    "report notes backup data config server client project photo music invoice budget archive draft summary access "
    "error system kernel login session cache index main test build release report2 users orders sales customers "
    "products metrics events queue worker api web app frontend backend service database schema model image video "
    "audio thesis paper chapter letter recipe garden travel family school weather map camera sensor robot engine "
    "parser token router gateway proxy monitor docker deploy staging production nightly weekly monthly yearly "
    "alpha beta gamma delta old new final temp scratch sample example demo tutorial slides poster logo icon theme "
    "style script tool util helper common core shared public private local remote upload download export import "
    "source target input output result debug trace audit history journal ledger stock price trade market bank"
).split()
SYLLABLES = (
    "ba be bi bo bu ca co cu da de di do fa fe fi fo ga go gu ha he hi ho ja jo ka ke ki ko la le li lo lu ma me mi mo "
    "mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi xa ya yo za ze zo "
    "ar en in or an el ex is um ton ler sky net fox"
).split()
ROOTS = (
    "/var /var/log /etc /tmp /opt /srv /home /usr/local /usr/share /var/www /var/lib /mnt /media /data /backup "
    "/home/alice /home/bob /var/log/nginx /etc/nginx /etc/ssh /var/cache /usr/lib /srv/www /mnt/data /mnt/backup "
    "~/Downloads ~/Documents ~/Pictures ~/Desktop ~/Videos ~/Music ~/projects ~/src ~/work ~/backup ~/bin ~/.config "
    "src build docs tests lib include dist logs data assets static public config scripts ./src ./build ./logs ./data"
).split()
EXTENSIONS = (
    "txt log py cpp h c java js ts html css json yaml yml xml csv md pdf png jpg jpeg gif mp3 mp4 mkv zip gz conf sh "
    "sql bak tmp rs go rb php tex docx xlsx svg wav o so toml ini"
).split()
PERSON = (
    "alice bob carol dave erin frank grace heidi ivan judy mallory oscar peggy trent victor walter root deploy admin "
    "ubuntu debian git jenkins www-data postgres mysql nginx ana maria john peter lucas emma olga hugo nina tom"
).split()
HOST = (
    "example.com example.org server1 server2 web1 web2 db1 db2 db.example.com mail.example.com backup.example.com "
    "build.local gateway.local nas raspberrypi staging prod myhost git.example.org api.example.com google.com github.com"
).split()
PACKAGES = (
    "nginx curl wget vim git htop tmux tree jq python3 nodejs docker.io postgresql redis-server apache2 mariadb-server "
    "openssh-server ffmpeg imagemagick build-essential cmake gcc rsync unzip zip nmap tcpdump screen emacs nano "
    "golang ruby php default-jdk sqlite3 gimp vlc firefox libssl-dev zsh fish ripgrep fzf bat ncdu iotop sysstat"
).split()
SERVICES = (
    "nginx apache2 ssh sshd docker postgresql mysql mariadb redis cron cups bluetooth NetworkManager mongodb "
    "rabbitmq-server elasticsearch grafana prometheus haproxy postfix dovecot fail2ban ufw php-fpm tomcat memcached"
).split()
PROCESSES = (
    "nginx firefox chrome python3 node java postgres mysqld redis-server sshd bash code vim docker apache2 gunicorn "
    "celery ffmpeg rsync make gcc cargo vlc slack spotify thunderbird top tmux"
).split()
IMAGES = (
    "nginx redis postgres ubuntu debian alpine python node golang mysql mariadb mongo httpd busybox rabbitmq grafana "
    "nginx:latest redis:7 postgres:16 ubuntu:22.04 debian:12 alpine:3.19 python:3.11 node:20 python:3.12-slim myapp "
    "myapp:latest web:dev api:v2 registry.example.com/team/api"
).split()
BRANCHES = "main master develop dev staging release feature hotfix bugfix experiment gh-pages test".split()
MESSAGES = (
    "fix the login bug|update readme|add tests|initial commit|fix typo|remove dead code|bump version|wip|"
    "add user profile page|refactor parser|handle empty input|improve error messages|update dependencies|"
    "fix memory leak|add dark mode|clean up logging|speed up search|first draft|fix build|rename variables|"
    "support utf-8|fix off by one error|add docs|revert broken change|make tests pass|use new api"
).split("|")
SEARCH_WORDS = (
    "error ERROR warning WARN failed timeout TODO FIXME password root import include main return class function "
    "localhost exception Exception null undefined denied refused user admin GET POST 404 500 hello foo bar test debug "
    "token secret key printf malloc SELECT connection started stopped"
).split()
VARIABLES = "PATH HOME EDITOR JAVA_HOME API_KEY DEBUG LANG TERM NODE_ENV PORT DATABASE_URL PYTHONPATH GOPATH TZ".split()
SIGNALS = "TERM KILL HUP INT STOP CONT USR1 USR2 QUIT".split()
DEVICES = "/dev/sda /dev/sdb /dev/sda1 /dev/sdb1 /dev/sdc1 /dev/nvme0n1 /dev/nvme0n1p1 /dev/vda1 /dev/mmcblk0p1".split()
INTERFACES = "eth0 eth1 wlan0 enp3s0 ens33 lo docker0 wlp2s0 enp0s3 br0 tun0".split()
TOPICS = (
    "love|the sea|my cat|cats|dogs|the moon|black holes|quantum physics|football|chess|coffee|the french revolution|"
    "napoleon|albert einstein|marie curie|shakespeare|world war two|climate change|the stock market|bitcoin|inflation|"
    "democracy|bread|pasta|pizza|a cake|the guitar|piano|photosynthesis|gravity|dna|vaccines|the brain|meditation|yoga|"
    "happiness|my boss|my sister|my phone|my car|the garden|roses|a bicycle|the weather|winter|paris|london|japan|"
    "mount everest|the nile|the amazon|dinosaurs|whales|ants|machine learning|artificial intelligence|linux|docker|git|"
    "kubernetes|python|rust|recursion|a linked list|the internet|email|a website|the eiffel tower|mars|the sun|oil|"
    "electric cars|a house|a loan|taxes|insurance|my order|my flight|the meeting|lunch|dinner|breakfast|a movie|a book|"
    "music|jazz|mozart|the beatles|a holiday|easter|thanksgiving|my birthday|the olympics|tennis|a headache|the flu|"
    "sleep|diet|money|friendship|the meaning of life|free will|god|religion|politics|the president|the lights|the tv|"
    "the door|a gift|shoes|a dress|the train|a ticket|next song|files|folders|a disk|memory|time|numbers|a calculator"
).split("|")
COUNTRIES = (
    "France Germany Spain Italy Japan China India Brazil Canada Mexico Egypt Kenya Nigeria Australia Norway Sweden Peru "
    "Poland Greece Turkey Russia Argentina Chile Vietnam Thailand Portugal Ireland Iceland Cuba Morocco"
).split()
MODES = "644 755 600 700 640 750 777 664 775 400 440 711".split()


class Slots:
    """Draws slot values. `held_out` selects the partition of free-form names that training never sees."""

    def __init__(self, rng: random.Random, held_out: bool, extra_words: list[str] | None = None) -> None:
        self.rng = rng
        self.held_out = held_out
        self.words = WORDS + (extra_words or [])
        r = rng
        self._makers: dict[str, Callable[[], Value | str]] = {
            "dir": self.directory,
            "file": self.file,
            "path": self.file_path,
            "name": self.identifier,
            "word": self.search_word,
            "ext": lambda: r.choice(EXTENSIONS),
            "size": self.size,
            "n": lambda: str(r.choice([1, 2, 3, 5, 10, 15, 20, 25, 30, 50, 100, 200, r.randint(1, 99), r.randint(1, 999)])),
            "days": lambda: str(r.choice([1, 2, 3, 7, 10, 14, 30, 60, 90, 180, 365, r.randint(2, 60)])),
            "user": lambda: self._name(PERSON),
            "group": lambda: self._name("staff sudo docker www-data users developers admin wheel audio video ops".split()),
            "host": self.host,
            "ip": lambda: f"{r.choice([10, 192, 172, 8, r.randint(1, 223)])}.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(1, 254)}",
            "port": lambda: str(r.choice([22, 80, 443, 3000, 5000, 5432, 6379, 8000, 8080, 8443, 9090, 3306, r.randint(1024, 65535)])),
            "url": self.url,
            "repo": self.repository,
            "container": lambda: self._name("web db redis nginx app api worker cache mysql postgres proxy frontend backend".split()),
            "image": lambda: self._name(IMAGES),
            "branch": self.branch,
            "tag": lambda: f"v{r.randint(0, 9)}.{r.randint(0, 20)}.{r.randint(0, 20)}" if r.random() < 0.7 else f"v{r.randint(1, 9)}.{r.randint(0, 9)}",
            "remote": lambda: r.choice(["origin", "upstream", "origin", "backup", "fork"]),
            "package": lambda: self._name(PACKAGES),
            "service": lambda: self._name(SERVICES),
            "process": lambda: self._name(PROCESSES),
            "pid": lambda: str(r.randint(100, 65535)),
            "signal": lambda: r.choice(SIGNALS),
            "mode": lambda: r.choice(MODES),
            "message": self.message,
            "var": lambda: r.choice(VARIABLES) if r.random() < 0.6 else self.identifier().upper().replace("-", "_").replace(".", "_"),
            "device": lambda: r.choice(DEVICES),
            "iface": lambda: r.choice(INTERFACES),
            "col": lambda: str(r.randint(1, 12)),
            "archive": lambda: self.identifier() + r.choice([".tar.gz", ".tgz", ".tar.gz"]),
            "script": lambda: self.identifier() + ".sh",
            "key": lambda: r.choice(["~/.ssh/id_rsa", "~/.ssh/id_ed25519", "key.pem", "~/.ssh/" + self.identifier(), self.identifier() + ".pem"]),
            "hour": lambda: str(r.randint(0, 23)),
            "minute": lambda: str(r.randint(0, 59)),
            "num": lambda: numbers_dates.number(r),
            "int": lambda: numbers_dates.integer(r),
            "pct": lambda: numbers_dates.percentage(r),
            "digits": lambda: numbers_dates.digits(r),
            "date": lambda: numbers_dates.date(r),
            "isodate": lambda: numbers_dates.iso_date(r),
            "clock": lambda: numbers_dates.time_of_day(r),
            "zone": lambda: numbers_dates.zone(r),
            "topic": lambda: r.choice(TOPICS) if r.random() < 0.7 else r.choice(self.words),
            "country": lambda: r.choice(COUNTRIES),
            "commit": lambda: "".join(r.choice("0123456789abcdef") for _ in range(7)),
        }

    def __contains__(self, name: str) -> bool:
        return name.rstrip("0123456789") in self._makers

    def draw(self, name: str) -> Value:
        """A value for slot `name`; a digit at the end ("dir2") tells apart two slots of one kind."""
        made = self._makers[name.rstrip("0123456789")]()
        return made if isinstance(made, Value) else Value(made, made)

    def _free(self, make: Callable[[], str]) -> str:
        """A made-up name from this object's partition."""
        while True:
            name = make()
            if (zlib.crc32(name.encode()) % 10 == 0) == self.held_out:
                return name

    def _pseudo_word(self) -> str:
        return "".join(self.rng.choice(SYLLABLES) for _ in range(self.rng.choice([2, 2, 3])))

    def _stem(self) -> str:
        r = self.rng
        first = r.choice(self.words) if r.random() < 0.65 else self._pseudo_word()
        kind = r.random()
        if kind < 0.5:
            return first
        if kind < 0.7:
            return first + str(r.choice([1, 2, 3, r.randint(0, 99), r.randint(2015, 2027)]))
        second = r.choice(self.words) if r.random() < 0.6 else self._pseudo_word()
        return first + r.choice(["_", "-", "-", "."]) + second

    def _name(self, known: list[str]) -> str:
        if not self.held_out and self.rng.random() < 0.65:
            return self.rng.choice(known)
        return self._free(self._stem)

    def identifier(self) -> str:
        return self._free(self._stem)

    def file(self) -> str:
        if self.rng.random() < 0.08:
            return self.rng.choice(["Makefile", "Dockerfile", "README.md", ".bashrc", ".gitignore", "package.json"])
        return self.identifier() + "." + self.rng.choice(EXTENSIONS)

    def file_path(self) -> str:
        kind = self.rng.random()
        if kind < 0.55:
            return self.file()
        if kind < 0.65:
            return self.rng.choice(["/etc/passwd", "/etc/hosts", "/var/log/syslog", "/etc/fstab", "/var/log/auth.log", "/etc/ssh/sshd_config"])
        return self.directory_path() + "/" + self.file()

    def directory_path(self) -> str:
        r = self.rng
        kind = r.random()
        if kind < 0.5 and not self.held_out:
            return r.choice(ROOTS)
        if kind < 0.8:
            return r.choice(ROOTS) + "/" + self.identifier()
        return r.choice(["", "/", "./", "~/", "../"]) + self.identifier()

    def directory(self) -> Value:
        r = self.rng
        kind = r.random()
        if kind < 0.1:
            return Value(r.choice(["the current directory", "this directory", "the current folder", "this folder", "here"]), ".")
        if kind < 0.14:
            return Value(r.choice(["my home directory", "my home", "the home directory"]), "~")
        path = self.directory_path()
        kind = r.random()
        if kind < 0.08:
            return Value(f"the {path} directory", path)
        if kind < 0.12:
            return Value(f"the directory {path}", path)
        if kind < 0.16:
            return Value(f"the {path} folder", path)
        return Value(path, path)

    def search_word(self) -> str:
        return self.rng.choice(SEARCH_WORDS) if self.rng.random() < 0.5 and not self.held_out else self.identifier()

    def size(self) -> Value:
        r = self.rng
        n = r.choice([1, 2, 5, 10, 20, 50, 100, 200, 250, 500, r.randint(1, 999)])
        unit, names = r.choice([
            ("k", ["KB", "kB", "k", "kilobytes", "K"]),
            ("M", ["MB", "M", "megabytes", "MB", "mb", "megs"]),
            ("M", ["MB", "M", "megabytes", "MB", "mb", "MiB"]),
            ("G", ["GB", "G", "gigabytes", "GB", "gb", "gigs"]),
        ])
        name = r.choice(names)
        if n == 1:
            name = name.removesuffix("s")
        space = " " if len(name) > 2 or r.random() < 0.5 else ""
        return Value(f"{n}{space}{name}", f"{n}{unit}")

    def host(self) -> str:
        r = self.rng
        if not self.held_out and r.random() < 0.5:
            return r.choice(HOST)
        name = self.identifier().replace("_", "-")
        return name if r.random() < 0.3 else name + r.choice([".com", ".org", ".net", ".local", ".example.com", ".io"])

    def url(self) -> str:
        return self.rng.choice(["https://", "https://", "http://"]) + self.host() + self.rng.choice(["", "/" + self.file(), "/" + self.identifier(), "/api/" + self.identifier()])

    def repository(self) -> str:
        r = self.rng
        host = r.choice(["github.com", "gitlab.com", "git.example.org"])
        owner, name = self._free(self._pseudo_word), self.identifier()
        return r.choice([f"https://{host}/{owner}/{name}.git", f"https://{host}/{owner}/{name}", f"git@{host}:{owner}/{name}.git"])

    def branch(self) -> str:
        r = self.rng
        if not self.held_out and r.random() < 0.5:
            return r.choice(BRANCHES)
        return r.choice(["", "", "feature/", "fix/", "bugfix/", "release/"]) + self.identifier()

    def message(self) -> str:
        r = self.rng
        if not self.held_out and r.random() < 0.6:
            return r.choice(MESSAGES)
        verb = r.choice("fix add remove update improve rename move test document support drop".split())
        return f"{verb} {r.choice(['the ', '', 'a ', 'broken '])}{self.identifier()}" + r.choice(["", " handling", " tests", " page", " in " + self.identifier()])
