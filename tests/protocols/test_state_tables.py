"""States, timeouts, transition tables, worked examples and random walks of all protocols, against the vectors of the specification; on real connections."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.lab import CLIENT, SERVERS, VIP, Lab, endpoint

from ipvs_model.conn import Conn, ConnParam, new_conn
from ipvs_model.flags import IP_VS_CONN_F_INACTIVE, IP_VS_CONN_F_NOOUTPUT, IP_VS_CONN_F_TEMPLATE, Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.build import tcp_flags
from ipvs_model.protocols import PROTOCOLS
from ipvs_model.protocols.tcp import conn_listen, event_of

VECTORS: dict[str, Any] = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "protocol_states.json.gz").read_bytes()))
BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS}
NUMBERS = {protocol.name: protocol.protocol for protocol in PROTOCOLS}
FORWARD = {"MASQ": "masq", "DROUTE": "direct"}
ROWS = VECTORS["directions"]
EXAMPLES = {example["id"]: example for example in VECTORS["examples"]}
WALKS = {f"{number} {walk['protocol']} {walk['forwarding']}": walk for number, walk in enumerate(VECTORS["walks"])}


# --- what does not move ---


def test_protocols_are_registered_in_the_kernels_order() -> None:
    assert [protocol.name for protocol in PROTOCOLS] == VECTORS["registration_order"]


@pytest.mark.parametrize("name", VECTORS["protocols"])
def test_members_of_a_protocol(name: str) -> None:
    protocol, row = BY_NAME[name], VECTORS["protocols"][name]
    assert (protocol.protocol, protocol.num_states, protocol.dont_defrag) == (row["number"], row["num_states"], bool(row["dont_defrag"]))


@pytest.mark.parametrize("name", ["TCP", "UDP", "SCTP"])
def test_states_names_timeouts_and_activity(name: str) -> None:
    protocol, row = BY_NAME[name], VECTORS["protocols"][name]
    states = [{"index": s.index, "kernel_name": s.kernel_name, "printed": s.name, "timeout_s": s.timeout, "active": s.active} for s in protocol.states]
    assert states == row["states"]
    assert [protocol.state_name(s.index) for s in protocol.states] == [s["printed"] for s in row["states"]]
    assert protocol.state_name(255) == row["out_of_range_name"]


@pytest.mark.parametrize("name", ["AH", "ESP"])
def test_protocols_without_states_have_no_names_for_them(name: str) -> None:
    assert BY_NAME[name].state_name(0) == VECTORS["protocols"][name]["state_name_result"]


@pytest.mark.parametrize(("letters", "event"), VECTORS["protocols"]["TCP"]["flag_combination_to_event"].items())
def test_event_of_tcp_flags(letters: str, event: str | None) -> None:
    assert event_of(tcp_flags(letters)) == event


# --- real connections ---


def connection(protocol: str, forwarding: str, *, secure: bool = False, bound: bool = True, template: bool = False, listen: bool = False) -> tuple[Lab, Conn]:
    """A connection as it is made, before any packet."""
    lab = Lab(hz=1000, timers="exact")
    lab.service("rr", "A:80", protocol=protocol.lower(), forward=FORWARD[forwarding])
    lab.sysctl(secure_tcp=3 if secure else 0, conn_reuse_mode=0)
    dest = lab.dest("A")
    real = endpoint(f"{SERVERS['A']}:80")
    flags = 0 if bound else dest.conn_flags & ~IP_VS_CONN_F_INACTIVE
    number = NUMBERS[protocol]
    cp = new_conn(lab.ns, ConnParam(2, number, endpoint(f"{CLIENT}:40000"), endpoint(f"{VIP}:80")), 2, real, flags, dest if bound else None, 0)
    if template:
        ct = new_conn(lab.ns, ConnParam(2, number, endpoint(f"{CLIENT}:0"), endpoint(f"{VIP}:80")), 2, real, IP_VS_CONN_F_TEMPLATE, dest if bound else None, 0)
        ct.timeout = 300 * lab.hz
        cp.control_add(ct)
        ct.put()
    if listen:
        conn_listen(cp)
    cp.put()
    lab.check()
    return lab, cp


def test_new_connection_begins_as_the_vectors_say() -> None:
    lab, cp = connection("TCP", "MASQ")
    initial = VECTORS["connection_initial"]
    assert (cp.state.index, cp.old_state, cp.timeout) == (initial["state"], initial["old_state"], initial["timeout_s"] * lab.hz)


def columns(cp: Conn) -> list[Any]:
    """A connection in the columns of the vectors' walks."""
    hz = cp.ipvs.env.hz
    return [
        cp.state.index,
        cp.timeout // hz,
        cp.dest.activeconns if cp.dest is not None else 0,
        int(bool(cp.flags & IP_VS_CONN_F_INACTIVE)),
        int(bool(cp.flags & IP_VS_CONN_F_NOOUTPUT)),
        cp.control.state.index if cp.control is not None else None,
    ]


