"""The iptables match `ipvs`: which packets on their way belong to a connection of IPVS, and to which kind of one.

1. It looks for the connection of a packet that travels to the real server, after translation; a translated reply does not match a NAT connection.
2. A packet that IPVS has not handled matches nothing, unless nothing but that is asked.

source: net/netfilter/xt_ipvs.c, ipvs_mt
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_CONN_F_FWD_MASK, IP_VS_HDR_INVERSE, PKT_PROPERTY
from ipvs_model.packet import fill_iph

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns
    from ipvs_model.packet import Packet

# what is tested (``bitmask``), and which answers are turned round (``invert``)
XT_IPVS_IPVS_PROPERTY: Final = 1
XT_IPVS_PROTO: Final = 2
XT_IPVS_VADDR: Final = 4
XT_IPVS_VPORT: Final = 8
XT_IPVS_DIR: Final = 16
XT_IPVS_METHOD: Final = 32
XT_IPVS_VPORTCTL: Final = 64

IP_CT_DIR_ORIGINAL: Final = 0
IP_CT_DIR_REPLY: Final = 1


@frozen(kw_only=True)
class IpvsMatch:
    """``struct xt_ipvs_mtinfo``: one rule's match.

    ``bitmask`` says which members are tested, ``invert`` which of these tests must fail. Addresses and masks are ints (host order), ``fwd_method`` a
    forwarding method (0 NAT … 4), ``vportctl`` the virtual port of the controlling connection.

    >>> from ipvs_model import IPVS, Packet
    >>> ipvs = IPVS()
    >>> ipvs.ipvsadm("-A -t 192.0.2.1:80 -s rr").status, ipvs.ipvsadm("-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m").status
    (0, 0)
    >>> to_server = ipvs.process(syn := Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "S")).apply(syn)
    >>> IpvsMatch(bitmask=XT_IPVS_VPORT, vport=80).matches(ipvs.ns, to_server)
    True
    """

    bitmask: int
    invert: int = 0
    l4proto: int = 0
    vaddr: int = 0
    vmask: int = 0
    vport: int = 0
    fwd_method: int = 0
    vportctl: int = 0

    @staticmethod
    def check(family: int) -> None:
        """Whether a rule table of this family may have the match. Raises IPVSError(EINVAL) for others than IPv4 and IPv6 (source: ipvs_mt_check)."""
        if family not in (AF_INET, AF_INET6):
            raise IPVSError(errno.EINVAL)

    def matches(self, ns: Netns, packet: Packet, ct_direction: int | None = None) -> bool:
        """Whether a packet matches; ``ct_direction``: 0 original, 1 reply direction of its conntrack entry, None: it carries none."""
        handled = bool(packet.bits & PKT_PROPERTY)
        if self.bitmask == XT_IPVS_IPVS_PROPERTY:
            return handled != bool(self.invert & XT_IPVS_IPVS_PROPERTY)
        if not handled:
            return False
        iph = fill_iph(packet, IP_VS_HDR_INVERSE)
        if not self._holds(XT_IPVS_PROTO, iph.protocol == self.l4proto):
            return False
        pd = ns.protocols.get(iph.protocol)
        if pd is None:
            return False
        cp = pd.pp.conn_out_get(ns, packet, iph)
        if cp is None:
            return False
        matched = self._matches_conn(cp, ct_direction)
        cp.plain_put()
        return matched

    def _matches_conn(self, cp: Conn, ct_direction: int | None) -> bool:
        control = cp.control
        if self.bitmask & XT_IPVS_DIR:
            wanted = IP_CT_DIR_REPLY if self.invert & XT_IPVS_DIR else IP_CT_DIR_ORIGINAL
            if ct_direction != wanted:
                return False
        return (
            self._holds(XT_IPVS_VPORT, cp.vport == self.vport)
            and self._holds(XT_IPVS_VPORTCTL, control is not None and control.vport == self.vportctl)
            and self._holds(XT_IPVS_METHOD, cp.flags & IP_VS_CONN_F_FWD_MASK == self.fwd_method)
            and self._holds(XT_IPVS_VADDR, not (cp.vaddr ^ self.vaddr) & self.vmask)
        )

    def _holds(self, bit: int, answer: bool) -> bool:
        """A test that is not asked holds; an inverted one holds if its answer is no."""
        return not self.bitmask & bit or answer != bool(self.invert & bit)
