"""What can be seen of an IPVS between two steps, as frozen values: laws compare the one before a step with the one after it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.flags import (
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_TEMPLATE,
)
from ipvs_model.invariants import all_dests
from ipvs_model.ipvs import IPVS, Outcome
from ipvs_model.packet import Packet
from ipvs_model.service import Service

Kind: TypeAlias = Literal["packet", "command", "sysctl", "wait"]


@frozen
class SeenConn:
    """An entry as it was. Times in jiffies, endpoints ``addr << 16 | port``."""

    af: int
    protocol: int
    client: int
    virt: int
    real: int
    flags: int
    state: str
    timeout: int
    expires: int
    in_pkts: int
    refcnt: int
    n_control: int
    control: Conn | None
    dest: Dest | None
    seq: int

    @property
    def template(self) -> bool:
        """A persistence template."""
        return bool(self.flags & IP_VS_CONN_F_TEMPLATE)

    @property
    def active(self) -> bool:
        """Counted in ActiveConn."""
        return not self.flags & IP_VS_CONN_F_INACTIVE

    @property
    def masq(self) -> bool:
        """Its packets are translated."""
        return not self.flags & IP_VS_CONN_F_FWD_MASK

    @property
    def one_packet(self) -> bool:
        """Made for one packet only."""
        return bool(self.flags & IP_VS_CONN_F_ONE_PACKET)


@frozen
class SeenDest:
    """A real server as it was; ``stats``: live connections, packets in and out, bytes in and out."""

    weight: int
    available: bool
    overloaded: bool
    active: int
    total: int
    persistent: int
    upper: int
    lower: int
    conn_flags: int
    refcnt: int
    stats: tuple[int, int, int, int, int]


@frozen
class SeenService:
    """A service as it was; ``dests`` newest first."""

    scheduler: str
    flags: int
    timeout: int
    netmask: int
    dests: tuple[Dest, ...]
    stats: tuple[int, int, int, int, int]


@frozen
class Snapshot:
    """Everything at one moment. Objects are the keys: an entry that goes and one that comes back under the same name are two."""

    now: int
    conns: dict[Conn, SeenConn]
    dests: dict[Dest, SeenDest]
    services: dict[Service, SeenService]
    stats: tuple[int, int, int, int, int]

    def without_time(self) -> tuple[object, ...]:
        """All but the time."""
        return self.conns, self.dests, self.services, self.stats

    def entry(self, protocol: int, client: int, virt: int) -> Conn | None:
        """The newest connection of a client's packet; templates do not count. O(entries), on purpose: it knows nothing of tables."""
        found = [(seen.seq, cp) for cp, seen in self.conns.items() if (seen.protocol, seen.client, seen.virt) == (protocol, client, virt) and not seen.template]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def replied(self, protocol: int, server: int, client: int) -> Conn | None:
        """The newest connection of a server's packet. O(entries)."""
        found = [
            (seen.seq, cp)
            for cp, seen in self.conns.items()
            if (seen.protocol, seen.client) == (protocol, client) and (seen.real if seen.masq else seen.virt) == server and not seen.template
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None


def look(ipvs: IPVS) -> Snapshot:
    """What can be seen now. O(state)."""
    ns = ipvs.ns
    conns = list(ns.conns)
    return Snapshot(
        ns.clock.now,
        {cp: seen_conn(cp) for cp in conns},
        {dest: seen_dest(dest) for dest in all_dests(ns, conns)},
        {svc: seen_service(svc) for svc in ns.services},
        ns.tot_stats.live(),
    )


def seen_conn(cp: Conn) -> SeenConn:
    """An entry as it is now."""
    return SeenConn(
        cp.af, cp.protocol, cp.client, cp.virt, cp.real, cp.flags, cp.state_name, cp.timeout, cp.expires, cp.in_pkts, cp.refcnt, cp.n_control, cp.control,
        cp.dest, cp.hash_seq,
    )  # fmt: skip


def seen_dest(dest: Dest) -> SeenDest:
    """A real server as it is now."""
    return SeenDest(
        dest.weight, dest.available, dest.overloaded, dest.activeconns, dest.totalconns, dest.persistconns, dest.u_threshold, dest.l_threshold, dest.conn_flags,
        dest.refcnt, dest.stats.live(),
    )  # fmt: skip


def seen_service(svc: Service) -> SeenService:
    """A service as it is now."""
    name = svc.scheduler.name if svc.scheduler is not None else "none"
    return SeenService(name, svc.flags, svc.timeout, svc.netmask, tuple(svc.destinations), svc.stats.live())


@frozen
class Step:
    """One step of a test: what was done (``text``), what could be seen before and after, and what came of it."""

    kind: Kind
    text: str
    ipvs: IPVS
    before: Snapshot
    after: Snapshot
    packet: Packet | None = None
    outcome: Outcome | None = None
    status: int = 0  #: of an ipvsadm command, 0 = done

    def moved(self) -> dict[Conn, SeenConn]:
        """Entries that were there before and whose expiry is another now."""
        before = self.before.conns
        return {cp: seen for cp, seen in self.after.conns.items() if cp in before and seen.expires != before[cp].expires}

    def new(self) -> dict[Conn, SeenConn]:
        """Entries that were not there before."""
        return {cp: seen for cp, seen in self.after.conns.items() if cp not in self.before.conns}
