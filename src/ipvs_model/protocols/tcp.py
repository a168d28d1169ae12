"""TCP: states, timeouts, the normal and the secure_tcp transition tables.

Only flags are looked at: sequence numbers, windows, checksums and payload never are.

source: ip_vs_proto_tcp.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipvs_model.addresses import format_endpoint
from ipvs_model.flags import IP_VS_CONN_F_NOOUTPUT, IP_VS_DIR_OUTPUT, IPPROTO_TCP
from ipvs_model.netns import Netns
from ipvs_model.packet.rewrite import csum_check
from ipvs_model.protocol import LOOK, Protocol, ProtoData, State, StateRow, choose_direction, enter_state

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.packet import IpHdr, Packet

NONE, ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, SYNACK = range(11)

#: index, kernel name, printed name, timeout (s), counted as active
STATES: Final = (
    StateRow(0, "IP_VS_TCP_S_NONE", "NONE", 2, False),
    StateRow(1, "IP_VS_TCP_S_ESTABLISHED", "ESTABLISHED", 900, True),
    StateRow(2, "IP_VS_TCP_S_SYN_SENT", "SYN_SENT", 120, True),
    StateRow(3, "IP_VS_TCP_S_SYN_RECV", "SYN_RECV", 60, True),
    StateRow(4, "IP_VS_TCP_S_FIN_WAIT", "FIN_WAIT", 120, False),
    StateRow(5, "IP_VS_TCP_S_TIME_WAIT", "TIME_WAIT", 120, False),
    StateRow(6, "IP_VS_TCP_S_CLOSE", "CLOSE", 10, False),
    StateRow(7, "IP_VS_TCP_S_CLOSE_WAIT", "CLOSE_WAIT", 60, False),
    StateRow(8, "IP_VS_TCP_S_LAST_ACK", "LAST_ACK", 30, False),
    StateRow(9, "IP_VS_TCP_S_LISTEN", "LISTEN", 120, False),
    StateRow(10, "IP_VS_TCP_S_SYNACK", "SYNACK", 120, True),
)
CODES: Final = ("NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA")  #: column heads, in state order
EVENTS: Final = ("syn", "fin", "ack", "rst")

FIN, SYN, RST, ACK = 1, 2, 4, 16
#: first match wins; a segment with none of the four leads to CLOSE
PRIORITY: Final = ((RST, "rst"), (SYN, "syn"), (FIN, "fin"), (ACK, "ack"))
NO_EVENT: Final = CLOSE

#: present state across, event down, new state in the cells (tcp_states)
NORMAL: Final = {
    "INPUT": {
        #      NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        "syn": "SR  ES  ES  SR  SR  SR  SR  SR  SR  SR  SR",
        "fin": "CL  CW  SS  TW  TW  TW  CL  CW  LA  LI  TW",
        "ack": "ES  ES  SS  ES  FW  TW  CL  CW  CL  LI  ES",
        "rst": "CL  CL  CL  SR  CL  CL  CL  CL  LA  LI  SR",
    },
    "OUTPUT": {
        "syn": "SS  ES  SS  SR  SS  SS  SS  SS  SS  LI  SR",
        "fin": "TW  FW  SS  TW  FW  TW  CL  TW  LA  LI  TW",
        "ack": "ES  ES  SS  ES  FW  TW  CL  CW  LA  ES  ES",
        "rst": "CL  CL  SS  CL  CL  TW  CL  CL  CL  CL  CL",
    },
    "INPUT_ONLY": {
        "syn": "SR  ES  ES  SR  SR  SR  SR  SR  SR  SR  SR",
        "fin": "CL  FW  SS  TW  FW  TW  CL  CW  LA  LI  TW",
        "ack": "ES  ES  SS  ES  FW  TW  CL  CW  CL  LI  ES",
        "rst": "CL  CL  CL  SR  CL  CL  CL  CL  LA  LI  CL",
    },
}
#: the same while secure_tcp is in force (tcp_states_dos)
SECURE: Final = {
    "INPUT": {
        #      NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        "syn": "SR  ES  ES  SR  SR  SR  SR  SR  SR  SR  SA",
        "fin": "CL  CW  SS  TW  TW  TW  CL  CW  LA  LI  SA",
        "ack": "ES  ES  SS  SR  FW  TW  CL  CW  CL  LI  SA",
        "rst": "CL  CL  CL  SR  CL  CL  CL  CL  LA  LI  CL",
    },
    "OUTPUT": {
        "syn": "SS  ES  SS  SA  SS  SS  SS  SS  SS  LI  SA",
        "fin": "TW  FW  SS  TW  FW  TW  CL  TW  LA  LI  TW",
        "ack": "ES  ES  SS  ES  FW  TW  CL  CW  LA  ES  ES",
        "rst": "CL  CL  SS  CL  CL  TW  CL  CL  CL  CL  CL",
    },
    "INPUT_ONLY": {
        "syn": "SA  ES  ES  SR  SA  SA  SA  SA  SA  SA  SA",
        "fin": "CL  FW  SS  TW  FW  TW  CL  CW  LA  LI  TW",
        "ack": "ES  ES  SS  ES  FW  TW  CL  CW  CL  LI  ES",
        "rst": "CL  CL  CL  SR  CL  CL  CL  CL  LA  LI  CL",
    },
}
TABLES: Final = {"normal": NORMAL, "secure": SECURE}


def event_of(flags: int) -> str | None:
    """The event of a segment's flag bits (F1 S2 R4 A16); None: none of the four is set (source: tcp_state_idx).

    >>> event_of(0x12), event_of(0x01 | 0x10), event_of(0)
    ('syn', 'fin', None)
    """
    return next((name for bit, name in PRIORITY if flags & bit), None)


def _next_states(table: dict[str, dict[str, str]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """[direction][present state][flag bits] → index of the new state."""
    directions = []
    for rows in table.values():
        cells = {event: [CODES.index(code) for code in text.split()] for event, text in rows.items()}
        by_state = []
        for present in range(len(STATES)):
            by_state.append(tuple(NO_EVENT if (event := event_of(bits)) is None else cells[event][present] for bits in range(24)))
        directions.append(tuple(by_state))
    return tuple(directions)


_NEXT: Final = {name: _next_states(table) for name, table in TABLES.items()}


class Tcp(Protocol):
    """TCP (source: ip_vs_proto_tcp.c, ip_vs_protocol_tcp)."""

    name = "TCP"
    protocol = IPPROTO_TCP
    states = STATES
    min_header = 20

    def net_init(self, ns: Netns) -> ProtoData:
        """States with the normal table (source: __ip_vs_tcp_init)."""
        pd = super().net_init(ns)
        self._use(pd, "normal")
        return pd

    @staticmethod
    def _use(pd: ProtoData, name: str) -> None:
        states = pd.states
        for state in states:
            state.rows = tuple(tuple(states[index] for index in direction[state.index]) for direction in _NEXT[name])
            # a client's SYN is for the layered way: it may open a connection anew
            to_server, state.replies, unanswered = state.rows
            state.quick = LOOK, _but_syn(to_server), _but_syn(unanswered)
        none = states[NONE]
        answered, _, unanswered = none.rows
        pd.opens = tuple(after if bits & (SYN | RST) == SYN and after is unanswered[bits] else None for bits, after in enumerate(answered))

    def timeout_change(self, pd: ProtoData, secure: bool) -> None:
        """Exchange the transition table; timeouts and connections stay as they are (source: tcp_timeout_change)."""
        pd.secure = secure
        self._use(pd, "secure" if secure else "normal")

    def start_gate(self, ns: Netns, pkt: Packet, iph: IpHdr) -> bool | None:
        """A SYN without RST, or with sloppy_tcp any segment but RST (source: tcp_conn_schedule)."""
        if pkt.flags < 0:
            return None
        return not pkt.flags & RST and bool(pkt.flags & SYN or ns.sysctl.sloppy_tcp)

    def is_new_conn(self, pkt: Packet, iph: IpHdr) -> bool:
        """SYN, whatever else is set."""
        return pkt.flags > 0 and bool(pkt.flags & SYN)

    def is_new_conn_expected(self, cp: Conn, mode: int) -> bool:
        """TIME_WAIT or CLOSE; with bit value 2 of conn_reuse_mode also FIN_WAIT while no reply was seen."""
        index = cp.state.index
        return index in (TIME_WAIT, CLOSE) or bool(mode & 2 and index == FIN_WAIT and cp.flags & IP_VS_CONN_F_NOOUTPUT)

    def state_transition(self, cp: Conn, direction: int, pkt: Packet, pd: ProtoData) -> None:
        """Run the state machine; a truncated header leaves everything as it is (source: tcp_state_transition, set_tcp_state)."""
        flags = pkt.flags
        if flags < 0:
            return
        direction = choose_direction(cp, direction)
        if not cp.state.rows:  # a template, taken for the connection of a packet to client port 0: its number counts as a state of TCP
            cp.state = pd.states[cp.state.index]
        state = cp.state.rows[direction][flags]
        emit = cp.ipvs.emit
        enter_state(cp, state, ESTABLISHED, direction, (event_of(flags) or "none") if emit is not None else "")

    def debug_transition(self, cp: Conn, pkt: Packet, direction: int, before: State, after: State) -> str:
        """Direction, flags, the three endpoints and both states; for a segment without flags only that it has none (source: set_tcp_state)."""
        if event_of(pkt.flags) is None:
            return "IPVS: tcp_state_idx=-1!!!"
        flags = "".join(letter if pkt.flags & bit else "." for letter, bit in zip("SFAR", (SYN, FIN, ACK, RST), strict=True))
        word = "output" if direction == IP_VS_DIR_OUTPUT else "input"
        client, virtual = format_endpoint(cp.af, cp.client), format_endpoint(cp.af, cp.virt)
        server = format_endpoint(cp.daf, cp.real)
        return f"IPVS: TCP {word}  [{flags}] c:{client} v:{virtual} d:{server} state: {before.name}->{after.name} conn->refcnt:{cp.refcnt}"

    def csum_check(self, pkt: Packet) -> bool:
        """The TCP checksum must be right (source: tcp_csum_check)."""
        return csum_check(pkt)


def _but_syn(row: tuple[State, ...]) -> tuple[State | None, ...]:
    return tuple(None if bits & SYN else after for bits, after in enumerate(row))


TCP: Final = Tcp()


def conn_listen(cp: Conn) -> None:
    """Prepare an FTP data connection: state LISTEN and its timeout, nothing else (source: ip_vs_tcp_conn_listen)."""
    state = cp.ipvs.protocols[IPPROTO_TCP].states[LISTEN]
    cp.state = state
    cp.timeout = state.timeout
