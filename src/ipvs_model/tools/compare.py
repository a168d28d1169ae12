"""The same arrivals through several schedulers, side by side.

Every scheduler gets its own model of the same rules, and every packet of the workload is fed to all of them before the next one. In the middle of the run one
server of each service leaves a copy of each model, and both go on: connections that the copy gives to another server, although theirs is still there, are
those that moved.
"""

import copy
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from ipvs_model.addresses import format_endpoint, parse_endpoint
from ipvs_model.dest import Dest
from ipvs_model.errors import IPVSError
from ipvs_model.packet import Packet
from ipvs_model.schedulers import SCHEDULERS, Scheduler
from ipvs_model.service import Service
from ipvs_model.tools.comparison import Comparison, Leaving, Outcome, ServiceComparison, imbalance
from ipvs_model.tools.pcap import CapturedPacket
from ipvs_model.tools.replay import CLIENT, NANOSECONDS, PROTOCOLS, Mark, Replay
from ipvs_model.tools.timeline import Sample
from ipvs_model.tools.workload import Target, Workload

KERNEL_SCHEDULERS: Final = tuple(scheduler.name for scheduler in SCHEDULERS)
REFUSED: Final = (CLIENT, "DROP", "no destination", "nowhere")  #: fate of a packet for which the scheduler finds nothing
ANY_PORT: Final = 80  #: where generated connections to a service without port go


class CompareError(ValueError):
    """Something asked for that cannot be; the text is fit to be shown."""


class Run(Replay):
    """A replay with one scheduler that remembers which server each new connection got."""

    def __init__(self, rules: str, scheduler: str | type[Scheduler] | Scheduler, **options: Any) -> None:
        super().__init__(rules, **options)
        if isinstance(scheduler, str):
            self.name = scheduler
        else:
            self.name = self.ipvs.schedulers.register(scheduler).name
        for svc in self.ipvs.services:
            self.ipvs.edit_service(svc, scheduler=self.name)
        self.places = {id(dest): place for place, (_, dest) in enumerate(self.servers)}
        self.chosen: dict[int, int] = {}  #: record → place of the server that its connection got
        self.record = 0
        self.counted = [0] * len(self.servers)  # connections of each server
        self.peaks = [0] * len(self.servers)
        self.held_peaks = [0] * len(self.servers)
        self.refused = dict.fromkeys((svc.key() for svc in self.services), 0)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Run":
        """A copy that goes on by itself; servers are other objects in it."""
        twin = Run.__new__(Run)
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            setattr(twin, name, copy.deepcopy(value, memo))
        twin.places = {id(dest): place for place, (_, dest) in enumerate(twin.servers)}
        return twin

    def feed(self, captured: CapturedPacket) -> list[Packet]:
        """Play one packet."""
        self.record = captured.record
        return super().feed(captured)

    def _receive(self, what: str, packet: Packet, captured: CapturedPacket) -> list[Packet]:
        ns = self.ipvs.ns
        refused = self._refusals()
        left = super()._receive(what, packet, captured)
        if self._refusals() != refused:
            svc = ns.services.find(packet.af, packet.mark, packet.proto, packet.dst >> 16, packet.dst & 0xFFFF)
            if svc is not None:
                self.refused[svc.key()] += 1
        place = self.places.get(id(ns.served)) if ns.served is not None else None
        if place is not None and ns.served is not None:
            self.peaks[place] = max(self.peaks[place], ns.served.activeconns)
            self.held_peaks[place] = max(self.held_peaks[place], ns.served.totalconns)
            if ns.served.stats.conns != self.counted[place]:
                self.counted[place] = ns.served.stats.conns
                self.chosen[self.record] = place
        return left

    def _refusals(self) -> int:
        return self._fates.get(REFUSED, (0,))[0]

    def remove(self, places: Iterable[int]) -> None:
        """Delete servers, as ipvsadm -d does."""
        for place in places:
            svc, dest = self.servers[place]
            self.ipvs.delete_dest(svc, dest)


