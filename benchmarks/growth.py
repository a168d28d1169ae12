"""G: what a packet, a connection and a choice cost as everything grows: connections, services, destinations. No goals: the curves are to be flat.

"again": the ratio is to the same work in a small world, so 1.0 means that size does not matter; more is what the processor's caches take.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.churn import flood
from benchmarks.established import established
from benchmarks.measure import Case, Pair, cpu, timed
from benchmarks.traffic import ACK, SYN, Floor, client, director, endpoint
from ipvs_model import IPVS, Dest, Packet, Verdict
from ipvs_model.flags import AF_INET
from ipvs_model.packet.view import fill_iph

CONNECTIONS = (1_000, 10_000, 100_000, 1_000_000)
SERVICES = (1, 10, 100, 1000)
DESTINATIONS = (2, 16, 64, 256, 1000)


def service_endpoint(number: int) -> int:
    """The virtual endpoint of the n-th service."""
    return 0xC0000200 + number // 200 << 16 | 1000 + number % 200


def many_services(services: int) -> IPVS:
    """A director with so many services of one destination each; without the estimator, which looks at every one of them every 2 s, packets or not."""
    ipvs = IPVS()
    ipvs.sysctl_write("run_estimation", 0)
    for number in range(services):
        svc = ipvs.add_service("tcp", endpoint(service_endpoint(number)), scheduler="rr")
        ipvs.add_dest(svc, (0x0A010000 + number + 1, 8080))
    return ipvs


def begin_over(services: int, conns: int = 2000) -> Pair:
    """Connections begun and forgotten, spread over many services, to the same over one."""

    def play(count: int) -> float:
        ipvs = many_services(count)
        for number in range(count):  # a connection that stays: what is made once for each service is there
            for flags in (SYN, ACK):
                ipvs.process(Packet.tcp_between(AF_INET, client(conns + number), service_endpoint(number), flags, device="cli"))
        syns = [Packet.tcp_between(AF_INET, client(number), service_endpoint(number % count), SYN, device="cli") for number in range(conns)]
        seconds = cpu(lambda: [ipvs.process(syn) for syn in syns])
        assert ipvs.ns.conn_count == conns + count
        seconds += cpu(lambda: ipvs.clock.advance(seconds=63))
        assert ipvs.ns.conn_count == count
        return seconds

    return Pair(partial(play, services), partial(play, 1), conns)


def packets_over(services: int, conns: int = 1000, repeat: int = 20) -> Pair:
    """Packets of established connections, spread over many services, to the same over one."""

    def ready(count: int) -> Callable[[], None]:
        ipvs = many_services(count)
        packets = []
        for number in range(conns):
            for flags in (SYN, ACK):
                packet = Packet.tcp_between(AF_INET, client(number), service_endpoint(number % count), flags, device="cli")
                assert ipvs.process(packet).verdict is Verdict.STOLEN
            packets.append(packet)
        process, advance = ipvs.process, ipvs.clock.advance

        def run() -> None:
            for _ in range(repeat):
                advance(1)
                for packet in packets:
                    process(packet)

        return run

    return Pair(timed(ready(services)), timed(ready(1)), conns * repeat)


def loaded(ipvs: IPVS) -> None:
    """Weights 1 to 3 and loads of all sizes."""
    svc = ipvs.services[0]
    for number, dest in enumerate(svc.destinations):
        ipvs.edit_dest(svc, dest, weight=1 + number % 3)
        dest.activeconns, dest.totalconns = 10 + number * 7 % 50, 60


def wlc_choices(dests: int, choices: int = 20) -> Pair:
    """wlc's choice among many destinations of weights 1 to 3 under load, to a loop that compares two attributes of each."""
    ipvs = director(dests)
    loaded(ipvs)
    svc = ipvs.services[0]
    syn = Packet.tcp_between(AF_INET, client(0), service_endpoint(0))
    header, scheduler = fill_iph(syn), svc.scheduler
    best = min(svc.destinations, key=lambda dest: (dest.activeconns * 256 + dest.totalconns) / dest.weight)
    assert scheduler.schedule(svc, syn, header) is best

    def model() -> None:
        for _ in range(choices):
            scheduler.schedule(svc, syn, header)

    def floor() -> None:
        for _ in range(choices):
            least: Dest = svc.destinations[0]
            for dest in svc.destinations:
                if dest.overhead * least.raw_weight < least.overhead * dest.raw_weight:
                    least = dest

    return Pair(timed(model), timed(floor), choices)


