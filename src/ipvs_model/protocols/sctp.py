"""SCTP: which packets start a connection, which event a packet is, and the state machine.

1. An event is the type of the first chunk; only an ABORT bundled behind COOKIE_ECHO or COOKIE_ACK counts as second chunk.
2. The next state is ``table[direction][event][present state]``; only ESTABLISHED counts as active.
3. Verification tags, checksums and chunk flags are not looked at, and secure_tcp has no effect.

source: ip_vs_proto_sctp.c
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import format_endpoint
from ipvs_model.flags import IP_VS_DIR_OUTPUT, IPPROTO_SCTP
from ipvs_model.packet.rewrite import csum_check
from ipvs_model.protocol import Protocol, ProtoData, State, StateRow, choose_direction, enter_state

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns
    from ipvs_model.packet import IpHdr, Packet


class SctpState(IntEnum):
    """SCTP states of a connection."""

    NONE = 0
    INIT1 = 1
    INIT = 2
    COOKIE_SENT = 3
    COOKIE_REPLIED = 4
    COOKIE_WAIT = 5
    COOKIE = 6
    COOKIE_ECHOED = 7
    ESTABLISHED = 8
    SHUTDOWN_SENT = 9
    SHUTDOWN_RECEIVED = 10
    SHUTDOWN_ACK_SENT = 11
    REJECTED = 12
    CLOSED = 13


class SctpEvent(IntEnum):
    """What a packet means to the state machine: the rows of the transition tables."""

    DATA = 0
    INIT = 1
    INIT_ACK = 2
    COOKIE_ECHO = 3
    COOKIE_ACK = 4
    SHUTDOWN = 5
    SHUTDOWN_ACK = 6
    SHUTDOWN_COMPLETE = 7
    ERROR = 8
    ABORT = 9


#: index, kernel name, printed name, timeout in seconds (61: one longest retransmission and 1; 4: 3 and 1), active
STATES: Final = (
    StateRow(0, "IP_VS_SCTP_S_NONE", "NONE", 2, False),
    StateRow(1, "IP_VS_SCTP_S_INIT1", "INIT1", 4, False),
    StateRow(2, "IP_VS_SCTP_S_INIT", "INIT", 61, False),
    StateRow(3, "IP_VS_SCTP_S_COOKIE_SENT", "C-SENT", 61, False),
    StateRow(4, "IP_VS_SCTP_S_COOKIE_REPLIED", "C-REPLIED", 61, False),
    StateRow(5, "IP_VS_SCTP_S_COOKIE_WAIT", "C-WAIT", 61, False),
    StateRow(6, "IP_VS_SCTP_S_COOKIE", "COOKIE", 61, False),
    StateRow(7, "IP_VS_SCTP_S_COOKIE_ECHOED", "C-ECHOED", 61, False),
    StateRow(8, "IP_VS_SCTP_S_ESTABLISHED", "ESTABLISHED", 900, True),
    StateRow(9, "IP_VS_SCTP_S_SHUTDOWN_SENT", "S-SENT", 61, False),
    StateRow(10, "IP_VS_SCTP_S_SHUTDOWN_RECEIVED", "S-RECEIVED", 61, False),
    StateRow(11, "IP_VS_SCTP_S_SHUTDOWN_ACK_SENT", "S-ACK-SENT", 61, False),
    StateRow(12, "IP_VS_SCTP_S_REJECTED", "REJECTED", 4, False),
    StateRow(13, "IP_VS_SCTP_S_CLOSED", "CLOSED", 61, False),
)

CHUNK_INIT: Final = 1
CHUNK_ABORT: Final = 6

#: chunk type → event; every type that is not here is DATA
CHUNK_EVENTS: Final = {
    0: SctpEvent.DATA,
    1: SctpEvent.INIT,
    2: SctpEvent.INIT_ACK,
    3: SctpEvent.DATA,  # SACK
    4: SctpEvent.DATA,  # HEARTBEAT
    5: SctpEvent.DATA,  # HEARTBEAT_ACK
    6: SctpEvent.ABORT,
    7: SctpEvent.SHUTDOWN,
    8: SctpEvent.SHUTDOWN_ACK,
    9: SctpEvent.ERROR,
    10: SctpEvent.COOKIE_ECHO,
    11: SctpEvent.COOKIE_ACK,
    12: SctpEvent.DATA,  # ECN_ECNE
    13: SctpEvent.DATA,  # ECN_CWR
    14: SctpEvent.SHUTDOWN_COMPLETE,
}

CODES: Final = ("NO", "I1", "IN", "CS", "CR", "CW", "CO", "CE", "ES", "SS", "SR", "SA", "RJ", "CL")


def row(event: SctpEvent, cells: str) -> tuple[SctpEvent, tuple[SctpState, ...]]:
    """One event's line of a transition table, written with the state codes."""
    return event, tuple(SctpState(CODES.index(code)) for code in cells.split())


