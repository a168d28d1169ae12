"""What a kernel built with CONFIG_IP_VS_DEBUG would have printed between the decisions about a packet.

Told are the lines about a packet and about a change of state, at the place where the kernel has them; others of its lines are not.

source: ip_vs_core.c, ip_vs_xmit.c, ip_vs_proto_tcp.c, ip_vs_proto_sctp.c, ip_vs_proto_ah_esp.c
"""

from collections.abc import Sequence
from typing import Final

from attrs import Factory, define

from ipvs_model.conn import Conn
from ipvs_model.events import ConnCreated, ConnKey, ConnLookup, CounterMoved, Decided, Event, HookEntered, Logged, RefMoved, StateChanged, Transmitted, Watcher
from ipvs_model.flags import (
    AF_INET,
    IP_VS_CONN_F_BYPASS,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_DIR_INPUT,
    IP_VS_DIR_OUTPUT,
    IP_VS_HDR_ICMP,
    IP_VS_HDR_INVERSE,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
)
from ipvs_model.netns import Netns
from ipvs_model.packet import IpHdr, Packet, fill_iph, fill_iph_at
from ipvs_model.packet.rewrite import dnat, nat_icmp, snat
from ipvs_model.protocol import Protocol
from ipvs_model.protocols.ah_esp import AhEsp

INCOMING: Final = "Incoming packet"
OUTGOING: Final = "Outgoing packet"
AFTER_SNAT: Final = "After SNAT"
AFTER_DNAT: Final = "After DNAT"
ALTERED_IN: Final = "Forwarding altered incoming ICMP"
ALTERED_OUT: Final = "Forwarding altered outgoing ICMP"
#: message → kernel function that prints it, debug level
LINES: Final = {
    INCOMING: ("ip_vs_in_hook", 11),
    OUTGOING: ("handle_response", 11),
    AFTER_SNAT: ("handle_response", 10),
    AFTER_DNAT: ("ip_vs_nat_xmit", 10),
    "Checking incoming ICMP for": ("ip_vs_in_icmp", 11),
    "Checking incoming ICMPv6 for": ("ip_vs_in_icmp_v6", 11),
    "Checking outgoing ICMP for": ("ip_vs_out_icmp", 11),
    ALTERED_IN: ("ip_vs_nat_icmp", 11),
    ALTERED_OUT: ("ip_vs_nat_icmp", 11),
    ALTERED_IN + "v6": ("ip_vs_nat_icmp_v6", 11),
    ALTERED_OUT + "v6": ("ip_vs_nat_icmp_v6", 11),
    "Not scheduling FTPDATA": ("ip_vs_schedule", 12),
    "Not scheduling reply for existing connection": ("ip_vs_schedule", 12),
    "ip_vs_in: packet continues traversal as normal": ("ip_vs_try_to_schedule", 12),
    "ip_vs_out: packet continues traversal as normal": ("ip_vs_out_hook", 12),
    "unhandled fragment": ("ip_vs_try_to_schedule", 7),
    "ip_vs_nat_xmit(): stopping DNAT to local address": ("ip_vs_nat_xmit", 10),
    "ip_vs_nat_xmit(): stopping DNAT to loopback address": ("ip_vs_nat_xmit", 1),
    "ip_vs_nat_xmit_v6(): stopping DNAT to local address": ("ip_vs_nat_xmit_v6", 10),
    "ip_vs_nat_xmit_v6(): stopping DNAT to loopback address": ("ip_vs_nat_xmit_v6", 1),
    "Failed checksum for": ("csum_check", 0),
}
#: reason with which ip_vs_in_hook accepts what it has no connection for → what is printed before
NOT_SCHEDULED: Final = {
    "no connection": "",
    "no service": "",
    "not a starter": "",
    "ftp data": "Not scheduling FTPDATA",
    "local reply": "Not scheduling reply for existing connection",
}
REFUSED: Final = {"synced local": "local", "loopback server": "loopback"}  #: why NAT refuses a local server → in its line
STATE_LEVEL: Final = 8
ISAKMP_LEVEL: Final = 12


