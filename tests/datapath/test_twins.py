"""The quick road and the layered path are one: two directors, one of them without the quick road, hear and do the same and stay the same in everything."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lab import CLIENT, SERVERS, SERVERS6, VIP, VIP6, endpoint
from tests.snapshot import whole

from ipvs_model.addresses import format_addr
from ipvs_model.apps import Ftp
from ipvs_model.datapath import run_hook
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, PKT_CT_CONFIRMED, PKT_HAS_CT, PKT_PROPERTY, Hook
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.service import Service

TCP, DIRECT, TUNNEL, PERSISTENT, SIX, FTP, UDP, ONE_PACKET, PERSISTENT_UDP, MARKED = 80, 81, 82, 83, 84, 21, 53, 54, 55, 7
UDP_PORTS = (UDP, ONE_PACKET, PERSISTENT_UDP)
ACTIVE, PASSIVE = b"PORT 203,0,113,5,200,10\r\n", b"227 Entering Passive Mode (10,1,0,11,195,80)\r\n"
SYSCTLS = [
    ("conn_reuse_mode", 0), ("conn_reuse_mode", 1), ("conn_reuse_mode", 3), ("expire_nodest_conn", 1), ("expire_nodest_conn", 0), ("sloppy_tcp", 1),
    ("secure_tcp", 3), ("secure_tcp", 0), ("drop_packet", 3), ("drop_packet", 0), ("drop_entry", 3), ("drop_entry", 0), ("pmtu_disc", 0), ("pmtu_disc", 1),
    ("conntrack", 1), ("conntrack", 0), ("expire_quiescent_template", 1), ("nat_icmp_send", 1), ("snat_reroute", 0), ("ignore_tunneled", 1), ("cache_bypass", 1),
]  # fmt: skip


@frozen
class Flow:
    """A client endpoint and a virtual port; ``service``: the port, or mark, of the service that it belongs to, if that is another."""

    protocol: str
    port: int
    sport: int = 40000
    client: str = CLIENT
    mark: int = 0
    service: int | None = None

    @property
    def vip(self) -> str:
        return VIP6 if self.port == SIX else VIP

    @property
    def of(self) -> int:
        return self.port if self.service is None else self.service


@frozen
class Talk:
    """A packet of a flow: from its client, or from a server, "own" being the one that its connection has; ``received``: with an outcome that tells why."""

    flow: Flow
    flags: str = "A"
    server: str | None = None
    hook: Hook | None = None
    ttl: int = 64
    size: int = 0
    df: bool = True
    bits: int = 0
    text: bytes = b""
    received: bool = False

    def at(self) -> Hook:
        return self.hook or (Hook.LOCAL_IN if self.server is None else Hook.FORWARD)

    def packet(self, ipvs: IPVS) -> Packet:
        flow = self.flow
        client = (flow.client, flow.sport)
        ends = (client, (flow.vip, flow.port)) if self.server is None else (self._server(ipvs), client)
        device = None if self.at() is Hook.LOCAL_OUT else "eth0"
        more: dict[str, Any] = {
            "ttl": self.ttl,
            "df": self.df,
            "bits": self.bits,
            "device": device,
            "mark": flow.mark,
            "payload": self.text or bytes(self.size),
        }
        return Packet.tcp(*ends, self.flags, **more) if flow.protocol == "tcp" else Packet.udp(*ends, **more)

    def _server(self, ipvs: IPVS) -> tuple[str, int]:
        flow = self.flow
        if flow.port in (DIRECT, TUNNEL):
            return VIP, flow.port
        if self.server in SERVERS:
            return SERVERS[self.server or ""], flow.port
        client, virtual = endpoint(f"{flow.client}:{flow.sport}"), endpoint(f"{VIP}:{flow.port}")
        own = [cp.real for cp in ipvs.conns() if (cp.client, cp.virt) == (client, virtual)]
        return (format_addr(2, own[0] >> 16), own[0] & 0xFFFF) if own else (SERVERS["A"], flow.port)


@frozen
class Error:
    """An ICMP error about the last reply, or the last request, of a flow."""

    flow: Flow
    about_request: bool = False
    kind: int = 3

    def at(self) -> Hook:
        return Hook.FORWARD if self.about_request else Hook.LOCAL_IN

    def packet(self, ipvs: IPVS) -> Packet:
        quoted = Talk(self.flow, server=None if not self.about_request else "own").packet(ipvs)
        raw = quoted.raw
        inner = raw[:12] + raw[16:20] + raw[12:16] + raw[22:24] + raw[20:22] + raw[24:28]
        return Packet.icmp("198.51.100.9", CLIENT if self.about_request else VIP, self.kind, 1, bytes(4), inner, device="eth0")


@frozen
class Wait:
    """Let time pass: so many jiffies, or until so many jiffies from the next timer."""

    jiffies: int
    from_deadline: bool = False

    def run(self, ipvs: IPVS) -> None:
        deadline = ipvs.clock.next_deadline()
        if not self.from_deadline:
            ipvs.clock.advance(max(0, self.jiffies))
        elif deadline is not None:
            ipvs.clock.advance_to(max(ipvs.clock.now, deadline + self.jiffies))


@frozen
class Do:
    """A command; one that is refused changes nothing."""

    what: str
    port: int = TCP
    server: str = "A"
    value: Any = 0

    def run(self, ipvs: IPVS) -> str:
        try:
            getattr(self, self.what)(ipvs)
        except IPVSError as error:
            return str(error)
        return ""

    def _service(self, ipvs: IPVS) -> Service:
        for svc in ipvs.services:
            if (svc.fwmark or svc.port) == self.port:
                return svc
        raise IPVSError(3)

    def _where(self, ipvs: IPVS) -> tuple[str, int]:
        svc = self._service(ipvs)
        return address(svc, self.server), svc.port

    def add(self, ipvs: IPVS) -> None:
        add_dest(ipvs, self._service(ipvs), self.server)

    def delete(self, ipvs: IPVS) -> None:
        ipvs.delete_dest(self._service(ipvs), self._where(ipvs))

    def weigh(self, ipvs: IPVS) -> None:
        ipvs.edit_dest(self._service(ipvs), self._where(ipvs), weight=self.value)

    def limit(self, ipvs: IPVS) -> None:
        ipvs.edit_dest(self._service(ipvs), self._where(ipvs), u_threshold=self.value)

    def schedule(self, ipvs: IPVS) -> None:
        ipvs.edit_service(self._service(ipvs), scheduler=self.value)

    def persist(self, ipvs: IPVS) -> None:
        ipvs.edit_service(self._service(ipvs), **self.value)

    def forward(self, ipvs: IPVS) -> None:
        ipvs.edit_dest(self._service(ipvs), self._where(ipvs), forward=self.value)

    def encapsulate(self, ipvs: IPVS) -> None:
        ipvs.edit_dest(self._service(ipvs), self._where(ipvs), forward="tunnel", **self.value)

    def close(self, ipvs: IPVS) -> None:
        ipvs.delete_service(self._service(ipvs))

    def open(self, ipvs: IPVS) -> None:
        add_service(ipvs, self.port)

    def sysctl(self, ipvs: IPVS) -> None:
        ipvs.sysctl_write(*self.value)

    def timeouts(self, ipvs: IPVS) -> None:
        ipvs.control.set_config(*self.value)


@frozen
class Odd:
    """What is done to the quick one only, for it must change nothing: somebody begins or ends to watch, it is copied, it is pickled."""

    what: str


def address(svc: Service, server: str) -> str:
    return (SERVERS if svc.af == AF_INET else SERVERS6).get(server, server)


def add_dest(ipvs: IPVS, svc: Service, server: str) -> None:
    forward = {DIRECT: "direct", TUNNEL: "tunnel"}.get(svc.port, "masq")
    ipvs.add_dest(svc, (address(svc, server), svc.port), forward=forward)


def add_service(ipvs: IPVS, number: int) -> None:
    options: dict[str, Any] = {"scheduler": "wlc", "one_packet": number == ONE_PACKET, "persistent": 20 if number in (PERSISTENT, PERSISTENT_UDP) else None}
    if number == MARKED:
        svc = ipvs.add_service(fwmark=MARKED, **options)
    else:
        svc = ipvs.add_service("udp" if number in UDP_PORTS else "tcp", (VIP6 if number == SIX else VIP, number), **options)
    for server in "AB":
        add_dest(ipvs, svc, server)


class Twins:
    """A quick director and a layered one."""

    def __init__(self, services: Iterable[int] = (TCP,), **environment: Any) -> None:
        self.quick, self.layered = (IPVS(Environment(fast_path=fast, tab_bits=8, **environment), plugins=(Ftp(),)) for fast in (True, False))
        self.unsubscribe: Any = None
        self.heard: list[str] = []
        self.must_be_heard: list[str] = []
        self.layered.subscribe(lambda event: self.must_be_heard.append(repr(event)))
        for ipvs in (self.quick, self.layered):
            for number in sorted(set(services)):
                add_service(ipvs, number)

    def step(self, step: Talk | Error | Wait | Do | Odd) -> None:
        if isinstance(step, Odd):
            self.odd(step.what)
            return
        self.heard.clear()
        self.must_be_heard.clear()
        seen = [list(self.outcome(ipvs, step)) for ipvs in (self.quick, self.layered)]
        assert seen[0] == seen[1], step
        if self.unsubscribe is not None:
            assert self.heard == self.must_be_heard, step
        for ipvs in (self.quick, self.layered):
            check(ipvs.ns)
        assert self.quick.clock.next_deadline() == self.layered.clock.next_deadline(), step

    def odd(self, what: str) -> None:
        if what == "watch" and self.unsubscribe is None:
            self.unsubscribe = self.quick.subscribe(lambda event: self.heard.append(repr(event)))
        elif what == "look away" and self.unsubscribe is not None:
            self.unsubscribe()
            self.unsubscribe = None
        elif what in ("copy", "pickle"):
            self.odd("look away")
            self.quick = self.quick.fork() if what == "copy" else pickle.loads(pickle.dumps(self.quick))

    @staticmethod
    def outcome(ipvs: IPVS, step: Talk | Error | Wait | Do) -> Iterator[Any]:
        if isinstance(step, Talk | Error):
            packet = step.packet(ipvs)
            if isinstance(step, Talk) and step.received:
                out = ipvs.receive(packet, step.at())
                packet.mark += 1  # what was told stays as it was
                yield out.verdict, [left.raw for left in out.emitted], out.delivered and out.delivered.raw, repr(out.reason)
                return
            action = ipvs.process(packet, step.at())
            left = action.apply(packet)
            yield action.verdict, action.reason, action.device, action.next_hop
            yield None if left is None else (left.raw, left.bits, left.mark)
        else:
            yield step.run(ipvs)
        yield [sent.packet.raw for sent in ipvs.ns.outbox]
        ipvs.ns.outbox.clear()
        yield ipvs.ns.tot_stats.live()
        yield [(str(cp.key()), cp.state_name, cp.flags, cp.timeout, cp.expires, cp.in_pkts) for cp in ipvs.conns()]

    def are_alike(self) -> None:
        self.odd("look away")
        quick, layered = whole(self.quick), whole(self.layered)
        differ = [(one, other) for one, other in zip(quick, layered, strict=False) if one != other]
        assert not differ, differ[0]
        assert len(quick) == len(layered)


#: few, so that they meet: one client endpoint to several ports, a client port 0, and clients that are virtual endpoints themselves
FLOWS = [
    *(Flow("tcp", port, sport) for port in (TCP, DIRECT, TUNNEL, PERSISTENT) for sport in (40000, 40001)),
    *(Flow("udp", port) for port in UDP_PORTS),
    Flow("tcp", FTP), Flow("tcp", 20, 51210, service=FTP), Flow("tcp", 50000, 40100, service=FTP), Flow("tcp", 90, mark=MARKED, service=MARKED),
    Flow("tcp", TCP, 0), Flow("udp", UDP, 20), Flow("tcp", DIRECT, TCP, VIP), Flow("tcp", TCP, DIRECT, VIP), Flow("tcp", TUNNEL, TUNNEL, VIP),
]  # fmt: skip


def opening(flow: Flow, *, heard: bool = True) -> list[Talk]:
    """A handshake, for UDP a question and an answer; ``heard``: the server's side passes the director."""
    return [Talk(flow, "S"), *([Talk(flow, "SA", "own")] if heard else []), Talk(flow, "A")]


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual three times of four."""
    return st.sampled_from((usual,) * (3 * len(others)) + others)


def talks(flows: st.SearchStrategy[Flow]) -> st.SearchStrategy[Talk]:
    flags = mostly("A", "S", "PA", "FA", "R", "SA", "F", "", "SF")
    rest = {
        "ttl": mostly(64, 2, 1, 0), "size": mostly(0, 10, 1440, 1461), "df": mostly(True, False),
        "bits": mostly(0, PKT_PROPERTY, PKT_CT_CONFIRMED, PKT_HAS_CT), "hook": mostly(None, *Hook),
        "text": mostly(b"", ACTIVE, PASSIVE), "received": mostly(False, True),
    }  # fmt: skip
    return st.builds(Talk, flows, flags, mostly(None, "own", "own", "A", "B") | st.just("own"), **rest)


def commands(ports: st.SearchStrategy[int]) -> st.SearchStrategy[Do]:
    servers = st.sampled_from("AB")
    return st.one_of(
        st.builds(Do, st.sampled_from(("add", "delete", "close", "open")), ports, servers),
        st.builds(Do, st.just("weigh"), ports, servers, st.sampled_from((0, 1, 5, -1))),
        st.builds(Do, st.just("limit"), ports, servers, st.sampled_from((0, 1, 2, 1 << 31))),
        st.builds(Do, st.just("forward"), ports, servers, st.sampled_from(("masq", "direct", "tunnel", 5))),
        st.builds(Do, st.just("sysctl"), value=st.sampled_from(SYSCTLS)),
        st.builds(Do, st.just("timeouts"), value=st.sampled_from(((10, 5, 7), (0, 0, -1), (900, 120, 300)))),
    )


WAITS = st.one_of(
    st.builds(Wait, st.sampled_from((0, 1, 2, 8, 250, 2500, 5000, 15000, 30000, 225000))),
    st.builds(Wait, st.sampled_from((-1, 0, 1)), st.just(True)),
)
ODDS = st.builds(Odd, st.sampled_from(("watch", "look away", "copy", "pickle")))


@st.composite
def stories(draw: st.DrawFn) -> list[Any]:
    """Some flows that are established, and what happens to them."""
    flows = draw(st.lists(st.sampled_from(FLOWS), min_size=1, max_size=3, unique=True))
    flow = st.sampled_from(flows)
    errors = st.builds(Error, flow, st.booleans(), st.sampled_from((3, 11, 5)))
    kinds = [talks(flow)] * 12 + [WAITS] * 4 + [commands(st.sampled_from([one.of for one in flows]))] * 3 + [errors, ODDS, talks(st.sampled_from(FLOWS))]
    steps = draw(st.lists(st.sampled_from(kinds).flatmap(lambda kind: kind), min_size=25, max_size=50))
    return [*(step for one in flows for step in opening(one, heard=draw(st.booleans()))), *steps]


def tell(story: list[Any], **environment: Any) -> None:
    """Both twins go through a story."""
    twins = Twins({step.flow.of for step in story if isinstance(step, Talk | Error)}, **environment)
    for step in story:
        twins.step(step)
    twins.are_alike()


@settings(max_examples=settings.default.max_examples * 3 // 5)
@given(story=stories(), timers=st.sampled_from(("kernel", "exact")))
def test_both_roads_lead_to_the_same(story: list[Any], timers: str) -> None:
    tell(story, timers=timers)


WEB, NEAR, FAR = Flow("tcp", TCP), Flow("tcp", DIRECT), Flow("tcp", TUNNEL)
DNS, KEPT, BYPASSED = Flow("udp", UDP), Flow("udp", PERSISTENT_UDP), Flow("tcp", 90, mark=MARKED, service=MARKED)
AT_BORDER = Flow("tcp", TCP, DIRECT, VIP)
#: each is about one thing that takes a packet off the quick road
PARTICULAR: dict[str, list[Any]] = {
    "time to live": [*opening(WEB), Talk(WEB), Talk(WEB, ttl=1), Talk(WEB, ttl=2)],
    "size": [*opening(WEB), Talk(WEB), Talk(WEB, size=1461), Talk(WEB, size=1460)],
    "handled already": [*opening(WEB), Talk(WEB), Talk(WEB, bits=PKT_PROPERTY), Talk(WEB, server="own", bits=PKT_PROPERTY)],
    "reply of another server": [*opening(WEB), Talk(WEB, server="A"), Talk(WEB, server="B")],
    "first reply of a direct server": [*opening(NEAR, heard=False), Talk(NEAR), Talk(NEAR, server="own"), Talk(NEAR)],
    "a tunnel": [*opening(FAR), Talk(FAR), Talk(FAR, size=1441), Do("sysctl", value=("pmtu_disc", 0)), Talk(FAR, size=1441)],
    "a SYN": [*opening(WEB), Talk(WEB, "S"), Do("weigh", TCP, "B"), Talk(WEB), Do("sysctl", value=("expire_nodest_conn", 1)), Talk(WEB, "S"), Wait(1), Talk(WEB)],
    "another state": [*opening(WEB), Talk(WEB, "FA"), Talk(WEB), Talk(WEB, "R"), Talk(WEB), Talk(WEB, server="own")],
    "other table of states": [*opening(WEB), Do("sysctl", value=("secure_tcp", 3)), Talk(WEB), Talk(WEB, "S"), Talk(WEB), Do("sysctl", value=("secure_tcp", 0)), Talk(WEB)],
    "other timeouts": [*opening(WEB), Do("timeouts", value=(10, 5, 7)), Talk(WEB), Talk(WEB, server="own"), Wait(2000), Talk(WEB)],
    "one bucket, another expiry": [*opening(WEB), Talk(WEB), Wait(1), Talk(WEB), Wait(3), Talk(WEB, server="own"), Wait(7), Talk(WEB)],
    "same jiffy": [*opening(WEB), *opening(DNS), Talk(WEB), Talk(DNS), Do("timeouts", value=(10, 5, 7)), Talk(WEB), Talk(DNS)],
    "deleted server": [*opening(WEB), Talk(WEB), Do("delete", TCP, "A"), Do("delete", TCP, "B"), Talk(WEB), Talk(WEB, server="own")],
    "deleted server that comes back": [*opening(WEB), Talk(WEB), Do("delete", TCP, "A"), Do("delete", TCP, "B"), Do("add", TCP, "B"), Do("add", TCP, "A"), Talk(WEB), Talk(WEB)],
    "deleted server and an error for it": [
        *opening(NEAR, heard=False), Talk(NEAR), Do("delete", DIRECT, "A"), Do("delete", DIRECT, "B"), Error(NEAR), Talk(NEAR), Talk(NEAR, server="own"),
    ],
    "deleted NAT server and an error for it": [*opening(WEB), Talk(WEB), Do("delete", TCP, "A"), Do("delete", TCP, "B"), Error(WEB), Talk(WEB), Talk(WEB, server="own")],
    "deleted service": [*opening(WEB), Talk(WEB), Do("close"), Talk(WEB), Talk(WEB, server="own"), Do("open"), Talk(WEB), Talk(WEB)],
    "deleted service, others left": [*opening(WEB), *opening(DNS), Do("close"), Talk(WEB), Talk(WEB, server="own"), Do("open"), Talk(WEB), Talk(WEB)],
    "edited method": [*opening(WEB), Talk(WEB), Do("forward", TCP, "B", "direct"), Do("forward", TCP, "A", "tunnel"), Talk(WEB), Talk(WEB)],
    "method without transmitter": [Do("forward", TCP, "A", 5), Do("forward", TCP, "B", 5), *opening(WEB), Talk(WEB), Talk(WEB)],
    "client port 0": [*opening(Flow("tcp", TCP, 0)), Talk(Flow("tcp", TCP, 0), "S"), Talk(Flow("tcp", TCP, 0))],
    "two services, one client port": [*opening(WEB), *opening(NEAR), Talk(WEB), Talk(NEAR), Talk(WEB, server="own"), Talk(NEAR, server="own")],
    "client that is a virtual endpoint": [*opening(AT_BORDER), *opening(Flow("tcp", DIRECT, TCP, VIP)), Talk(AT_BORDER), Talk(AT_BORDER, server="own"), Talk(AT_BORDER)],
    "virtual endpoint that becomes a client": [
        *opening(Flow("tcp", DIRECT, TCP, VIP)), Talk(Flow("tcp", DIRECT, TCP, VIP)), *opening(AT_BORDER), Talk(AT_BORDER), Talk(Flow("tcp", DIRECT, TCP, VIP)),
    ],
    "reply that assures a template": [Talk(KEPT), Talk(KEPT), Talk(KEPT, server="own"), Talk(KEPT, server="own"), Wait(20000), Talk(KEPT)],
    "one-packet scheduling": [Talk(Flow("udp", ONE_PACKET)), Talk(Flow("udp", ONE_PACKET)), Talk(Flow("udp", ONE_PACKET), server="A")],
    "cache bypass": [
        Do("sysctl", value=("cache_bypass", 1)), Do("delete", MARKED, "A"), Do("delete", MARKED, "B"), *opening(BYPASSED, heard=False), Talk(BYPASSED), Talk(BYPASSED),
    ],
    "a helper": [*opening(Flow("tcp", FTP)), Talk(Flow("tcp", FTP), text=ACTIVE, bits=PKT_HAS_CT), Talk(Flow("tcp", FTP), text=ACTIVE), Talk(Flow("tcp", FTP))],
    "a port that is filled in": [
        *opening(Flow("tcp", FTP)), Talk(Flow("tcp", FTP), text=b"PASV\r\n", bits=PKT_HAS_CT), Talk(Flow("tcp", FTP), server="own", text=PASSIVE, bits=PKT_HAS_CT),
        *opening(Flow("tcp", 50000, 40100, service=FTP)), Talk(Flow("tcp", 50000, 40100, service=FTP)),
    ],
    "somebody watches": [Odd("watch"), *opening(WEB), Talk(WEB), Odd("look away"), Talk(WEB), Odd("watch"), Talk(WEB), Talk(WEB, server="own")],
    "copies": [*opening(WEB), Talk(WEB), Odd("copy"), Talk(WEB), Odd("pickle"), Talk(WEB), Do("delete", TCP, "B"), Do("delete", TCP, "A"), Talk(WEB)],
    "datagrams to a direct server": [
        Do("forward", UDP, "A", "direct"), Do("forward", UDP, "B", "direct"), *opening(DNS, heard=False), Talk(DNS), Talk(DNS), Talk(DNS, server="own"), Talk(DNS),
    ],
    "postponed by who holds it": [*opening(Flow("tcp", PERSISTENT)), Wait(20000), Talk(Flow("tcp", PERSISTENT)), Wait(0, True), Talk(Flow("tcp", PERSISTENT))],
}  # fmt: skip


@pytest.mark.parametrize("name", PARTICULAR)
def test_what_is_told_afterwards(name: str) -> None:
    tell([evolve(step, received=True) if isinstance(step, Talk) else step for step in PARTICULAR[name]])


@pytest.mark.parametrize("timers", ["kernel", "exact"])
@pytest.mark.parametrize("name", PARTICULAR)
def test_what_leaves_the_quick_road(name: str, timers: str) -> None:
    tell(PARTICULAR[name], timers=timers)


def test_the_quick_road_is_taken_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the twins would prove nothing."""
    twins = Twins()
    layered = []
    monkeypatch.setattr(twins.quick.fast, "layered", lambda *args: layered.append(args) or run_hook(*args))
    flow = Flow("tcp", TCP)
    for step in opening(flow):
        twins.step(step)
    layered.clear()
    for _ in range(3):
        twins.step(Talk(flow, "PA"))
        twins.step(Talk(flow, "A", "own"))
    assert layered == []
    twins.are_alike()


