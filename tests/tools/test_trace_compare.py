"""What is masked when a replay is compared with a trace, and that nothing else is."""

import pytest

from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.packet import Packet
from ipvs_model.packet.encap import encapsulate
from ipvs_model.packet.fragment import fragment
from ipvs_model.packet.icmp_error import icmp_error
from ipvs_model.tools.host_output import Emission, Origin
from ipvs_model.tools.trace_compare import compare_emitted, differing, entries, exact, is_join, listing_form, masked, read_across, services

INNER = Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S", df=False)
INNER6 = Packet.tcp("[2001:db8:f::1]:40000", "[2001:db8:2::1]:80", "S")
DIRECTOR, SERVER = 0x0A010001, 0x0A01000B
DIRECTOR6, SERVER6 = 0x20010DB8000100000000000000000001, 0x20010DB8000100000000000000000011


def tunnel(*, ident=7, sport=40000, checksum=False, inner=INNER, af=AF_INET):
    source, target = (DIRECTOR, SERVER) if af == AF_INET else (DIRECTOR6, SERVER6)
    return encapsulate(inner, af, source, target, tun_type=1, tun_port=6080, tun_flags=1 if checksum else 0, sport=sport, ident=ident).raw


def error(*, ident=7):
    return icmp_error(INNER, 3, 3, saddr=0xC0000201, ident=ident).raw


def error6(*, label=7):
    return icmp_error(INNER6, 1, 4, saddr=DIRECTOR6, flow_label=label).raw


def sync(*, ident=7, sport=40000, payload=b"\0\7\0\10\0\1\0\0", checksum=True):
    return Packet.udp(("10.9.0.1", sport), ("224.0.0.81", 8848), payload, ttl=1, df=False, id=ident, checksum=checksum).raw


def same(kernel, model, origin):
    return compare_emitted([("rs", kernel)], [Emission("rs", model, origin)]) is None


UNPREDICTABLE = {
    "id of an ICMP error": (error(ident=1), error(ident=2), Origin.ICMP),
    "flow label of an ICMPv6 error": (error6(label=1), error6(label=2), Origin.ICMP),
    "id of a sync datagram": (sync(ident=1), sync(ident=2), Origin.SYNC),
    "source port of a sync datagram": (sync(sport=1000), sync(sport=2000), Origin.SYNC),
    "id of a tunnel header": (tunnel(ident=1), tunnel(ident=2), Origin.TUNNEL),
    "source port of a GUE header": (tunnel(sport=1000), tunnel(sport=2000), Origin.TUNNEL),
    "and its checksum": (tunnel(sport=1000, checksum=True), tunnel(sport=2000, checksum=True), Origin.TUNNEL),
    "over IPv6": (tunnel(sport=1000, checksum=True, af=AF_INET6), tunnel(sport=2000, checksum=True, af=AF_INET6), Origin.TUNNEL),
}


@pytest.mark.parametrize(("kernel", "model", "origin"), UNPREDICTABLE.values(), ids=UNPREDICTABLE)
def test_what_nobody_can_foretell_is_masked(kernel, model, origin):
    assert kernel != model
    assert same(kernel, model, origin)


@pytest.mark.parametrize("origin", [Origin.FORWARDED, Origin.IPVS])
@pytest.mark.parametrize(("kernel", "model", "_"), UNPREDICTABLE.values(), ids=UNPREDICTABLE)
def test_in_packets_of_others_nothing_is_masked(kernel, model, _, origin):
    assert not same(kernel, model, origin)


#: bytes of a packet that its origin's mask takes away: everything else must count
FREE = {
    "ICMP error": (error(), Origin.ICMP, {4, 5}),
    "ICMPv6 error": (error6(), Origin.ICMP, {1, 2, 3}),
    "sync datagram": (sync(), Origin.SYNC, {4, 5, 20, 21}),
    "sync datagram without checksum": (sync(checksum=False), Origin.SYNC, {4, 5, 20, 21}),
    "GUE": (tunnel(), Origin.TUNNEL, {4, 5, 20, 21}),
    "GUE with checksum": (tunnel(checksum=True), Origin.TUNNEL, {4, 5, 20, 21}),
    "GUE over IPv6": (tunnel(af=AF_INET6, checksum=True), Origin.TUNNEL, {40, 41}),
    "reset": (Packet.tcp("192.0.2.1:80", "203.0.113.7:1", "R", id=0).raw, Origin.RESET, set()),
    "reset over IPv6": (Packet.tcp("[2001:db8:2::1]:80", "[2001:db8:f::1]:1", "R").raw, Origin.RESET, {1, 2, 3}),
    "GRE with DF": (encapsulate(Packet.tcp("203.0.113.7:1", "192.0.2.1:80"), AF_INET, DIRECTOR, SERVER, tun_type=2).raw, Origin.TUNNEL, set()),
}


