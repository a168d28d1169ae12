"""ICMP errors that the director makes: they are packets themselves and pass LOCAL_OUT.

source: net/ipv4/icmp.c, icmp_send; net/ipv6/icmp.c, icmp6_send (as called by ip_vs_xmit.c and ip_vs_core.c)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipvs_model.events import ErrorSent
from ipvs_model.netns import Sent
from ipvs_model.packet.icmp_error import icmp_error

if TYPE_CHECKING:
    from ipvs_model.flags import Hook
    from ipvs_model.netns import Netns
    from ipvs_model.packet import Packet


def send_error(ns: Netns, pkt: Packet, hook: Hook, kind: int, code: int, info: int) -> None:
    """Tell a packet's sender, unless a host keeps silent about such a packet; what leaves is put in ``ns.outbox``."""
    source = ns.routing.icmp_source(pkt, hook)
    error = icmp_error(pkt, kind, code, info, saddr=source) if source is not None else None
    emit = ns.emit
    if emit is not None:
        emit(ErrorSent("icmp_send", pkt.af, kind, code, info, source if error is not None else None, pkt.src >> 16))
    if error is None:
        return
    sent = ns.run_local_out(error)
    if sent is not None:
        ns.outbox.append(Sent(sent, "icmp error"))
