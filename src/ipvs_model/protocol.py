"""Transport protocols: ``struct ip_vs_protocol``, its data in a namespace, state objects, and the registry.

source: ip_vs_proto.c, include/net/ip_vs.h
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ipvs_model.addresses import format_addr
from ipvs_model.events import StateChanged
from ipvs_model.fields import Field
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_DIR_INPUT,
    IP_VS_DIR_INPUT_ONLY,
    IP_VS_DIR_OUTPUT,
)
from ipvs_model.netns import Netns
from ipvs_model.timers import Deadline

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.packet import IpHdr, Packet

FIELDS: Final = (
    Field("next", "Netns.protocols", "pointer", "derived", "a dict by protocol number instead of 32 chains"),
    Field("name", "name", "string", "slot"),
    Field("protocol", "protocol", "u16", "slot"),
    Field("num_states", "num_states", "u16", "derived", "length of the state table"),
    Field("dont_defrag", "dont_defrag", "int", "slot"),
    Field("init", "", "function", "not modelled", "unset in every protocol"),
    Field("exit", "", "function", "not modelled", "unset in every protocol"),
    Field("init_netns", "net_init()", "function", "slot", "makes the namespace's ProtoData"),
    Field("exit_netns", "", "function", "not modelled", "frees the timeout table"),
    Field("conn_schedule", "start_gate()", "function", "slot", "the protocol's own test; the common procedure is datapath.scheduling.conn_schedule"),
    Field("conn_in_get", "conn_in_get()", "function", "slot"),
    Field("conn_out_get", "conn_out_get()", "function", "slot"),
    Field("snat_handler", "has_nat_handlers", "function", "derived", "transmit.nat.snat_handler"),
    Field("dnat_handler", "has_nat_handlers", "function", "derived", "transmit.nat.dnat_handler"),
    Field("csum_check", "csum_check()", "function", "slot", "a member before 5.1, a private function since"),
    Field("state_name", "state_name()", "function", "slot"),
    Field("state_transition", "state_transition()", "function", "slot"),
    Field("register_app", "ProtoData.apps", "function", "derived", "apps.base keeps one map from port to incarnation"),
    Field("unregister_app", "ProtoData.apps", "function", "derived"),
    Field("app_conn_bind", "Netns.bind_app", "function", "derived", "the slot that the application room fills"),
    Field("debug_packet", "debug_packet()", "function", "slot"),
    Field("timeout_change", "timeout_change()", "function", "slot", "only TCP has one"),
)

LOOK: Final = (None,) * 24  #: a row of ``State.quick`` that has nothing for the fast path, whatever the flags
# the other rows, behind it, and values of ``Conn.quick``
QUICK_INPUT: Final = 1
QUICK_INPUT_ONLY: Final = 2
DIRECTION_NAMES: Final = ("INPUT", "OUTPUT", "INPUT_ONLY")


@frozen
class StateRow:
    """One state as its protocol's table gives it; ``timeout`` in seconds, ``active``: counted in activeconns."""

    index: int
    kernel_name: str
    name: str
    timeout: int
    active: bool


class State(Deadline):
    """A state of one protocol in one namespace; identity tells states apart.

    ``rows[direction][event]`` is the next state. The same for the fast path, None where a packet needs the layered way: ``quick`` for packets of clients,
    a row of nothing else, then QUICK_INPUT and QUICK_INPUT_ONLY; ``replies`` for packets of servers.
    """

    __slots__ = ("inactive", "index", "name", "quick", "replies", "rows")

    def __init__(self, row: StateRow, hz: int) -> None:
        super().__init__(row.timeout * hz)
        self.index = row.index
        self.name = row.name
        self.inactive = 0 if row.active else IP_VS_CONN_F_INACTIVE  #: what an entry's flags should say of it
        self.rows: tuple[tuple[State, ...], ...] = ()
        self.quick: tuple[tuple[State | None, ...], ...] = (LOOK, LOOK, LOOK)
        self.replies: tuple[State | None, ...] = LOOK

    @property
    def active(self) -> bool:
        """Counted in activeconns."""
        return not self.inactive

    def __repr__(self) -> str:
        return f"<State {self.name}>"

    def __getstate__(self) -> tuple[Any, ...]:
        return super().__getstate__(), self.index, self.name, self.inactive, self.rows, self.quick, self.replies

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        timeout, self.index, self.name, self.inactive, self.rows, self.quick, self.replies = state
        super().__setstate__(timeout)