def tcp_cells() -> list[tuple[str, str, str, int, int]]:
    """mode, direction, event, present state, new state."""
    tables = VECTORS["protocols"]["TCP"]["tables"]
    return [
        (mode, direction, event, present, new)
        for mode, directions in tables.items()
        for direction, events in directions.items()
        for event, cells in events.items()
        for present, new in enumerate(cells)
    ]


#: all flag letters that are one event; others make none
TCP_LETTERS = {"syn": ("S", "SA", "SFA", "SPUEC"), "fin": ("F", "FA", "FPU"), "ack": ("A", "PA", "AU"), "rst": ("R", "RA", "SR", "FR", "SRFA")}


@pytest.mark.parametrize("mode", ["normal", "secure"])
def test_every_cell_of_the_tcp_tables(mode: str) -> None:
    lab, cp = connection("TCP", "MASQ", secure=mode == "secure")
    pd = lab.ns.protocols[6]
    cells = [cell for cell in tcp_cells() if cell[0] == mode]
    assert len(cells) == 3 * 4 * 11
    for _, direction, event, present, new in cells:
        for letters in TCP_LETTERS[event]:
            run(cp, pd, direction, present, Packet.tcp((CLIENT, 40000), (VIP, 80), letters))
            assert cp.state.index == new, (direction, event, present)
            assert cp.timeout == pd.states[new].timeout
    for direction in ROWS:
        for present in range(11):
            for letters in ("", "PU"):
                run(cp, pd, direction, present, Packet.tcp((CLIENT, 40000), (VIP, 80), letters))
                assert cp.state.index == VECTORS["protocols"]["TCP"]["no_event_state"]


def run(cp: Conn, pd: Any, direction: str, present: int, packet: Packet) -> None:
    """One packet in a present state; INPUT_ONLY is INPUT before any packet of the server."""
    cp.state = pd.states[present]
    cp.flags = cp.flags | IP_VS_CONN_F_NOOUTPUT if direction == "INPUT_ONLY" else cp.flags & ~IP_VS_CONN_F_NOOUTPUT
    pd.pp.state_transition(cp, ROWS["OUTPUT" if direction == "OUTPUT" else "INPUT"], packet, pd)


def test_every_cell_of_the_sctp_table() -> None:
    lab, cp = connection("SCTP", "MASQ")
    pd = lab.ns.protocols[132]
    row = VECTORS["protocols"]["SCTP"]
    chunk_of = {event: int(kind) for kind, event in reversed(row["chunk_to_event"].items())}
    for direction, events in row["tables"]["normal"].items():
        for event, cells in events.items():
            for present, new in enumerate(cells):
                run(cp, pd, direction, present, Packet.sctp((CLIENT, 40000), (VIP, 80), ((chunk_of[event], 0, b""),)))
                assert (cp.state.index, cp.timeout) == (new, pd.states[new].timeout), (direction, event, present)


def test_truncated_header_changes_nothing() -> None:
    lab, cp = connection("TCP", "DROUTE")
    whole = Packet.tcp((CLIENT, 40000), (VIP, 80), "S").raw
    short = Packet.parse(whole[:2] + (39).to_bytes(2, "big") + whole[4:39])
    before = columns(cp)
    for direction in (0, 1):
        lab.ns.protocols[6].pp.state_transition(cp, direction, short, lab.ns.protocols[6])
    assert columns(cp) == before


@pytest.mark.parametrize("name", WALKS)
def test_random_walk(name: str) -> None:
    walk = WALKS[name]
    protocol = walk["protocol"]
    lab, cp = connection(protocol, walk["forwarding"], secure=walk["secure_tcp"], bound=walk["dest_bound"], template=walk["template"])
    pd = lab.ns.protocols[NUMBERS[protocol]]
    for direction, said, *after in walk["steps"]:
        pd.pp.state_transition(cp, ROWS[direction], said_packet(protocol, said, (CLIENT, 40000), (VIP, 80)), pd)
        assert columns(cp) == after, (direction, said)
        lab.check()


def said_packet(protocol: str, said: str, source: tuple[str, int], target: tuple[str, int], **more: Any) -> Packet:
    """TCP flags in letters, SCTP chunks in hex, or a datagram."""
    if protocol == "TCP":
        return Packet.tcp(source, target, said, **more)
    if protocol == "UDP":
        return Packet.udp(source, target, b"data", **more)
    whole = Packet.sctp(source, target, (), **more).raw
    body = bytes.fromhex(said)
    return Packet.parse(whole[:2] + (32 + len(body)).to_bytes(2, "big") + whole[4:] + body, device=more.get("device"))


