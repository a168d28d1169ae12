"""Running a script: each line on its jiffy, what is expected beside what came.

A line that is late by what went before it happens on the next free jiffy: every packet, command and look takes one, as with the recorder of kernel traces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from attrs import frozen

from ipvs_model.addresses import format_endpoint, parse_addr, parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.flags import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.testing.conversations import say_packet
from ipvs_model.testing.script import Counted, Entries, Ipvsadm, Line, Moved, Says, Scenario, Script, Sequence_, Sysctl, Tally, Word

CLIENT_DEVICE: Final = "cli"
SERVER_DEVICE: Final = "rs"
SYNC_PORT: Final = 8848
RST: Final = 4


class Sent(Protocol):
    """A packet that left a machine."""

    @property
    def device(self) -> str: ...
    @property
    def raw(self) -> bytes: ...


class Machine(Protocol):
    """What a script needs of a director: `ipvs_model.tools.machine.trace_machine(start_jiffies)` makes one."""

    ipvs: IPVS

    def inject(self, device: str, raw: bytes) -> None:
        """A packet arrives."""

    def run_until(self, jiffies: int) -> None:
        """Time passes."""

    def drain(self) -> Sequence[Any]:
        """What has left since the last call, each with ``device`` and ``raw``."""


@frozen
class Shown:
    """A line, what it wanted and what came. Both empty: it expects nothing."""

    line: Line
    expected: str
    got: str

    @property
    def right(self) -> bool:
        """It is as expected."""
        return self.expected == self.got

    def __str__(self) -> str:
        mark = "ok  " if self.right else "FAIL"
        return f"{mark} {self.line.text}" + ("" if self.right else f"\n       expected {self.expected}\n       got      {self.got}")


def run(script: Script, scenario: Scenario, machine: Machine) -> Iterator[Shown]:
    """Do a scenario on a fresh machine; a result for each line, in order."""
    runner = _Runner(script, machine)
    for line in scenario.lines:
        yield Shown(line, *runner.do(line))


def run_all(script: Script, make: Callable[[], Machine]) -> list[tuple[Scenario, list[Shown]]]:
    """Do all scenarios of a script, each on a machine of its own."""
    return [(scenario, list(run(script, scenario, make()))) for scenario in script.scenarios]


def tally_text(results: Sequence[str]) -> str:
    """Results counted, by name.

    >>> tally_text(["B", "A", "B"])
    'A 1, B 2'
    """
    return ", ".join(f"{result} {number}" for result, number in sorted(Counter(results).items()))


class _Runner:
    def __init__(self, script: Script, machine: Machine) -> None:
        self.script = script
        self.machine = machine
        self.ipvs = machine.ipvs
        self.start = self.ipvs.clock.now
        self.free = self.start  #: the first jiffy on which nothing has been done yet
        self.kept: dict[str, dict[str, str]] = {}
        self.synced = 0

    def do(self, line: Line) -> tuple[str, str]:
        """Do a line; what was expected, and what came."""
        self.free = max(self.free, self.start + int(line.at * self.ipvs.clock.hz))
        act = line.act
        if isinstance(act, Says):
            return self._say(act)
        self._tick()
        if isinstance(act, Ipvsadm):
            result = self.ipvs.ipvsadm(self.script.command(act.args))
            said = result.err.strip().splitlines()[-1] if result.err.strip() else ""
            return f"{act.status} {act.message or ''}".strip(), f"{result.status} {said if act.message else ''}".strip()
        if isinstance(act, Sysctl):
            self.ipvs.sysctl_write(act.name, act.value)
            return "", ""
        if isinstance(act, Counted):
            return self._counted(act)
        if isinstance(act, Entries):
            return self._entries(act)
        number, self.synced = self.synced, 0
        return f"{act.number} sync datagrams", f"{number} sync datagrams"

    def _tick(self) -> None:
        """The next free jiffy comes."""
        self.machine.run_until(self.free)
        self.free += 1
        self._collect()

    def _collect(self) -> list[Sent]:
        """What left, without what the sync daemon sent."""
        left: list[Sent] = []
        for sent in self.machine.drain():
            packet = Packet.parse(sent.raw)
            if packet.proto == IPPROTO_UDP and packet.dst & 0xFFFF == SYNC_PORT:
                self.synced += 1
            else:
                left.append(sent)
        return left

    # --- packets ------------------------------------------------------------------------------------------------------
    def _say(self, act: Says) -> tuple[str, str]:
        results: dict[str, str] = {}
        for client in act.clients:
            server = act.server
            for word in act.words:
                if word.side == "server":
                    server = server or self._server_of(act, client)
                result = self._packet(act, client, word, server if word.side == "server" else None)
                results.setdefault(client, result)
                if results[client] != result and word.side == "client" and act.server is None:
                    results[client] += f"/{result}"
        return self._judge(act, results)

    def _server_of(self, act: Says, client: str) -> str:
        """The server that a client's newest connection has."""
        conns = self._conns(act, client)
        assert conns, f"{client} has no connection"
        return self.script.server_name(format_endpoint(conns[0].daf, conns[0].real))

    def _conns(self, act: Says, client: str) -> list[Conn]:
        virtual = as_int(self.script.endpoint(act.service))
        return [cp for cp in self.ipvs.conns(client=client, templates=False) if cp.virt == virtual]

    def _packet(self, act: Says, client: str, word: Word, server: str | None) -> str:
        self._tick()
        packet = packet_of(self.script, act, client, word, server)
        self.machine.inject(SERVER_DEVICE if server else CLIENT_DEVICE, packet.raw)
        return self._result(act, client, packet, self._collect())

    def _result(self, act: Says, client: str, packet: Packet, sent: list[Sent]) -> str:
        """What became of a packet, in a word."""
        if not sent:
            return "nothing"
        out = Packet.parse(sent[0].raw)
        if out.proto in (IPPROTO_ICMP, IPPROTO_ICMPV6) and packet.proto != out.proto:
            unreachable = (out.proto, out.raw[out.l4], out.raw[out.l4 + 1]) in ((IPPROTO_ICMP, 3, 3), (IPPROTO_ICMPV6, 1, 4))
            return "refused" if unreachable else f"icmp {out.raw[out.l4]}/{out.raw[out.l4 + 1]}"
        if sent[0].device == SERVER_DEVICE:
            if out.dst == packet.dst or out.proto != packet.proto:
                return self._server_of(act, client)  # direct routing and tunnels leave the packet as it is
            return self.script.server_name(format_endpoint(out.af, out.dst))
        if out.src == packet.src:
            return "itself"
        if out.proto == IPPROTO_TCP and out.flags & RST and out.src == packet.dst:
            return "reset"
        source = format_endpoint(out.af, out.src)
        return next((name for name in self.script.services if self.script.endpoint(name) == source), source)

    def _judge(self, act: Says, results: dict[str, str]) -> tuple[str, str]:
        expect = act.expect
        got = list(results.values())
        if expect.keep:
            self.kept[expect.keep] = {client.rpartition(":")[0]: result for client, result in results.items()}
        wants = expect.wants
        if wants is None:
            return "", ""
        if isinstance(wants, Sequence_):
            wanted = list(wants.results) if len(wants.results) > 1 or len(got) == 1 else [wants.results[0]] * len(got)
            return (" ".join(wanted), " ".join(got)) if wanted != got else (expect.text, expect.text)
        if isinstance(wants, Tally):
            return ", ".join(f"{result} {number}" for result, number in sorted(wants.counts) if number), tally_text(got)
        return f"{wants.number} moved", f"{self._moved(wants, results)} moved"

    def _moved(self, wants: Moved, results: dict[str, str]) -> int:
        before = self.kept[wants.since]
        now = {client.rpartition(":")[0]: result for client, result in results.items()}
        return sum(before[client] != result for client, result in now.items() if before[client] != wants.but)

    # --- looking ------------------------------------------------------------------------------------------------------
    def _counted(self, act: Counted) -> tuple[str, str]:
        endpoint = as_int(self.script.servers[act.server])
        found = [dest for svc in self.ipvs.services for dest in svc.destinations if dest.addr << 16 | dest.port == endpoint]
        expected = "gone" if act.counts is None else f"{act.counts[0]}/{act.counts[1]}"
        if not found:
            return expected, "gone"
        active, inactive = sum(dest.activeconns for dest in found), sum(dest.inactconns for dest in found)
        got = f"{active}/{inactive}"
        if act.weight is not None:
            expected, got = f"{expected} weight {act.weight}", f"{got} weight {found[0].weight}"
        return expected, got

    def _entries(self, act: Entries) -> tuple[str, str]:
        if act.template:
            address = parse_addr(act.client)[1]
            found = [cp for cp in self.ipvs.conns(templates=True) if cp.caddr == address]
        else:
            found = self.ipvs.conns(client=act.client, templates=False)
        got, expected = [], []
        for number, cp in enumerate(found):
            left = max(0, cp.expires - self.ipvs.clock.now) // self.ipvs.clock.hz
            wanted = act.wanted[number] if number < len(act.wanted) else None
            server = self.script.server_name(format_endpoint(cp.daf, cp.dest.addr << 16 | cp.dest.port if cp.dest is not None else cp.real))
            if wanted is None or wanted[2] is None:
                seconds = "" if wanted else f" {left}"
            elif wanted[2][0] <= left <= wanted[2][1]:
                seconds = " " + seconds_text(wanted[2])
            else:
                seconds = f" {left}"
            got.append(f"{server} {cp.state_name}{seconds}")
        for server, state, bounds in act.wanted:
            expected.append(f"{server} {state}" + (f" {seconds_text(bounds)}" if bounds else ""))
        return ", ".join(expected) or "none", ", ".join(got) or "none"


def as_int(endpoint: str) -> int:
    """An endpoint as the model keeps it."""
    _, addr, port = parse_endpoint(endpoint)
    return addr << 16 | port


def seconds_text(bounds: tuple[int, int]) -> str:
    """Seconds left as a script says them."""
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]}..{bounds[1]}"


def packet_of(script: Script, act: Says, client: str, word: Word, server: str | None) -> Packet:
    """The packet of a word for one client."""
    source, target = (script.servers[server], client) if server else (client, script.endpoint(act.service))
    protocol = script.protocol(act.service)
    if protocol != "tcp":
        return say_packet(protocol, source, target, "DATA" if word.text == "udp" else word.text, device=None)
    payload = b"0123456789" if "P" in word.text else b""
    return Packet.tcp(source, target, "" if word.text == "-" else word.text, seq=word.seq, ack=word.ack, payload=payload)
