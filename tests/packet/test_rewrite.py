"""Rewriting: NAT there and back, refusals, partial checksums, what stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.packet.strategies import endpoint_ints, packets, portless_packets, sctp_packets, tcp_packets, transport_packets, udp_packets

from ipvs_model.addresses import format_addr
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_DIR_INPUT, IP_VS_DIR_OUTPUT, IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM, PKT_PARTIAL, PKT_PROPERTY
from ipvs_model.packet import (
    Packet,
    Reassembler,
    complete,
    csum_check,
    dec_ttl,
    dnat,
    encapsulate,
    fill_iph,
    fill_iph_at,
    fragment,
    header_error,
    icmp_csum_ok,
    icmp_error,
    local_answer,
    nat_icmp,
    outer_tos,
    replace_payload,
    set_seq_ack,
    snat,
    transport_csum_ok,
    tunnel_overhead,
)
from ipvs_model.packet.checksum import pseudo_sum

R1 = 0x0A01000B << 16 | 8080
SYN = Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "S")


def partial(packet: Packet) -> Packet:
    """The packet as a local stack hands it over: the checksum field holds the pseudo-header sum only."""
    field = packet.l4 + {6: 16, 17: 6}[packet.proto]
    value = pseudo_sum(packet.saddr, packet.daddr, packet.proto, packet.l4_len)
    raw = packet.raw[:field] + value.to_bytes(2, "big") + packet.raw[field + 2 :]
    return Packet.parse(raw, mark=packet.mark, device=packet.device, bits=packet.bits | PKT_PARTIAL)


@given(transport_packets, st.data())
def test_translating_there_and_back_gives_the_packet_again(packet, data):
    there = dnat(packet, data.draw(endpoint_ints(packet.af)), dec_ttl=True)
    assert there.ttl == packet.ttl - 1
    back = dnat(there, packet.dst)
    expected = bytearray(packet.raw)
    expected[8 if packet.af == AF_INET else 7] -= 1
    again = Packet.parse(bytes(expected))
    assert back.l4_bytes == again.l4_bytes or packet.raw[packet.l4 + 6 : packet.l4 + 8] == bytes(2)  # UDP without checksum has got one
    assert (back.src, back.dst, back.ttl) == (again.src, again.dst, again.ttl)
    assert transport_csum_ok(back)


@given(transport_packets, st.data(), st.sampled_from((dnat, snat)))
def test_translated_packets_are_what_their_bytes_say(packet, data, rewrite):
    packet.bits = PKT_PROPERTY
    packet.frag_max_size = data.draw(st.sampled_from((0, 1280)))
    endpoint = data.draw(endpoint_ints(packet.af))
    out = rewrite(packet, endpoint)
    assert (out.dst if rewrite is dnat else out.src) == endpoint
    assert (out.src if rewrite is dnat else out.dst) == (packet.src if rewrite is dnat else packet.dst)
    again = Packet.parse(out.raw, mark=packet.mark, device=packet.device)
    assert again == out
    assert all(getattr(again, name) == getattr(out, name) for name in ("af", "proto", "src", "dst", "flags", "ttl", "l4", "df", "plain", "length"))
    assert (out.bits, out.frag_max_size) == (PKT_PROPERTY, packet.frag_max_size)
    assert out.payload == packet.payload and (out.id, out.tos) == (packet.id, packet.tos)


@given(st.one_of(tcp_packets(), udp_packets()), st.data())
def test_lazy_translation_equals_translation_of_the_bytes(packet, data):
    endpoints = data.draw(st.lists(endpoint_ints(packet.af), min_size=1, max_size=3))
    lazy, eager = packet, Packet.parse(packet.raw, mark=packet.mark, device=packet.device)
    built = packet.clone()
    assert built.raw
    fresh = Packet.parse(packet.raw, mark=packet.mark, device=packet.device)
    for endpoint in endpoints:
        lazy, eager, fresh = dnat(lazy, endpoint), dnat(eager, endpoint), dnat(fresh, endpoint, pseudo=(fresh.saddr, endpoint >> 16))
        assert eager.raw
    assert lazy == eager == fresh


@given(st.one_of(tcp_packets(), udp_packets()), st.integers(0, 0xFFFF))
def test_a_wrong_checksum_stays_wrong_by_the_same_difference(packet, error):
    field = packet.l4 + (16 if packet.proto == 6 else 6)
    right = int.from_bytes(packet.raw[field : field + 2], "big")
    wrong = (right + error) & 0xFFFF
    if packet.proto == 17 and (not right or not wrong):
        return  # no checksum: computed from scratch
    damaged = Packet.parse(packet.raw[:field] + wrong.to_bytes(2, "big") + packet.raw[field + 2 :])
    endpoint = packet.dst ^ 0x1234567
    outs = [int.from_bytes(dnat(p, endpoint).raw[field : field + 2], "big") for p in (packet, damaged)]
    assert (outs[1] - outs[0] - (wrong - right)) % 65535 == 0


@pytest.mark.parametrize(("protocol", "header"), [(6, 20), (17, 8), (132, 12)])
def test_an_incomplete_transport_header_is_refused(protocol, header):
    for src, dst, endpoint in (("1.1.1.1", "2.2.2.2", R1), ("::1", "::2", 0x11 << 16 | 80)):
        short = Packet.ip(src, dst, protocol, bytes(header - 1))
        assert dnat(short, endpoint) is None and snat(short, endpoint) is None
        assert dnat(Packet.ip(src, dst, protocol, bytes(header)), endpoint) is not None


@given(portless_packets(), st.data())
def test_protocols_without_a_handler_get_the_address_only(packet, data):
    if packet.proto in (6, 17, 132) or packet.proto < 0:
        return
    endpoint = data.draw(endpoint_ints(packet.af))
    out = dnat(packet, endpoint)
    assert out.daddr == endpoint >> 16 and out.dport == 0
    assert out.l4_bytes == packet.l4_bytes


def test_a_later_ipv6_fragment_gets_the_address_only():
    later = Packet.ip("2001:db8::5", "2001:db8:2::1", 44, bytes((17, 0, 1, 8)) + bytes(4) + b"abc")
    out = dnat(later, 0x11 << 16 | 80, dec_ttl=True)
    assert (out.daddr, out.ttl, out.raw[40:]) == (0x11, 63, later.raw[40:])


def test_a_later_ipv4_fragment_gets_the_address_only():
    later = Packet.parse(SYN.raw[:6] + b"\x00\x05" + SYN.raw[8:])
    assert dnat(later, R1).l4_bytes == later.l4_bytes


def test_a_header_cut_off_is_refused():
    assert dnat(Packet.parse(SYN.raw[:19]), R1) is None
    assert dec_ttl(Packet.parse(SYN.raw[:19])).raw == SYN.raw[:19]


def test_changed_payload_means_a_checksum_from_scratch():
    wrong = Packet.parse(SYN.raw[:36] + b"\x00\x01" + SYN.raw[38:])
    assert transport_csum_ok(dnat(wrong, R1, changed=True))
    assert not transport_csum_ok(dnat(wrong, R1))


def test_the_connections_addresses_go_into_a_checksum_from_scratch():
    datagram = Packet.udp("203.0.113.5:5000", "192.0.2.1:53", b"query", checksum=False)
    own = dnat(datagram, R1, pseudo=(datagram.saddr, R1 >> 16))
    assert own == dnat(datagram, R1) and transport_csum_ok(own)
    assert not transport_csum_ok(dnat(datagram, R1, pseudo=(1, R1 >> 16)))


@given(st.one_of(tcp_packets(), udp_packets()), st.data())
def test_a_partial_checksum_is_right_once_completed(packet, data):
    local = partial(packet)
    out = dnat(local, data.draw(endpoint_ints(packet.af)), dec_ttl=True)
    assert out.bits & PKT_PARTIAL
    field = packet.l4 + (16 if packet.proto == 6 else 6)
    assert int.from_bytes(out.raw[field : field + 2], "big") % 65535 == pseudo_sum(out.saddr, out.daddr, out.proto, out.l4_len) % 65535
    done = complete(out)
    assert transport_csum_ok(done) and not done.bits & PKT_PARTIAL
    assert complete(done) is done


def test_a_partial_sctp_packet_gets_its_crc():
    packet = Packet.sctp("1.1.1.1:1", "2.2.2.2:2", bits=PKT_PARTIAL)
    damaged = Packet.parse(packet.raw[:28] + bytes(4) + packet.raw[32:], bits=PKT_PARTIAL)
    assert transport_csum_ok(complete(damaged))
    assert transport_csum_ok(dnat(damaged, 0x0A000001 << 16 | 2))


@given(sctp_packets())
def test_sctp_without_a_new_port_is_left_alone(packet):
    damaged = Packet.parse(packet.raw[:-1] + bytes((packet.raw[-1] ^ 1,)))
    assert dnat(damaged, damaged.dst ^ 1 << 20).l4_bytes == damaged.l4_bytes
    assert transport_csum_ok(dnat(damaged, damaged.dst ^ 1))
    assert transport_csum_ok(dnat(damaged, damaged.dst, changed=True))


@given(packets)
def test_dec_ttl_changes_the_ttl_only(packet):
    out = dec_ttl(packet)
    at = 8 if packet.af == AF_INET else 7
    assert out.raw[at] == packet.raw[at] - 1 == out.ttl
    assert out.raw[:at] == packet.raw[:at] and out.raw[at + 4 :] == packet.raw[at + 4 :]
    assert Packet.parse(out.raw, mark=out.mark, device=out.device) == out
    assert (out.src, out.dst) == (packet.src, packet.dst)


@given(st.one_of(tcp_packets(), udp_packets(), sctp_packets()), st.booleans(), st.integers(0, 60), st.data())
def test_icmp_errors_are_translated_outside_and_inside(flow, to_server, cut, data):
    kind = 3 if flow.af == AF_INET else 1
    error = icmp_error(flow, kind, 1, saddr=9)
    if error is None or error.payload != flow.raw:
        return
    error = Packet.icmp(*(format_addr(flow.af, a) for a in (error.saddr, error.daddr)), kind, 1, payload=flow.raw[: flow.l4 + 4 + cut])
    endpoint = data.draw(endpoint_ints(flow.af))
    view = fill_iph_at(error.raw, flow.af, error.l4 + 8)
    out = nat_icmp(error, view, IP_VS_DIR_INPUT if to_server else IP_VS_DIR_OUTPUT, endpoint)
    inner = fill_iph_at(out.raw, flow.af, error.l4 + 8)
    assert icmp_csum_ok(out) and out.length == error.length
    if to_server:
        assert (out.saddr, out.daddr) == (error.saddr, endpoint >> 16)
        assert (inner.saddr << 16 | inner.sport, inner.daddr << 16 | inner.dport) == (endpoint, flow.dst)
    else:
        assert (out.saddr, out.daddr) == (endpoint >> 16, error.daddr)
        assert (inner.saddr << 16 | inner.sport, inner.daddr << 16 | inner.dport) == (flow.src, endpoint)
    assert out.raw[view.len + 4 :] == error.raw[view.len + 4 :]


def test_icmp_error_with_incomplete_ports_is_refused():
    error = Packet.icmp("10.1.0.11", "203.0.113.5", 3, 3, payload=SYN.raw[:23])
    assert nat_icmp(error, fill_iph_at(error.raw, AF_INET, 28), IP_VS_DIR_INPUT, R1) is None
    options = Packet.icmp("10.1.0.11", "203.0.113.5", 3, 3, payload=b"\x4f" + SYN.raw[1:24])
    assert nat_icmp(options, fill_iph_at(options.raw, AF_INET, 28), IP_VS_DIR_INPUT, R1) is None


def test_icmp_error_about_esp_gets_addresses_only():
    error = Packet.icmp("10.1.0.11", "203.0.113.5", 3, 3, payload=Packet.esp("203.0.113.5", "10.1.0.11").raw)
    view = fill_iph_at(error.raw, AF_INET, 28)
    out = nat_icmp(error, view, IP_VS_DIR_OUTPUT, 0xC0000201 << 16 | 500)
    assert out.raw[48:] == error.raw[48:]
    assert fill_iph_at(out.raw, AF_INET, 28).daddr == 0xC0000201


def test_icmpv6_error_about_a_later_fragment_gets_addresses_only():
    later = Packet.ip("2001:db8::5", "2001:db8:1::11", 44, bytes((17, 0, 1, 8)) + bytes(12))
    error = Packet.icmp("2001:db8::9", "2001:db8::5", 1, 0, payload=later.raw)
    out = nat_icmp(error, fill_iph_at(error.raw, AF_INET6, 48), IP_VS_DIR_OUTPUT, 0x77 << 16 | 80)
    assert out.raw[88:] == error.raw[88:] and icmp_csum_ok(out)


# --- damage ---------------------------------------------------------------------------------------------------------------
@given(packets, st.data())
def test_damaged_packets_are_refused_or_rewritten_but_never_raise(packet, data):
    raw = bytearray(packet.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from((0, 1, 4, 6, 17, 43, 44, 51, 58, 60, 132, 0x41, 0x4F, 0x60, 0xFF)))
    for size in {data.draw(st.integers(0, len(raw))), len(raw)}:
        damaged = Packet.parse(bytes(raw[:size]), bits=data.draw(st.sampled_from((0, PKT_PARTIAL))))
        endpoint = data.draw(endpoint_ints(damaged.af))
        for rewrite in (dnat, snat):
            out = rewrite(damaged, endpoint)
            assert out is None or out.length == damaged.length
        fill_iph(damaged)
        for out in (complete(damaged), dec_ttl(damaged) if damaged.ttl else damaged, Reassembler().add(damaged)):
            assert out is None or Packet.parse(out.raw).length == out.length
        for answer in (local_answer(damaged), icmp_error(damaged, 3, 1, saddr=9)):
            assert answer is None or header_error(answer.raw) is None
        if size >= 20:
            assert encapsulate(damaged, AF_INET, 1, 2, tun_type=1, tun_flags=2).raw.endswith(damaged.raw[-1:])
        if header_error(damaged.raw) is None and damaged.proto >= 0:
            assert fragment(damaged, 1280) and fragment(damaged, 128)
        for off in (0, damaged.l4 + 8):
            view = fill_iph_at(damaged.raw, damaged.af, off)
            out = view and nat_icmp(damaged, view, IP_VS_DIR_INPUT, endpoint)
            assert out is None or out.length == damaged.length


# --- checksum tests -------------------------------------------------------------------------------------------------------
@given(st.one_of(transport_packets, st.builds(Packet.icmp, st.ip_addresses(v=4), st.ip_addresses(v=4), payload=st.binary(max_size=9))), st.data())
def test_one_flipped_bit_is_noticed(packet, data):
    if packet.proto == 17 and packet.raw[packet.l4 + 6 : packet.l4 + 8] == bytes(2):
        return
    at = data.draw(st.integers(packet.l4 * 8, packet.length * 8 - 1))
    raw = bytearray(packet.raw)
    raw[at // 8] ^= 1 << at % 8
    damaged = Packet.parse(bytes(raw))
    no_checksum = damaged.proto == 17 and damaged.raw[damaged.l4 + 6 : damaged.l4 + 8] == bytes(2)
    assert transport_csum_ok(packet)
    assert not transport_csum_ok(damaged) or no_checksum


def test_the_application_check_lets_local_and_partial_packets_pass():
    wrong = SYN.raw[:36] + bytes(2) + SYN.raw[38:]
    assert not csum_check(Packet.parse(wrong, device="cli"))
    assert csum_check(Packet.parse(wrong))
    assert csum_check(Packet.parse(wrong, device="cli", bits=PKT_PARTIAL))
    assert csum_check(Packet.udp("1.1.1.1:1", "2.2.2.2:2", checksum=False, device="cli"))
    assert not csum_check(Packet.ip("1.1.1.1", "2.2.2.2", 17, bytes(7)))


def test_incomplete_messages_have_no_right_checksum():
    assert not transport_csum_ok(Packet.ip("1.1.1.1", "2.2.2.2", 6, bytes(19)))
    assert not icmp_csum_ok(Packet.ip("1.1.1.1", "2.2.2.2", 1, bytes(3)))
    assert icmp_csum_ok(SYN)


# --- payload --------------------------------------------------------------------------------------------------------------
@given(st.one_of(tcp_packets(), udp_packets()), st.binary(max_size=40))
def test_another_payload_brings_its_lengths_and_checksum(packet, payload):
    out = replace_payload(packet, payload)
    assert out.payload == payload and out.plain
    assert out.length - packet.length == len(payload) - len(packet.payload)
    assert transport_csum_ok(out)
    assert (out.raw[out.l4 + 6 : out.l4 + 8] == bytes(2)) == (packet.raw[packet.l4 + 6 : packet.l4 + 8] == bytes(2)) or packet.proto == 6
    assert complete(replace_payload(partial(packet), payload)).payload == payload
    assert transport_csum_ok(complete(replace_payload(partial(packet), payload)))
    assert replace_payload(out, packet.payload).l4_bytes[8:] == packet.l4_bytes[8:] or packet.proto == 6


def test_a_payload_may_not_outgrow_the_packet():
    with pytest.raises(ValueError, match="65535"):
        replace_payload(SYN, bytes(65500))


def test_sequence_numbers_are_set_without_a_checksum():
    out = set_seq_ack(SYN, -1, 1 << 32 | 5)
    assert (out.seq, out.ack) == (0xFFFFFFFF, 5)
    assert out.raw[36:38] == SYN.raw[36:38]


# --- tunnels --------------------------------------------------------------------------------------------------------------
@given(packets, st.sampled_from((AF_INET, AF_INET6)), st.sampled_from(((0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1))), st.booleans())
def test_a_tunnel_adds_its_overhead_and_nothing_else(packet, outer_af, kind, pmtu_disc):
    tun_type, tun_flags = kind
    out = encapsulate(packet, outer_af, 1 << 24, 2 << 24, tun_type=tun_type, tun_flags=tun_flags, pmtu_disc=pmtu_disc, ident=77, sport=5, tun_port=6)
    overhead = tunnel_overhead(packet, outer_af, tun_type, tun_flags)
    assert out.raw[overhead:] == packet.raw and out.length == packet.length + overhead
    assert (out.ttl, out.tos) == (packet.ttl, outer_tos(packet.tos))
    assert out.df == (packet.df and pmtu_disc and outer_af == AF_INET)
    assert out.id == (0 if out.df or outer_af == AF_INET6 else 77)
    assert (out.mark, out.device) == (packet.mark, packet.device)
    if tun_type == 1:
        assert transport_csum_ok(out) and (out.sport, out.dport) == (5, 6)


@pytest.mark.parametrize("tos", range(256))
def test_ecn_of_the_outer_header(tos):
    assert outer_tos(tos) == (tos - 1 if tos % 4 == 3 else tos)


@pytest.mark.parametrize(("src", "dst", "outer_af"), [("1.1.1.1:1", "2.2.2.2:2", AF_INET), ("[::1]:1", "[::2]:2", AF_INET6)])
def test_a_packet_that_outgrows_the_length_field_states_0_and_leaves_in_fragments(src, dst, outer_af):
    inner = Packet.udp(src, dst, bytes(65480), df=False)
    out = encapsulate(inner, outer_af, 1, 2, tun_type=1, sport=3, tun_port=4)
    at = 2 if outer_af == AF_INET else 4
    assert out.raw[at : at + 2] == bytes(2) and out.length == len(out.raw) == inner.length + tunnel_overhead(inner, outer_af, 1)
    header, more = (20, 0) if outer_af == AF_INET else (40, 8)
    assert b"".join(each.raw[header + more :] for each in fragment(out, 1500)) == out.raw[header:]


def test_remote_checksum_describes_the_inner_field_and_leaves_it():
    inner = partial(SYN)
    out = encapsulate(inner, AF_INET, 1, 2, tun_type=1, tun_flags=IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM, tun_port=6080)
    assert tunnel_overhead(inner, AF_INET, 1, IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM) == 40
    assert out.raw[28:40].hex() == "02040001" + "80000000" + "0014" + "0024"
    assert out.raw[40:] == inner.raw and transport_csum_ok(out) and not out.bits & PKT_PARTIAL


def test_a_partial_inner_checksum_is_completed_otherwise():
    out = encapsulate(partial(SYN), AF_INET, 1, 2)
    assert out.raw[20:] == SYN.raw and not out.bits & PKT_PARTIAL