@pytest.mark.parametrize(("raw", "origin", "free"), FREE.values(), ids=FREE)
def test_every_other_byte_counts(raw, origin, free):
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 0x10
        if at in free:
            continue  # what stands there is under a checksum, which would be wrong then: see above for the pairs that are right
        assert not same(bytes(changed), raw, origin), f"byte {at} is masked"


def test_a_wrong_checksum_under_a_masked_field_counts():
    wrong = bytearray(error(ident=1))
    wrong[10] ^= 1
    assert not same(bytes(wrong), error(ident=2), Origin.ICMP)
    wrong = bytearray(tunnel(checksum=True, sport=1))
    wrong[27] ^= 1
    assert not same(bytes(wrong), tunnel(checksum=True, sport=2), Origin.TUNNEL)


def test_the_traffic_class_beside_the_flow_label_counts():
    raw = bytearray(error6())
    raw[1] |= 0x20
    assert not same(bytes(raw), error6(), Origin.ICMP)


def test_no_checksum_is_not_any_checksum():
    assert not same(sync(checksum=False), sync(), Origin.SYNC)


def test_a_cut_tunnel_packet_is_masked_in_its_first_piece_only():
    pieces = [[piece.raw for piece in fragment(Packet.parse(tunnel(ident=ident, sport=sport)), 60)] for ident, sport in ((1, 1000), (2, 2000))]
    assert len(pieces[0]) == 2
    assert all(same(kernel, model, Origin.TUNNEL) for kernel, model in zip(*pieces, strict=True))
    for at in (20, 27, len(pieces[0][1]) - 1):
        changed = bytearray(pieces[0][1])
        changed[at] ^= 1
        assert not same(bytes(changed), pieces[1][1], Origin.TUNNEL)


def test_a_cut_tunnel_packet_over_ipv6():
    pieces = [[piece.raw for piece in fragment(Packet.parse(tunnel(sport=sport, inner=INNER6, af=AF_INET6)), 88)] for sport in (1000, 2000)]
    assert len(pieces[0]) > 1
    assert all(same(kernel, model, Origin.TUNNEL) for kernel, model in zip(*pieces, strict=True))


@pytest.mark.parametrize("raw", [b"", b"\x45", b"\x60", bytes(19), error()[:19], tunnel()[:24], tunnel(af=AF_INET6)[:45]])
@pytest.mark.parametrize("origin", list(Origin))
def test_stumps_are_compared_too(raw, origin):
    assert same(raw, raw, origin)
    assert not same(raw + b"x", raw, origin)


# --- lists of packets -------------------------------------------------------------------------------------------------
A, B = INNER.raw, INNER6.raw


def emissions(*pairs):
    return [Emission(device, raw, Origin.IPVS) for device, raw in pairs]


def test_order_counts_on_a_device_but_not_between_devices():
    assert compare_emitted([("cli", A), ("rs", B)], emissions(("rs", B), ("cli", A))) is None
    assert compare_emitted([("cli", A), ("cli", B)], emissions(("cli", B), ("cli", A))) is not None


def test_missing_and_surplus_packets_are_shown():
    assert compare_emitted([("cli", A)], []) == ([f"cli: {A.hex()}"], ["cli: nothing"])
    assert compare_emitted([], emissions(("cli", A))) == (["cli: nothing"], [f"cli: {A.hex()} (sent by IPVS)"])
    kernel, model = compare_emitted([("cli", A)], emissions(("rs", A)))
    assert (kernel, model) == ([f"cli: {A.hex()}", "rs: nothing"], ["cli: nothing", f"rs: {A.hex()} (sent by IPVS)"])