def targets(replay: Replay) -> list[Target]:
    """Where generated connections can go: every service with an address, and every mark."""
    found = [Target(svc.protocol, svc.af, svc.addr << 16 | (svc.port or ANY_PORT)) for svc in replay.services if not svc.fwmark]
    marked = {(svc.af, svc.fwmark) for svc in replay.services if svc.fwmark}
    found += [Target(mark.protocol, mark.af, mark.addr << 16 | (mark.port or ANY_PORT)) for mark in replay.marks if (mark.af, mark.value) in marked]
    return list(dict.fromkeys(target for target in found if target.protocol in PROTOCOLS.values()))


def find_schedulers(names: Sequence[str]) -> list[str | type[Scheduler]]:
    """Names of the kernel's schedulers, "all" of them, and users' own as MODULE:CLASS or FILE.py:CLASS. Raises CompareError."""
    found: list[str | type[Scheduler]] = []
    for name in names:
        if name == "all":
            found += KERNEL_SCHEDULERS
        elif ":" in name:
            found.append(_load(name))
        elif name in KERNEL_SCHEDULERS:
            found.append(name)
        else:
            raise CompareError(f"no scheduler {name!r}; there are {', '.join(KERNEL_SCHEDULERS)}, all, and your own as MODULE:CLASS or FILE.py:CLASS")
    if not found:
        raise CompareError("no scheduler is named")
    return list(dict.fromkeys(found))


def _load(text: str) -> type[Scheduler]:
    place, _, name = text.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except Exception as wrong:  # whatever the user's module raises
        raise CompareError(f"{text}: {type(wrong).__name__}: {wrong}") from wrong
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Scheduler)):
        raise CompareError(f"{text}: {place} has no scheduler {name}")
    return kind


def leavers(replay: Replay, wanted: Sequence[str] = ()) -> list[int]:
    """Places of the servers that leave: those named ("10.1.0.11", with or without port), else the first of each service. Raises CompareError."""
    crowded = [place for place, (svc, _) in enumerate(replay.servers) if len(svc.destinations) > 1]
    if not wanted:
        firsts: dict[int, int] = {}
        for place in crowded:
            firsts.setdefault(id(replay.servers[place][0]), place)
        return list(firsts.values())
    chosen: dict[int, int] = {}
    for text in wanted:
        try:
            af, addr, port = parse_endpoint(text)
        except ValueError as wrong:
            raise CompareError(str(wrong)) from wrong
        fits = [place for place in crowded if _is(replay.servers[place][1], af, addr, port)]
        if not fits:
            raise CompareError(f"no service of several servers has {text}; there are {', '.join(_name(replay.servers[place][1]) for place in crowded) or 'none'}")
        for place in fits:
            if chosen.setdefault(id(replay.servers[place][0]), place) != place:
                raise CompareError(f"one server of a service can leave, and {text} is the second")
    return list(chosen.values())


def _is(dest: Dest, af: int, addr: int, port: int) -> bool:
    return dest.af == af and dest.addr == addr and port in (0, dest.port)


def _name(dest: Dest) -> str:
    return format_endpoint(dest.af, dest.addr << 16 | dest.port)


@frozen
class Departure:
    """Copies of all runs that go on without some servers."""

    places: Sequence[int]  #: of the servers that left
    at: float  #: seconds after the first packet
    record: int  #: the first one that found them gone
    held: tuple[tuple[Sample, ...], ...]  #: all servers of each run at that moment
    twins: tuple[Run, ...]