def constant_choices(scheduler: str, dests: int, clients: int = 2000) -> Pair:
    """Choices of a scheduler that need not look at every destination, each a connection more for the chosen one, to the same among two."""

    def ready(count: int) -> Callable[[], None]:
        svc = director(count, scheduler).services[0]
        asked = [(syn, fill_iph(syn)) for syn in (Packet.tcp_between(AF_INET, client(number * 50), service_endpoint(0)) for number in range(clients))]
        schedule = svc.scheduler.schedule

        def run() -> None:
            for syn, header in asked:
                schedule(svc, syn, header).overhead += 257

        run()
        assert sum(dest.overhead > 0 for dest in svc.destinations) > min(count, 256, clients) // 2
        return run

    return Pair(timed(ready(dests)), timed(ready(2)), clients)


def mh_tables(dests: int = 1000) -> Pair:
    """mh's table dealt out anew after an edit, to 4,093 stores into a list and as many counters."""
    ipvs = director(dests, "mh")
    svc = ipvs.services[0]
    syn = Packet.tcp_between(AF_INET, client(0), service_endpoint(0))
    header = fill_iph(syn)
    weights = [2, 1]
    counters = [Floor() for _ in range(dests)]

    def model() -> None:
        weights.reverse()
        ipvs.edit_dest(svc, svc.destinations[0], weight=weights[0])
        assert svc.scheduler.schedule(svc, syn, header) in svc.destinations
        assert sum(dest.refcnt - 1 for dest in svc.destinations) == 4093

    def floor() -> None:
        table: list[Floor | None] = [None] * 4093
        for slot in range(4093):
            table[slot] = counters[slot % dests]
            counters[slot % dests].n += 1

    return Pair(timed(model), timed(floor), 1)


def _sizes() -> list[Case]:
    cases = []
    for count in CONNECTIONS:
        repeat, few = max(1, 10_000 // count), min(count, 50_000)
        what = f"an established packet, {count:,} connections"
        cases.append(Case(f"GP.{count}", what, partial(established, count, repeat=repeat, sample=few), rounds=7))
    for count in CONNECTIONS:
        cases.append(Case(f"GC.{count}", f"a SYN makes a connection, {count:,} held", partial(flood, 5000, count), unit="floors", allocates=True, rounds=7))
    for count in SERVICES[1:]:
        cases.append(Case(f"GS.{count}", f"an established packet, {count:,} services, to one", partial(packets_over, count), unit="again", rounds=7))
        what = f"a connection begun and forgotten, {count:,} services, to one"
        cases.append(Case(f"GB.{count}", what, partial(begin_over, count), unit="again", allocates=True, rounds=7))
    for count in DESTINATIONS:
        cases.append(Case(f"GW.{count}", f"wlc: a choice among {count:,}, to a loop over them", partial(wlc_choices, count), unit="loops", rounds=7))
    for scheduler, of in (("rr", ""), ("mh", ""), ("sh", ""), ("wlc", " of equal weights")):
        for count in DESTINATIONS[1:]:
            what = f"{scheduler}: a choice among {count:,}{of}, to one among 2"
            cases.append(Case(f"G{scheduler}.{count}", what, partial(constant_choices, scheduler, count), unit="again", rounds=7))
    cases.append(Case("Gmh.table", "mh: the table of 1,000 dealt out anew, to 4,093 stores", mh_tables, unit="floors", rounds=7))
    return cases


CASES = _sizes()