def test_only_joins_of_the_host_are_left_out():
    igmp = bytes.fromhex("46c00028000040000102f9ef0a090001e0000016940400002200f9ac0000000104000000e0000051")
    mld = bytes.fromhex("6000000000240001") + bytes(16) + b"\xff\x02" + bytes(13) + b"\x16" + bytes.fromhex("3a000502000001008f00") + bytes(26)
    assert is_join(igmp)
    assert is_join(mld)
    assert compare_emitted([("cli", igmp), ("cli", A), ("cli", mld)], emissions(("cli", A))) is None
    forwarded = Packet.ip("203.0.113.7", "10.1.0.11", 2, bytes(8)).raw
    assert not is_join(forwarded)
    assert not is_join(INNER6.raw)
    assert not is_join(b"\x46")


# --- text -------------------------------------------------------------------------------------------------------------
LISTING = ["IP Virtual Server version 1.2.1 (size=4096)", "Prot LocalAddress:Port Scheduler Flags", "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn"]
TCP = ["TCP  C0000201:0050 rr ", "  -> 0A01000B:0050 Masq 1 0 0", "  -> 0A01000C:0050 Masq 1 0 0"]
UDP = ["UDP  C0000201:0035 rr ", "  -> 0A01000D:0035 Masq 1 0 0"]


def test_services_come_in_any_order_with_their_destinations():
    assert services([*LISTING, *TCP, *UDP]) == services([*LISTING, *UDP, *TCP])
    assert services([*LISTING, *TCP]) != services([*LISTING, TCP[0], TCP[2], TCP[1]])
    assert services([*LISTING, *TCP, *UDP]) != services([*LISTING, TCP[0], *UDP, *TCP[1:]])
    assert services([*LISTING, *TCP]) != services([*LISTING, *TCP, *TCP])
    assert services([*LISTING, *TCP]) != services([LISTING[0], LISTING[2], LISTING[1], *TCP])


CONN = ["Pro FromIP", "TCP CB007107 9C40", "TCP CB007108 9C40"]


def test_entries_come_in_any_order():
    assert entries(CONN) == entries([CONN[0], CONN[2], CONN[1]])
    assert entries(CONN) != entries([*CONN, CONN[2]])
    assert entries(CONN) != entries(CONN[:2])
    assert entries(CONN) != entries([CONN[1], CONN[0], CONN[2]])
    assert entries([]) != entries(CONN)


def test_ipvsadm_listings_are_exact_where_ipvsadm_sorts():
    assert listing_form(["-Ln"], LISTING[0]) is exact
    assert listing_form(["-Ln", "--nosort"], LISTING[0]) is services
    title = ["IPVS connection entries", "pro expire state"]
    form = listing_form(["-Lnc"], title[0])
    assert form([*title, "a", "b"]) == form([*title, "b", "a"])
    assert form([*title, "a"]) != form([*reversed(title), "a"])
    assert exact(["a", "b"]) != exact(["b", "a"])


def shot(*expires):
    """Three entries, with what they show at a jiffy; None: gone."""
    lines = [f"TCP CB00710{number} 9C40 C0000201 0050 0A01000B 0050 SYN_RECV {left:10}" for number, left in enumerate(expires) if left is not None]
    return ["Pro FromIP FPrt ToIP TPrt DestIP DPrt State Expires PEName PEData", *lines]


ACROSS = {
    "all at once": (shot(9, 8, 7), 0),
    "all a jiffy later": (shot(8, 8, 6), 1),
    "one after the other": (shot(9, 8, 6), 1),
    "backwards": (shot(8, 8, 7), None),
    "never shown": (shot(9, 8, 5), None),
    "one is missing": (shot(9, None, 6), None),
    "one is doubled": ([*shot(9, 8, 6), shot(9, 8, 6)[1]], None),
    "the third is gone by the third jiffy": (shot(8, 7, None), 2),
    "and may be shown before": ([shot(0)[0], shot(0, 0, 6)[3], *shot(8, 7)[1:]], 2),
    "no title": (shot(9, 8, 7)[1:], None),
}


@pytest.mark.parametrize(("kernel", "jiffy"), ACROSS.values(), ids=ACROSS)
def test_a_file_of_entries_that_was_read_while_time_went_on(kernel, jiffy):
    assert read_across("ip_vs_conn", kernel, [shot(9, 8, 7), shot(8, 8, 6), shot(8, 7, None)]) == jiffy


def test_differing_lines():
    assert differing(["a", "b", "b"], ["b", "c"]) == (["a", "b"], ["c"])
    assert differing(["a", "b"], ["b", "a"]) == (["a", "b"], ["b", "a"])


def test_origins_without_a_mask_come_back_unchanged():
    assert masked(A, Origin.FORWARDED) is A
