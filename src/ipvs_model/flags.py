"""Names and numbers of the kernel's IPVS interface, as data.

source: include/uapi/linux/ip_vs.h, include/net/ip_vs.h, include/uapi/linux/netfilter.h
"""

from enum import IntEnum
from typing import Final

KERNEL_VERSION: Final = "6.12.115"  #: the kernel whose behaviour is modelled

AF_UNSPEC: Final = 0
AF_INET: Final = 2
AF_INET6: Final = 10

IPPROTO_IP: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_IPIP: Final = 4
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_IPV6: Final = 41
IPPROTO_GRE: Final = 47
IPPROTO_ESP: Final = 50
IPPROTO_AH: Final = 51
IPPROTO_ICMPV6: Final = 58
IPPROTO_SCTP: Final = 132

#: names of protocols as the listings print them (source: ip_vs_core.c, ip_vs_proto_name)
PROTO_NAMES: Final = {0: "IP", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}


def proto_name(protocol: int) -> str:
    """The name of an IP protocol in listings; an unknown one prints as ``IP_n`` (source: ip_vs_core.c, ip_vs_proto_name).

    >>> proto_name(6), proto_name(50)
    ('TCP', 'IP_50')
    """
    return PROTO_NAMES.get(protocol) or f"IP_{protocol}"


class Verdict(IntEnum):
    """What a netfilter hook function says about a packet."""

    DROP = 0  #: netfilter frees the packet
    ACCEPT = 1  #: the packet goes on, perhaps rewritten
    STOLEN = 2  #: IPVS has consumed the packet: sent, queued for reassembly, or freed after an error


class Hook(IntEnum):
    """Netfilter hooks in which IPVS has functions."""

    LOCAL_IN = 1  #: packets addressed to this host
    FORWARD = 2  #: packets that pass through
    LOCAL_OUT = 3  #: packets that this host makes


# --- connection flags -------------------------------------------------------------------------------------------------
IP_VS_CONN_F_FWD_MASK: Final = 0x0007  #: forwarding method field
IP_VS_CONN_F_MASQ: Final = 0x0000
IP_VS_CONN_F_LOCALNODE: Final = 0x0001
IP_VS_CONN_F_TUNNEL: Final = 0x0002
IP_VS_CONN_F_DROUTE: Final = 0x0003
IP_VS_CONN_F_BYPASS: Final = 0x0004
IP_VS_CONN_F_SYNC: Final = 0x0020  #: made from a sync message
IP_VS_CONN_F_HASHED: Final = 0x0040  #: in the table
IP_VS_CONN_F_NOOUTPUT: Final = 0x0080  #: no packet of the server seen
IP_VS_CONN_F_INACTIVE: Final = 0x0100  #: not counted in dest.activeconns
IP_VS_CONN_F_OUT_SEQ: Final = 0x0200
IP_VS_CONN_F_IN_SEQ: Final = 0x0400
IP_VS_CONN_F_SEQ_MASK: Final = 0x0600
IP_VS_CONN_F_NO_CPORT: Final = 0x0800  #: client port not known yet
IP_VS_CONN_F_TEMPLATE: Final = 0x1000  #: persistence template
IP_VS_CONN_F_ONE_PACKET: Final = 0x2000  #: never hashed, released after its packet
IP_VS_CONN_F_NFCT: Final = 0x10000  #: keeps netfilter conntrack

IP_VS_CONN_F_BACKUP_MASK: Final = 0x1F87  #: bits of a sync message that enter a new entry
IP_VS_CONN_F_BACKUP_UPD_MASK: Final = 0x0700  #: bits that a sync message changes in an entry
IP_VS_CONN_F_DEST_MASK: Final = 0x12007  #: bits that user space may set in a destination's conn_flags

#: forwarding method → name in /proc/net/ip_vs (source: ip_vs_ctl.c, ip_vs_fwd_name)
FWD_NAMES: Final = ("Masq", "Local", "Tunnel", "Route", "Masq", "Masq", "Masq", "Masq")

