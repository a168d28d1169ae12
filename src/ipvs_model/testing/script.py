"""Scripts: what happens to a director, line by line with the time in front, and what is expected of it; plain text, for people.

    threads: kubernetes #57841
    server A 10.1.0.11:80
    service web -t 192.0.2.1:80

    scenario weight 0 keeps flows
    0  ipvsadm -A web -s rr
    0  ipvsadm -a web -r A -m
    1  40000 > web connects => A
    1  ipvsadm -e web -r A -m -w 0
    2  40000 > web PA => A
    2  40001 > web S => refused
    2  A is 1/0

docs/testing.md has the whole language. `parse` reads it, `script_run.run` does it, `script_export.steps` writes it for the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, TypeAlias

from attrs import field, frozen

from ipvs_model.addresses import format_endpoint, parse_addr, parse_endpoint
from ipvs_model.testing.conversations import CHUNKS

DEFAULT_CLIENT: Final = "203.0.113.7"
HEADERS: Final = ("card", "threads", "claim", "note")
#: default sequence and acknowledgement numbers: of a SYN, of everything behind it
NUMBERS: Final = {("client", True): (1000, 0), ("client", False): (1001, 9001), ("server", True): (9000, 1001), ("server", False): (9001, 1001)}


@frozen
class Word:
    """One packet: who sends it, TCP flags or an SCTP chunk or "udp", and the numbers of a TCP header."""

    side: str
    text: str
    seq: int
    ack: int


def word(side: str, text: str, seq: int | None = None, ack: int | None = None) -> Word:
    """A word with the numbers that a peer would use where none are given."""
    usual = NUMBERS[side, "S" in text]
    return Word(side, text, usual[0] if seq is None else seq, usual[1] if ack is None else ack)


#: words that stand for several packets, one after the other
MACROS: Final[dict[str, tuple[Word, ...]]] = {
    "connects": (word("client", "S"), word("server", "SA"), word("client", "A")),
    "closes": (word("server", "FA"), word("client", "FA", ack=9002), word("server", "A", 9002, 1002)),
}
#: results that are no names
OUTCOMES: Final = ("refused", "reset", "nothing", "itself")
TCP_FLAGS: Final = frozenset("FSRPAUEC")

_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")
_TIMES: Final = re.compile(r"(\S+)\*(\d+)")
_TALLY: Final = re.compile(r"(\S+) (\d+)")
_MOVED: Final = re.compile(r"moved (\d+) since (\S+)(?: except (\S+))?")


class ScriptError(ValueError):
    """A script that cannot be understood; the text says where and what."""


# --- expectations -----------------------------------------------------------------------------------------------------
@frozen
class Sequence_:
    """One result for each packet, in order."""

    results: tuple[str, ...]


@frozen
class Tally:
    """How often each result comes."""

    counts: tuple[tuple[str, int], ...]


@frozen
class Moved:
    """How many clients have another result than in a result kept as ``since``; those are left out whose result was ``but`` then."""

    number: int
    since: str
    but: str | None


@frozen
class Expect:
    """What is expected of the packets of a line, and the name under which the results are kept."""

    text: str
    wants: Sequence_ | Tally | Moved | None = None
    keep: str | None = None


# --- what a line does -------------------------------------------------------------------------------------------------
@frozen
class Ipvsadm:
    """A command line; ``status`` and, if given, ``message`` are expected."""

    args: str
    status: int = 0
    message: str | None = None


@frozen
class Sysctl:
    """A write to net.ipv4.vs.NAME."""

    name: str
    value: str


@frozen
class Says:
    """Packets, one for each client: from the client to a service, or (``server`` given) from a server to the client."""

    clients: tuple[str, ...]
    service: str
    words: tuple[Word, ...]
    server: str | None = None
    expect: Expect = field(default=Expect(""))


@frozen
class Counted:
    """The counters that the listing shows of a server: ActiveConn, InActConn, and the weight if given; None: it is not listed."""

    server: str
    counts: tuple[int, int] | None
    weight: int | None = None


@frozen
class Entries:
    """The entries of a client (or its template), newest first: server, state, and seconds left (least, most)."""

    client: str
    template: bool
    wanted: tuple[tuple[str, str, tuple[int, int] | None], ...]


@frozen
class Synced:
    """How many sync datagrams have left since the last such line."""

    number: int


Act: TypeAlias = "Ipvsadm | Sysctl | Says | Counted | Entries | Synced"


@frozen
class Line:
    """A line of a scenario: its number in the file, its text, when (seconds from the start), and what it does."""

    number: int
    text: str
    at: Fraction
    act: Act


@frozen
class Scenario:
    """One run on a fresh director."""

    name: str
    lines: tuple[Line, ...]


@frozen
class Script:
    """A file: headers, names, scenarios."""

    headers: dict[str, str]
    servers: dict[str, str]  #: name → endpoint
    services: dict[str, str]  #: name → as ipvsadm takes it, "-t 192.0.2.1:80"
    scenarios: tuple[Scenario, ...]

    def endpoint(self, service: str) -> str:
        """The virtual endpoint of a service."""
        return self.services[service].split()[1]

    def protocol(self, service: str) -> str:
        """ "tcp", "udp" or "sctp"."""
        return {"-t": "tcp", "-u": "udp"}.get(self.services[service].split()[0], "sctp")

    def command(self, args: str) -> str:
        """A command line with names put in: services as they are declared, servers as addresses."""
        return " ".join(self.services.get(part) or self.servers.get(part) or part for part in args.split())

    def server_name(self, endpoint: str) -> str:
        """The name of an endpoint, or the endpoint."""
        return next((name for name, known in self.servers.items() if known == endpoint), endpoint)


# --- reading ----------------------------------------------------------------------------------------------------------
def parse(text: str) -> Script:
    """Read a script. Raises ScriptError."""
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("#", 1)[0].strip() if not line.startswith(HEADERS) else line.strip()
        if bare:
            try:
                reader.line(number, bare)
            except (ValueError, KeyError, IndexError) as wrong:
                raise ScriptError(f"line {number}: {wrong}: {bare}") from wrong
    return reader.script()


class _Reader:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.servers: dict[str, str] = {}
        self.services: dict[str, str] = {}
        self.client = DEFAULT_CLIENT
        self.scenarios: list[tuple[str, list[Line]]] = []
        self.now = Fraction(0)

    def script(self) -> Script:
        return Script(self.headers, self.servers, self.services, tuple(Scenario(name, tuple(lines)) for name, lines in self.scenarios))

    def line(self, number: int, text: str) -> None:
        head, _, rest = text.partition(" ")
        if head.rstrip(":") in HEADERS and head.endswith(":"):
            self.headers[head[:-1]] = (self.headers.get(head[:-1], "") + " " + rest).strip()
        elif head == "server":
            name, endpoint = rest.split()
            parse_endpoint(endpoint)
            self.servers[name] = endpoint
        elif head == "service":
            name, words = rest.split(" ", 1)
            self.services[name] = words.strip()
        elif head == "client":
            parse_addr(rest)
            self.client = rest
        elif head == "scenario":
            self.scenarios.append((rest.strip(), []))
            self.now = Fraction(0)
        else:
            self._step(number, text, head, rest.strip())

    def _step(self, number: int, text: str, head: str, rest: str) -> None:
        if not self.scenarios:
            raise ScriptError("a step before the first scenario")
        at = self.now + Fraction(head[1:]) if head.startswith("+") else Fraction(head)
        if at < self.now:
            raise ScriptError("time goes back")
        self.now = at
        self.scenarios[-1][1].append(Line(number, text, at, self._act(rest)))

    def _act(self, text: str) -> Act:
        what, _, wanted = (part.strip() for part in text.partition("=>"))
        words = what.split()
        if words[0] == "ipvsadm":
            status, _, message = wanted.partition(" ")
            return Ipvsadm(what[len("ipvsadm") :].strip(), int(status or 0), message or None)
        if words[0] == "sysctl":
            name, _, value = words[1].partition("=")
            return Sysctl(name, value)
        if words[0] == "sync":
            return Synced(int(words[1]))
        if words[0] in ("entry", "template"):
            return self._entries(what)
        if words[1] == "is":
            return self._counted(words)
        if words[1] == ">":
            return self._says(words, wanted)
        raise ScriptError("not understood")

    def _counted(self, words: list[str]) -> Counted:
        if words[0] not in self.servers:
            raise ScriptError(f"no server {words[0]}")
        if words[2] == "gone":
            return Counted(words[0], None)
        active, inactive = words[2].split("/")
        return Counted(words[0], (int(active), int(inactive)), int(words[4]) if words[3:4] == ["weight"] else None)

    def _entries(self, text: str) -> Entries:
        kind, rest = text.split(" ", 1)
        client, _, wanted = rest.rpartition(": ")
        found = [] if wanted.strip() == "none" else [tuple(part.split()) for part in wanted.split(",")]
        entries = tuple((part[0], part[1], self._seconds(part[2]) if part[2:] else None) for part in found)
        if kind == "template":
            return Entries(client.strip() or self.client, True, entries)
        (source,) = self.clients(client.strip())
        return Entries(source, False, entries)

    @staticmethod
    def _seconds(text: str) -> tuple[int, int]:
        least, _, most = text.partition("..")
        return int(least), int(most or least)

    def _says(self, words: list[str], wanted: str) -> Says:
        source, target, said = words[0], words[2], words[3]
        options = {name: int(value) for name, value in (option.split("=") for option in words[4:])}
        expect = self._expect(wanted)
        side = "server" if source in self.servers else "client"
        spoken = MACROS.get(said) or tuple(self._word(side, part, options) for part in said.split(","))
        if side == "server":
            target, _, service = target.partition("@")
            return Says(tuple(self.clients(target)), service or next(iter(self.services)), spoken, source, expect)
        if target not in self.services:
            raise ScriptError(f"no service {target}")
        return Says(tuple(self.clients(source)), target, spoken, None, expect)

    @staticmethod
    def _word(side: str, text: str, options: dict[str, int]) -> Word:
        """A packet's word; in front of a server's answer among a client's words stands <."""
        if text.startswith("<"):
            side, text = "server", text[1:]
            if not set(text) <= TCP_FLAGS:
                raise ScriptError(f"an answer of a server without name is a TCP packet, not {text}")
        if text not in CHUNKS and text not in ("udp", "-") and not set(text) <= TCP_FLAGS:
            raise ScriptError(f"no such packet: {text}")
        return word(side, text, options.get("seq"), options.get("ack"))

    def _expect(self, text: str) -> Expect:
        wanted, _, keep = text.partition(" as ")
        wanted = wanted.strip()
        if text.startswith("as "):
            wanted, keep = "", text[3:]
        name = keep.strip() or None
        if not wanted:
            return Expect(text, None, name)
        if wanted.startswith("{"):
            counts = tuple((self._result(result), int(number)) for result, number in _TALLY.findall(wanted.strip("{}").replace(",", " ").replace("  ", " ")))
            return Expect(text, Tally(counts), name)
        moved = _MOVED.fullmatch(wanted)
        if moved:
            return Expect(text, Moved(int(moved[1]), moved[2], moved[3]), name)
        results: list[str] = []
        for part in wanted.split():
            times = _TIMES.fullmatch(part)
            results += [self._result(times[1])] * int(times[2]) if times else [self._result(part)]
        return Expect(text, Sequence_(tuple(results)), name)

    def _result(self, text: str) -> str:
        if text not in OUTCOMES and text not in self.servers and text not in self.services:
            raise ScriptError(f"no result {text}")
        return text

    def clients(self, text: str) -> Iterator[str]:
        """The endpoints that a client's text means: a port, an endpoint, or a range of ports or of last bytes of addresses."""
        address, _, ports = text.rpartition(":")
        for host in self._range(address or self.client):
            for port in self._range(ports):
                af, addr, number = parse_endpoint((host, int(port)))
                yield format_endpoint(af, addr << 16 | number)

    @staticmethod
    def _range(text: str) -> Iterator[str]:
        found = _RANGE.search(text)
        if found is None:
            yield text.strip("[]")
            return
        for number in range(int(found[1]), int(found[2]) + 1):
            yield text[: found.start()] + str(number) + text[found.end() :]
