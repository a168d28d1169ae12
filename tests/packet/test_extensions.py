"""IPv6 extension headers as a host reads them; most examples are recorded in `tests/kernel/fresh/extension_headers`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvs_model.packet import Packet
from ipvs_model.packet.extensions import SILENTLY, Refused, refused_on_arrival, refused_on_delivery

HOP, ROUTING, FRAGMENT, AH, NONE, DEST = 0, 43, 44, 51, 59, 60
UDP = Packet.udp("[2001:db8::5]:4000", "[2001:db8:2::1]:9", b"abc").l4_bytes


def packet(*headers, body=UDP, last=17, dst="2001:db8:2::1"):
    """An IPv6 packet with these headers: (number, what follows its first byte in hexadecimal)."""
    following = last
    for number, rest in reversed(headers):
        body = bytes((following,)) + bytes.fromhex(rest) + body
        following = number
    return Packet.ip("2001:db8::5", dst, following, body)


PAD = "00 0104 00000000"


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ([], None),
        ([(DEST, PAD)], None),
        ([(HOP, PAD), (DEST, PAD), (ROUTING, "00 0000 00000000"), (FRAGMENT, "00 0000 00000000"), (DEST, PAD)], None),
        ([(ROUTING, "00 0001 00000000")], Refused(0, 42)),
        ([(ROUTING, "00 0104 00000000")], Refused(0, 42)),
        ([(DEST, PAD), (ROUTING, "00 0001 00000000")], Refused(0, 50)),
        ([(ROUTING, "00 0200 00000000")], SILENTLY),
        ([(ROUTING, "00 0301 00000000")], SILENTLY),
        ([(ROUTING, "00 0400 00000000")], SILENTLY),
        ([(ROUTING, "09 0001 00000000")], SILENTLY),
        ([(AH, "01" + "00" * 10)], Refused(1, 6)),
        ([(HOP, PAD), (AH, "01" + "00" * 10)], Refused(1, 40)),
        ([(FRAGMENT, "00 0000 00000000"), (AH, "01" + "00" * 10)], Refused(1, 40)),
        ([(DEST, PAD), (HOP, PAD)], Refused(1, 40)),
        ([(HOP, PAD), (HOP, PAD)], Refused(1, 40)),
        ([(135, PAD)], None),  # an unknown protocol, for `local.protocol_unreachable`
        ([(NONE, PAD)], None),
        ([(DEST, "00 0502 00000100")], None),
        ([(DEST, "00 0904 00000000")], None),
        ([(DEST, "00 4904 00000000")], SILENTLY),
        ([(DEST, "00 8904 00000000")], Refused(2, 42)),
        ([(DEST, "00 ca04 00000000")], Refused(2, 42)),
        ([(DEST, "00 c904 00000000")], SILENTLY),
        ([(DEST, "00 c204 00010000")], Refused(2, 42)),
        ([(DEST, "09 0104 00000000")], SILENTLY),
        ([(DEST, "00 0000 00000000")], None),
        ([(DEST, "00 0104 00000001")], SILENTLY),
        ([(DEST, "00 0105 00000000")], SILENTLY),
        ([(DEST, "00 0000 00000001")], SILENTLY),
        ([(DEST, "01 0000 00000000 0000000000000000")], SILENTLY),
        ([(DEST, "01 0000 00000000 0502000000000000")], None),
        ([(DEST, "01" + "00" * 7 + "0905" + "00" * 5)], None),  # seven bytes of padding are the most
        ([(DEST, "01" + "00" * 8 + "0904" + "00" * 4)], SILENTLY),
        ([(DEST, "01" + "0105" + "00" * 5 + "0905" + "00" * 5)], None),
        ([(DEST, "01" + "0106" + "00" * 6 + "0904" + "00" * 4)], SILENTLY),
        ([(DEST, "01" + "0105" + "00" * 5 + "00" + "0904" + "00" * 4)], SILENTLY),
        ([(DEST, "02" + "0105" + "00" * 5 + "0900" + "0105" + "00" * 5 + "0904" + "00" * 4)], None),  # an option begins anew
        ([(DEST, "02" + "0105" + "00" * 5 + "0900" + "0106" + "00" * 6 + "0903" + "00" * 3)], SILENTLY),
        ([(DEST, "00 0104 01000000")], SILENTLY),
        ([(DEST, "01" + "0900" * 7)], None),
        ([(DEST, "02" + "0900" * 8 + "01040000 0000")], None),
        ([(DEST, "02" + "0900" * 9 + "01020000")], SILENTLY),
    ],
)
def test_on_delivery(headers, refused):
    assert refused_on_delivery(packet(*headers)) == refused


@pytest.mark.parametrize(
    ("rest", "refused"),
    [
        (PAD, None),
        ("00 0502 00000100", None),
        ("00 0503 00000001", SILENTLY),
        ("00 0501 00000000", SILENTLY),
        ("00 c204 0000ffff", Refused(0, 44)),
        ("00 8904 00000000", Refused(2, 42)),
        ("00 c904 00000000", Refused(2, 42)),
        ("00 4904 00000000", SILENTLY),
        ("09 0104 00000000", SILENTLY),
        ("00 0704 00000000", None),
        ("00 3104 00000000", None),
        ("00 c204 00001000", Refused(0, 44)),
        ("00 c204 00010000", Refused(0, 42)),
        ("00 c203 00000100", SILENTLY),
        ("01 0001 00 c204 0001000000 0000000000", SILENTLY),
    ],
)
def test_on_arrival(rest, refused):
    assert refused_on_arrival(packet((HOP, rest))) == refused
    assert refused_on_arrival(packet((DEST, rest))) is None


def test_unknown_options_in_packets_to_a_group_are_told_only_if_they_say_so():
    for action, refused in (("8a", Refused(2, 42)), ("ca", SILENTLY)):
        assert refused_on_delivery(packet((DEST, f"00 {action}04 00000000"), dst="ff02::1")) == refused


@pytest.mark.parametrize(("number", "refused"), [(DEST, SILENTLY), (ROUTING, SILENTLY), (FRAGMENT, Refused(0, 40))])
def test_headers_that_are_cut_off(number, refused):
    for size in range(8):
        assert refused_on_delivery(packet(last=number, body=bytes(size))) == refused
    assert refused_on_arrival(packet(last=HOP, body=bytes(1))) == SILENTLY


@given(st.sampled_from((HOP, ROUTING, FRAGMENT, AH, DEST)), st.binary(max_size=60))
def test_whatever_they_are(number, body):
    sent = packet(last=number, body=body)
    for refused in (refused_on_arrival(sent), refused_on_delivery(sent)):
        assert refused is None or refused == SILENTLY or (refused.code in (0, 1, 2) and 6 <= refused.pointer < sent.length + (refused.code == 0))
