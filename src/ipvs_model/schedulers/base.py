"""What a scheduler is: the class that users subclass, and the report it makes when it finds no destination.

A scheduler object holds no state of its own; one object serves every service of a namespace. What it remembers about a
service it keeps in ``svc.sched_data``, which belongs to the bound scheduler alone.

source: include/net/ip_vs.h, struct ip_vs_scheduler; ip_vs_sched.c
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import format_addr
from ipvs_model.flags import AF_INET6, proto_name

if TYPE_CHECKING:
    from ipvs_model.dest import Dest
    from ipvs_model.packet import Packet
    from ipvs_model.packet.view import IpHdr
    from ipvs_model.service import Service

NO_DESTINATION: Final = "no destination available"


class Scheduler(ABC):
    """Chooses the destination of a new connection; subclass it, give it a ``name`` and a ``schedule``.

    ``svc.destinations`` is the list of destinations, *newest first*. Every callback runs after the change it tells of.
    The scheduler runs before the connection exists: counters do not contain the connection that is being placed.
    """

    name: str = ""  #: what ``ipvsadm -s`` calls it; user space can pass at most 15 characters
    reads_header: bool = True  #: ``schedule`` looks at ``iph``; if False it may get None instead

    def __init_subclass__(cls) -> None:
        """A ``schedule`` of its own reads the header unless it says otherwise itself."""
        if "schedule" in cls.__dict__ and "reads_header" not in cls.__dict__:
            cls.reads_header = True

    def init_service(self, svc: Service) -> None:
        """Prepare ``svc.sched_data``: the scheduler is being bound to a service, which may have destinations already.

        ``svc.scheduler`` is still None. To refuse the service raise IPVSError; binding then fails with its errno.
        """

    def done_service(self, svc: Service) -> None:
        """Release what ``init_service`` and the callbacks took (timers, references): the service leaves the scheduler."""

    def add_dest(self, svc: Service, dest: Dest) -> None:
        """A destination has come: it is first in ``svc.destinations``, all its fields are set."""

    def del_dest(self, svc: Service, dest: Dest, position: int) -> None:
        """A destination has gone: it was at index ``position`` of ``svc.destinations`` and is no longer there."""

    def upd_dest(self, svc: Service, dest: Dest) -> None:
        """A destination was edited (perhaps to the same values). Its place in the list is unchanged."""

    @abstractmethod
    def schedule(self, svc: Service, pkt: Packet, iph: IpHdr) -> Dest | None:
        """The destination for a new connection, or None, which refuses it. The only required method.

        ``iph`` is the header that counts: for a scheduled ICMP error that of the embedded packet, with IP_VS_HDR_INVERSE
        set in ``hdr_flags`` (source and destination are then swapped). Callers check nothing afterwards, neither weight nor
        OVERLOAD. Before None, call ``self.error(svc, …)``.
        """

    def references(self, svc: Service) -> Iterable[Dest]:
        """Every reference that the scheduler's tables hold on destinations, one item for each: for invariants."""
        return ()

    def score(self, svc: Service, dest: Dest) -> int | None:
        """The number by which the scheduler judges a destination now; None if it would not take it, or goes by no number.

        For reports only: looking must change nothing. Each scheduler says what its number means. It is asked for every
        destination of every watched choice, so it should be O(1).
        """
        return None

    def error(self, svc: Service, msg: str) -> None:
        """Log why no destination was found, unless the host logs too much already (source: ip_vs_sched.c, ip_vs_scheduler_err)."""
        if svc.ipvs.net_ratelimit():
            svc.ipvs.log("err", error_text(svc, msg))

    def __repr__(self) -> str:
        return f"<scheduler {self.name}>"


def error_text(svc: Service, msg: str) -> str:
    """The log line of a scheduler about a service: ``IPVS: wlc: TCP 10.0.0.100:80 - MSG``."""
    scheduler = svc.scheduler.name if svc.scheduler else "none"
    if svc.fwmark:
        return f"IPVS: {scheduler}: FWM {svc.fwmark} 0x{svc.fwmark:08X} - {msg}"
    address = format_addr(svc.af, svc.addr)
    if svc.af == AF_INET6:
        address = f"[{address}]"
    return f"IPVS: {scheduler}: {proto_name(svc.protocol)} {address}:{svc.port} - {msg}"