class TemplateState(State):
    """A state of persistence templates: one object for all namespaces, also for their copies. No timer is cached on it, for no timeout equals its own."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return f"TEMPLATE_{self.name}"


#: states of a persistence template, alike for every protocol
TEMPLATE_STATES: Final = (StateRow(0, "IP_VS_CTPL_S_NONE", "NONE", 1, False), StateRow(1, "IP_VS_CTPL_S_ASSURED", "ASSURED", 1, False))
TEMPLATE_NONE: Final = TemplateState(TEMPLATE_STATES[0], -1)
TEMPLATE_ASSURED: Final = TemplateState(TEMPLATE_STATES[1], -1)


class ProtoData:
    """``struct ip_vs_proto_data``: a protocol in a namespace, with its own timeouts, states and applications."""

    def __init__(self, pp: Protocol, ns: Netns) -> None:
        self.pp = pp
        self.ns = ns
        self.states: tuple[State, ...] = tuple(State(row, ns.env.hz) for row in pp.states)
        self.opens: tuple[State | None, ...] = LOOK  #: by flags, the state of a connection that an ordinary packet opens; None: look
        self.appcnt = 0  #: applications registered for this protocol
        self.apps: dict[int, Any] = {}  #: port → incarnation
        self.secure = False  #: TCP: the secure_tcp table is in force

    def timeout(self, index: int) -> int:
        """Timeout of a state in jiffies."""
        return self.states[index].timeout

    def set_timeout(self, index: int, jiffies: int) -> None:
        """Change a cell of the timeout table: acts when a connection next enters or re-enters the state."""
        self.states[index].change(jiffies, self.ns.clock)


class Protocol:
    """``struct ip_vs_protocol``: one transport protocol. A subclass gives the tables and overrides what differs."""

    name: str = ""
    protocol: int = 0
    dont_defrag: bool = False
    states: Sequence[StateRow] = ()
    has_nat_handlers: bool = True
    has_apps: bool = True
    min_header: int = 0  #: L4 bytes that an ordinary packet must have before it may start a connection

    @property
    def num_states(self) -> int:
        """Number of states."""
        return len(self.states)

    def net_init(self, ns: Netns) -> ProtoData:
        """The protocol's data for a namespace (source: ip_vs_proto.c, register_ip_vs_proto_netns)."""
        return ProtoData(self, ns)

    def start_gate(self, ns: Netns, pkt: Packet, iph: IpHdr) -> bool | None:
        """Whether an ordinary packet may start a connection; None: its header is too short (the packet is dropped)."""
        raise NotImplementedError

    def is_new_conn(self, pkt: Packet, iph: IpHdr) -> bool:
        """Whether the packet opens a connection (source: ip_vs_core.c, is_new_conn)."""
        return False

    def is_new_conn_expected(self, cp: Conn, mode: int) -> bool:
        """Whether an entry in this state may be replaced by a packet that opens a connection (source: ip_vs_core.c, is_new_conn_expected)."""
        return False

    def conn_in_get(self, ns: Netns, pkt: Packet, iph: IpHdr) -> Conn | None:
        """Find the entry of a packet on its way to the server, with a reference (source: ip_vs_conn.c, ip_vs_conn_in_get_proto)."""
        if iph.sport is None or iph.dport is None:
            return None
        source, destination = iph.saddr << 16 | iph.sport, iph.daddr << 16 | iph.dport
        if iph.hdr_flags & 1:
            source, destination = destination, source
        return ns.conns.in_get(iph.af, iph.protocol, source, destination)

    def conn_out_get(self, ns: Netns, pkt: Packet, iph: IpHdr) -> Conn | None:
        """Find the entry of a packet on its way to the client, with a reference (source: ip_vs_conn.c, ip_vs_conn_out_get_proto)."""
        if iph.sport is None or iph.dport is None:
            return None
        source, destination = iph.saddr << 16 | iph.sport, iph.daddr << 16 | iph.dport
        if iph.hdr_flags & 1:
            source, destination = destination, source
        return ns.conns.out_get(iph.af, iph.protocol, source, destination)

    def state_transition(self, cp: Conn, direction: int, pkt: Packet, pd: ProtoData) -> None:
        """Run the state machine for a packet of an entry."""

    def state_name(self, index: int) -> str:
        """The printed name of a state; ``ERR!`` beyond the table."""
        return self.states[index].name if index < len(self.states) else "ERR!"

    def timeout_change(self, pd: ProtoData, secure: bool) -> None:
        """The defence level switched secure_tcp on or off."""

    def csum_check(self, pkt: Packet) -> bool:
        """Whether the transport checksum is right, or need not be (source: tcp_csum_check, udp_csum_check, sctp_csum_check)."""
        return True

    def debug_transition(self, cp: Conn, pkt: Packet, direction: int, before: State, after: State) -> str:
        """The line that a debug kernel prints when the state number changes (level 8); "" for a protocol without states."""
        return ""

    def debug_packet(self, pkt: Packet, message: str, offset: int = 0) -> str:
        """The line that a debug kernel prints (source: ip_vs_proto.c, ip_vs_tcpudp_debug_packet)."""
        return f"IPVS: {message}: {self.name} {packet_text(pkt.af, pkt.raw, offset)}"


