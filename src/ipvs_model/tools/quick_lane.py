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
from ipvs_model.packet.fields import LAZY_NAT, TCP4
from ipvs_model.packet.parse import IP_DF, TCP_FLAG_BITS
from ipvs_model.tools.link import LINK_TYPES
from ipvs_model.tools.pcap import Frame
from ipvs_model.tools.replay import ANSWER, CLIENT, Replay

ETHERNET: Final = 1
IPV4_HEAD: Final = 0x080045  #: ethertype, and version and length of a header without options
#: out of Ethernet, IPv4 and TCP headers: IPV4_HEAD and TOS, total length, fragment word, TTL, protocol, addresses, ports, flags, checksum
FIELDS: Final = Struct("!12xIHxxHBBxxIIHH9xBxxH2x")
SYN: Final = 2
LOCAL_IN: Final = Hook.LOCAL_IN
FORWARD: Final = Hook.FORWARD


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
    number, unpack = int.from_bytes, FIELDS.unpack_from

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
            head, total, word, ttl, proto, saddr, daddr, sport, dport, flags, checksum = unpack(data)
        except StructError:  # too short
            return False
        if head >> 8 != IPV4_HEAD or proto != IPPROTO_TCP or (word and word != IP_DF) or not 40 <= total <= mtu:
            return False
        raw = data[14 : 14 + total]
        if len(raw) < total or number(raw[:20], "big") % 65535:  # the sum over a right header is 0xFFFF
            return False
        # left to a network card, the checksum would be the pseudo header's sum, with the length or without
        rest = (saddr + daddr + IPPROTO_TCP - checksum) % 65535
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
        packet = Packet()
        packet.af = AF_INET
        packet.proto = IPPROTO_TCP
        packet.src = src
        packet.dst = dst
        packet.flags = flags & TCP_FLAG_BITS
        packet.length = total
        packet.ttl = ttl
        packet.l4 = 20
        packet.df = word != 0
        packet.lane = TCP4
        packet.device = "eth0"
        packet.mark = packet.bits = 0
        packet.rare = None
        packet.store = raw
        if hook is LOCAL_IN:
            packet.lazy = 0
            action = process(packet)
            if outbox or not action.device:
                replay.account(CLIENT, packet, action, action.apply(packet), cp, record)
                return True
            fate = to_server.get(action.reason)
            if fate is None:
                fate = to_server[action.reason] = replay.fate(CLIENT, action, "on", record)
        else:
            packet.lazy = LAZY_NAT  # its bytes are to say where it is from, too
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
