"""The hooks in which IPVS has functions, in priority order, and the way of a packet through one.

source: ip_vs_core.c, ip_vs_ops4, ip_vs_ops6, ip_vs_register_hooks
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from ipvs_model.datapath.icmp import ip_vs_forward_icmp
from ipvs_model.datapath.incoming import ip_vs_in_hook
from ipvs_model.datapath.outgoing import ip_vs_out_hook
from ipvs_model.events import Decided, HookEntered
from ipvs_model.flags import AF_INET, IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, PKT_PROPERTY, Hook, Verdict
from ipvs_model.packet import Packet
from ipvs_model.transmit.action import Accepted, Action, Stolen

if TYPE_CHECKING:
    from ipvs_model.netns import Netns

Handler: TypeAlias = "Callable[[Netns, Hook, Packet], Action]"

HANDLERS: Final[dict[Hook, tuple[Handler, ...]]] = {
    Hook.LOCAL_IN: (ip_vs_out_hook, ip_vs_in_hook),  # priorities 98, 99
    Hook.LOCAL_OUT: (ip_vs_out_hook, ip_vs_in_hook),  # -99, -98
    Hook.FORWARD: (ip_vs_forward_icmp, ip_vs_out_hook),  # 99, 100
}
#: protocols whose IPv4 fragments are put together in FORWARD and LOCAL_OUT
REASSEMBLED: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP)
NO_HOOKS: Final = Accepted("no hooks")
FRAGMENT: Final = Stolen("fragment")


class OnWhole(Action):
    """A decision about the datagram that a last fragment completed."""

    __slots__ = ("inner", "whole")

    def __init__(self, whole: Packet, inner: Action) -> None:
        self.verdict = inner.verdict
        self.reason = inner.reason
        self.device = inner.device
        self.next_hop = inner.next_hop
        self.whole = whole
        self.inner = inner

    def apply(self, packet: Packet) -> Packet | None:
        """The datagram as it leaves or goes on."""
        return self.inner.apply(self.whole)


def run_hook(ns: Netns, hook: Hook, pkt: Packet) -> Action:
    """Run the functions of a hook until one has consumed or handled the packet; without services of its family none is there."""
    if not ns.hooks_afmask & (1 if pkt.af == AF_INET else 2):
        return NO_HOOKS
    if hook is not Hook.LOCAL_IN and pkt.af == AF_INET and pkt.frag and pkt.proto in REASSEMBLED:
        whole = ns.gather(hook, pkt)
        return OnWhole(whole, _run(ns, hook, whole)) if whole is not None else FRAGMENT
    return _run(ns, hook, pkt)


def _run(ns: Netns, hook: Hook, pkt: Packet) -> Action:
    emit = ns.emit
    text = repr(pkt) if emit is not None else ""
    action: Action = NO_HOOKS
    for handler in HANDLERS[hook]:
        if emit is not None:
            emit(HookEntered(handler.__name__, hook, text))
        action = handler(ns, hook, pkt)
        if emit is not None:
            emit(Decided(handler.__name__, action.verdict, action.reason))
        # whatever handles a packet marks it, and marked packets pass the other functions untouched
        if action.verdict is not Verdict.ACCEPT or type(action) is not Accepted or pkt.bits & PKT_PROPERTY:
            break
    return action