def packet_text(af: int, raw: bytes, offset: int) -> str:
    """Addresses and ports of a packet as the debug lines print them."""
    header = raw[offset:]
    if len(header) < (20 if af == AF_INET else 40):
        return "TRUNCATED"
    if af == AF_INET:
        source, destination = (format_addr(af, int.from_bytes(header[i : i + 4])) for i in (12, 16))
        if int.from_bytes(header[6:8]) & 0x1FFF:
            return f"{source}->{destination} frag"
        ports = header[(header[0] & 15) * 4 :][:4]
    else:
        source, destination = (format_addr(af, int.from_bytes(header[i : i + 16])) for i in (8, 24))
        if header[6] == 44:
            return f"{source}->{destination} frag"
        ports = header[40:44]
    if len(ports) < 4:
        return f"TRUNCATED {source}->{destination}"
    return f"{source}:{int.from_bytes(ports[:2])}->{destination}:{int.from_bytes(ports[2:])}"


def choose_direction(cp: Conn, direction: int) -> int:
    """The table row to use; a packet of the server clears NOOUTPUT for good (source: set_tcp_state, set_sctp_state)."""
    if cp.flags & IP_VS_CONN_F_NOOUTPUT:
        if direction == IP_VS_DIR_OUTPUT:
            cp.flags &= ~IP_VS_CONN_F_NOOUTPUT
            cp.update_quick()
        else:
            return IP_VS_DIR_INPUT_ONLY
    return direction


def enter_state(cp: Conn, state: State, established: int, direction: int = IP_VS_DIR_INPUT, event: str = "") -> None:
    """Give an entry its new state and timeout; a change moves the active counter and may assure the template.

    source: ip_vs_proto_tcp.c, set_tcp_state; ip_vs_proto_sctp.c, set_sctp_state
    """
    before = cp.state
    if state is not before:
        cp.state = state
        dest = cp.dest
        if dest is not None and cp.flags & IP_VS_CONN_F_INACTIVE != state.inactive:
            cp.flags ^= IP_VS_CONN_F_INACTIVE
            dest.overhead += -256 if state.inactive else 256
            dest.lightened()
        if state.index == established:
            assure_template(cp)
    cp.timeout = state.timeout
    emit = cp.ipvs.emit
    if emit is not None:
        emit(StateChanged("state_transition", cp.key(), DIRECTION_NAMES[direction], event, before.name, state.name, state.timeout))


def assure_template(cp: Conn) -> None:
    """Mark the controlling template ASSURED (source: ip_vs.h, ip_vs_control_assure_ct)."""
    control = cp.control
    if control is not None and control.flags & IP_VS_CONN_F_TEMPLATE:
        control.state = TEMPLATE_ASSURED
