"""The one-second connect delay: a SYN from a port that was used before is dropped if conntrack still holds a confirmed entry, and its retransmission works.

`questions/connect_delay.jsonl.gz` was recorded from a kernel with the sysctl conntrack on and conntrack active: a connection ends in some way (or does not), a second
server is there, and a SYN with a new sequence number comes at 5 s, and again at 6 s. Each is replayed on a host that follows conntrack by itself, and once more
on a bare IPVS that is told the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.flags import IP_VS_CONN_F_NFCT, PKT_CT_CONFIRMED, Hook, Verdict
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.tools.traces import Step, Trace, read_traces
from ipvs_model.tools.verify import verify

TRACES: Final = {trace.name: trace for trace in read_traces(Path(__file__).parent / "questions" / "connect_delay.jsonl.gz")}
CLIENT, VIP, A, B = "203.0.113.7:40000", "192.0.2.1:80", "10.1.0.11:80", "10.1.0.12:80"
SECOND_SYN_AT: Final = 1250  #: jiffies; the next is a second later

#: how the connection ended → whether conntrack holds a confirmed entry for the new SYN; servers of both SYNs for conn_reuse_mode 0 and for 1 or 2
ENDS: Final = {
    "fin-server-first": (False, "A A", "B B"),  # conntrack, too, takes the SYN for a new connection
    "fin-client-first": (False, "A A", "B B"),
    "fin-half": (True, "A A", "A A"),  # CLOSE_WAIT is not over: nothing is given up
    "good-rst": (False, "A A", "B B"),
    "bad-rst": (True, "A A", "- B"),  # IPVS says CLOSE, conntrack does not believe the reset
    "server-rst": (True, "A A", "- B"),  # conntrack begins anew only after a reset of the client
    "weight-0": (True, "A A", "A A"),  # ESTABLISHED is not over; but see expire_nodest_conn
}
#: scenarios with something else → servers of both SYNs
OTHERS: Final = {
    "delay-weight-0-reuse1": "- B",  # expire_nodest_conn 1
    "delay-weight-0-nodest-reuse0": "- B",  # conn_reuse_mode has no part in it
    "delay-deleted-nodest0": "- -",  # no second chance without expire_nodest_conn
    "delay-persistent-badrst": "A A",  # entries under a template are not given up for conn_reuse_mode
    "delay-persistent-weight-0": "- A",  # … but for a server of weight 0, to which the template leads again
    "delay-dr-badrst": "- B",
    "delay-dr-weight-0": "- B",
    "delay-tunnel-badrst": "- B",
    "delay-tunnel-weight-0": "- B",
}
EXPECTED: Final = {f"delay-{end}-reuse{mode}": reused if mode else kept for end, (_, kept, reused) in ENDS.items() for mode in (0, 1, 2)} | OTHERS
#: recorded with other steps: one SYN a jiffy; the server is deleted, which closes the connection at once
APART: Final = ("delay-deleted-nodest1", "delay-quick-retry")


def is_syn(step: Step) -> bool:
    """One of the two SYNs that the scenario is about."""
    return step.op == "packet" and step.at[0] >= SECOND_SYN_AT


def servers(trace: Trace) -> str:
    """Where the kernel sent both SYNs: A, B, or "-" for nowhere. The entries of the dump behind each say it, for any forwarding method."""
    found = []
    for number, step in enumerate(trace.steps):
        if is_syn(step):
            dump = next(later for later in trace.steps[number:] if later.op == "dump").operands["files"]["ip_vs_conn"]
            reals = {line.split()[5] for line in dump[1:] if line.startswith("TCP") and line.split()[2] == "9C40"}
            found.append("-" if not step.emitted else "A" if reals == {"0A01000B"} else "B")
            assert step.emitted or trace.name == "delay-deleted-nodest0" or not reals  # a dropped SYN takes the old entry along
    return " ".join(found)


def test_no_scenario_is_left_out() -> None:
    assert set(TRACES) == {*EXPECTED, *APART} and len(TRACES) == 31


@pytest.mark.parametrize("name", EXPECTED)
def test_what_the_kernel_did(name: str) -> None:
    assert servers(TRACES[name]) == EXPECTED[name]


def test_the_retransmission_may_come_at_the_next_jiffy() -> None:
    steps = [step for step in TRACES["delay-quick-retry"].steps if is_syn(step)]
    assert [step.at[0] for step in steps] == [1250, 1251, 1252]
    assert [[raw[16:20].hex() for _, raw in step.emitted] for step in steps] == [[], ["0a01000c"], ["0a01000c"]]


@pytest.mark.parametrize("name", sorted(TRACES))
def test_a_host_that_follows_conntrack_does_the_same(name: str) -> None:
    (checked,) = verify([TRACES[name]])
    assert checked.divergence is None, str(checked.divergence)
    assert checked.steps == len(TRACES[name].steps)


# --- told the answer ------------------------------------------------------------------------------------------------------


class Answers:
    """A conntrack that is told what it holds; an entry goes with the IPVS entry. It remembers how often it was asked."""

    def __init__(self) -> None:
        self.held: set[tuple[int, int]] = set()
        self.asked = 0

    def __call__(self, packet: Packet) -> bool:
        self.asked += 1
        return (packet.src, packet.dst) in self.held

    def drop(self, cp: Conn) -> None:
        """The slot Netns.drop_conntrack."""
        self.held.discard((cp.client, cp.virt))


def told(answers: Answers) -> IPVS:
    """A bare IPVS whose answers come from there."""
    ipvs = IPVS(Environment(ct_confirmed=answers))
    ipvs.ns.drop_conntrack = answers.drop
    return ipvs


def begins_anew(name: str) -> bool:
    """Whether conntrack takes the second SYN for the first packet of another connection."""
    return any(name.startswith(f"delay-{end}-") and not held for end, (held, _, _) in ENDS.items())


@pytest.mark.parametrize("name", TRACES)
def test_an_ipvs_that_is_told_the_answer_does_the_same(name: str) -> None:
    """Every packet that gets through confirms its entry; what conntrack makes of the end is told."""
    answers = Answers()
    ipvs = told(answers)
    start = ipvs.clock.now
    for step in TRACES[name].steps:
        ipvs.clock.advance_to(start + step.at[0])
        if step.op == "sysctl":
            ipvs.sysctl_write(step.operands["name"], step.operands["value"])
        elif step.op == "ipvsadm":
            assert ipvs.ipvsadm(step.operands["args"]).status == 0
        elif step.op == "packet":
            packet = Packet.parse(bytes.fromhex(step.operands["hex"]), device=step.operands["dev"])
            from_client = packet.device == "cli"
            if is_syn(step) and step.at[0] == SECOND_SYN_AT and begins_anew(name):
                answers.held.clear()
            action = ipvs.process(packet, Hook.LOCAL_IN if from_client else Hook.FORWARD)
            out = action.apply(packet)
            if from_client:
                sent = out.raw[16:20] if out is not None and action.verdict is Verdict.STOLEN else None
                assert sent == next((raw[16:20] for device, raw in step.emitted if device == "rs"), None)
                if sent is not None:
                    answers.held.add((packet.src, packet.dst))
    check(ipvs.ns)


class Talk:
    """A director with conntrack on and two servers, and the client's connection to A, which has ended in a way that conntrack does not believe."""

    def __init__(self, *, end: str = "R", **sysctls: int) -> None:
        self.answers = Answers()
        self.ipvs = ipvs = told(self.answers)
        for name, value in {"conntrack": 1, **sysctls}.items():
            ipvs.sysctl_write(name, value)
        self.service = ipvs.add_service("tcp", VIP, scheduler="rr")
        self.a = ipvs.add_dest(self.service, A)
        for flags in ("S", "A", end):
            self.send(flags)
        self.b = ipvs.add_dest(self.service, B)
        self.answers.held.add((endpoint(CLIENT), endpoint(VIP)))

    def send(self, flags: str, bits: int = 0) -> str:
        """A client's packet: its server, or why it was dropped."""
        packet = Packet.tcp(CLIENT, VIP, flags)
        packet.bits |= bits
        out = self.ipvs.receive(packet)
        if out.verdict is Verdict.DROP:
            assert not out.emitted and out.delivered is None
            return out.reason.code
        return {endpoint(A): "A", endpoint(B): "B"}[out.emitted[0].dst]