def chunk_bytes(chunks: list[list[int]]) -> str:
    """Chunks of [type, length] in hex."""
    return "".join(bytes((kind, 0)).hex() + length.to_bytes(2, "big").hex() + bytes(length - 4 + -length % 4).hex() for kind, length in chunks)


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_example_packet_by_packet(name: str) -> None:
    """Through the hooks, with clock, timer and packet counters."""
    example = EXAMPLES[name]
    protocol, masq = example["protocol"], example["forwarding"] == "MASQ"
    has_template = example["steps"][0]["template_state"] is not None
    listen = example["initial"]["state"] == "LISTEN"
    lab, cp = connection(protocol, example["forwarding"], secure=example["secure_tcp"], template=has_template, listen=listen)
    initial = example["initial"]
    assert (cp.state_name, cp.timeout // lab.hz) == (initial["state"], initial["timeout_s"])
    assert [bool(cp.flags & IP_VS_CONN_F_INACTIVE), bool(cp.flags & IP_VS_CONN_F_NOOUTPUT)] == [initial["INACTIVE"], initial["NOOUTPUT"]]
    for step in example["steps"]:
        lab.at(step["t_s"])
        said = step["packet"].get("flags", chunk_bytes(step["packet"].get("chunks", [])))
        assert cp.state_name == step["state_before"]
        if step["dir"] == "INPUT":
            lab.says(said_packet(protocol, said, (CLIENT, 40000), (VIP, 80), device="cli")).goes_to("A")
        else:
            source = (SERVERS["A"], 80) if masq else (VIP, 80)
            lab.says(said_packet(protocol, said, source, (CLIENT, 40000), ttl=63, device="rs"), Hook.FORWARD).verdict(
                "ACCEPT", "translated" if masq else "reply"
            )
        lab.counts("A", step["activeconns"], step["inactconns"], int(has_template))
        shown = cp.control.state_name if cp.control is not None else None
        assert (cp.state_name, cp.timeout / lab.hz, (cp.expires - lab.start) / lab.hz, shown) == (
            step["state"], step["timeout_s"], step["expires_at_s"], step["template_state"],
        ), step["label"]  # fmt: skip
        flags = [bool(cp.flags & IP_VS_CONN_F_INACTIVE), bool(cp.flags & IP_VS_CONN_F_NOOUTPUT)]
        assert (flags, cp.in_pkts, lab.ns.tot_stats.outpkts) == ([step["INACTIVE"], step["NOOUTPUT"]], step["in_pkts"], step["out_pkts"]), step["label"]


# --- who may begin a connection ---


@pytest.mark.parametrize(
    ("sloppy", "flags", "starts"), [(0, "S", True), (0, "SA", True), (0, "A", False), (0, "SR", False), (1, "A", True), (1, "", True), (1, "RA", False)]
)
def test_tcp_gate(sloppy: int, flags: str, starts: bool) -> None:
    lab = Lab()
    lab.service("rr", "A").sysctl(sloppy_tcp=sloppy)
    said = lab.client(flags)
    assert (said.action.reason == "forwarded") == starts


@pytest.mark.parametrize(("sloppy", "kind", "starts"), [(0, 1, True), (0, 0, False), (0, 6, False), (1, 0, True), (1, 10, True), (1, 6, False), (1, 1, True)])
def test_sctp_gate(sloppy: int, kind: int, starts: bool) -> None:
    lab = Lab()
    lab.service("rr", "A", protocol="sctp").sysctl(sloppy_sctp=sloppy)
    said = lab.client(chunks=((kind, 0, bytes(16)),))
    assert (said.action.reason == "forwarded") == starts


# --- AH and ESP ---


@pytest.mark.parametrize("kind", ["ah", "esp"])
def test_ipsec_packets_belong_to_the_isakmp_connection(kind: str) -> None:
    lab = Lab()
    lab.service("rr", "A:500", "B:500", protocol="udp", port=500)
    packet: Any = getattr(Packet, kind)
    lab.says(packet(CLIENT, VIP, device="cli")).accepted("no connection")
    lab.client(sport=500, payload=b"isakmp").goes_to("B", 500)
    cp = lab.conn(500)
    lab.wait(100)
    lab.says(packet(CLIENT, VIP, device="cli"), client=cp.client).goes_to("B").state("UDP", 300).in_pkts(2)
    said = lab.says(packet(SERVERS["B"], CLIENT, device="rs"), Hook.FORWARD).verdict("ACCEPT", "translated")
    assert said.left is not None and said.left.saddr == lab.svc.addr


def test_printed_state_of_templates_and_of_protocols_without_names() -> None:
    lab, cp = connection("UDP", "MASQ", template=True)
    assert cp.control is not None
    assert [row["printed"] for row in VECTORS["template"]["states"]] == ["NONE", "ASSURED"]
    assert cp.control.state_name == "NONE"
    mark = new_conn(lab.ns, ConnParam(2, 0, endpoint(f"{CLIENT}:0"), 7 << 16), 2, 0, 0, None, 0)
    other = new_conn(lab.ns, ConnParam(2, 51, endpoint(f"{CLIENT}:0"), 7 << 16), 2, 0, 0, None, 0)
    assert (mark.state_name, other.state_name) == (VECTORS["unknown_protocol_name"]["protocol_0"], VECTORS["unknown_protocol_name"]["other"])
