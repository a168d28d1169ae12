"""The worked examples of spec/51 section 13: whole packets recorded from a running kernel."""

import ipaddress

import pytest

from ipvs_model.addresses import parse_endpoint
from ipvs_model.flags import AF_INET, AF_INET6, IP_VS_DIR_INPUT, IP_VS_DIR_OUTPUT, IP_VS_HDR_ICMP, IP_VS_HDR_INVERSE
from ipvs_model.packet import Packet, dec_ttl, dnat, encapsulate, fill_iph_at, icmp_csum_ok, icmp_error, nat_icmp, snat, transport_csum_ok

SYN = "450000280001400040063cc8cb007105c00002019c400050000003e8000000005002ffff11630000"
SYN6 = "600000000014064020010db8ffff0000000000000000000520010db80002000000000000000000019c400050000003e8000000005002ffffb3f00000"

IPIP, GUE, GRE = 0, 1, 2
CSUM, REMCSUM = 1, 2


def packet(text: str) -> Packet:
    return Packet.parse(bytes.fromhex(text), mark=7, device="cli")


def endpoint(text: str) -> int:
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port


def addr(text: str) -> int:
    return int(ipaddress.ip_address(text))


def ack_of(syn: Packet, seq: int = 1001, ack: int = 5001) -> Packet:
    """An ACK of the same flow."""
    ends = (str(ipaddress.ip_address(syn.saddr)), syn.sport), (str(ipaddress.ip_address(syn.daddr)), syn.dport)
    return Packet.tcp(*ends, "A", seq=seq, ack=ack)


@pytest.mark.parametrize(
    ("before", "rewrite", "to", "after"),
    [
        (SYN, dnat, "10.1.0.11:8080", "45000028000140003f06f5bdcb0071050a01000b9c401f90000003e8000000005002ffffaa180000"),
        (
            "45000028000140004006f4bd0a01000bcb0071051f909c4000001388000003e95012ffff967f0000",
            snat,
            "192.0.2.1:80",
            "45000028000140003f063dc8c0000201cb00710500509c4000001388000003e95012fffffdc90000",
        ),
        (
            "450000210001400040113cc4cb007105c000020113880035000d9e277175657279",
            dnat,
            "10.1.0.12:53",
            "45000021000140003f11f5b8cb0071050a01000c13880035000d561c7175657279",
        ),
        (
            "450000210001400040113cc4cb007105c000020113880035000d00007175657279",
            dnat,
            "10.1.0.11:5353",
            "45000021000140003f11f5b9cb0071050a01000b138814e9000d41697175657279",
        ),
        (
            SYN6,
            dnat,
            "[2001:db8:1::11]:8080",
            "600000000014063f20010db8ffff0000000000000000000520010db80001000000000000000000119c401f90000003e8000000005002ffff94a10000",
        ),
    ],
)
def test_nat(before, rewrite, to, after):
    out = rewrite(packet(before), endpoint(to), dec_ttl=True)
    assert out.raw.hex() == after
    assert out == packet(after)


def test_udp_without_checksum_whose_sum_is_zero_gets_ffff():
    before = Packet.udp("203.0.113.5:5000", "192.0.2.1:53", bytes.fromhex("9157"), checksum=False)
    out = dnat(before, endpoint("10.1.0.11:5353"))
    assert out.l4_bytes[6:8].hex() == "ffff"
    assert Packet.parse(before.raw).payload == out.payload


def test_a_wrong_checksum_leaves_wrong():
    wrong = packet(SYN[:-8] + "11640000")
    out = dnat(wrong, endpoint("10.1.0.11:8080"), dec_ttl=True)
    assert out.raw.hex() == "45000028000140003f06f5bdcb0071050a01000b9c401f90000003e8000000005002ffffaa190000"
    assert not transport_csum_ok(out)


@pytest.mark.parametrize(("before", "hop"), [(SYN, 8), (SYN6, 7)])
def test_direct_routing_changes_the_ttl_only(before, hop):
    out = dec_ttl(packet(before))
    same = bytearray(bytes.fromhex(before))
    same[hop] -= 1
    if out.af == AF_INET:
        same[10:12] = bytes.fromhex("3dc8")
    assert out.raw == bytes(same)
    assert out == packet(bytes(same).hex())


def test_icmp_error_to_the_real_server():
    before = packet("4500003800070000fa01d47fc6336409c0000201030447ce00000514450005a0000140003c063b50c0000201cb00710500509c4000001389")
    view = fill_iph_at(before.raw, AF_INET, 28, IP_VS_HDR_ICMP | IP_VS_HDR_INVERSE)
    out = nat_icmp(before, view, IP_VS_DIR_INPUT, endpoint("10.1.0.11:8080"), dec_ttl=True)
    assert out.raw.hex() == "4500003800070000f9018d75c63364090a01000b0304288e00000514450005a0000140003c06f3450a01000bcb0071051f909c4000001389"
    assert icmp_csum_ok(before) and icmp_csum_ok(out)


def test_icmp_error_to_the_client():
    before = packet("4500003d000140004001f4ad0a01000bcb0071050303432d0000000045000021000140003f11f5b9cb0071050a01000b138814e9000d41697175657279")
    view = fill_iph_at(before.raw, AF_INET, 28, IP_VS_HDR_ICMP | IP_VS_HDR_INVERSE)
    out = nat_icmp(before, view, IP_VS_DIR_OUTPUT, endpoint("192.0.2.1:53"), dec_ttl=True)
    assert out.raw.hex() == "4500003d000140003f013db8c0000201cb007105030357e10000000045000021000140003f113dc4cb007105c000020113880035000d41697175657279"