#                                   NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL
INPUT: Final = (
    row(SctpEvent.DATA,              "ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.INIT,              "I1 IN IN CS CR CW CO CE ES SS SR SA IN IN"),
    row(SctpEvent.INIT_ACK,          "CW CW CW CS CR CO CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.COOKIE_ECHO,       "CR IN IN CR CR CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.COOKIE_ACK,        "ES I1 IN CS CR CW CO ES ES SS SR SA RJ CL"),
    row(SctpEvent.SHUTDOWN,          "SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL"),
    row(SctpEvent.SHUTDOWN_ACK,      "CL IN IN CS CR CW CO CE ES CL SR CL RJ CL"),
    row(SctpEvent.SHUTDOWN_COMPLETE, "CL CL CL CS CR CW CO CE ES SS SR CL RJ CL"),
    row(SctpEvent.ERROR,             "CL I1 IN CS CR CW CO CL ES SS SR SA RJ CL"),
    row(SctpEvent.ABORT,             "CL CL CL CL CL RJ CL CL CL CL CL CL CL CL"),
)  # fmt: skip

OUTPUT: Final = (
    row(SctpEvent.DATA,              "ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.INIT,              "CW CW CW CW CW CW CW CW ES CW CW CW CW CW"),
    row(SctpEvent.INIT_ACK,          "CS CS CS CS CR CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.COOKIE_ECHO,       "CE CE CE CE CE CE CE CE ES SS SR SA RJ CL"),
    row(SctpEvent.COOKIE_ACK,        "ES ES ES ES ES ES ES ES ES SS SR SA RJ CL"),
    row(SctpEvent.SHUTDOWN,          "SS SS SS SS SS SS SS SS SS SS SR SA RJ CL"),
    row(SctpEvent.SHUTDOWN_ACK,      "SA SA SA SA SA CW CO CE ES SA SA SA RJ CL"),
    row(SctpEvent.SHUTDOWN_COMPLETE, "CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.ERROR,             "CL CL CL CL CL CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.ABORT,             "CL RJ CL CL CL CL CL CL CL CL CL CL CL CL"),
)  # fmt: skip

INPUT_ONLY: Final = (
    row(SctpEvent.DATA,              "ES I1 IN CS CR ES CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.INIT,              "I1 IN IN IN IN IN CO CE ES SS SR SA IN IN"),
    row(SctpEvent.INIT_ACK,          "CE CE CE CE CE CE CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.COOKIE_ECHO,       "ES ES ES ES ES ES CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.COOKIE_ACK,        "ES I1 IN ES ES CW ES ES ES SS SR SA RJ CL"),
    row(SctpEvent.SHUTDOWN,          "SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL"),
    row(SctpEvent.SHUTDOWN_ACK,      "CL IN IN CS CR CW CO CE CL CL SR CL RJ CL"),
    row(SctpEvent.SHUTDOWN_COMPLETE, "CL CL CL CL CL CW CO CE ES SS CL CL RJ CL"),
    row(SctpEvent.ERROR,             "CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL"),
    row(SctpEvent.ABORT,             "CL CL CL CL CL RJ CL CL CL CL CL CL CL CL"),
)  # fmt: skip

TABLES: Final = (INPUT, OUTPUT, INPUT_ONLY)  #: by direction

_COMMON_HEADER: Final = 12
_CHUNK_HEADER: Final = 4


def sctp_event(segment: bytes) -> SctpEvent | None:
    """The event that an SCTP packet (from its common header on) is; None if it has no chunk header (source: set_sctp_state).

    >>> cookie_ack, abort = bytes.fromhex("0b000004"), bytes.fromhex("06000004")
    >>> sctp_event(bytes(12) + cookie_ack + abort)
    <SctpEvent.ABORT: 9>
    """
    if len(segment) < _COMMON_HEADER + _CHUNK_HEADER:
        return None
    kind = segment[_COMMON_HEADER]
    event = CHUNK_EVENTS.get(kind, SctpEvent.DATA)
    if event is SctpEvent.COOKIE_ECHO or event is SctpEvent.COOKIE_ACK:
        length = int.from_bytes(segment[14:16], "big")
        second = _COMMON_HEADER + (length + 3 & ~3)
        if length >= _CHUNK_HEADER and len(segment) >= second + _CHUNK_HEADER and segment[second] == CHUNK_ABORT:
            return SctpEvent.ABORT
    return event


class Sctp(Protocol):
    """SCTP as IPVS sees it."""

    name = "SCTP"
    protocol = IPPROTO_SCTP
    states = STATES
    min_header = _COMMON_HEADER + _CHUNK_HEADER

    def net_init(self, ns: Netns) -> ProtoData:
        """SCTP's data for a namespace: its states, each with its rows (source: ip_vs_proto_sctp.c, __ip_vs_sctp_init)."""
        pd = super().net_init(ns)
        for state in pd.states:
            state.rows = tuple(tuple(pd.states[cells[state.index]] for _, cells in table) for table in TABLES)
        return pd

    def start_gate(self, ns: Netns, pkt: Packet, iph: IpHdr) -> bool | None:
        """INIT starts a connection, ABORT never, anything else only with sysctl sloppy_sctp; None: no chunk header.

        source: ip_vs_proto_sctp.c, sctp_conn_schedule
        """
        kind = _first_chunk(pkt)
        if kind is None:
            return None
        return kind != CHUNK_ABORT and (kind == CHUNK_INIT or ns.sysctl.sloppy_sctp != 0)

    def is_new_conn(self, pkt: Packet, iph: IpHdr) -> bool:
        """The first chunk is INIT."""
        return _first_chunk(pkt) == CHUNK_INIT

    def is_new_conn_expected(self, cp: Conn, mode: int) -> bool:
        """Only CLOSED may be replaced."""
        return cp.state.index == SctpState.CLOSED

    def state_transition(self, cp: Conn, direction: int, pkt: Packet, pd: ProtoData) -> None:
        """Run the state machine; a packet without a chunk header changes nothing at all (source: ip_vs_proto_sctp.c, set_sctp_state)."""
        event = sctp_event(pkt.raw[pkt.l4 :])
        if event is None:
            return
        direction = choose_direction(cp, direction)
        if not cp.state.rows:  # a template, taken for the connection of a packet to client port 0: its number counts as a state of SCTP
            cp.state = pd.states[cp.state.index]
        enter_state(cp, cp.state.rows[direction][event], SctpState.ESTABLISHED, direction, event.name)

    def debug_transition(self, cp: Conn, pkt: Packet, direction: int, before: State, after: State) -> str:
        """Direction, server and client, and both states (source: set_sctp_state)."""
        word = "output" if direction == IP_VS_DIR_OUTPUT else "input"
        server, client = format_endpoint(cp.daf, cp.real), format_endpoint(cp.af, cp.client)
        return f"IPVS: SCTP {word}   {server}->{client} state: {before.name}->{after.name} conn->refcnt:{cp.refcnt}"

    def csum_check(self, pkt: Packet) -> bool:
        """The CRC32c must be right, unless it is to be completed on output or the packet was made by this host (source: sctp_csum_check)."""
        return csum_check(pkt)


def _first_chunk(pkt: Packet) -> int | None:
    raw = pkt.raw
    at = pkt.l4 + _COMMON_HEADER
    return raw[at] if len(raw) >= at + _CHUNK_HEADER else None


SCTP: Final = Sctp()