@define
class Frame:
    """A hook function that has a packet. `pp` and `view`: of the packet, or of the one that an ICMP error quotes."""

    function: str
    packet: Packet
    view: IpHdr
    pp: Protocol | None
    icmp: bool
    conn: Conn | None = None
    bypass: bool = False
    said: set[str] = Factory(set)


class DebugKernel:
    """A watcher that hands every event on, with the lines that come before or after it.

    `in_hand`: the packets that are at a hook, the innermost last.
    """

    def __init__(self, ns: Netns, in_hand: Sequence[Packet], heard: Watcher) -> None:
        self.ns = ns
        self.in_hand = in_hand
        self.heard = heard
        self.frames: list[Frame] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, HookEntered):
            self.frames.append(self._frame(event.function))
        frame = self.frames[-1] if self.frames else None
        if frame is not None:
            self._before(frame, event)
        self.heard(event)
        if frame is not None:
            self._after(frame, event)
        if isinstance(event, Decided):
            self.frames.pop()

    def _frame(self, function: str) -> Frame:
        packet = self.in_hand[-1]
        view = fill_iph(packet)
        icmp = view.protocol == (IPPROTO_ICMP if packet.af == AF_INET else IPPROTO_ICMPV6)
        return Frame(function, packet, view, self._protocol(view), icmp)

    def _protocol(self, view: IpHdr) -> Protocol | None:
        pd = self.ns.protocols.get(view.protocol)
        return pd.pp if pd is not None else None

    def _conn(self, key: ConnKey | None) -> Conn | None:
        return next((cp for cp in self.ns.conns if cp.key() == key), None)

    # --- where the lines stand ------------------------------------------------------------------------------------------
    def _before(self, frame: Frame, event: Event) -> None:
        outgoing = frame.function == "ip_vs_out_hook"
        if isinstance(event, ConnLookup) and frame.icmp and frame.pp is None:
            self._quoted(frame, event)
        elif isinstance(event, ConnCreated):
            frame.bypass = bool(event.flags & IP_VS_CONN_F_BYPASS)
        elif isinstance(event, StateChanged):
            self._handled(frame, outgoing)
            self._transition(frame, event)
        elif isinstance(event, CounterMoved) and event.function in ("ip_vs_in_stats", "ip_vs_out_stats"):
            self._handled(frame, outgoing)
        elif isinstance(event, Transmitted):
            self._transmitted(frame, event)
        elif isinstance(event, Decided):
            self._decided(frame, event, outgoing)

    def _after(self, frame: Frame, event: Event) -> None:
        if isinstance(event, ConnLookup):
            frame.conn = self._conn(event.found)
            if event.found is None and isinstance(frame.pp, AhEsp):
                self._line(frame.function, ISAKMP_LEVEL, frame.pp.unknown_text(frame.view, outgoing=frame.function == "ip_vs_out_hook"))
        elif isinstance(event, RefMoved) and event.holder == "ip_vs_conn_out_get" and not frame.icmp:
            self._once(frame, OUTGOING, frame.packet)

    def _handled(self, frame: Frame, outgoing: bool) -> None:
        """The packet has a connection and is going to be counted."""
        if frame.icmp:
            if outgoing:
                self._altered(frame, ALTERED_OUT, IP_VS_DIR_OUTPUT)
        elif not outgoing and not frame.bypass:
            self._once(frame, INCOMING, frame.packet)
        elif outgoing:
            self._once(frame, OUTGOING, frame.packet)
            if frame.conn is not None and not frame.conn.flags & IP_VS_CONN_F_FWD_MASK:
                self._once(frame, AFTER_SNAT, snat(frame.packet, frame.conn.virt))

    def _transmitted(self, frame: Frame, event: Transmitted) -> None:
        if event.method != "nat":
            return
        if event.what in REFUSED:
            version = "" if frame.packet.af == AF_INET else "_v6"
            self._once(frame, f"ip_vs_nat_xmit{version}(): stopping DNAT to {REFUSED[event.what]} address", frame.packet)
        elif event.what in ("forwarded", "local"):
            self._once(frame, AFTER_DNAT, dnat(frame.packet, event.conn.real))
        elif event.what == "checksum":
            self._once(frame, "Failed checksum for", frame.packet)

    def _decided(self, frame: Frame, event: Decided, outgoing: bool) -> None:
        if event.reason == "icmp forwarded" or (event.reason == "local" and frame.icmp):
            self._altered(frame, ALTERED_IN, IP_VS_DIR_INPUT)
        elif event.reason == "checksum" and not frame.icmp:
            self._once(frame, "Failed checksum for", frame.packet)
        elif outgoing and event.reason == "no connection":
            if not (self.ns.sysctl.nat_icmp_send and frame.view.sport is None):
                self._once(frame, "ip_vs_out: packet continues traversal as normal", frame.packet)
        elif event.reason in NOT_SCHEDULED and (frame.function == "ip_vs_in_hook" or frame.icmp):
            if NOT_SCHEDULED[event.reason]:
                self._once(frame, NOT_SCHEDULED[event.reason], frame.packet)
            self._once(frame, "ip_vs_in: packet continues traversal as normal", frame.packet)
            if frame.view.fragoffs:
                self._once(frame, "unhandled fragment", frame.packet)

    # --- the lines ------------------------------------------------------------------------------------------------------
    def _quoted(self, frame: Frame, event: ConnLookup) -> None:
        """From now on it is about the packet that the error quotes, unless that is a tunnel packet and the one inside is looked for."""
        quoted = fill_iph_at(frame.packet.raw, frame.packet.af, frame.view.len + 8, IP_VS_HDR_ICMP | IP_VS_HDR_INVERSE)
        if quoted is None or event.source >> 16 != quoted.daddr:
            return
        frame.view, frame.pp = quoted, self._protocol(quoted)
        version = "" if frame.packet.af == AF_INET else "v6"
        way = "outgoing" if event.function == "ip_vs_conn_out_get" else "incoming"
        self._once(frame, f"Checking {way} ICMP{version} for", frame.packet)

    def _altered(self, frame: Frame, message: str, direction: int) -> None:
        """An ICMP error as NAT has rewritten it."""
        cp = frame.conn
        if cp is not None and not cp.flags & IP_VS_CONN_F_FWD_MASK:
            version = "" if frame.packet.af == AF_INET else "v6"
            self._once(frame, message + version, nat_icmp(frame.packet, frame.view, direction, cp.real if direction == IP_VS_DIR_INPUT else cp.virt))

    def _transition(self, frame: Frame, event: StateChanged) -> None:
        cp = self._conn(event.conn)
        states = {state.name: state for state in self.ns.protocols[event.conn.protocol].states}
        if cp is None or frame.pp is None or (event.before == event.after and event.event != "none"):
            return
        direction = IP_VS_DIR_OUTPUT if event.direction == "OUTPUT" else IP_VS_DIR_INPUT
        text = frame.pp.debug_transition(cp, frame.packet, direction, states[event.before], states[event.after])
        if text:
            self._line(event.function, STATE_LEVEL, text)

    def _once(self, frame: Frame, message: str, packet: Packet | None) -> None:
        """A line about a packet, or about the one that it quotes; messages that the kernel has not are left out."""
        if message in LINES and message not in frame.said and packet is not None and frame.pp is not None:
            frame.said.add(message)
            function, level = LINES[message]
            self._line(function, level, frame.pp.debug_packet(packet, message, frame.view.off))

    def _line(self, function: str, level: int, text: str) -> None:
        self.heard(Logged(function, f"debug {level}", text))