def endpoint(text: str) -> int:
    """An endpoint as a number."""
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port


def test_the_drop_takes_the_old_entry_and_its_conntrack_along_and_makes_nothing() -> None:
    talk = Talk()
    (cp,) = talk.ipvs.conns()
    before = talk.a.stats.inpkts
    assert talk.send("S") == "old conntrack"
    assert cp.flags & IP_VS_CONN_F_NFCT and talk.answers.held  # both stay until the timer runs
    assert (talk.a.stats.inpkts, talk.b.totalconns) == (before, 0)
    talk.ipvs.clock.advance(1)
    assert not talk.ipvs.conns() and not talk.answers.held
    assert talk.send("S") == "B"
    check(talk.ipvs.ns)


def test_an_entry_that_conntrack_has_replaced_leaves_the_new_one_alone() -> None:
    """Without a confirmed entry the flag NFCT is taken off, so that the old entry's end does not delete the entry of the new connection."""
    talk = Talk()
    talk.answers.held.clear()
    assert talk.send("S") == "B"
    talk.answers.held.add((endpoint(CLIENT), endpoint(VIP)))
    talk.ipvs.clock.advance(2)
    (cp,) = talk.ipvs.conns()
    assert cp.real == endpoint(B) and cp.flags & IP_VS_CONN_F_NFCT and talk.answers.held