CONN_FLAG_NAMES: Final = (
    (IP_VS_CONN_F_SYNC, "SYNC"),
    (IP_VS_CONN_F_HASHED, "HASHED"),
    (IP_VS_CONN_F_NOOUTPUT, "NOOUTPUT"),
    (IP_VS_CONN_F_INACTIVE, "INACTIVE"),
    (IP_VS_CONN_F_OUT_SEQ, "OUT_SEQ"),
    (IP_VS_CONN_F_IN_SEQ, "IN_SEQ"),
    (IP_VS_CONN_F_NO_CPORT, "NO_CPORT"),
    (IP_VS_CONN_F_TEMPLATE, "TEMPLATE"),
    (IP_VS_CONN_F_ONE_PACKET, "ONE_PACKET"),
    (IP_VS_CONN_F_NFCT, "NFCT"),
)
METHOD_NAMES: Final = ("MASQ", "LOCALNODE", "TUNNEL", "DROUTE", "BYPASS", "5", "6", "7")


def conn_flag_names(flags: int) -> str:
    """Connection flags in words.

    >>> conn_flag_names(0x0183)
    'DROUTE|NOOUTPUT|INACTIVE'
    """
    return "|".join([METHOD_NAMES[flags & IP_VS_CONN_F_FWD_MASK], *(name for bit, name in CONN_FLAG_NAMES if flags & bit)])


# --- service and destination flags ------------------------------------------------------------------------------------
IP_VS_SVC_F_PERSISTENT: Final = 0x0001
IP_VS_SVC_F_HASHED: Final = 0x0002
IP_VS_SVC_F_ONEPACKET: Final = 0x0004
IP_VS_SVC_F_SCHED1: Final = 0x0008
IP_VS_SVC_F_SCHED2: Final = 0x0010
IP_VS_SVC_F_SCHED3: Final = 0x0020
IP_VS_SVC_F_SCHED_SH_FALLBACK: Final = IP_VS_SVC_F_SCHED1
IP_VS_SVC_F_SCHED_SH_PORT: Final = IP_VS_SVC_F_SCHED2
IP_VS_SVC_F_SCHED_MH_FALLBACK: Final = IP_VS_SVC_F_SCHED1
IP_VS_SVC_F_SCHED_MH_PORT: Final = IP_VS_SVC_F_SCHED2

IP_VS_DEST_F_OVERLOAD: Final = 0x0002
IP_VS_DEST_CF_AVAILABLE: Final = 0x0001

IP_VS_CONN_F_TUNNEL_TYPE_IPIP: Final = 0
IP_VS_CONN_F_TUNNEL_TYPE_GUE: Final = 1
IP_VS_CONN_F_TUNNEL_TYPE_GRE: Final = 2
IP_VS_TUNNEL_ENCAP_FLAG_NOCSUM: Final = 0
IP_VS_TUNNEL_ENCAP_FLAG_CSUM: Final = 1
IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM: Final = 2

# --- directions, header flags, daemons --------------------------------------------------------------------------------
IP_VS_DIR_INPUT: Final = 0
IP_VS_DIR_OUTPUT: Final = 1
IP_VS_DIR_INPUT_ONLY: Final = 2

IP_VS_HDR_INVERSE: Final = 1
IP_VS_HDR_ICMP: Final = 2

IP_VS_STATE_NONE: Final = 0
IP_VS_STATE_MASTER: Final = 1
IP_VS_STATE_BACKUP: Final = 2

IP_VS_VERSION_CODE: Final = 0x010201
IP_VS_VERSION: Final = "1.2.1"
FTPPORT: Final = 21
FTPDATA: Final = 20

# --- what a packet carries beside its bytes ---------------------------------------------------------------------------
PKT_PROPERTY: Final = 1  #: ipvs_property: IPVS has handled it
PKT_CT_CONFIRMED: Final = 2  #: its conntrack entry is confirmed
PKT_NODEFRAG: Final = 4  #: sent by a socket with IP_NODEFRAG
PKT_NOT_TO_HOST: Final = 8  #: link type broadcast, multicast or promiscuous
PKT_PARTIAL: Final = 16  #: transport checksum left to be completed on output
PKT_HAS_CT: Final = 32  #: carries a conntrack entry
PKT_ROUTE_LOCAL: Final = 64  #: its route is local (set by the host for the hook)
PKT_NO_ROUTE: Final = 128  #: no route attached
