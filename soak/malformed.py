"""Malformed packets by the hundred thousand, through every hook, on directors with services of every kind.

Nothing may be raised, every invariant holds, what a packet turned into is what its bytes say, and memory does not grow once all timers have run out.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Final

from attrs import define, frozen

from ipvs_model.apps import Ftp
from ipvs_model.events import ConnKey, Event
from ipvs_model.flags import (
    AF_INET,
    PKT_CT_CONFIRMED,
    PKT_HAS_CT,
    PKT_NO_ROUTE,
    PKT_NODEFRAG,
    PKT_NOT_TO_HOST,
    PKT_PARTIAL,
    PKT_PROPERTY,
    PKT_ROUTE_LOCAL,
    Hook,
    Verdict,
)
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.routing import DefaultRouting
from ipvs_model.sync.daemon import DaemonUser
from ipvs_model.tools.machine import Host, trace_machine
from ipvs_model.transmit.action import REASONS
from soak.mutation import mutate, refreshed, truncations
from soak.packets import Traffic
from soak.rules import LOCAL, fill

#: values that a run writes now and then; the first is the default
SYSCTLS: Final = {
    "schedule_icmp": (0, 1),
    "nat_icmp_send": (0, 1),
    "sloppy_tcp": (0, 1),
    "sloppy_sctp": (0, 1),
    "cache_bypass": (0, 1),
    "expire_nodest_conn": (0, 1),
    "expire_quiescent_template": (0, 1),
    "conn_reuse_mode": (1, 0, 2, 3),
    "pmtu_disc": (1, 0),
    "snat_reroute": (1, 0),
    "conntrack": (0, 1),
    "backup_only": (0, 0, 0, 1),
    "ignore_tunneled": (0, 1),
    "drop_packet": (0, 0, 1, 2, 3),
    "drop_entry": (0, 0, 1, 3),
    "secure_tcp": (0, 1, 2, 3),
    "am_droprate": (10, 3, 1, 0, -1),
    "sync_version": (1, 0),
    "sync_threshold": ("3\t50", "0\t0", "1\t2"),
    "sync_refresh_period": (0, 10),
    "sync_persist_mode": (0, 1),
}
#: ipvsadm commands that a run gives now and then: servers quiesced, deleted, back again, more of them; counters zeroed
COMMANDS: Final = (
    "-e -t 192.0.2.1:80 -r 10.1.0.11:8080 -m -w 0",
    "-e -t 192.0.2.1:80 -r 10.1.0.11:8080 -m -w 2",
    "-d -t 192.0.2.1:80 -r 10.1.0.12:80",
    "-a -t 192.0.2.1:80 -r 10.1.0.12:80 -m",
    "-d -t 192.0.2.1:443 -r 10.1.0.11:443",
    "-a -t 192.0.2.1:443 -r 10.1.0.11:443 -m",
    "-e -t 192.0.2.1:443 -r 10.1.0.11:443 -m -w 0",
    "-d -u 192.0.2.1:5060 -r 10.1.0.12:5060",
    "-a -u 192.0.2.1:5060 -r 10.1.0.12:5060 -m",
    "-e -t 192.0.2.1:82 -r 10.1.0.11:82 -i --tun-type gre --tun-nocsum",
    "-e -t 192.0.2.1:82 -r 10.1.0.11:82 -i",
    "-E -t 192.0.2.1:81 -s lc",
    "-E -t 192.0.2.1:81 -s sh -p 20",
    "-E -t 192.0.2.1:84 -s mh -b mh-port",
    "-D -t [2001:db8:2::1]:80",
    "-A -t [2001:db8:2::1]:80 -s wlc",
    "-a -t [2001:db8:2::1]:80 -r [2001:db8:1::11]:8080 -m",
    "-d -f 1 -r 10.1.0.11",
    "-a -f 1 -r 10.1.0.11 -m",
    "-Z",
)
MARKS: Final = (0, 0, 0, 0, 1, 2, 3, 4)
DEVICES: Final = ("eth0", "eth0", "eth0", None, "lo")
BITS: Final = (PKT_PARTIAL, PKT_CT_CONFIRMED, PKT_HAS_CT, PKT_NODEFRAG, PKT_NOT_TO_HOST, PKT_NO_ROUTE, PKT_ROUTE_LOCAL, PKT_PROPERTY)
WAITS: Final = (0, 0, 0, 0.004, 0.1, 1, 1, 1, 2, 2, 5, 5, 20, 61, 130, 400)  #: seconds
PAGES: Final = (1 << 31, 1 << 31, 1000, 0)
MARK_RULES: Final = "iptables -t mangle -A PREROUTING -p {} -d 192.0.2.2 -j MARK --set-mark {}"

GROWTH_FROM: Final = 50_000  #: packets after which memory is first measured
GROWTH_LIMIT: Final = 1 << 20  #: bytes
HOST_LIFE: Final = 5_000  #: packets after which the host is another one: it remembers every address that it was ever asked about


@frozen
class Outcome:
    """What a run saw: reasons of the hook runs, packets that the host sent, growth in bytes (None: the run was too short to tell)."""

    packets: int
    reasons: dict[str, int]
    emitted: int
    growth: int | None


@define
class Memory:
    """The memory measure of the defence."""

    pages: int = 1 << 31

    def __call__(self) -> int:
        return self.pages


class Run:
    """One run. ``step`` feeds a packet; ``directors`` are fed by hook, ``host`` by device."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.traffic = Traffic(self.rng)
        self.memory = Memory()
        self.number = 0
        quick = IPVS(Environment(routing=DefaultRouting(local=LOCAL), available_pages=self.memory), plugins=[Ftp])
        watched = IPVS(
            Environment(hz=1000, timers="exact", tab_bits=8, routing=DefaultRouting(local=LOCAL, mtu=600), available_pages=self.memory), plugins=[Ftp]
        )
        self.events: Counter[type[Event]] = Counter()
        watched.subscribe(self._note)
        self.directors = (quick, watched)
        self.host = _host()
        self.fed = quick  #: the director that had the last packet
        for ipvs in self.directors:
            fill(ipvs)
        self.reasons: Counter[str] = Counter()
        self.emitted = 0
        self.last: tuple[object, ...] = ("nothing",)  #: what is in hand, for reports
        self.keys: list[tuple[IPVS, ConnKey]] = []  #: some entries, to which packets are made that belong to them
        self.source = self._packets()

    @property
    def everyone(self) -> tuple[IPVS, ...]:
        """All directors."""
        return (*self.directors, self.host.ipvs)

    def _note(self, event: Event) -> None:
        self.events[type(event)] += 1
        if self.number % 64 == 0:
            str(event)

    # --- packets ------------------------------------------------------------------------------------------------------
    def _packets(self) -> Iterator[tuple[Packet, Hook, IPVS]]:
        """Sound packets, mutated ones, noise, and now and then all truncations of one; each with a hook and a director."""
        rng = self.rng
        makers = list(self.traffic.makers.values())
        while True:
            kind = rng.random()
            hook = rng.choice((Hook.LOCAL_IN, Hook.LOCAL_IN, Hook.FORWARD, Hook.LOCAL_OUT))
            ipvs = rng.choice(self.everyone)
            packet = self.traffic.packet()
            if self.keys and rng.random() < 0.5:
                ipvs, key = rng.choice(self.keys)
                packet, usual = self.traffic.along(key)
                hook = usual if rng.random() < 0.8 else hook
            if kind < 0.6:
                yield packet, hook, ipvs
            elif kind < 0.98:
                yield Packet.parse(mutate(rng, packet.raw, self.traffic.packet().raw)), hook, ipvs
            elif kind < 0.997:
                yield Packet.parse(rng.randbytes(rng.randrange(120))), hook, ipvs
            else:
                whole = rng.choice(makers)(rng.choice((4, 6))).raw
                for raw in truncations(whole[:150]):
                    yield Packet.parse(raw), hook, ipvs

    def step(self) -> None:
        """Feed one packet, at times after something else happened."""
        rng = self.rng
        if self.number and self.number % HOST_LIFE == 0:
            self.host = _host()
            self.keys.clear()
        if self.number % 37 == 0:
            self._meanwhile()
        packet, hook, self.fed = next(self.source)
        if self.fed is self.host.ipvs:
            self.last = "host", packet
            self._through_host(packet)
        else:
            packet.mark = rng.choice(MARKS)
            packet.device = None if hook is Hook.LOCAL_OUT and rng.random() < 0.8 else rng.choice(DEVICES)
            packet.bits = rng.choice(BITS) if rng.random() < 0.15 else 0
            self.last = hook.name, packet
            self._through_hook(self.fed, hook, packet)
        self.number += 1

    def _through_hook(self, ipvs: IPVS, hook: Hook, packet: Packet) -> None:
        if answers_template(ipvs, packet):
            return
        before = packet.raw
        action = ipvs.process(packet, hook) if self.rng.random() < 0.2 else ipvs.run_hook(hook, packet)
        out = action.apply(packet)
        self.reasons[action.reason] += 1
        assert action.reason in REASONS, f"{action!r} has no words"
        assert packet.raw == before, "the packet that came in was changed"
        assert action.verdict is Verdict.STOLEN or (out is None) == (action.verdict is Verdict.DROP), f"{action!r} gives {out!r}"
        for leaving in ([] if out is None else [out]) + [sent.packet for sent in ipvs.ns.outbox]:
            same_as_bytes(leaving)
        ipvs.ns.outbox.clear()

    def _through_host(self, packet: Packet) -> None:
        if answers_template(self.host.ipvs, packet):
            return
        raw = packet.raw if self.rng.random() < 0.5 else refreshed(packet.raw)
        self.host.inject(self.rng.choice(("cli", "cli", "rs")), raw)
        for emission in self.host.drain():
            self.emitted += 1
            same_as_bytes(Packet.parse(emission.raw))

    # --- what else happens --------------------------------------------------------------------------------------------
    def _meanwhile(self) -> None:
        """Time passes; sysctls are written; servers come and go; daemons start and stop; memory runs short."""
        rng = self.rng
        seconds = rng.choice(WAITS)
        self.last = seconds, "seconds"
        for ipvs in self.directors:
            ipvs.clock.advance(seconds=seconds)
        clock = self.host.ipvs.clock
        self.host.run_until(clock.now + round(seconds * clock.hz))
        for ipvs in self.everyone:
            if rng.random() < 0.5:
                name = rng.choice(tuple(SYSCTLS))
                value = rng.choice(SYSCTLS[name])
                self.last = name, value
                ipvs.sysctl_write(name, value)
            if rng.random() < 0.3:
                command = rng.choice(COMMANDS)
                self.last = (command,)
                ipvs.ipvsadm(command)
            ipvs.daemons.take()
            ipvs.log.clear()
        self.keys.clear()
        for ipvs in self.everyone:
            conns = list(ipvs.ns.conns)
            self.keys += ((ipvs, cp.key()) for cp in rng.sample(conns, min(len(conns), 8)))
        if rng.random() < 0.05:
            self.memory.pages = rng.choice(PAGES)
        if rng.random() < 0.05:
            self.last = ("daemons",)
            _daemons(self.host.ipvs)

    def check(self) -> None:
        """Every invariant of every director."""
        for ipvs in self.everyone:
            check(ipvs.ns)

    def check_last(self) -> None:
        """Every invariant of the director that had the last packet."""
        check(self.fed.ns)

    def run_out(self) -> None:
        """Let time pass until every timer of an entry, a trash and a fragment has run out."""
        for ipvs in self.everyone:
            ipvs.sysctl_write("drop_entry", 0)
        while any(ipvs.ns.conn_count or ipvs.ns.trash.dests for ipvs in self.everyone):
            for ipvs in self.directors:
                ipvs.clock.advance(seconds=600)
            clock = self.host.ipvs.clock
            self.host.run_until(clock.now + 600 * clock.hz)
        for ipvs in self.everyone:
            ipvs.daemons.take()
            ipvs.log.clear()
            ipvs.ns.outbox.clear()
        self.host.drain()