@pytest.mark.parametrize(
    ("tunnel", "header"),
    [({}, 20), ({"tun_type": 2}, 24), ({"tun_type": 2, "tun_flags": 1}, 28), ({"tun_type": 1, "tun_port": 6080}, 32), ({"tun_type": 1, "tun_port": 6080, "tun_flags": 1}, 32)],
)
def test_tunnels_take_the_quick_road_as_far_as_their_header_leaves_room(tunnel: dict[str, int], header: int, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins([TUNNEL])
    layered = []
    monkeypatch.setattr(twins.quick.fast, "layered", lambda *args: layered.append(args) or run_hook(*args))
    for server in "AB":
        twins.step(Do("encapsulate", TUNNEL, server, tunnel))
    for step in opening(FAR, heard=False):
        twins.step(step)
    room = 1500 - header - 40
    for size, taken in ((room, True), (room + 1, False), (room, True)):
        layered.clear()
        twins.step(Talk(FAR, size=size))
        assert (not layered) == taken
    twins.step(Do("sysctl", value=("pmtu_disc", 0)))
    for size in (room, room + 1, room):
        twins.step(Talk(FAR, size=size))
    twins.are_alike()


def test_twins_that_differ_in_one_timer_are_told_apart() -> None:
    twins = Twins()
    twins.step(Talk(Flow("tcp", TCP), "S"))
    twins.are_alike()
    (cp,) = twins.quick.conns()
    twins.quick.clock.mod_timer(cp, cp.expires + 1)
    with pytest.raises(AssertionError):
        twins.are_alike()
