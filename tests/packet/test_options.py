"""IPv4 options; the examples are what a kernel did (its times left out), recorded in `tests/kernel/fresh`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.packet import Packet, echo_reply, icmp_error, port_unreachable, tcp_reset
from ipvs_model.packet.checksum import csum16
from ipvs_model.packet.options import arrive, echo, go_on

VIP = 0xC0000201
OTHER = 0x0A010001


def packet(options, payload=b"abcdefgh"):
    return Packet.ip("203.0.113.7", "192.0.2.1", 17, payload, options=bytes.fromhex(options), mark=3, device="cli")


def local(addr):
    return addr >> 8 == 0xC00002


def after(options):
    """The options of a packet that has arrived, in hexadecimal."""
    arrived = arrive(packet(options), VIP, local)
    assert arrived.pointer == 0
    return arrived.packet.raw[20 : arrived.packet.l4].hex()


@pytest.mark.parametrize(
    ("sent", "arrives", "answered"),
    [
        ("01010101", "01010101", ""),
        ("0100ffff", "01000000", ""),
        ("070704 00000000 00", "070708c000020100", "070708c000020100"),
        ("070b04 0000000000000000 00", "070b08c00002010000000000", "070b0cc0000201c000020100"),
        ("070708 01020304 00", "0707080102030400", "0707080102030400"),
        ("070805 0000000000", "07080900c0000201", "07080900c0000201"),
        ("070304 00", "07030400", "07030400"),
        ("070709 00000000 00", "0707090000000000", "0707090000000000"),
        ("440805 00 00000000", "4408090000000000", "4408090000000000"),
        ("440c05 01 0000000000000000", "440c0d01c000020100000000", "440c0d01c000020100000000"),
        ("440c05 03 c000020500000000", "440c0d03c000020500000000", "440c0d03c000020500000000"),
        ("440c05 03 0102030400000000", "440c05030102030400000000", "440c05030102030400000000"),
        ("440809 00 00000000", "4408091000000000", "4408091000000000"),
        ("440809 f3 00000000", "440809f300000000", "440809f300000000"),
        ("440805 02 00000000", "4408050200000000", "4408050200000000"),
        ("441405 03 c0000205 00000000 c0000206 00000000", "44140d03c000020500000000c000020600000000", "44141503c000020500000000c000020600000000"),
        ("441405 03 c0000205 00000000 01020304 00000000", "44140d03c0000205000000000102030400000000", "44140d03c0000205000000000102030400000000"),
        ("44040500", "44040510", "44040510"),
        ("440805 0f 00000000", "4408050f00000000", "4408050f00000000"),
        ("440809 0f 00000000", "4408091f00000000", "4408091f00000000"),
        ("830304 00", "83030400", ""),
        ("890304 00", "89030400", ""),
        ("94040000", "94040000", ""),
        ("820b0000000000000000 0000", "820b00000000000000000000", ""),
        ("7f040102", "7f040102", ""),
        ("070704 00000000 440805 00 00000000 00", "070708c0000201440809000000000000", "070708c0000201440809000000000000"),
    ],
)
def test_what_arrives_and_what_answers_carry(sent, arrives, answered):
    assert after(sent) == arrives
    arrived = arrive(packet(sent), VIP, local).packet
    assert echo(arrived, VIP, local).hex() == answered
    assert (arrived.mark, arrived.device, arrived.l4_bytes) == (3, "cli", b"abcdefgh")
    assert arrived.raw[10:12] == packet(sent).raw[10:12]  # the checksum is left as it was


@pytest.mark.parametrize(
    ("sent", "pointer", "answered"),
    [
        ("070703 00000000 00", 22, ""),
        ("07020000", 21, ""),
        ("070806 0000000000", 22, ""),
        ("440c09 01 0000000000000000", 22, ""),
        ("440809 f0 00000000", 23, ""),
        ("44030500", 21, ""),
        ("440804 00 00000000", 22, ""),
        ("440805 01 00000000", 22, ""),
        ("440806 00 00000000", 22, ""),
        ("94030000", 21, ""),
        ("83020000", 21, ""),
        ("89020000", 21, ""),
        ("890703 0a010001 00", 22, ""),
        ("860700000001 00 00", 21, "8607000000010000"),
        ("830703 0a010001 00", 22, ""),
        ("860600000001 0000", 21, "8606000000010000"),
        ("860800000001 0000", 22, "8608000000010000"),
        ("7f090102", 20, ""),
        ("7f010000", 20, ""),
        ("7f000000", 20, ""),
        ("01010107", 23, ""),
        ("070704 00000000 070704 00000000 0000", 27, "070708c000020100"),
        ("440805 00 00000000 440805 00 00000000", 28, "4408090000000000"),
        ("830704 0a010001 890704 0a010001 0000", 27, ""),
        ("070704 00000000 7f", 27, "070708c000020100"),
    ],
)
def test_what_is_wrong_is_pointed_at(sent, pointer, answered):
    arrived = arrive(packet(sent), VIP, local)
    assert (arrived.pointer, arrived.answer.hex()) == (pointer, answered)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("070804 00000000 00", None),
        ("440d05 01 0000000000000000 00", None),
        ("440d05 03 c0000205 00000000 00", None),
        ("441005 03 c0000205 00000000 0a000001", "44100d03c0000205000000000a000001"),  # an address fits, its time does not
    ],
)
def test_an_option_that_is_nearly_full_cannot_be_answered(sent, answered):
    arrived = arrive(packet(sent), VIP, local)
    answer = echo(arrived.packet, VIP, local)
    assert (arrived.pointer, answer and answer.hex()) == (0, answered)


def test_a_nearly_full_option_before_a_wrong_one_means_that_nobody_is_told():
    arrived = arrive(packet("070804 0000000000 7f"), VIP, local)
    assert (arrived.pointer, arrived.answer) == (28, None)


def test_without_its_address_an_answer_carries_no_options():
    plain = Packet.udp("203.0.113.7:1", "192.0.2.1:2")
    assert echo(plain, VIP) == echo(Packet.udp("[2001:db8::1]:1", "[2001:db8::2]:2"), VIP) == b""
    assert arrive(packet(""), VIP, local).packet == packet("")


def test_damaged_options_are_answered_as_far_as_they_can_be_read():
    assert echo(packet("070708 01020304 7f090000 00"), VIP).hex() == "0707080102030400"


@pytest.mark.parametrize("kind", ["83", "89"])
def test_source_routes_are_noticed(kind):
    assert arrive(packet(f"{kind}0704 0a010001 00"), VIP, local).source_routed
    assert not arrive(packet("01010101"), VIP, local).source_routed


def test_a_forwarding_host_records_the_address_of_the_way_out():
    arrived = arrive(packet("01 070704 00000000"), VIP, local)
    assert arrived.recorded == 24
    out = go_on(arrived.packet, arrived.recorded, OTHER)
    assert out.raw[20:28].hex() == "010707080a010001" and csum16(out.raw[:28]) == 0
    assert arrive(packet("070708 01020304 00"), VIP, local).recorded == 0


def test_errors_resets_and_echo_replies_carry_them():
    datagram = Packet.udp("203.0.113.7:1", "192.0.2.1:2", bytes(600))
    asked = Packet.ip("203.0.113.7", "192.0.2.1", 17, datagram.l4_bytes, options=bytes.fromhex("07070400000000"))
    error = port_unreachable(arrive(asked, VIP, local).packet)
    assert (error.length, error.raw[20:28].hex()) == (576, "070708c000020100")
    segment = Packet.tcp("203.0.113.7:1", "192.0.2.1:2")
    asked = Packet.ip("203.0.113.7", "192.0.2.1", 6, segment.l4_bytes, options=bytes.fromhex("070b04000000000000000000"))
    assert tcp_reset(arrive(asked, VIP, local).packet).raw[20:32].hex() == "070b0cc0000201c000020100"
    ping = Packet.icmp("203.0.113.7", "192.0.2.1")
    asked = Packet.ip("203.0.113.7", "192.0.2.1", 1, ping.l4_bytes, options=bytes.fromhex("07070400000000"))
    assert echo_reply(arrive(asked, VIP, local).packet).raw[20:28].hex() == "070708c000020100"


def test_what_cannot_carry_them_is_not_sent():
    for made, answer in ((Packet.udp, port_unreachable), (Packet.tcp, tcp_reset)):
        whole = made("203.0.113.7:1", "192.0.2.1:2")
        asked = Packet.ip("203.0.113.7", "192.0.2.1", whole.proto, whole.l4_bytes, options=bytes.fromhex("0708040000000000"))
        assert answer(arrive(asked, VIP, local).packet) is None
    ping = Packet.ip("203.0.113.7", "192.0.2.1", 1, Packet.icmp("203.0.113.7", "192.0.2.1").l4_bytes, options=bytes.fromhex("0708040000000000"))
    assert echo_reply(arrive(ping, VIP, local).packet) is None


def test_an_error_may_have_options_of_its_own():
    assert icmp_error(packet("070704 00000000 00"), 12, 0, saddr=VIP, options=b"").l4 == 20


@given(st.binary(max_size=40))
def test_whatever_they_are(options):
    sent = packet(options.hex())
    arrived = arrive(sent, VIP, local)
    raw = arrived.packet.raw
    assert raw[:20] == sent.raw[:20] and raw[sent.l4 :] == sent.raw[sent.l4 :]
    assert arrived.pointer == 0 or 20 <= arrived.pointer < sent.l4
    for asked in (sent, arrived.packet):  # the first came to IPVS without a host around it
        answer = echo(asked, VIP, local)
        assert answer is None or (len(answer) % 4 == 0 and len(answer) <= 40)


@pytest.mark.parametrize("options", ["07020000", "07030000", "44030500", "44040000", "440400", "070700 00000000 00"])
def test_options_that_no_host_has_read(options):
    assert echo(packet(options), VIP) == b""
    assert port_unreachable(Packet.ip("203.0.113.7", "192.0.2.1", 17, Packet.udp("203.0.113.7:1", "192.0.2.1:2").l4_bytes, options=bytes.fromhex(options))).l4 == 20
