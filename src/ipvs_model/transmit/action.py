"""What a hook function decides: a verdict, why, and how the packet changes.

Actions are immutable and shared: all packets of a real server in one direction get the same object; ``apply`` makes the packet that leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.flags import PKT_PROPERTY, Verdict
from ipvs_model.packet import Packet
from ipvs_model.packet.encap import encapsulate
from ipvs_model.packet.fields import LAZY_ALL, LAZY_NAT
from ipvs_model.packet.rewrite import dec_ttl, dnat, snat

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.routing import Route

WITH_NAT: Final = tuple(lazy | LAZY_NAT for lazy in range(LAZY_ALL + 1))  #: a look into a tuple costs less than an operator

#: every value of ``Action.reason``, in words
REASONS = {
    "property": "IPVS has handled the packet already",
    "not to host": "its link type is broadcast, multicast or promiscuous",
    "no hooks": "no service of its family: IPVS does not see it",
    "backup only": "this node is a backup and backup_only is set",
    "nodefrag": "sent by a socket with IP_NODEFRAG",
    "protocol": "IPVS does not handle its protocol",
    "not icmp error": "an ICMP message that is no error",
    "icmp unrelated": "an ICMP error about a packet of no connection",
    "no connection": "a packet of no connection",
    "no service": "no service for its destination",
    "not a starter": "a packet that may not begin a connection",
    "ftp data": "client port 20: never scheduled",
    "local reply": "a reply of a local server to a known connection",
    "other port": "the service has another port",
    "short header": "its transport header is cut off",
    "drop_packet": "dropped by the drop_packet defence",
    "no destination": "the scheduler found no destination: refused",
    "no destination icmp": "an ICMP error with no destination to be scheduled to",
    "engine refused": "the persistence engine cannot use it",
    "dest unavailable": "its destination is deleted and expire_nodest_conn is 0",
    "old conntrack": "conntrack holds a confirmed entry: the packet is dropped, the next one is scheduled anew",
    "no transmitter": "its destination's method has no transmitter",
    "forwarded": "sent to its real server",
    "local": "its real server is this host",
    "bypass": "sent to its own destination (cache bypass)",
    "translated": "a reply, translated",
    "reply": "a reply of a connection that is not translated",
    "icmp forwarded": "an ICMP error, sent to the real server of its connection",
    "icmp translated": "an ICMP error from the server's side, translated",
    "tunnel error": "an error about a tunnel packet: the client was told",
    "checksum": "its checksum is wrong",
    "app refused": "the application helper cannot handle it",
    "rewrite refused": "its header is too short to be rewritten",
    "no route": "no route to the real server",
    "boundary": "it would cross the border between local and remote",
    "loopback server": "a loopback real server for a remote client",
    "synced local": "a synced connection with a local real server",
    "ttl": "its time to live is over",
    "mtu": "too big for the way to the real server",
    "tunnel mtu": "the way to the real server is too narrow for a tunnel",
    "fragment": "a fragment, kept until its datagram is whole",
    "rs unreachable": "a reply of a real server that belongs to no connection: refused",
}


class Action:
    """A decision: ``verdict``, ``reason`` (a key of ``REASONS``), the way out (``device``, ``next_hop``; "" and 0 where nothing is sent)."""

    __slots__ = ("device", "next_hop", "reason", "verdict")

    def __init__(self, verdict: Verdict, reason: str, route: Route | None = None) -> None:
        self.verdict = verdict
        self.reason = reason
        self.device = route.device if route is not None else ""
        self.next_hop = route.next_hop if route is not None else 0

    def apply(self, packet: Packet) -> Packet | None:
        """The packet as it leaves (STOLEN) or goes on (ACCEPT); None when it ends here."""
        return packet if self.verdict is Verdict.ACCEPT else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.verdict.name} {self.reason!r}>"


class Accepted(Action):
    """The packet goes on as it is."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.ACCEPT, reason)


class Dropped(Action):
    """Netfilter drops the packet."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.DROP, reason)


class Stolen(Action):
    """IPVS has freed (or kept) the packet."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.STOLEN, reason)


