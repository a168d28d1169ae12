"""The quick lane of a replay, for the packets that most captures are full of: whole TCP segments in Ethernet frames and IPv4.

It feeds such a packet to the model as `Replay.feed` does and counts what became of it; nothing is made that nobody wants to see: no captured packet with
its position, no translated copy. Whatever is in any way unusual (another protocol, IP options, offloaded checksums, marks, a packet that is lost) is
left to `Replay.feed`, or to `Replay.account` when that shows only afterwards. So both lanes give the same results.
"""

from collections.abc import Callable, Container
from typing import Final

from ipvs_model.flags import AF_INET, IP_VS_CONN_F_FWD_MASK, IP_VS_CONN_F_MASQ, IPPROTO_TCP, Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.fields import LAZY_NAT, TCP4
from ipvs_model.tools.link import LINK_TYPES
from ipvs_model.tools.pcap import Frame
from ipvs_model.tools.replay import ANSWER, CLIENT, Replay

ETHERNET: Final = 1
ETHERTYPE_IPV4: Final = b"\x08\x00"
HEADERS: Final = 14 + 20 + 20  #: bytes of Ethernet, IPv4 and TCP headers without options
SYN: Final = 2
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
    parse, number = Packet.parse, int.from_bytes

    def take(frame: Frame, record: int) -> bool:
        _, time, data, _, link_type = frame
        if link_type != ETHERNET or len(data) < HEADERS or data[12:14] != ETHERTYPE_IPV4 or not replay.last_time <= time < replay.next_tick:
            return False
        raw = data[14 : 14 + (data[16] << 8 | data[17])]
        if len(raw) < 40 or number(raw[:20], "big") % 65535 or ethernet not in link_types:  # the sum over a right header is 0xFFFF
            return False
        packet = parse(raw, device="eth0")
        if packet.lane != TCP4 or packet.l4 != 20 or packet.length > mtu:
            return False
        src, dst = packet.src, packet.dst
        # left to a network card, the checksum would be the pseudo header's sum, with the length or without
        pseudo = (src >> 16) + (dst >> 16) + IPPROTO_TCP - (raw[36] << 8 | raw[37])
        if not pseudo % 65535 or not (pseudo + packet.length - 20) % 65535:
            return False
        if dst >> 16 in virtual:
            cp = connection(src)
            if cp is None:
                if not opens or ns.no_cport_count:
                    return False
            elif not cp.quick or cp.virt != dst or packet.flags & SYN:  # a SYN may begin another connection
                return False
            replay.last_time = time
            replay.client_packets += 1
            action = process(packet)
            if not action.device or outbox:
                replay.account(CLIENT, packet, action, action.apply(packet), cp, record)
                return True
            fate = to_server.get(action.reason)
            if fate is None:
                fate = to_server[action.reason] = replay.fate(CLIENT, action, "on", record)
        elif feeds_answers and src >> 16 in virtual:
            cp = connection(dst)
            if cp is None or not cp.quick or cp.virt != src or cp.flags & IP_VS_CONN_F_FWD_MASK != IP_VS_CONN_F_MASQ:
                return False
            packet.src = cp.real  # as snat does it, on a packet that nobody else has
            packet.lazy |= LAZY_NAT
            replay.last_time = time
            replay.answers_fed += 1
            action = process(packet, FORWARD)
            if action.reason != "translated" or packet.ttl <= 1 or outbox:
                replay.account(ANSWER, packet, action, action.apply(packet), None, record)
                return True
            fate = to_client.get(action.reason)
            if fate is None:
                fate = to_client[action.reason] = replay.fate(ANSWER, action, "on", record)
        else:
            return False
        fate[0] += 1
        replay.emitted += 1
        return True

    return take
