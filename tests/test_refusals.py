"""A refused control call changes nothing: random calls, valid and not, in both families and both dialects, between snapshots of everything."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lab import CLIENT, CLIENT6, VIP, VIP6, endpoint
from tests.snapshot import whole

from ipvs_model import sockopt as S
from ipvs_model.dest import DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.schedulers import Scheduler
from ipvs_model.service import Service, ServiceUser
from ipvs_model.sockopt import Sockopt
from ipvs_model.sync.daemon import DaemonUser

V4, V6 = (endpoint(f"{VIP}:0") >> 16, endpoint(f"[{VIP6}]:0") >> 16)


class OutOfMemory(Scheduler):
    """A scheduler that is never ready."""

    name = "oom"

    def init_service(self, svc: Service) -> None:
        raise IPVSError(12)

    def schedule(self, svc: Service, pkt: Any, iph: Any) -> None:
        raise AssertionError("it was bound after all")


@frozen
class Call:
    """A call of the control interface."""

    name: str
    arguments: tuple[Any, ...]

    def run(self, ipvs: IPVS) -> None:
        getattr(ipvs.control, self.name)(*self.arguments)


@frozen
class OldCall:
    """A setsockopt call."""

    command: int
    request: Any
    length: int | None = None

    def run(self, ipvs: IPVS) -> None:
        Sockopt(ipvs.control).set(self.command, self.request, self.length)


@frozen
class Write:
    """A sysctl write."""

    name: str
    text: str

    def run(self, ipvs: IPVS) -> None:
        ipvs.sysctl_write(self.name, self.text)


@frozen
class Connect:
    """A client connects, so that there is something to lose."""

    six: bool
    sport: int

    def run(self, ipvs: IPVS) -> None:
        source, target = (CLIENT6, VIP6) if self.six else (CLIENT, VIP)
        ipvs.process(Packet.tcp((source, self.sport), (target, 80), "S", device="cli"))


@frozen
class Wait:
    """Time passes."""

    jiffies: int

    def run(self, ipvs: IPVS) -> None:
        ipvs.clock.advance(self.jiffies)


def mostly(*usual: Any, rare: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """The usual values three times of four."""
    return st.sampled_from(usual * max(1, 3 * len(rare) // len(usual)) + rare)


@st.composite
def service_users(draw: st.DrawFn) -> ServiceUser:
    six = draw(st.booleans())
    return ServiceUser(
        af=draw(mostly(AF_INET6 if six else AF_INET, rare=(0, 1))),
        protocol=draw(mostly(6, rare=(17, 132, 50, 0))),
        addr=draw(mostly(V6 if six else V4, rare=(0, 1, 1 << 100))),
        port=draw(mostly(80, rare=(0, 21))),
        fwmark=draw(mostly(0, rare=(7,))),
        sched_name=draw(mostly("rr", "wlc", "sh", "mh", "lblc", rare=("none", "nix", "", "oom", "x" * 16))),
        pe_name=draw(mostly(None, rare=("sip", "nix", "y" * 17))),
        flags=draw(st.sampled_from((0, 1, 2, 4, 0x18))),
        flags_mask=draw(mostly(0xFFFFFFFF, rare=(0, 1))),
        timeout=draw(st.sampled_from((0, 300, 0xFFFFFFFF))),
        netmask=draw(mostly(64 if six else 0xFFFFFFFF, rare=(0, 128, 129))),
    )


@st.composite
def dest_users(draw: st.DrawFn) -> DestUser:
    family = draw(mostly(0, rare=(AF_INET, AF_INET6, 1)))
    return DestUser(
        af=family,
        addr=draw(mostly(0x0A01000B, 0x0A01000C, rare=(0, 0xFFFFFFFF, 0xE0000001, endpoint("[2001:db8:1::11]:0") >> 16, endpoint("[fe80::1]:0") >> 16))),
        port=draw(mostly(8080, rare=(0,))),
        conn_flags=draw(mostly(0, 2, 3, rare=(5, 0x12000))),
        weight=draw(mostly(1, rare=(0, -1, 9))),
        u_threshold=draw(mostly(0, rare=(4, 1 << 31))),
        l_threshold=draw(mostly(0, rare=(3, 5))),
        tun_type=draw(mostly(0, rare=(1, 2, 3))),
        tun_port=draw(mostly(0, rare=(6080,))),
    )


DAEMONS = st.builds(
    DaemonUser,
    mostly(1, 2, rare=(0, 3)),
    mostly("eth0", rare=("nix", "", "e" * 16)),
    st.just(7),
    mcast_group=mostly(None, rare=((2, 0x0A000001), (2, 0xE0000051))),
)
TIMEOUTS = st.sampled_from(((0, 0, 0), (10, 20, 30), (1, -1, 1), (8589935, 1, 1), (1, 1, 1 << 40)))
SYSCTLS = st.builds(
    Write,
    st.sampled_from(
        (
            "drop_entry",
            "drop_packet",
            "secure_tcp",
            "sync_version",
            "sync_ports",
            "sync_retries",
            "am_droprate",
            "expire_nodest_conn",
            "est_nice",
            "lblc_expiration",
            "nix",
        )
    ),
    st.sampled_from(("0", "1", "2", "3", "4", "-1", "x", "", "7x", "99999999999", "0x2")),
)


def calls() -> st.SearchStrategy[Any]:
    """Any call; services and destinations most often."""
    services, dests = service_users(), dest_users()
    new = st.builds(Call, st.sampled_from(("new_service", "set_service", "del_service", "get_service", "zero")), st.tuples(services))
    members = st.builds(Call, st.sampled_from(("new_dest", "new_dest", "set_dest", "del_dest")), st.tuples(services, dests))
    daemons = st.builds(Call, st.just("new_daemon"), st.tuples(DAEMONS)) | st.builds(Call, st.just("del_daemon"), st.tuples(st.integers(0, 3)))
    old = st.builds(
        OldCall, st.sampled_from(sorted(command for command, size in S.SET_LENGTHS.items() if size == S.SERVICE)), services, mostly(None, rare=(43,))
    )
    old_members = st.builds(OldCall, st.sampled_from((S.IP_VS_SO_SET_ADDDEST, S.IP_VS_SO_SET_EDITDEST, S.IP_VS_SO_SET_DELDEST)), st.tuples(services, dests))
    old_rest = st.one_of(
        st.builds(OldCall, st.sampled_from((S.IP_VS_SO_SET_STARTDAEMON, S.IP_VS_SO_SET_STOPDAEMON)), DAEMONS),
        st.builds(OldCall, st.just(S.IP_VS_SO_SET_TIMEOUT), TIMEOUTS),
        st.builds(OldCall, st.sampled_from((1100, 1152, 1158, 1168)), st.none()),
    )
    rest = st.one_of(st.builds(Call, st.just("set_config"), TIMEOUTS), SYSCTLS, daemons, old_rest)
    life = st.builds(Connect, st.booleans(), st.integers(40000, 40003)) | st.builds(Wait, st.sampled_from((0, 1, 250, 15360)))
    kinds = [new, new, new, members, members, members, members, old, old_members, rest, life]
    return st.sampled_from(kinds).flatmap(lambda kind: kind)


def wired(**environment: Any) -> IPVS:
    """A director with a service in each family, each with a destination."""
    ipvs = IPVS(Environment(tab_bits=8, **environment), plugins=(OutOfMemory,))
    for address, server in ((VIP, "10.1.0.11"), (VIP6, "2001:db8:1::11")):
        ipvs.add_dest(ipvs.add_service("tcp", (address, 80), scheduler="wlc"), (server, 8080))
    return ipvs


def test_the_snapshot_sees_what_a_call_changes() -> None:
    ipvs = wired()
    before = whole(ipvs)
    assert whole(ipvs) == before
    ipvs.edit_dest(ipvs.services[0], ipvs.services[0].destinations[0], weight=2)
    assert whole(ipvs) != before


def rebinds(step: Any) -> bool:
    """An edit to a scheduler that refuses."""
    user = step.arguments[0] if isinstance(step, Call) and step.name == "set_service" else getattr(step, "request", None)
    return getattr(user, "sched_name", "") == OutOfMemory.name


@settings(max_examples=settings.default.max_examples // 2)
@given(st.lists(calls(), min_size=10, max_size=30))
def test_refused_call_changes_nothing(steps: list[Any]) -> None:
    ipvs = wired()
    before = whole(ipvs)
    for step in steps:
        try:
            step.run(ipvs)
        except IPVSError:
            after = whole(ipvs)
            differ = [(one, other) for one, other in zip(before, after, strict=False) if one != other]
            # the old scheduler was unbound and bound again: it begins anew
            if not rebinds(step):
                assert not differ, (step, differ[0])
                assert len(after) == len(before), step
            before = after
        else:
            before = whole(ipvs)
        check(ipvs.ns)