def compare(
    rules: str,
    schedulers: Sequence[str | type[Scheduler]],
    workload: Callable[[list[Target]], Workload],
    *,
    leave: Sequence[str] = (),
    leave_at: float | None = None,
    marks: Iterable[Mark] = (),
    sysctls: Iterable[tuple[str, str]] = (),
    progress: Callable[[float], object] = lambda fraction: None,
) -> Comparison:
    """Play a workload, made for the targets of the rules, through the rules with each scheduler.

    `leave` names servers that leave (default: the first of each service) after `leave_at` seconds (default: half of the workload). `progress` is told the
    fraction that is done. Raises CompareError, and what rules, sysctls and workload raise.
    """
    options = {"marks": tuple(marks), "sysctls": tuple(sysctls)}
    runs = [_run(rules, scheduler, options) for scheduler in schedulers]
    if not runs[0].services:
        raise CompareError("the rules have no service")
    played = workload(targets(runs[0]))
    gone = leavers(runs[0], leave)
    moment = played.duration / 2 if leave_at is None else leave_at
    if not 0 <= moment <= played.duration:
        raise CompareError(f"a server cannot leave after {moment:g} s: the workload lasts {played.duration:g} s")
    departure: Departure | None = None
    packets, first = 0, None
    for captured in played:
        first = captured.time if first is None else first
        if departure is None and gone and captured.time - first >= moment * NANOSECONDS:
            departure = _depart(runs, gone, moment, captured.record)
        for run in runs if departure is None else (*runs, *departure.twins):
            run.feed(captured)
        packets += 1
        if not packets & 255 and played.duration:
            progress((captured.time - first) / NANOSECONDS / played.duration)
    if not packets:
        raise CompareError(f"{played.text}: no packets")
    return Comparison(
        workload=played.text,
        packets=packets,
        seconds=played.duration,
        step=runs[0].timeline.step / runs[0].ipvs.clock.hz,
        services=tuple(_service(runs, departure, svc) for svc in runs[0].services),
        problems=played.problems,
    )


def _run(rules: str, scheduler: str | type[Scheduler], options: dict[str, Any]) -> Run:
    try:
        return Run(rules, scheduler, **options)
    except IPVSError as refused:
        if isinstance(scheduler, str):
            raise
        raise CompareError(f"{scheduler.__name__}: {refused.strerror}") from refused


def _depart(runs: Sequence[Run], places: Sequence[int], moment: float, record: int) -> Departure:
    twins = tuple(copy.deepcopy(run) for run in runs)
    for twin in twins:
        twin.remove(places)
    return Departure(places, moment, record, tuple(run.timeline.now() for run in runs), twins)


def _service(runs: Sequence[Run], departure: Departure | None, svc: Service) -> ServiceComparison:
    places = [place for place, (owner, _) in enumerate(runs[0].servers) if owner is svc]
    weights = tuple(runs[0].servers[place][1].weight for place in places)
    series = [[[samples[place] for place in places] for samples in (*run.timeline.samples, run.timeline.now())] for run in runs]
    counted = "active" if any(sample.active for moments in series for samples in moments for sample in samples) else "held"
    outcomes = []
    for number, (run, moments) in enumerate(zip(runs, series, strict=True)):
        values = tuple(imbalance([_counted(sample, counted) for sample in samples], weights) for samples in moments)
        judged = [value for value in values if value is not None]
        given = [run.servers[place][1].stats.conns for place in places]
        outcomes.append(
            Outcome(
                scheduler=run.name,
                connections=tuple(given),
                share=tuple(count / sum(given) if sum(given) else 0.0 for count in given),
                peak_active=tuple(run.peaks[place] for place in places),
                peak_held=tuple(run.held_peaks[place] for place in places),
                refused=run.refused[svc.key()],
                imbalance=values,
                mean_imbalance=sum(judged) / len(judged) if judged else None,
                worst_imbalance=max(judged, default=None),
                leaving=_leaving(departure, run, number, places, counted) if departure is not None else None,
            )
        )
    return ServiceComparison(str(svc.key()), tuple(_name(runs[0].servers[place][1]) for place in places), weights, counted, tuple(outcomes))


def _leaving(departure: Departure, run: Run, number: int, places: Sequence[int], counted: str) -> Leaving | None:
    gone = next((place for place in places if place in departure.places), None)
    if gone is None:
        return None
    twin = departure.twins[number]
    others = [record for record, given in run.chosen.items() if record >= departure.record and given != gone and given in places]
    return Leaving(
        server=_name(run.servers[gone][1]),
        at=departure.at,
        cut=_counted(departure.held[number][gone], counted),
        others=len(others),
        moved=sum(twin.chosen.get(record) != run.chosen[record] for record in others),
    )


def _counted(sample: Sample, counted: str) -> int:
    return sample.active if counted == "active" else sample.active + sample.inactive