class Prepared(Action):
    """A decision about one packet only, with the packet that results."""

    __slots__ = ("packet",)

    def __init__(self, verdict: Verdict, reason: str, packet: Packet, route: Route | None = None) -> None:
        super().__init__(verdict, reason, route)
        self.packet = packet
        packet.bits |= PKT_PROPERTY

    def apply(self, packet: Packet) -> Packet | None:
        """The packet made for this one."""
        return self.packet


def _marked(packet: Packet | None) -> Packet:
    assert packet is not None
    packet.bits |= PKT_PROPERTY
    return packet


class Marked(Action):
    """Accepted as it is, and marked as handled (LOCALNODE, direct routing to a local server, replies that are not translated)."""

    __slots__ = ()

    def __init__(self, reason: str) -> None:
        super().__init__(Verdict.ACCEPT, reason)

    def apply(self, packet: Packet) -> Packet | None:
        """The same packet, marked."""
        return _marked(packet)


class Nat(Action):
    """One endpoint rewritten: the destination to ``real`` or the source to ``virt``, the other of them 0; ``hop`` is taken from the TTL.

    One class for both directions: two would meet in ``apply``, and members of objects of changing classes are looked up slowly.
    """

    __slots__ = ("hop", "real", "virt")

    def __init__(self, verdict: Verdict, reason: str, route: Route | None, real: int, virt: int, hop: int) -> None:
        super().__init__(verdict, reason, route)
        self.real = real
        self.virt = virt
        self.hop = hop

    @classmethod
    def to_server(cls, real: int, route: Route) -> Nat:
        """Destination rewritten; sent with one hop less, or accepted when the server is this host."""
        if route.local:
            return cls(Verdict.ACCEPT, "local", None, real, 0, 0)
        return cls(Verdict.STOLEN, "forwarded", route, real, 0, 1)

    @classmethod
    def to_client(cls, virt: int) -> Nat:
        """Source rewritten."""
        return cls(Verdict.ACCEPT, "translated", None, 0, virt, 0)

    def apply(self, packet: Packet) -> Packet | None:
        """The translated packet."""
        if packet.bits or not packet.lane:
            return self._with_care(packet)
        # what rewrite.translated does, without a call
        q = Packet()
        q.af = packet.af
        q.proto = packet.proto
        q.src = self.virt or packet.src
        q.dst = self.real or packet.dst
        q.flags = packet.flags
        q.length = packet.length
        q.ttl = packet.ttl - self.hop
        q.l4 = packet.l4
        q.df = packet.df
        q.lane = packet.lane
        q.mark = packet.mark
        q.device = packet.device
        q.bits = PKT_PROPERTY
        q.rare = packet.rare
        q.store = packet.store
        q.lazy = WITH_NAT[packet.lazy]
        return q

    def _with_care(self, packet: Packet) -> Packet:
        if self.virt:
            return _marked(snat(packet, self.virt))
        return _marked(dnat(packet, self.real, dec_ttl=self.hop == 1))


class Direct(Action):
    """Sent as it is with one hop less: direct routing, or cache bypass."""

    __slots__ = ()

    def __init__(self, reason: str, route: Route) -> None:
        super().__init__(Verdict.STOLEN, reason, route)

    def apply(self, packet: Packet) -> Packet | None:
        """The same packet with TTL - 1."""
        return _marked(dec_ttl(packet))


class Tunnelled(Action):
    """Sent inside a packet to the real server."""

    __slots__ = ("dest", "pmtu_disc", "real", "saddr")

    def __init__(self, dest: Dest, real: int, route: Route, saddr: int, pmtu_disc: bool) -> None:
        super().__init__(Verdict.STOLEN, "forwarded", route)
        self.dest = dest
        self.real = real
        self.saddr = saddr
        self.pmtu_disc = pmtu_disc

    def apply(self, packet: Packet) -> Packet | None:
        """The outer packet; the inner one has TTL - 1."""
        dest = self.dest
        outer = encapsulate(
            dec_ttl(packet),
            dest.af,
            self.saddr,
            self.real >> 16,
            tun_type=dest.tun_type,
            tun_port=dest.tun_port,
            tun_flags=dest.tun_flags,
            pmtu_disc=self.pmtu_disc,
        )
        return _marked(outer)
