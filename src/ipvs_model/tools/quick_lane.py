"""The quick lane of a replay, for the packets that most captures are full of: whole TCP segments in Ethernet frames and IPv4.

It feeds such a packet to the model as `Replay.feed` does and counts what became of it; nothing is made that nobody wants to see: no captured packet with
its position, no translated copy. Whatever is in any way unusual (another protocol, IP options, offloaded checksums, marks, a packet that is lost) is
left to `Replay.feed`, or to `Replay.account` when that shows only afterwards. So both lanes give the same results.
"""

from collections.abc import Callable, Container
from struct import Struct
from struct import error as StructError
from typing import Final

from ipvs_model.flags import AF_INET, IP_VS_CONN_F_FWD_MASK, IP_VS_CONN_F_MASQ, IPPROTO_TCP, Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.ethernet import ETHERNET_HEADER
from ipvs_model.packet.fields import LAZY_FRAME, LAZY_NAT, TCP4
from ipvs_model.packet.parse import IP_DF, TCP_FLAG_BITS
from ipvs_model.tools.link import LINK_TYPES
from ipvs_model.tools.pcap import Frame
from ipvs_model.tools.replay import ANSWER, CLIENT, Replay

ETHERNET: Final = 1
IPV4_HEAD: Final = 0x080045  #: ethertype, and version and length of a header without options
#: out of Ethernet, IPv4 and TCP headers: IPV4_HEAD and TOS, total length, identification, fragment word, TTL, protocol, checksum, addresses, ports, flags, checksum
FIELDS: Final = Struct("!12xIHHHBBHIIHH9xBxxH2x")
FRAME_NAT: Final = LAZY_FRAME | LAZY_NAT
RIGHT_SUM: Final = 0x0800 - IPPROTO_TCP  #: what is left of the ethertype when the protocol is not added
SYN: Final = 2
LOCAL_IN: Final = Hook.LOCAL_IN
FORWARD: Final = Hook.FORWARD


def _packet() -> Packet:
    """What all packets of this lane have in common."""
    packet = Packet()
    packet.af = AF_INET
    packet.proto = IPPROTO_TCP
    packet.l4 = 20
    packet.lane = TCP4
    packet.device = "eth0"
    packet.mark = 0
    packet.rare = None
    return packet


def quick_lane(replay: Replay, link_types: Container[str], opens: bool = True) -> Callable[[Frame, int], bool]:
    """A function that takes a frame and the number of its record and returns whether it has fed it.

    `link_types`: those met so far; the first frame of each goes the other way, which notes it. `opens`: packets without a connection are taken, too; not
    for a replay that looks at every new connection.
    """
    ns, process, routing = replay.ipvs.ns, replay.ipvs.process, replay.routing
    connection = ns.conns.table(AF_INET, IPPROTO_TCP).get
    outbox = ns.outbox
    virtual = frozenset(addr for af, addr in routing.addresses if af == AF_INET and not replay.marks)
    feeds_answers, mtu = replay.answers != "none", routing.mtu
    ethernet = LINK_TYPES[ETHERNET][0]
    to_server: dict[str, list[int]] = {}  # reason → how many, and the first
    to_client: dict[str, list[int]] = {}
    unpack = FIELDS.unpack_from
    known = _packet()  # of a connection that is there: nobody keeps it, so one object serves for all

    met = -1  # the link type, as soon as it is among those met

    def take(frame: Frame, record: int) -> bool:
        _, time, data, _, link_type = frame
        nonlocal met
        if link_type != met:
            if link_type == ETHERNET and ethernet in link_types:
                met = ETHERNET
            return False
        if not replay.last_time <= time < replay.next_tick:
            return False
        try:
            head, total, ident, word, ttl, proto, header_checksum, saddr, daddr, sport, dport, flags, checksum = unpack(data)
        except StructError:  # too short
            return False
        if head >> 8 != IPV4_HEAD or proto != IPPROTO_TCP or (word and word != IP_DF) or not 40 <= total <= mtu:
            return False
        addresses = saddr + daddr
        # words are summed up modulo 65535, however they are put together; head begins with the ethertype
        if len(data) < ETHERNET_HEADER + total or (head + total + ident + word + (ttl << 8) + header_checksum + addresses) % 65535 != RIGHT_SUM:
            return False
        # left to a network card, the checksum would be the pseudo header's sum, with the length or without
        rest = (addresses + IPPROTO_TCP - checksum) % 65535
        if not rest or rest == 65555 - total:
            return False
        src, dst = saddr << 16 | sport, daddr << 16 | dport
        if daddr in virtual:
            cp = connection(src)
            if cp is None:
                if not opens or ns.no_cport_count:
                    return False
            elif not cp.quick or cp.virt != dst or flags & SYN:  # a SYN may begin another connection
                return False
            hook = LOCAL_IN
        elif feeds_answers and saddr in virtual:
            cp = connection(dst)
            if cp is None or not cp.quick or cp.virt != src or cp.flags & IP_VS_CONN_F_FWD_MASK != IP_VS_CONN_F_MASQ:
                return False
            src = cp.real
            hook = FORWARD
        else:
            return False
        replay.last_time = time
        # what Packet.parse makes of it, without looking again, nor at what nobody reads
        packet = known if cp is not None else _packet()
        packet.src = src
        packet.dst = dst
        packet.flags = flags & TCP_FLAG_BITS
        packet.length = total
        packet.ttl = ttl
        packet.df = word != 0
        packet.bits = 0
        packet.store = data
        if hook is LOCAL_IN:
            packet.lazy = LAZY_FRAME
            action = process(packet)
            if outbox or not action.device:
                replay.account(CLIENT, packet, action, action.apply(packet), cp, record)
                return True
            fate = to_server.get(action.reason)
            if fate is None:
                fate = to_server[action.reason] = replay.fate(CLIENT, action, "on", record)
        else:
            packet.lazy = FRAME_NAT  # its bytes are to say where it is from, too
            action = process(packet, hook)
            if outbox or ttl <= 1 or action.reason != "translated":
                replay.account(ANSWER, packet, action, action.apply(packet), None, record)
                return True
            fate = to_client.get(action.reason)
            if fate is None:
                fate = to_client[action.reason] = replay.fate(ANSWER, action, "on", record)
        fate[0] += 1
        return True

    return take
