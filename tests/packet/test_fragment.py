"""Fragments: cut on output, put together on input."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packet.strategies import tcp_packets, udp_packets

from ipvs_model.flags import AF_INET, PKT_PARTIAL
from ipvs_model.packet import Packet, Reassembler, complete, dec_ttl, dnat, encapsulate, fragment, snat, transport_csum_ok

long_packets = st.one_of(tcp_packets(st.binary(min_size=300, max_size=900)), udp_packets(st.binary(min_size=300, max_size=900)))


def lengths(packets):
    return [each.length for each in packets]


def join(fragments, reassembler=None):
    reassembler = reassembler or Reassembler()
    out = [reassembler.add(each) for each in fragments]
    assert all(each is None for each in out[:-1]) and len(reassembler) == 0
    return out[-1]


def udp(size, **kwargs):
    """A UDP packet whose IP length is `size`."""
    return Packet.udp("203.0.113.5:5000", "192.0.2.1:53", bytes(i & 0xFF for i in range(size - 28)), **kwargs)


@pytest.mark.parametrize(
    ("packet", "mtu", "expected"),
    [
        (udp(1420), 1400, [1396, 44]),
        (Packet.icmp("10.1.0.11", "203.0.113.5", 3, 1, payload=bytes(1000)), 600, [596, 452]),
        (encapsulate(udp(1500, df=False), AF_INET, 1, 2, ident=9), 1500, [1500, 40]),
        (encapsulate(udp(1500, df=False), 10, 1, 2), 1500, [1496, 100]),
        (udp(1400), 1400, [1400]),
        (udp(1500), 68, [68] * 30 + [60]),
    ],
)
def test_examples(packet, mtu, expected):
    out = fragment(packet, mtu)
    assert lengths(out) == expected
    if len(out) > 1:
        assert not any(each.df for each in out)
        assert all(each.id == packet.id for each in out)
    else:
        assert out == [packet]


@given(long_packets, st.integers(1280, 1300), st.data())
def test_joining_the_fragments_in_any_order_gives_the_packet(packet, mtu6, data):
    v4 = packet.af == AF_INET
    mtu = data.draw(st.integers(packet.l4 + 8, packet.length - 1)) if v4 else 0
    # no IPv6 link is that narrow, but the cut works all the same; the first fragment holds the whole header
    mtu = mtu or data.draw(st.integers(72, packet.length - 1))
    parts = fragment(packet, mtu, ident=99)
    assert all(each.length <= mtu for each in parts) and len(parts) > 1
    whole = join(data.draw(st.permutations(parts)))
    expected = Packet.parse(clear_df(packet.raw) if v4 else packet.raw, mark=packet.mark, device=packet.device)
    assert whole == expected
    assert whole.frag_max_size == max(lengths(parts))
    assert sum(whole.pieces) == packet.length - (packet.l4 if v4 else 40)


def clear_df(raw):
    value = int.from_bytes(raw[10:12], "big")
    if not raw[6] & 0x40:
        return raw
    return raw[:6] + bytes((raw[6] & ~0x40,)) + raw[7:10] + ((value + 0x4000) % 65535).to_bytes(2, "big") + raw[12:]


@given(long_packets, st.data())
def test_a_reassembled_packet_leaves_with_its_boundaries(packet, data):
    mtu = data.draw(st.integers(packet.l4 + 8 if packet.af == AF_INET else 72, packet.length - 1))
    parts = fragment(packet, mtu, ident=99)
    whole = join(parts)
    for out in (fragment(whole, 1500, ident=99), fragment(dnat(dec_ttl(whole), whole.dst), 1500, ident=99)):
        assert lengths(out) == lengths(parts)
        assert [each.raw[20:] for each in out][1:] == [each.raw[20:] for each in parts][1:] or packet.af == AF_INET
        assert join(out).payload == packet.payload


@pytest.mark.parametrize("cut", [8, 64, 400])
def test_recorded_boundaries(cut):
    """The trace `fragments` sends 796 bytes in two pieces of which the first holds 8, 64 or 400."""
    first, second = split(udp(796, df=False), cut)
    whole = join([second, first])
    assert (whole.frag_max_size, whole.pieces) == (max(first.length, second.length), (cut, 776 - cut))
    out = fragment(dnat(whole, 0x0A01000F << 16 | 5060, dec_ttl=True), 1500)
    assert lengths(out) == [20 + cut, 796 - cut]
    assert transport_csum_ok(join(out))


@pytest.mark.parametrize(("cut", "expected"), [(400, [420, 416]), (64, [732, 104]), (8, [788, 48])])
def test_in_a_tunnel_the_largest_fragment_is_the_limit(cut, expected):
    whole = join(split(udp(796, df=False), cut))
    out = fragment(encapsulate(dec_ttl(whole), AF_INET, 1, 2, ident=7), 1500)
    assert lengths(out) == expected and all(each.proto == 4 and each.id == 7 for each in out)


def test_a_tunnel_keeps_the_boundaries_if_its_headers_leave_the_first_piece_aligned_and_short():
    for cut, expected in ((64, [108, 732]), (400, [420, 420])):
        whole = join(split(udp(796, df=False), cut))
        assert lengths(fragment(encapsulate(whole, AF_INET, 1, 2, tun_type=2, ident=7), 1500)) == expected


def test_boundaries_that_do_not_fit_the_mtu_are_given_up():
    whole = join(split(udp(796, df=False), 8))
    assert lengths(fragment(whole, 700)) == [700, 116]


def test_a_reassembled_packet_is_cut_although_it_would_fit():
    whole = udp(800, df=False)
    whole.frag_max_size = 600
    assert lengths(fragment(whole, 1500)) == [596, 224]


def test_ipv6_is_cut_again_only_above_its_largest_fragment():
    packet = Packet.tcp("[2001:db8::5]:1", "[2001:db8:2::1]:2", "A", payload=bytes(1400))
    parts = fragment(packet, 1256, ident=5)
    assert lengths(parts) == [1256, 260]
    whole = join(parts)
    assert lengths(fragment(whole, 1500)) == [1256, 260]
    atomic = Packet.ip("2001:db8::5", "2001:db8:2::1", 44, bytes((6, 0, 0, 0, 0, 0, 0, 5)) + packet.raw[40:])
    assert lengths(fragment(join([atomic]), 1500)) == [1460]
    whole = Packet.parse(packet.raw, frag_max_size=1000)
    assert lengths(fragment(whole, 1500)) == [1280, 236]


def test_df_on_all_largest_fragments_is_kept_for_path_mtu_discovery():
    first, second = (Packet.parse(set_df(each.raw)) for each in split(udp(796, df=False), 400))
    whole = join([first, second])
    assert whole.df
    assert not any(each.df for each in fragment(whole, 1500))
    assert all(each.df for each in fragment(whole, 400))
    plain, marked = split(udp(796, df=False), 400)
    assert not join([plain, Packet.parse(set_df(marked.raw))]).df
    assert join([Packet.parse(set_df(plain.raw)), marked]).df


def set_df(raw):
    value = int.from_bytes(raw[10:12], "big")
    return raw[:6] + bytes((raw[6] | 0x40,)) + raw[7:10] + ((value - 0x4000) % 65535).to_bytes(2, "big") + raw[12:]


def split(packet, *cuts):
    """IPv4 fragments with the given boundaries (offsets in the data, multiples of 8)."""
    return [piece(packet, begin, end) for begin, end in itertools.pairwise((0, *cuts, packet.length - 20))]


def piece(packet, begin, end, *, more=None, tos=None):
    raw = bytearray(packet.raw)
    word = begin // 8 | (0x2000 if (end < packet.length - 20 if more is None else more) else 0)
    part = Packet.ip("0.0.0.0", "0.0.0.0", packet.proto, bytes(raw[20 + begin : 20 + end]), id=packet.id, df=False, tos=packet.tos if tos is None else tos)
    head = bytearray(part.raw[:20])
    head[12:20] = raw[12:20]
    head[6:8] = word.to_bytes(2, "big")
    return Packet.parse(bytes(head) + part.raw[20:], mark=packet.mark, device=packet.device)


WHOLE = udp(828, df=False, mark=4, device="cli")


def test_the_first_fragment_gives_header_mark_and_device():
    first, second = split(WHOLE, 400)
    second.mark, second.device = 9, "rs"
    whole = join([second, first])
    assert (whole.mark, whole.device) == (4, "cli") and whole.payload == WHOLE.payload


def test_whole_packets_pass():
    reassembler = Reassembler()
    assert reassembler.add(WHOLE) is WHOLE
    assert len(reassembler) == 0


def test_duplicates_are_ignored_and_overlaps_end_the_datagram():
    a, b, c = split(WHOLE, 80, 400)
    assert join([a, b, a, piece(WHOLE, 88, 160), c]).payload == WHOLE.payload
    for parts in ([a, b, piece(WHOLE, 392, 480)], [b, a, piece(WHOLE, 40, 120)]):
        reassembler = Reassembler()
        assert [reassembler.add(each) for each in parts] == [None] * 3
        assert len(reassembler) == 0
    reassembler = Reassembler()
    assert reassembler.add(c) is None and reassembler.add(a) is None
    assert reassembler.add(piece(WHOLE, 72, 408)) is None and len(reassembler) == 0


def test_fragments_that_disagree_about_the_end_are_dropped():
    for parts in (
        [piece(WHOLE, 400, 800), piece(WHOLE, 0, 400), piece(udp(900, df=False), 808, 816), piece(WHOLE, 800, 808)],
        [piece(WHOLE, 400, 800), piece(WHOLE, 800, 808), piece(udp(900, df=False), 808, 816)],
        [piece(WHOLE, 400, 808), piece(WHOLE, 400, 800, more=False)],
        [piece(WHOLE, 400, 800), piece(WHOLE, 80, 160, more=False)],
        [piece(WHOLE, 400, 400, more=True)],
    ):
        reassembler = Reassembler()
        assert [reassembler.add(each) for each in parts] == [None] * len(parts)
        assert len(reassembler) == 0


def test_odd_bytes_of_a_fragment_that_is_not_the_last_are_cut_off():
    assert join([piece(WHOLE, 0, 403), piece(WHOLE, 400, 808)]).payload == WHOLE.payload


@pytest.mark.parametrize(("first", "second", "whole"), [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 2, 1), (2, 3, 3), (3, 1, 3), (0, 1, None), (3, 0, None)])
def test_ecn(first, second, whole):
    reassembler = Reassembler()
    assert reassembler.add(piece(WHOLE, 0, 400, tos=first)) is None
    out = reassembler.add(piece(WHOLE, 400, 808, tos=second))
    assert (out.tos if out is not None else None) == whole


def moved(packet, word):
    """An IPv4 fragment with another fragment word."""
    raw = bytearray(packet.raw)
    raw[6:8] = word.to_bytes(2, "big")
    return Packet.parse(bytes(raw))


def test_a_datagram_longer_than_any_packet_is_dropped_when_it_is_complete():
    parts = split(udp(828, df=False), *range(80, 800, 80))
    far = moved(parts[-1], 0x1FFF)
    reassembler = Reassembler()
    assert [reassembler.add(each) for each in (parts[0], far)] == [None, None]
    assert len(reassembler) == 1  # as in the kernel, which then waits for the rest
    rest = [moved(piece(udp(60028, df=False), 0, 4000), 0x2000 | at >> 3) for at in range(0, 65528, 4000)]
    rest[-1] = moved(piece(udp(60028, df=False), 0, 65528 - 64000), 0x2000 | 64000 >> 3)
    reassembler = Reassembler()
    assert [reassembler.add(each) for each in (*rest, far)] == [None] * 18
    assert len(reassembler) == 0


def test_different_datagrams_are_kept_apart():
    other = udp(828, df=False, id=2)
    reassembler = Reassembler()
    a, b = split(WHOLE, 400)
    c, d = split(other, 400)
    assert [reassembler.add(each) for each in (a, d)] == [None, None]
    assert len(reassembler) == 2
    assert reassembler.add(b).id == 1 and reassembler.add(c).id == 2


def test_ipv6_extension_headers_before_the_fragment_header_stay_in_front():
    udp8 = bytes.fromhex("0001000202580000") + bytes(592)
    hop = bytes((43, 0)) + bytes(6)
    routing = bytes((60, 0)) + bytes(6)
    options = bytes((17, 0)) + bytes(6)
    packet = Packet.ip("2001:db8::5", "2001:db8:2::1", 0, hop + routing + options + udp8)
    parts = fragment(packet, 400, ident=0x01020304)
    assert all(each.raw[40:56] == hop + bytes((44,)) + routing[1:] for each in parts)
    assert parts[0].raw[56:64].hex() == "3c00000101020304"
    assert join(parts).raw == packet.raw


def test_ipv4_options_without_the_copied_bit_become_no_operations():
    options = bytes.fromhex("83040401" + "0704040a" + "01" + "8803aa" + "00000000")
    packet = Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(200), options=options)
    first, *later = fragment(packet, 140)
    assert first.raw[20:36] == options
    assert all(each.raw[20:36].hex() == "83040401" + "01010101" + "01" + "8803aa" + "00000000" for each in later)
    broken = Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(200), options=b"\x07\x01\x00\x00")
    assert fragment(broken, 140)[1].raw[20:24] == b"\x07\x01\x00\x00"


def test_fragments_can_be_cut_further():
    first, last = split(WHOLE, 400)
    pieces = fragment(first, 220) + fragment(last, 220)
    assert join(pieces).payload == WHOLE.payload


def test_a_link_without_room_for_data_is_refused():
    with pytest.raises(ValueError, match="room"):
        fragment(WHOLE, 27)


def test_partial_checksums_are_completed_before_the_cut():
    packet = Packet.parse(WHOLE.raw[:26] + b"\x12\x34" + WHOLE.raw[28:], bits=PKT_PARTIAL)
    assert transport_csum_ok(join(fragment(packet, 400)))
    assert fragment(packet, 1500) == [complete(packet)]


def test_reassembled_replies_translate_too():
    whole = join(split(WHOLE, 400))
    out = snat(whole, 0xC0000201 << 16 | 53)
    assert out.pieces == whole.pieces and transport_csum_ok(out)


# --- malformed IPv6 fragments -------------------------------------------------------------------------------------------
BIG6 = Packet.udp("[2001:db8::5]:1", "[2001:db8:2::1]:2", bytes(range(256)) * 2)


def fragment6(word, size, ident=7):
    """An IPv6 fragment of BIG6 with this fragment word and so many bytes of data."""
    at = word & 0xFFF8
    data = (BIG6.l4_bytes[at:] + bytes(size))[:size]
    return Packet.ip("2001:db8::5", "2001:db8:2::1", 44, bytes((17, 0)) + word.to_bytes(2, "big") + ident.to_bytes(4, "big") + data)


@pytest.mark.parametrize(
    ("word", "size", "code", "pointer", "waiting"),
    [
        (0xFFF9, 64, 0, 42, 1),  # beyond the longest packet: only the fragment is refused
        (0x0001, 63, 0, 4, 0),  # an odd length ends the datagram
        (0x0009, 15, 0, 4, 0),
        (0x0001, 7, 3, 0, 0),  # without its header it does not begin one
    ],
)
def test_malformed_ipv6_fragments(word, size, code, pointer, waiting):
    told = []
    reassembler = Reassembler(lambda packet, *where: told.append(where) or packet)
    bad = fragment6(word, size)
    assert reassembler.add(bad) is bad
    assert (told, len(reassembler)) == ([(code, pointer)], waiting)
    assert Reassembler().add(bad) is None


@pytest.mark.parametrize("proto", [(6, 20), (17, 8), (58, 8), (50, 1)])
def test_a_first_ipv6_fragment_holds_the_whole_header(proto):
    number, size = proto
    for length in {max(size - 1, 0), size, 24}:
        told = []
        reassembler = Reassembler(lambda packet, *where, told=told: told.append(where))
        raw = bytes((number, 0, 0, 1)) + bytes(4) + bytes(length)
        reassembler.add(Packet.ip("2001:db8::5", "2001:db8:2::1", 44, raw))
        assert ((3, 0) in told) == (length < size)


def test_ipv6_fragments_that_disagree_about_the_end_are_ignored_and_the_rest_goes_on():
    for parts in (
        [fragment6(0x0100, 264), fragment6(0x0300, 8), fragment6(0x0208 | 1, 8), fragment6(0x0001, 256)],
        [fragment6(0x0001, 256), fragment6(0x0008, 8), fragment6(0x0101, 0), fragment6(0x0100, 264)],
    ):
        reassembler = Reassembler()
        *waiting, whole = [reassembler.add(each) for each in parts]
        assert waiting == [None] * 3
        assert whole.raw[40:] == BIG6.l4_bytes
