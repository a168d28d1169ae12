"""The schedulers of a namespace by name, and how a service is bound to one.

source: ip_vs_sched.c
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from ipvs_model.errors import IPVSError
from ipvs_model.schedulers.base import Scheduler
from ipvs_model.schedulers.dh import DestinationHashing
from ipvs_model.schedulers.fo import WeightedFailover
from ipvs_model.schedulers.lblc import LocalityBasedLeastConnection
from ipvs_model.schedulers.lblcr import LocalityBasedLeastConnectionReplicated
from ipvs_model.schedulers.lc import LeastConnection
from ipvs_model.schedulers.mh import MaglevHashing
from ipvs_model.schedulers.nq import NeverQueue
from ipvs_model.schedulers.ovf import Overflow
from ipvs_model.schedulers.rr import RoundRobin
from ipvs_model.schedulers.sed import ShortestExpectedDelay
from ipvs_model.schedulers.sh import SourceHashing
from ipvs_model.schedulers.twos import TwoRandomChoices
from ipvs_model.schedulers.wlc import WeightedLeastConnection
from ipvs_model.schedulers.wrr import WeightedRoundRobin

if TYPE_CHECKING:
    from ipvs_model.service import Service

SCHEDULERS: Final[tuple[type[Scheduler], ...]] = (
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    WeightedFailover,
    Overflow,
    LocalityBasedLeastConnection,
    LocalityBasedLeastConnectionReplicated,
    DestinationHashing,
    SourceHashing,
    MaglevHashing,
    ShortestExpectedDelay,
    NeverQueue,
    TwoRandomChoices,
)


def no_log(level: str, text: str) -> None:
    """A log that nobody reads."""


class Registry:
    """Schedulers by name: the fourteen of the kernel, as if their modules were loaded, and those that users register.

    ``log`` gets the level ("err" or "info") and the line.
    """

    def __init__(self, log: Callable[[str, str], object] = no_log) -> None:
        self._log = log
        self._linked: list[Scheduler] = [kind() for kind in reversed(SCHEDULERS)]  # the last registered first
        self._seen: list[Scheduler] = list(self._linked)  # a link is not cleared when its object is unregistered

    def __iter__(self) -> Iterator[Scheduler]:
        return iter(self._linked)

    def get(self, name: str) -> Scheduler:
        """The scheduler of that name (byte for byte); raises IPVSError(ENOENT), and logs, if there is none.

        ``none`` means to have no scheduler and is never looked up. source: ip_vs_scheduler_get
        """
        for scheduler in self._linked:
            if scheduler.name == name:
                return scheduler
        self._log("info", f"IPVS: Scheduler module ip_vs_{name} not found")
        raise IPVSError(errno.ENOENT)

    def register(self, scheduler: Scheduler | type[Scheduler] | None) -> Scheduler:
        """Add a scheduler, a class or an object, and return the object.

        Raises IPVSError(EINVAL), and logs, if there is nothing, no name, or the name is taken, or if the object was ever
        registered here before. source: register_ip_vs_scheduler
        """
        where = "register_ip_vs_scheduler()"
        if scheduler is None:
            raise self._refuse(f"{where}: NULL arg")
        if isinstance(scheduler, type):
            scheduler = scheduler()
        if not scheduler.name:
            raise self._refuse(f"{where}: NULL scheduler_name")
        if any(seen is scheduler for seen in self._seen):
            raise self._refuse(f"{where}: [{scheduler.name}] scheduler already linked")
        if any(other.name == scheduler.name for other in self._linked):
            raise self._refuse(f"{where}: [{scheduler.name}] scheduler already existed in the system")
        self._linked.insert(0, scheduler)
        self._seen.append(scheduler)
        self._log("info", f"IPVS: [{scheduler.name}] scheduler registered.")
        return scheduler

    def unregister(self, scheduler: Scheduler | None) -> None:
        """Remove a scheduler that no service is bound to (the kernel does it only when the module leaves, which bound services prevent).

        Raises IPVSError(EINVAL), and logs, if there is nothing or it is not registered. source: unregister_ip_vs_scheduler
        """
        where = "unregister_ip_vs_scheduler()"
        if scheduler is None:
            raise self._refuse(f"{where}: NULL arg")
        if not any(linked is scheduler for linked in self._linked):
            raise self._refuse(f"{where}: [{scheduler.name}] scheduler is not in the list. failed")
        self._linked = [linked for linked in self._linked if linked is not scheduler]  # by identity: schedulers of one's own may be equal
        self._log("info", f"IPVS: [{scheduler.name}] scheduler unregistered.")

    def _refuse(self, text: str) -> IPVSError:
        self._log("err", f"IPVS: {text}")
        return IPVSError(errno.EINVAL, text)


def bind_scheduler(svc: Service, scheduler: Scheduler) -> None:
    """Give a service its scheduler; if that refuses, log and raise its IPVSError, ``svc.scheduler`` unchanged (source: ip_vs_bind_scheduler)."""
    try:
        scheduler.init_service(svc)
    except IPVSError:
        svc.ipvs.log("err", "IPVS: ip_vs_bind_scheduler(): init error")
        raise
    svc.scheduler = scheduler
    svc.reads_header = scheduler.reads_header


def unbind_scheduler(svc: Service) -> None:
    """Take a service's scheduler away, if it has one; ``sched_data`` stays as the scheduler leaves it (source: ip_vs_unbind_scheduler)."""
    scheduler: Scheduler | None = svc.scheduler
    if scheduler is not None:
        svc.scheduler = svc.opens = None
        scheduler.done_service(svc)
