"""A lab: one director, servers called A, B, C …, and tests that read as a conversation.

    def test_half_close_is_forgotten_after_a_minute(lab):
        lab.service("rr", "A").established(at=1)
        lab.client("FA", at=2).goes_to("A").state("CLOSE_WAIT", 60)
        lab.server("PA", at=50).leaves_from("192.0.2.1:80")
        lab.server("PA", at=175).leaves_untranslated()

`established` opens a connection from 203.0.113.7:40000; `client` and `server` go on with it, or with the one from the port that is given.
Each statement that does not hold raises AssertionError with the packet's reason and decisions.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import define

from ipvs_model.addresses import format_endpoint, parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.flags import IPPROTO_ICMP, IPPROTO_ICMPV6
from ipvs_model.ipvs import IPVS, Outcome
from ipvs_model.packet import Packet
from ipvs_model.service import Service
from ipvs_model.testing.conversations import DEVICE, Conversation, Say, say_packet

CLIENT: Final = "203.0.113.7"
PORT: Final = 40000
VIP: Final = "192.0.2.1:80"
UNREACHABLE: Final = {IPPROTO_ICMP: (3, 3), IPPROTO_ICMPV6: (1, 4)}


def server_address(name: str) -> str:
    """The address of a server: A is 10.1.0.11, B 10.1.0.12, and so on.

    >>> server_address("C")
    '10.1.0.13'
    """
    if len(name) != 1 or not "A" <= name <= "Z":
        raise ValueError(f"servers are called A to Z, not {name!r}")
    return f"10.1.0.{11 + ord(name) - ord('A')}"


@define
class Said:
    """A packet that was fed, and what came of it; each statement returns it again."""

    lab: Lab
    packet: Packet
    outcome: Outcome
    client_endpoint: str

    def _claim(self, holds: bool, what: str) -> Said:
        if not holds:
            events = "".join(f"\n    {event}" for event in self.outcome.reason.events)
            raise AssertionError(f"{self.packet!r} at {self.lab.seconds:g} s {what}: {self.outcome.reason}\n  emitted {list(self.outcome.emitted)!r}{events}")
        return self

    def goes_to(self, name: str) -> Said:
        """It was sent to this server."""
        conn = self.lab.conn(self.client_endpoint)
        served = conn is not None and conn.dest is not None and conn.daddr == parse_endpoint(server_address(name))[1]
        return self._claim(self.outcome.reason.code in ("forwarded", "local") and served, f"did not go to {name}")

    def leaves_from(self, endpoint: str) -> Said:
        """It left with this source."""
        sent = self.outcome.emitted
        return self._claim(len(sent) == 1 and format_endpoint(sent[0].af, sent[0].src) == endpoint, f"did not leave from {endpoint}")

    def leaves_untranslated(self) -> Said:
        """It left as it came."""
        sent = self.outcome.emitted
        return self._claim(len(sent) == 1 and (sent[0].src, sent[0].dst) == (self.packet.src, self.packet.dst), "did not leave as it came")

    def dropped(self) -> Said:
        """Nothing left, and nobody got it."""
        return self._claim(not self.outcome.emitted and self.outcome.delivered is None, "was not dropped")

    def refused(self) -> Said:
        """The client was told "port unreachable"."""
        sent = self.outcome.emitted
        told = len(sent) == 1 and UNREACHABLE.get(sent[0].proto) == tuple(sent[0].raw[sent[0].l4 : sent[0].l4 + 2])
        return self._claim(told, "was not refused")

    def falls_through(self) -> Said:
        """IPVS let it pass to the host, which answers a TCP packet with a reset."""
        return self._claim(self.outcome.delivered is not None, "did not fall through to the host")

    def state(self, name: str, seconds: float | None = None) -> Said:
        """Its connection is in this state now, with so many seconds to go."""
        conn = self.lab.conn(self.client_endpoint)
        if conn is None:
            return self._claim(False, f"has no connection, should be in {name}")
        left = (conn.expires - self.lab.ipvs.clock.now) / self.lab.ipvs.clock.hz
        self._claim(conn.state_name == name, f"left its connection in {conn.state_name}, not {name}")
        return self._claim(seconds is None or left == seconds, f"left its connection {left:g} s, not {seconds:g} s" if seconds is not None else "")


class Lab:
    """One director. Times are seconds from the start; a time that has passed is ValueError."""

    def __init__(self, ipvs: IPVS | None = None) -> None:
        self.ipvs = ipvs if ipvs is not None else IPVS()
        self.start = self.ipvs.clock.now
        self.virtual = VIP
        self.protocol = "tcp"
        self.last: Service | None = None
        self.talks: dict[str, Conversation] = {}

    # --- rules --------------------------------------------------------------------------------------------------------
    def service(self, scheduler: str = "rr", *servers: str, address: str = VIP, protocol: str = "tcp", forward: str = "masq", **options: Any) -> Lab:
        """Add a service with servers "A", "B" … of weight 1; what follows is about it. Options are those of `IPVS.add_service`."""
        self.last = self.ipvs.add_service(protocol, address, scheduler=scheduler, **options)
        self.virtual, self.protocol = address, protocol
        for name in servers:
            self.server_added(name, forward=forward)
        return self

    def _service(self) -> Service:
        if self.last is None:
            raise ValueError("there is no service yet")
        return self.last

    def server_added(self, name: str, **values: Any) -> Lab:
        """Add a server; values are those of `IPVS.add_dest`."""
        self.ipvs.add_dest(self._service(), server_address(name), **values)
        return self

    def server_edited(self, name: str, **values: Any) -> Lab:
        """Edit a server: ``weight=0`` drains it."""
        self.ipvs.edit_dest(self._service(), self.dest(name), **values)
        return self

    def server_deleted(self, name: str) -> Lab:
        """Delete a server."""
        self.ipvs.delete_dest(self._service(), self.dest(name))
        return self

    def sysctl(self, name: str, value: int) -> Lab:
        """Write net.ipv4.vs.NAME."""
        self.ipvs.sysctl_write(name, value)
        return self

    # --- time ---------------------------------------------------------------------------------------------------------
    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return (self.ipvs.clock.now - self.start) / self.ipvs.clock.hz

    def at(self, seconds: float | None) -> Lab:
        """Let time pass until then; None: not at all."""
        if seconds is not None:
            self.ipvs.clock.advance_to(self.start + round(seconds * self.ipvs.clock.hz))
        return self

    # --- packets ------------------------------------------------------------------------------------------------------
    def _talk(self, port: int) -> tuple[str, Conversation]:
        client = f"{CLIENT}:{port}"
        return client, self.talks.setdefault(client, Conversation(self.protocol, client, self.virtual))

    def client(self, word: str = "S", *, at: float | None = None, port: int = PORT) -> Said:
        """A packet of the client: TCP flags, an SCTP chunk, or "DATA"."""
        self.at(at)
        client, talk = self._talk(port)
        packet = talk.packet(Say("client", word))
        outcome = self.ipvs.receive(packet)
        if outcome.reason.code == "forwarded":
            talk.forwarded(outcome.emitted[0])
        return Said(self, packet, outcome, client)

    def server(self, word: str = "SA", *, at: float | None = None, port: int = PORT, name: str | None = None) -> Said:
        """A packet of the connection's server, or of the one named. Raises ValueError if none has been asked."""
        self.at(at)
        client, talk = self._talk(port)
        if name is not None:
            source = f"{server_address(name)}:{self.virtual.rpartition(':')[2]}"
        elif talk.server is not None:
            source = talk.server
        else:
            raise ValueError(f"{client} has reached no server yet")
        packet = say_packet(talk.protocol, source, client, word, device=DEVICE)
        return Said(self, packet, self.ipvs.receive(packet), client)

    def established(self, *, at: float | None = None, port: int = PORT) -> Lab:
        """Open a connection: SYN, answer, ACK."""
        self.client("S", at=at, port=port)
        self.server("SA", port=port)
        self.client("A", port=port).state("ESTABLISHED")
        return self

    # --- looking ------------------------------------------------------------------------------------------------------
    def conn(self, client: str) -> Conn | None:
        """The newest connection of a client endpoint."""
        found = self.ipvs.conns(client=client, templates=False)
        return found[0] if found else None

    def dest(self, name: str) -> Dest:
        """A server of the service. Raises IPVSError(ENOENT)."""
        return self.ipvs.find_dest(self._service(), server_address(name))

    def counts(self, name: str, active: int, inactive: int) -> Lab:
        """The listing shows these counters for a server."""
        dest = self.dest(name)
        got = (dest.activeconns, dest.inactconns)
        assert got == (active, inactive), f"{name} is {got[0]}/{got[1]} at {self.seconds:g} s, not {active}/{inactive}"
        return self