def test_icmpv6_error_to_the_real_server():
    before = packet(
        "6000000000383a4020010db800090000000000000000000920010db800020000000000000000000101032ba30000000060000000058c0640"
        "20010db800020000000000000000000120010db8ffff0000000000000000000500509c4000001389"
    )
    view = fill_iph_at(before.raw, AF_INET6, 48, IP_VS_HDR_ICMP | IP_VS_HDR_INVERSE)
    out = nat_icmp(before, view, IP_VS_DIR_INPUT, endpoint("[2001:db8:1::11]:8080"), dec_ttl=True)
    assert out.raw.hex() == (
        "6000000000383a3f20010db800090000000000000000000920010db800010000000000000000001101030c450000000060000000058c0640"
        "20010db800010000000000000000001120010db8ffff000000000000000000051f909c4000001389"
    )
    assert icmp_csum_ok(out)


DIRECTOR, RS = addr("10.1.0.1"), addr("10.1.0.11")
DIRECTOR6, RS6 = addr("2001:db8:1::1"), addr("2001:db8:1::11")


def test_ipip():
    inner = dec_ttl(packet("452900280001400040063c9fcb007105c00002019c400050000003e8000000005002ffff11630000"))
    out = encapsulate(inner, AF_INET, DIRECTOR, RS)
    assert out.raw.hex() == (
        "4529003c000040003f0427880a0100010a01000b45290028000140003f063d9fcb007105c00002019c400050000003e8000000005002ffff11630000"
    )
    assert (out.mark, out.device) == (7, "cli")


def test_gue():
    inner = dec_ttl(packet(SYN))
    out = encapsulate(inner, AF_INET, DIRECTOR, RS, tun_type=GUE, tun_port=6080, sport=0xBD54)
    assert out.raw.hex() == "45000048000040003f1127980a0100010a01000b" + "bd5417c000340000" + "00040000" + inner.raw.hex()


def test_gue_with_checksum():
    inner = dec_ttl(ack_of(packet(SYN)))
    assert inner.raw[36:38].hex() == "fdca"
    for flags in (CSUM, REMCSUM, CSUM | REMCSUM):
        out = encapsulate(inner, AF_INET, DIRECTOR, RS, tun_type=GUE, tun_flags=flags, tun_port=6080, sport=0xBD54)
        assert out.raw[20:28].hex() == "bd5417c000341482"
        assert transport_csum_ok(out)


def test_gre():
    inner = dec_ttl(packet(SYN))
    out = encapsulate(inner, AF_INET, DIRECTOR, RS, tun_type=GRE)
    assert out.raw.hex() == "45000040000040003f2f27820a0100010a01000b" + "00000800" + inner.raw.hex()


def test_gre_with_checksum():
    inner = dec_ttl(ack_of(packet(SYN)))
    out = encapsulate(inner, AF_INET, DIRECTOR, RS, tun_type=GRE, tun_flags=CSUM)
    assert out.raw.hex() == "45000044000040003f2f277e0a0100010a01000b" + "8000080076210000" + inner.raw.hex()


def test_gre_with_checksum_ipv6_in_ipv6():
    inner = dec_ttl(ack_of(packet(SYN6), 1000, 0))
    assert inner.raw[56:58].hex() == "b3e2"
    out = encapsulate(inner, AF_INET6, DIRECTOR6, RS6, tun_type=GRE, tun_flags=CSUM)
    assert out.raw[:8].hex() == "6000000000442f3f"
    assert (out.saddr, out.daddr) == (DIRECTOR6, RS6)
    assert out.raw[40:].hex() == "800086dd92e80000" + inner.raw.hex()


def test_ipv6_in_ipv4():
    out = encapsulate(dec_ttl(packet(SYN6)), AF_INET, DIRECTOR, RS, ident=0x1234)
    assert (out.length, out.df, out.id, out.ttl, out.proto) == (80, False, 0x1234, 63, 41)


def test_ipv4_in_ipv6():
    inner = dec_ttl(packet(SYN))
    out = encapsulate(inner, AF_INET6, DIRECTOR6, RS6)
    assert out.raw.hex() == "600000000028043f" + "20010db8000100000000000000000001" + "20010db8000100000000000000000011" + inner.raw.hex()


def test_fragmentation_needed_quotes_the_decremented_ttl():
    big = Packet.tcp("203.0.113.5:40000", "192.0.2.1:80", "A", payload=bytes(1460))
    out = icmp_error(dec_ttl(big), 3, 4, 0x5C8, saddr=addr("192.0.2.1"))
    assert out.length == 576
    assert out.raw[20:28].hex()[:4] + out.raw[24:28].hex() == "0304" + "000005c8"
    assert out.raw[36] == 63
    assert (out.saddr, out.daddr, out.ttl, out.df, out.tos) == (addr("192.0.2.1"), big.saddr, 64, False, 0xC0)
    assert icmp_csum_ok(out)


@pytest.mark.parametrize(("before", "kind", "length"), [(SYN, 11, 68), (SYN6, 3, 108)])
def test_time_exceeded_quotes_the_whole_small_packet(before, kind, length):
    error = icmp_error(packet(before), kind, 0, saddr=1)
    assert error.length == length and icmp_csum_ok(error)
    assert error.payload.hex() == before
    assert (error.mark, error.device) == (0, None)


def test_too_big_is_1280_bytes_in_all():
    big = Packet.tcp("[2001:db8:ffff::5]:40000", "[2001:db8:2::1]:80", "A", payload=bytes(1401))
    out = icmp_error(big, 2, 0, 1460, saddr=DIRECTOR6)
    assert (out.length, out.raw[44:48]) == (1280, (1460).to_bytes(4, "big"))
    assert icmp_csum_ok(out)