@pytest.mark.parametrize(("mode", "asked"), [(0, 0), (1, 1), (2, 1)])
def test_the_answer_is_asked_for_only_where_an_entry_would_be_given_up(mode: int, asked: int) -> None:
    talk = Talk(conn_reuse_mode=mode)
    assert talk.answers.asked == 0
    talk.send("A")
    assert talk.answers.asked == 0
    talk.send("S")
    assert talk.answers.asked == asked


def test_no_conntrack_is_the_default_and_delays_nobody() -> None:
    ipvs = IPVS()
    service = ipvs.add_service("tcp", VIP, scheduler="rr")
    ipvs.add_dest(service, A)
    for flags in ("S", "A", "R"):
        ipvs.receive(Packet.tcp(CLIENT, VIP, flags))
    ipvs.add_dest(service, B)
    assert ipvs.receive(Packet.tcp(CLIENT, VIP, "S")).emitted[0].dst == endpoint(B)


def test_a_packet_may_carry_the_answer_itself() -> None:
    talk = Talk()
    talk.answers.held.clear()
    assert talk.send("S", PKT_CT_CONFIRMED) == "old conntrack"
    assert talk.answers.asked == 0


@pytest.mark.parametrize(
    ("sysctls", "answers"),
    [
        ({"conn_reuse_mode": 1, "expire_nodest_conn": 0}, ["A", "A"]),
        ({"conn_reuse_mode": 0, "expire_nodest_conn": 1}, ["old conntrack", "B"]),
        ({"conn_reuse_mode": 1, "expire_nodest_conn": 1}, ["old conntrack", "B"]),
    ],
)
def test_a_server_of_weight_0_while_the_connection_stands(sysctls: dict[str, int], answers: list[str]) -> None:
    talk = Talk(end="A", **sysctls)
    talk.ipvs.edit_dest(talk.service, talk.a, weight=0)
    found = []
    for _ in range(2):
        talk.ipvs.clock.advance(seconds=1)
        found.append(talk.send("S"))
    assert found == answers


def test_a_deleted_server_and_expire_nodest_conn() -> None:
    """A packet in the middle of a connection, not a SYN: dropped, because conntrack holds the connection; the next one may not begin one."""
    talk = Talk(end="A")
    talk.ipvs.delete_dest(talk.service, talk.a)
    talk.ipvs.sysctl_write("expire_nodest_conn", 1)
    assert talk.send("A") == "old conntrack"
    talk.ipvs.clock.advance(1)
    out = talk.ipvs.receive(Packet.tcp(CLIENT, VIP, "A"))
    assert (out.verdict, out.reason.code) == (Verdict.ACCEPT, "not a starter")
    assert talk.send("S") == "B"
