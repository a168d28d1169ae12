"""The decisions on the way of a packet that took the quick road, told afterwards: the same events that the layered path reports, in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ipvs_model.events import ConnLookup, CounterMoved, Decided, Event, HookEntered, RefMoved, StateChanged, TimerArmed, Transmitted
from ipvs_model.flags import IP_VS_DIR_INPUT, IP_VS_DIR_INPUT_ONLY, IP_VS_DIR_OUTPUT, IPPROTO_TCP, Hook, Verdict
from ipvs_model.protocol import DIRECTION_NAMES, QUICK_INPUT_ONLY
from ipvs_model.protocols.tcp import event_of

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.packet import Packet
    from ipvs_model.protocol import State
    from ipvs_model.transmit import Action, Transmitter

LOCAL_IN: Final = Hook.LOCAL_IN

#: what is kept of a packet, until somebody asks: the members of `Told`, in order
Kept: TypeAlias = tuple[Any, ...]


class Told(NamedTuple):
    """The objects that a packet met, and their members that will move on."""

    action: Action
    packet: Packet
    hook: Hook
    mark: int
    device: str | None
    cp: Conn
    quick: int
    before: State
    after: State
    timeout: int
    expires: int
    refcnt: int
    xmit: Transmitter
    counted: int


def _arrived(told: Told) -> Packet:
    """The packet as it was, whatever its owner has changed since."""
    packet = told.packet
    if (packet.mark, packet.device, packet.bits) != (told.mark, told.device, 0):
        packet = packet.clone()
        packet.mark, packet.device, packet.bits = told.mark, told.device, 0
    return packet


def departed(told: Told) -> Packet:
    """What address translation made of a packet that was never in pieces."""
    packet = told.action.apply(_arrived(told))
    assert packet is not None
    packet.bits = 0
    packet.device = packet.rare = None
    return packet


def events(told: Told) -> tuple[Event, ...]:
    """The decisions, in order."""
    packet, cp, action, dest = _arrived(told), told.cp, told.action, told.xmit.dest
    assert dest is not None
    direction = IP_VS_DIR_OUTPUT if told.hook is not LOCAL_IN else IP_VS_DIR_INPUT_ONLY if told.quick == QUICK_INPUT_ONLY else IP_VS_DIR_INPUT
    key, text = cp.key(), repr(packet)
    found = "ip_vs_conn_in_get" if told.hook is LOCAL_IN else "ip_vs_conn_out_get"
    first = "ip_vs_out_hook" if told.hook is LOCAL_IN else "ip_vs_forward_icmp"
    last = "ip_vs_in_hook" if told.hook is LOCAL_IN else "ip_vs_out_hook"
    way, counter = ("out", "outpkts") if direction == IP_VS_DIR_OUTPUT else ("in", "inpkts")
    if cp.protocol == IPPROTO_TCP:
        machine, event = "state_transition", event_of(packet.flags) or "none"
    else:
        machine, direction, event = "udp_state_transition", direction & 1, "datagram"  # no third row
    missed = ConnLookup("ip_vs_conn_out_get", cp.af, cp.protocol, packet.src, packet.dst, None)
    sent = Transmitted(f"ip_vs_{told.xmit.method}_xmit", key, told.xmit.method, action.reason)
    return (
        HookEntered(first, told.hook, text),
        *((missed,) if told.hook is LOCAL_IN else ()),
        Decided(first, Verdict.ACCEPT, "no connection"),
        HookEntered(last, told.hook, text),
        ConnLookup(found, cp.af, cp.protocol, packet.src, packet.dst, key),
        RefMoved("__ip_vs_conn_get", key, 1, told.refcnt + 1, found),
        CounterMoved(f"ip_vs_{way}_stats", str(dest.key()), counter, 1, told.counted),
        StateChanged(machine, key, DIRECTION_NAMES[direction], event, told.before.name, told.after.name, told.timeout),
        *((sent,) if told.hook is LOCAL_IN else ()),
        TimerArmed("ip_vs_conn_put", key, told.expires - told.timeout, told.expires),
        RefMoved("__ip_vs_conn_put", key, -1, told.refcnt, "caller"),
        Decided(last, action.verdict, action.reason),
    )