def _host() -> Host:
    """The trace machine with services, marks and both daemons."""
    host = trace_machine(1000, estimation=True)
    fill(host.ipvs, mixed=False)
    for mark, protocol in enumerate(("icmp", "udp", "tcp")):
        host.marks.run(MARK_RULES.format(protocol, mark + 1))
    _daemons(host.ipvs)
    return host


def _daemons(ipvs: IPVS) -> None:
    """Start both sync daemons, or stop them."""
    for state in (1, 2):
        if ipvs.ns.sync_state & state:
            ipvs.control.del_daemon(state)
        else:
            ipvs.control.new_daemon(DaemonUser(state, "cli", 7))


def answers_template(ipvs: IPVS, packet: Packet) -> bool:
    """A packet to client port 0 that the lookup of replies would take for an answer of a template: the kernel's own counters go wrong then."""
    cp = None if packet.dport else ipvs.ns.conns.table(packet.af, packet.proto).get(packet.dst)
    while cp is not None and not cp.is_template:
        cp = cp.hnext
    return cp is not None


def same_as_bytes(packet: Packet) -> None:
    """The fields of a packet are those that its bytes have; not where its transport header would lie inside its IPv4 header, which no host lets in."""
    if packet.af == AF_INET and packet.l4 < 20:
        return
    again = Packet.parse(packet.raw)
    for name in ("af", "proto", "src", "dst", "flags", "length", "ttl", "l4", "df", "plain", "frag"):
        assert getattr(packet, name) == getattr(again, name), f"{name} is {getattr(packet, name)!r}, its bytes say {getattr(again, name)!r}: {packet.raw.hex()}"


def run(count: int, seed: int, every: int = 100) -> Outcome:
    """Feed so many packets, and check all invariants after every so many. Raises RuntimeError, with the packet in hand, for whatever goes wrong."""
    measures = []
    if count > GROWTH_FROM:
        tracemalloc.start()
    soak = Run(seed)
    try:
        for number in range(1, count + 1):
            soak.step()
            if every == 1:
                soak.check_last()
            elif number % every == 0:
                soak.check()
            if count > GROWTH_FROM and number in (GROWTH_FROM, count):
                measures.append(_measure(soak))
    except Exception as error:
        raise RuntimeError(f"packet {soak.number} of seed {seed}: {soak.last!r}: {error}") from error
    finally:
        if count > GROWTH_FROM:
            tracemalloc.stop()
    growth = measures[1] - measures[0] if measures else None
    if growth is not None and growth > GROWTH_LIMIT:
        raise RuntimeError(f"memory grew by {growth} bytes between packet {GROWTH_FROM} and packet {count}")
    return Outcome(count, dict(soak.reasons.most_common()), soak.emitted, growth)


def _measure(soak: Run) -> int:
    """Bytes in use when all timers have run out."""
    soak.last = ("all timers run out",)
    soak.run_out()
    soak.check()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
