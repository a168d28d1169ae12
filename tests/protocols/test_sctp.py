"""SCTP against the specification's tables, chunk sequences, worked examples and random walks (spec/40, vectors beside this file)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.flags import (
    IP_VS_CONN_F_DROUTE,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_DIR_INPUT,
    IP_VS_DIR_OUTPUT,
    PKT_PARTIAL,
)
from ipvs_model.netns import Environment, Netns
from ipvs_model.packet import Packet
from ipvs_model.packet.view import fill_iph
from ipvs_model.protocol import TEMPLATE_STATES, State
from ipvs_model.protocols.sctp import CHUNK_EVENTS, SCTP, STATES, TABLES, SctpEvent, SctpState, sctp_event

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "sctp_states.json").read_text())
DIRECTIONS = {"INPUT": IP_VS_DIR_INPUT, "OUTPUT": IP_VS_DIR_OUTPUT}
SRC, DST = "198.51.100.7:40000", "203.0.113.10:9899"


def packet(after_common_header: bytes, **more: Any) -> Packet:
    whole = Packet.sctp(SRC, DST, (), **more)
    length = (20 + 12 + len(after_common_header)).to_bytes(2, "big")
    return Packet.parse(whole.raw[:2] + length + whole.raw[4:] + after_common_header, device=more.get("device"))


def chunks(layout: list[tuple[int, int]]) -> bytes:
    return b"".join(bytes((kind, 0)) + length.to_bytes(2, "big") + bytes(length - 4 + -length % 4) for kind, length in layout)


class FakeDest:
    overhead = 0

    def lightened(self) -> None:
        """No service asks."""


class FakeConn:
    """As much of a connection as the state machine touches."""

    def __init__(self, ns: Netns, flags: int, *, bound: bool = True, template: bool = False) -> None:
        self.ipvs = ns
        self.pd = SCTP.net_init(ns)
        self.state = self.pd.states[0]
        self.flags = flags
        self.timeout = 3 * ns.env.hz
        self.dest = FakeDest() if bound else None
        self.control: Any = None
        if template:
            self.control = FakeConn(ns, IP_VS_CONN_F_TEMPLATE)
            self.control.state = State(TEMPLATE_STATES[0], ns.env.hz)

    def run(self, direction: str, after_common_header: bytes) -> None:
        SCTP.state_transition(self, DIRECTIONS[direction], packet(after_common_header), self.pd)  # type: ignore[arg-type]

    def update_quick(self) -> None:
        """Nothing of an entry of SCTP is for the fast path."""

    def columns(self) -> list[Any]:
        active = self.dest.overhead >> 8 if self.dest else 0
        template = self.control.state.index if self.control else None
        inactive, no_output = (int(self.flags & bit != 0) for bit in (IP_VS_CONN_F_INACTIVE, IP_VS_CONN_F_NOOUTPUT))
        return [self.state.index, self.timeout // self.ipvs.env.hz, active, inactive, no_output, template]


@pytest.fixture
def ns() -> Netns:
    return Netns(Environment())


def test_states_are_the_kernels() -> None:
    rows = [{"index": s.index, "kernel_name": s.kernel_name, "printed": s.name, "timeout_s": s.timeout, "active": s.active} for s in STATES]
    assert rows == VECTORS["protocol"]["states"]
    assert [state.value for state in SctpState] == [row["index"] for row in rows]
    assert all(row["kernel_name"] == f"IP_VS_SCTP_S_{state.name}" for row, state in zip(rows, SctpState, strict=True))


def test_transition_tables_are_the_kernels() -> None:
    tables = VECTORS["protocol"]["tables"]["normal"]
    for name, table in zip(("INPUT", "OUTPUT", "INPUT_ONLY"), TABLES, strict=True):
        assert {event.name: list(cells) for event, cells in table} == tables[name]
        assert [event for event, _ in table] == list(SctpEvent)


def test_chunk_types_are_the_kernels() -> None:
    assert {str(kind): event.name for kind, event in CHUNK_EVENTS.items()} == VECTORS["protocol"]["chunk_to_event"]


def test_members() -> None:
    about = VECTORS["protocol"]
    assert (SCTP.name, SCTP.protocol, SCTP.num_states, SCTP.dont_defrag) == (about["name"], about["number"], about["num_states"], False)
    assert SCTP.min_header == about["schedule"]["min_header_bytes"]
    assert [SCTP.state_name(index) for index in (8, 13, 14)] == ["ESTABLISHED", "CLOSED", about["out_of_range_name"]]


@pytest.mark.parametrize("vector", VECTORS["chunk_parsing"], ids=lambda vector: vector["desc"])
def test_event_of_a_chunk_sequence(vector: dict[str, Any]) -> None:
    event = sctp_event(bytes(12) + bytes.fromhex(vector["hex_after_common_header"]))
    assert (event.name if event is not None else None) == vector["event"]


@given(st.binary(max_size=40))
def test_any_bytes_have_an_event_exactly_if_a_chunk_header_is_there(data: bytes) -> None:
    assert (sctp_event(data) is not None) == (len(data) >= 16)


@given(st.sampled_from(SctpState), st.sampled_from(SctpEvent), st.integers(0, 2))
def test_every_cell_leads_to_a_state_of_the_namespace(state: SctpState, event: SctpEvent, direction: int) -> None:
    pd = SCTP.net_init(Netns(Environment()))
    following = pd.states[state].rows[direction][event]
    assert following is pd.states[TABLES[direction][event][1][state]]


@pytest.mark.parametrize("example", VECTORS["examples"], ids=lambda example: example["id"])
def test_worked_example(ns: Netns, example: dict[str, Any]) -> None:
    flags = IP_VS_CONN_F_INACTIVE if example["forwarding"] == "MASQ" else IP_VS_CONN_F_INACTIVE | IP_VS_CONN_F_NOOUTPUT | IP_VS_CONN_F_DROUTE
    cp = FakeConn(ns, flags)
    for step in example["steps"]:
        assert cp.state.name == step["state_before"]
        cp.run(step["dir"], chunks(step["packet"]["chunks"]))
        assert cp.state.name == step["state"], step
        assert cp.columns()[1:] == [step["timeout_s"], step["activeconns"], step["INACTIVE"], step["NOOUTPUT"], step["template_state"]]


@pytest.mark.parametrize("walk", VECTORS["walks"], ids=lambda walk: f"{walk['forwarding']}-{walk['dest_bound']}-{walk['template']}")
def test_random_walk(ns: Netns, walk: dict[str, Any]) -> None:
    flags = IP_VS_CONN_F_INACTIVE if walk["dest_bound"] else 0
    if walk["forwarding"] != "MASQ":
        flags |= IP_VS_CONN_F_DROUTE | IP_VS_CONN_F_NOOUTPUT
    cp = FakeConn(ns, flags, bound=walk["dest_bound"], template=walk["template"])
    for step in walk["steps"]:
        direction, data, *expected = step
        cp.run(direction, bytes.fromhex(data))
        assert cp.columns() == expected, step


@pytest.mark.parametrize(
    ("kind", "sloppy", "starts"),
    [(1, 0, True), (1, 1, True), (6, 0, False), (6, 1, False), (0, 0, False), (0, 1, True), (10, 0, False), (10, -1, True), (255, 1, True)],
)
def test_which_chunk_starts_a_connection(ns: Netns, kind: int, sloppy: int, starts: bool) -> None:
    ns.sysctl.sloppy_sctp = sloppy
    pkt = packet(chunks([(kind, 4)]))
    assert SCTP.start_gate(ns, pkt, fill_iph(pkt)) is starts


def test_without_a_chunk_header_there_are_no_ports(ns: Netns) -> None:
    pkt = packet(b"\x01\x00\x00")
    assert SCTP.start_gate(ns, pkt, fill_iph(pkt)) is None
    assert not SCTP.is_new_conn(pkt, fill_iph(pkt))


def test_only_init_opens_and_only_closed_is_replaced(ns: Netns) -> None:
    for kind in range(16):
        pkt = packet(chunks([(kind, 4)]))
        assert SCTP.is_new_conn(pkt, fill_iph(pkt)) is (kind == 1)
    cp = FakeConn(ns, 0)
    for state in cp.pd.states:
        cp.state = state
        assert SCTP.is_new_conn_expected(cp, 3) is (state.name == "CLOSED")  # type: ignore[arg-type]


def test_checksum_must_be_right_unless_it_need_not_be() -> None:
    right = Packet.sctp(SRC, DST, device="eth0")
    assert SCTP.csum_check(right)
    wrong = Packet.parse(right.raw[:28] + bytes((right.raw[28] ^ 1,)) + right.raw[29:], device="eth0")
    assert not SCTP.csum_check(wrong)
    wrong.bits |= PKT_PARTIAL
    assert SCTP.csum_check(wrong)
    assert SCTP.csum_check(Packet.parse(wrong.raw)), "made by this host"
    assert not SCTP.csum_check(Packet.parse(right.raw[:2] + b"\x00\x1b" + right.raw[4:27], device="eth0"))


def test_debug_text() -> None:
    assert SCTP.debug_packet(Packet.sctp(SRC, DST), "After DNAT") == "IPVS: After DNAT: SCTP 198.51.100.7:40000->203.0.113.10:9899"
