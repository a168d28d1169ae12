"""The host around an IPVS: what comes in on its devices, and what goes out for it."""

import pytest

from ipvs_model.addresses import format_addr, parse_addr
from ipvs_model.flags import IPPROTO_SCTP
from ipvs_model.packet import Packet, header_error
from ipvs_model.packet.fragment import fragment
from ipvs_model.packet.patch import set_header
from ipvs_model.tools.host_output import Origin
from ipvs_model.tools.machine import trace_machine, tun_tailroom

CLIENT, VIP, SERVER = "203.0.113.7:40000", "192.0.2.1:80", "10.1.0.11:8080"
CLIENT6, VIP6, SERVER6 = "[2001:db8:f::1]:40000", "[2001:db8:2::1]:80", "[2001:db8:1::11]:80"


class Lab:
    """The trace machine, spoken to in packets."""

    def __init__(self):
        self.host = trace_machine(1000)
        self.ipvs = self.host.ipvs
        self.start = self.ipvs.clock.now

    def admin(self, *commands):
        for command in commands:
            result = self.ipvs.ipvsadm(command)
            assert (result.status, result.err) == (0, ""), command

    def send(self, packet, device="cli"):
        """(device, packet, origin) of what leaves for a packet."""
        self.host.inject(device, packet if isinstance(packet, bytes) else packet.raw)
        return self.drain()

    def drain(self):
        return [(emission.device, Packet.parse(emission.raw), emission.origin) for emission in self.host.drain()]

    def one(self, packet, device="cli"):
        (emission,) = self.send(packet, device)
        return emission

    def until(self, jiffies):
        self.host.run_until(self.start + jiffies)


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def nat(lab):
    lab.admin("-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m")
    return lab


def icmp(packet):
    """Type, code, second word and quoted bytes of an ICMP message."""
    body = packet.l4_bytes
    return body[0], body[1], int.from_bytes(body[4:8]), body[8:]


def address(text):
    return parse_addr(text)[1]


# --- through IPVS -----------------------------------------------------------------------------------------------------
def test_a_request_is_sent_to_the_server_and_its_answer_comes_back_translated(nat):
    device, packet, origin = nat.one(Packet.tcp(CLIENT, VIP, "S"))
    assert (device, origin) == ("rs", Origin.IPVS)
    assert packet.raw == Packet.tcp(CLIENT, SERVER, "S", ttl=63).raw
    device, packet, origin = nat.one(Packet.tcp(SERVER, CLIENT, "SA"), "rs")
    assert (device, origin) == ("cli", Origin.FORWARDED)
    assert packet.raw == Packet.tcp(VIP, CLIENT, "SA", ttl=63).raw


def test_direct_routing_goes_to_the_servers_device(lab):
    lab.admin("-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.2.7.9:80 -g")
    device, packet, origin = lab.one(Packet.tcp(CLIENT, VIP, "S"))
    assert (device, packet.daddr, packet.ttl, origin) == ("rs", address("192.0.2.1"), 63, Origin.IPVS)


def test_tunnel_packets_are_told_apart_and_cut_to_the_mtu(lab):
    lab.admin("-A -u 192.0.2.1:80 -s rr", "-a -u 192.0.2.1:80 -r 10.1.0.11:80 -i")
    sent = lab.send(Packet.udp(CLIENT, VIP, bytes(1472), df=False))
    assert [(device, packet.length, origin) for device, packet, origin in sent] == [("rs", 1500, Origin.TUNNEL), ("rs", 40, Origin.TUNNEL)]


def test_errors_of_the_model_leave_by_the_clients_device(lab):
    lab.admin("-A -t 192.0.2.1:80 -s rr")
    device, packet, origin = lab.one(Packet.tcp(CLIENT, VIP, "S"))
    assert (device, icmp(packet)[:3], packet.saddr, origin) == ("cli", (3, 3, 0), address("192.0.2.1"), Origin.ICMP)


def test_a_local_server_resets_through_the_virtual_address(lab):
    lab.admin("-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.1.0.1:81 -m")
    device, packet, origin = lab.one(Packet.tcp(CLIENT, VIP, "S"))
    assert (device, packet.src, packet.flags, origin) == ("cli", address("192.0.2.1") << 16 | 80, 0x14, Origin.RESET)


def test_a_datagram_in_pieces_is_put_together_and_leaves_in_the_same_pieces(lab):
    lab.admin("-A -u 192.0.2.1:80 -s rr", "-a -u 192.0.2.1:80 -r 10.1.0.11:80 -m")
    first, last = fragment(Packet.udp(CLIENT, VIP, bytes(100), df=False), 76)
    assert lab.send(first) == []
    assert [(device, packet.length, packet.ttl) for device, packet, _ in lab.send(last)] == [("rs", 76, 63), ("rs", 72, 63)]


def test_ipv6_pieces_are_put_together_once_there_is_an_ipv6_service(lab):
    lab.admin("-A -u [2001:db8:2::1]:80 -s rr", "-a -u [2001:db8:2::1]:80 -r [2001:db8:1::11]:80 -m")
    pieces = fragment(Packet.udp(CLIENT6, VIP6, bytes(1400)), 1280)
    sent = [emission for piece in pieces for emission in lab.send(piece)]
    assert [(device, packet.length) for device, packet, _ in sent] == [("rs", piece.length) for piece in pieces]


def test_marks_choose_the_service(lab):
    assert lab.host.marks.run("iptables -t mangle -A PREROUTING -d 192.0.2.0/24 -p tcp --dport 80 -j MARK --set-mark 7") == (0, [])
    lab.admin("-A -f 7 -s rr", "-a -f 7 -r 10.1.0.11:0 -m")
    assert lab.one(Packet.tcp(CLIENT, "192.0.2.9:80", "S"))[0] == "rs"
    assert lab.one(Packet.tcp(CLIENT, "192.0.2.9:81", "S"))[0] == "cli"


def test_a_rule_may_drop_a_packet_without_ports(lab):
    lab.host.marks.run("iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 7")
    assert lab.send(Packet.ip("203.0.113.7", "192.0.2.1", 6, bytes(8))) == []


def test_an_error_for_a_server_is_found_on_its_way_through(nat):
    nat.send(Packet.tcp(CLIENT, VIP, "S"))
    nat.send(Packet.tcp(SERVER, CLIENT, "SA"), "rs")
    error = Packet.icmp("198.51.100.9", "10.1.0.11", 3, 1, payload=Packet.tcp(VIP, CLIENT, "SA").raw[:28])
    device, packet, _ = nat.one(error)
    assert (device, packet.ttl) == ("rs", 62)
    assert Packet.parse(icmp(packet)[3]).saddr == address("10.1.0.11")


def test_sync_datagrams_over_ipv6(lab):
    lab.admin("--start-daemon master --mcast-interface rs --syncid 7 --mcast-group ff02::81", "-A -u 192.0.2.1:80 -s rr", "-a -u 192.0.2.1:80 -r 10.1.0.11:80 -m")
    for _ in range(3):
        lab.send(Packet.udp(CLIENT, VIP))
    lab.until(1000)
    ((device, datagram, _),) = lab.drain()
    assert (device, datagram.saddr, datagram.daddr, datagram.ttl) == ("rs", address("2001:db8:1::1"), address("ff02::81"), 1)


# --- the local stack --------------------------------------------------------------------------------------------------
def test_nothing_listens(lab):
    device, packet, origin = lab.one(Packet.tcp(CLIENT, VIP, "A", ack=77))
    assert (device, packet.flags, packet.seq, origin) == ("cli", 4, 77, Origin.RESET)
    assert lab.send(Packet.tcp(CLIENT, VIP, "R")) == []


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        (Packet.udp(CLIENT, VIP), (3, 3, 0)),
        (Packet.sctp(CLIENT, VIP), (3, 2, 0)),
        (Packet.ip("203.0.113.7", "192.0.2.1", 47, bytes(8)), (3, 2, 0)),
        (Packet.icmp("203.0.113.7", "192.0.2.1", rest=b"\0\1\0\2", payload=b"ping"), (0, 0, 0x10002)),
        (Packet.udp(CLIENT6, VIP6), (1, 4, 0)),
        (Packet.sctp(CLIENT6, VIP6), (4, 1, 6)),
        (Packet.icmp("2001:db8:f::1", "2001:db8:2::1", 128, rest=b"\0\1\0\2"), (129, 0, 0x10002)),
    ],
)
def test_refusals_and_echo(lab, packet, answer):
    device, packet, origin = lab.one(packet)
    assert (device, icmp(packet)[:3], origin) == ("cli", answer, Origin.ICMP)


@pytest.mark.parametrize(
    "packet",
    [
        Packet.ip("203.0.113.7", "192.0.2.1", 2, bytes(8)),
        Packet.ip("203.0.113.7", "192.0.2.1", 103, bytes(8)),
        Packet.icmp("203.0.113.7", "192.0.2.1", 13),
        Packet.icmp("203.0.113.7", "192.0.2.1", 3, 3, payload=Packet.udp("192.0.2.1:1", "203.0.113.7:2").raw),
        Packet.ip("2001:db8:f::1", "2001:db8:2::1", 59),
        Packet.ip("2001:db8:f::1", "2001:db8:2::1", 60, b""),
        Packet.ip("203.0.113.7", "192.0.2.1", 17, bytes(4)),
        Packet.udp(CLIENT, "224.0.0.1:53"),
        Packet.udp(CLIENT, "224.0.0.99:53"),
        Packet.udp(CLIENT, "10.9.0.255:53"),
    ],
)
def test_silence(lab, packet):
    assert lab.send(packet) == []


def test_an_error_over_ipv6_comes_from_a_configured_address(lab):
    _, packet, _ = lab.one(Packet.udp(CLIENT6, VIP6))
    assert packet.saddr == address("2001:db8:9::1")
    _, packet, _ = lab.one(Packet.udp(CLIENT6, "[2001:db8:1::1]:80"))
    assert packet.saddr == address("2001:db8:1::1")


def test_the_pointer_of_an_unknown_header_is_behind_the_extensions(lab):
    sctp = Packet.sctp(CLIENT6, VIP6).l4_bytes
    packet = Packet.ip("2001:db8:f::1", "2001:db8:2::1", 60, bytes((IPPROTO_SCTP, 0, 1, 4, 0, 0, 0, 0)) + sctp)
    assert icmp(lab.one(packet)[1])[:3] == (4, 1, 40)


def given_up(lab, seconds=30):
    """When a timer of so many seconds fires that is armed now, in jiffies since the start."""
    return (((lab.ipvs.clock.now + seconds * 250 >> 9) + 1) << 9) - lab.start


def test_half_a_datagram_is_given_up_after_30_seconds(lab):
    first, last = fragment(Packet.udp(CLIENT, VIP, bytes(100), df=False), 76)
    due = given_up(lab)
    assert lab.send(first) == []
    lab.until(due - 1)
    assert lab.drain() == []
    lab.until(due)
    ((device, packet, _),) = lab.drain()
    assert (device, icmp(packet)[:2]) == ("cli", (11, 1))
    assert lab.send(last) == []
    lab.until(70 * 250)
    assert lab.drain() == []


def test_half_a_reply_is_given_up_too(nat):
    first, _last = fragment(Packet.udp(SERVER, CLIENT, bytes(100), df=False), 76)
    assert nat.send(first, "rs") == []
    nat.until(given_up(nat))
    ((device, packet, _),) = nat.drain()
    assert (device, packet.saddr, packet.daddr, icmp(packet)[:2]) == ("rs", address("10.1.0.1"), address("10.1.0.11"), (11, 1))
    assert icmp(packet)[3][8] == first.ttl - 1


@pytest.mark.parametrize(
    ("word", "size", "told"),
    [(0x0001, 63, (4, 0, 4)), (0x0001, 7, (4, 3, 0)), (0xFFF9, 64, (4, 0, 42))],
    ids=["odd length", "header cut off", "too far out"],
)
def test_ipv6_fragments_that_break_the_rules(lab, word, size, told):
    """The host tells their senders; once there is an IPv6 service, only one of odd length gets through to it."""
    bad = Packet.ip("2001:db8:f::1", "2001:db8:2::1", 44, bytes((17, 0)) + word.to_bytes(2, "big") + bytes(4) + bytes((1, 0, 0, 80, 1, 0, 0, 0))[:size] + bytes(max(size - 8, 0)))
    assert icmp(lab.one(bad)[1])[:3] == told
    lab.admin("-A -u [2001:db8:2::2]:80 -s rr")
    assert [icmp(packet)[:3] for _, packet, _ in lab.send(bad)] == ([told] if size == 63 else [])


@pytest.mark.parametrize(("length", "room"), [(28, 292), (320, 0), (321, 319), (640, 0), (641, 1023), (1500, 164)])
def test_room_in_a_buffer_of_a_tun_device(length, room):
    assert tun_tailroom(length) == room


@pytest.mark.parametrize(("second", "left"), [(292, [308, 32]), (293, [28, 313])])
def test_a_short_second_fragment_is_copied_behind_the_first(lab, second, left):
    """Then the datagram is cut anew, at its longest fragment."""
    lab.admin("-A -u 192.0.2.1:80 -s rr", "-a -u 192.0.2.1:80 -r 10.1.0.11:80 -m")
    whole = Packet.udp(CLIENT, VIP, bytes(second), df=False)
    first, rest = piece(whole, 0, 8), piece(whole, 8, 8 + second)
    assert lab.send(first) == []
    assert [packet.length for _, packet, _ in lab.send(rest)] == left


def piece(packet, begin, end):
    """An IPv4 fragment."""
    word = begin >> 3 | (0x2000 if end < packet.length - 20 else 0)
    head = packet.raw[:2] + (20 + end - begin).to_bytes(2) + packet.raw[4:6] + word.to_bytes(2) + packet.raw[8:20]
    return with_checksum(Packet.parse(head + packet.raw[20 + begin : 20 + end]))


# --- IPv6 extension headers, other protocols --------------------------------------------------------------------------
def test_hop_by_hop_options_are_read_first_and_others_at_the_end(lab):
    lab.admin("-A -t [2001:db8:2::1]:80 -s rr", "-a -t [2001:db8:2::1]:80 -r [2001:db8:1::11]:80 -m")
    segment = Packet.tcp(CLIENT6, VIP6, "S").l4_bytes
    wrong = bytes((6, 0, 0x89, 4, 0, 0, 0, 0)) + segment
    _, packet, origin = lab.one(Packet.ip("2001:db8:f::1", "2001:db8:2::1", 0, wrong))
    assert (icmp(packet)[:3], origin) == ((4, 2, 42), Origin.ICMP)
    assert lab.one(Packet.ip("2001:db8:f::1", "2001:db8:2::1", 60, wrong))[0] == "rs"  # for the server to read
    _, packet, _ = lab.one(Packet.ip("2001:db8:f::1", "2001:db8:2::2", 60, wrong))
    assert icmp(packet)[:3] == (4, 2, 42)
    assert lab.send(Packet.ip("2001:db8:f::1", "2001:db8:2::2", 60, bytes((6, 0, 0x49, 4, 0, 0, 0, 0)) + segment)) == []


def test_an_ipv6_error_comes_from_the_device_that_the_packet_came_in_on(lab):
    lab.admin("-A -u [2001:db8:2::1]:80 -s rr")
    for device, source in (("cli", "2001:db8:9::1"), ("rs", "2001:db8:1::1")):
        assert lab.one(Packet.udp(CLIENT6, VIP6), device)[1].saddr == address(source)


@pytest.mark.parametrize(("protocol", "size", "code"), [(4, 19, None), (4, 20, 3), (41, 39, None), (41, 40, 3), (137, 3, None), (137, 4, 3), (47, 3, 2), (136, 48, None), (2, 48, None)])
def test_protocols_that_the_stack_knows(lab, protocol, size, code):
    answers = [icmp(packet)[:2] for _, packet, _ in lab.send(Packet.ip("203.0.113.7", "192.0.2.1", protocol, bytes(range(1, size + 1))))]
    assert answers == ([(3, code)] if code is not None else [])


@pytest.mark.parametrize("protocol", [103, 136])
def test_ipv6_protocols_that_the_stack_takes_without_a_word(lab, protocol):
    assert lab.send(Packet.ip("2001:db8:f::1", "2001:db8:2::1", protocol, bytes(48))) == []


# --- IPv4 options -----------------------------------------------------------------------------------------------------
def with_options(packet, options):
    raw = bytes.fromhex(options)
    return Packet.ip(format_addr(2, packet.saddr), format_addr(2, packet.daddr), packet.proto, packet.l4_bytes, options=raw, ttl=packet.ttl)


ROUTE = "07070400000000"


def test_the_host_records_its_address_and_ipvs_sends_it_on(nat):
    _, packet, _ = nat.one(with_options(Packet.tcp(CLIENT, VIP, "S"), ROUTE))
    assert packet.raw[20:28].hex() == "070708c000020100" and header_error(packet.raw) is None
    _, packet, _ = nat.one(with_options(Packet.tcp(SERVER, CLIENT, "SA"), ROUTE), "rs")
    assert packet.raw[20:28].hex() == "070708c000020100"  # translated, it is routed as a packet of the virtual address
    nat.ipvs.sysctl_write("snat_reroute", 0)
    _, packet, _ = nat.one(with_options(Packet.tcp(SERVER, CLIENT, "A"), ROUTE), "rs")
    assert packet.raw[20:28].hex() == "0707080a09000100"


def test_forwarded_packets_record_the_way_out(lab):
    _, packet, origin = lab.one(with_options(Packet.udp(CLIENT, "10.1.0.77:9"), ROUTE))
    assert (packet.raw[20:28].hex(), origin) == ("0707080a01000100", Origin.FORWARDED) and header_error(packet.raw) is None


def test_errors_of_host_and_model_carry_the_route(lab):
    lab.admin("-A -u 192.0.2.1:80 -s rr")
    for port in (80, 81):
        _, packet, _ = lab.one(with_options(Packet.udp(CLIENT, f"192.0.2.1:{port}"), ROUTE))
        assert packet.raw[20:28].hex() == "070708c000020100" and packet.l4_bytes[:2] == b"\x03\x03"


def test_wrong_options_are_told_and_source_routes_dropped(nat):
    _, packet, origin = nat.one(with_options(Packet.tcp(CLIENT, VIP, "S"), "07020000"))
    assert (icmp(packet)[:3], origin) == ((12, 0, 21 << 24), Origin.ICMP)
    assert nat.send(with_options(Packet.tcp(CLIENT, VIP, "S"), "83070400000000")) == []
    assert nat.send(with_options(Packet.tcp(CLIENT, VIP, "S"), "0708040000000000" + "07020000")) == []  # what could be answered would not fit
    assert nat.ipvs.conns() == []


def test_an_error_about_a_packet_that_is_too_long_quotes_the_stale_checksum(nat):
    nat.one(Packet.tcp(CLIENT, VIP, "S"))
    sent = with_options(Packet.tcp(CLIENT, VIP, "A", payload=bytes(1460)), ROUTE)
    sent = Packet.parse(sent.raw[:6] + b"\x40" + sent.raw[7:])
    _, packet, _ = nat.one(with_checksum(sent))
    quoted = icmp(packet)[3]
    assert quoted[20:28].hex() == "070708c000020100"
    assert int.from_bytes(quoted[10:12]) == int.from_bytes(with_checksum(sent).raw[10:12]) + 0x100


def with_checksum(packet):
    buffer = bytearray(packet.raw)
    set_header(buffer, packet.af, packet.saddr, packet.daddr, packet.ttl)
    return Packet.parse(bytes(buffer))


# --- through the host -------------------------------------------------------------------------------------------------
def test_forwarding(lab):
    device, packet, origin = lab.one(Packet.udp("10.1.0.11:1", CLIENT), "rs")
    assert (device, packet.ttl, origin) == ("cli", 63, Origin.FORWARDED)


@pytest.mark.parametrize(
    ("packet", "answer", "source"),
    [
        (Packet.udp("10.1.0.11:1", CLIENT, ttl=1), (11, 0, 0), "10.1.0.1"),
        (Packet.udp("10.1.0.11:1", CLIENT, bytes(1500)), (3, 4, 1500), "10.1.0.1"),
        (Packet.udp("[2001:db8:1::11]:1", CLIENT6, ttl=1), (3, 0, 0), "2001:db8:1::1"),
        (Packet.udp("[2001:db8:1::11]:1", CLIENT6, bytes(1500)), (2, 0, 1500), "2001:db8:1::1"),
        (Packet.udp("10.1.0.11:1", "10.3.0.1:2"), (3, 1, 0), "10.1.0.1"),
        (Packet.udp("[2001:db8:1::11]:1", "[2001:db8:3::1]:2"), (1, 0, 0), "2001:db8:1::1"),
    ],
)
def test_errors_of_forwarding(lab, packet, answer, source):
    lab.host.routing.add_route("10.3.0.0/16")
    lab.host.routing.add_route("2001:db8:3::/64")
    device, packet, origin = lab.one(packet, "rs")
    assert (device, icmp(packet)[:3], packet.saddr, origin) == ("rs", answer, address(source), Origin.ICMP)


def test_what_may_be_cut_is_cut(lab):
    lab.host.routing.set_mtu("cli", 1400)
    sent = lab.send(Packet.udp("10.1.0.11:1", CLIENT, bytes(1392), df=False), "rs")
    assert [packet.length for _, packet, _ in sent] == [1396, 44]


def test_errors_about_errors_and_to_nowhere_are_not_sent(lab):
    lab.host.routing.add_route("10.3.0.0/16")
    quoted = Packet.udp(CLIENT, "10.1.0.11:1").raw
    assert lab.send(Packet.icmp("10.1.0.11", "203.0.113.7", 3, 3, payload=quoted, ttl=1), "rs") == []
    assert lab.send(Packet.udp("10.3.0.1:1", CLIENT, ttl=1), "rs") == []


@pytest.mark.parametrize("source", ["192.0.2.1", "10.1.0.1", "127.0.0.1", "224.0.0.1", "0.0.0.0"])
def test_impossible_sources_are_dropped(lab, source):
    assert lab.send(Packet.icmp(source, "192.0.2.1")) == []


@pytest.mark.parametrize("raw", [b"", b"\x45", Packet.tcp(CLIENT, VIP).raw[:30], b"\x46" + Packet.tcp(CLIENT, VIP).raw[1:], Packet.tcp(CLIENT6, VIP6).raw[:59]])
def test_damaged_headers_are_dropped(lab, raw):
    assert lab.send(raw) == []


def test_bytes_behind_the_packet_are_cut_off(nat):
    assert nat.one(Packet.tcp(CLIENT, VIP, "S").raw + b"padding")[1].raw == Packet.tcp(CLIENT, SERVER, "S", ttl=63).raw


def test_a_device_must_exist(lab):
    with pytest.raises(KeyError):
        lab.host.inject("eth7", Packet.tcp(CLIENT, VIP).raw)


def test_what_the_host_sends_to_itself_comes_back_by_loopback(lab):
    packet = Packet.icmp("192.0.2.5", "192.0.2.1", 8, device="lo")
    assert lab.send(packet, "lo") == []


# --- path MTU ---------------------------------------------------------------------------------------------------------
def test_an_error_about_a_tunnel_lowers_the_mtu(lab):
    lab.admin("-A -u 192.0.2.1:80 -s rr", "-a -u 192.0.2.1:80 -r 10.1.0.11:80 -i")
    data = Packet.udp(CLIENT, VIP, bytes(1452))
    outer = lab.one(data)[1]
    assert outer.length == 1500
    told = Packet.icmp("10.1.0.77", "10.1.0.1", 3, 4, rest=(1400).to_bytes(4), payload=outer.raw[:148])
    assert icmp(lab.one(told, "rs")[1])[:3] == (3, 4, 1480)
    assert icmp(lab.one(data)[1])[:3] == (3, 4, 1380)
    told = Packet.icmp("10.1.0.77", "10.1.0.1", 3, 4, rest=(1300).to_bytes(4), payload=outer.raw[:148])
    assert icmp(lab.one(told, "rs")[1])[:3] == (3, 4, 1280)
    assert icmp(lab.one(data)[1])[:3] == (3, 4, 1280)


# --- synchronisation --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("behind", [b"", b"xyz"])  # bytes behind the datagram are none of it
def test_the_master_sends_to_its_group_and_a_backup_takes_it(nat, behind):
    nat.admin("--start-daemon master --mcast-interface rs --syncid 7")
    for flags in ("S", "A", "PA"):
        nat.send(Packet.tcp(CLIENT, VIP, flags))
        nat.send(Packet.tcp(SERVER, CLIENT, "SA"), "rs")
    nat.until(1000)
    ((device, datagram, origin),) = nat.drain()
    assert (device, origin, datagram.ttl, datagram.df) == ("rs", Origin.SYNC, 1, False)
    assert (datagram.saddr, datagram.daddr, datagram.dport) == (address("10.1.0.1"), address("224.0.0.81"), 8848)

    backup = Lab()
    backup.admin("--start-daemon backup --mcast-interface cli --syncid 7")
    datagram = Packet.udp("10.9.0.99:40000", "224.0.0.81:8848", datagram.payload, ttl=1)
    datagram = Packet.ip("10.9.0.99", "224.0.0.81", 17, datagram.l4_bytes + behind, ttl=1)
    assert backup.send(datagram, "rs") == []
    assert backup.ipvs.conns() == []
    assert backup.send(datagram, "cli") == []
    assert [cp.state_name for cp in backup.ipvs.conns()] == ["ESTABLISHED"]


# --- the trace machine ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("start_jiffies", "now"), [(1000, (1 << 32) + 1000), (4294917234, 4294917234)])
def test_the_clock_shows_64_bits_of_jiffies(start_jiffies, now):
    host = trace_machine(start_jiffies)
    assert host.ipvs.clock.now == now
    assert host.ipvs.ns.sysctl.run_estimation == 0
    assert trace_machine(start_jiffies, estimation=True).ipvs.ns.sysctl.run_estimation == 1


def test_the_trace_machine_has_little_memory(nat):
    nat.ipvs.sysctl_write("amemthresh", 100_000)
    nat.ipvs.sysctl_write("drop_packet", 1)
    assert [nat.one(Packet.tcp(f"203.0.113.7:{sport}", VIP, "S"))[0] for sport in (40000, 40001)] == ["rs", "rs"]
    nat.ipvs.sysctl_write("amemthresh", 100_000_000)
    nat.until(300)
    assert nat.send(Packet.tcp("203.0.113.7:40002", VIP, "S")) == []


# --- connection tracking ----------------------------------------------------------------------------------------------
@pytest.fixture
def tracked(lab):
    lab.ipvs.sysctl_write("conntrack", 1)
    lab.admin("-A -t 192.0.2.1:21 -s rr", "-a -t 192.0.2.1:21 -r 10.1.0.14:21 -m")
    lab.admin("-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m")
    return lab


def test_a_reset_that_conntrack_does_not_believe_costs_one_packet(tracked):
    tracked.send(Packet.tcp(CLIENT, VIP, "S"))
    tracked.send(Packet.tcp(SERVER, CLIENT, "SA", seq=9000, ack=1001), "rs")
    tracked.send(Packet.tcp(CLIENT, VIP, "A", seq=1001, ack=9001))
    tracked.send(Packet.tcp(CLIENT, VIP, "R", seq=900000))
    assert [cp.state_name for cp in tracked.ipvs.conns()] == ["CLOSE"]
    assert tracked.send(Packet.tcp(CLIENT, VIP, "S", seq=500000)) == []
    tracked.until(2)
    assert len(tracked.host.conntrack) == 0
    assert tracked.one(Packet.tcp(CLIENT, VIP, "S", seq=500000))[0] == "rs"


def test_a_packet_that_conntrack_does_not_know_meets_the_entry_that_it_has(tracked):
    """An acknowledgement before any answer is invalid at first; translated it begins an entry whose answers would be those of the old one: dropped."""
    ftp = "192.0.2.1:21"
    assert tracked.one(Packet.tcp(CLIENT, ftp, "S"))[0] == "rs"
    assert tracked.send(Packet.tcp(CLIENT, ftp, "A", seq=1001, ack=1)) == []
    assert [cp.state_name for cp in tracked.ipvs.conns()] == ["ESTABLISHED"]


def test_replies_and_answers_of_the_host_are_tracked_too(tracked):
    tracked.send(Packet.udp(CLIENT, "192.0.2.1:81"))
    assert len(tracked.host.conntrack) == 1
    tracked.send(Packet.tcp(CLIENT, "192.0.2.1:81", "S"))
    assert len(tracked.host.conntrack) == 1  # the host's reset ends what the SYN began
    tracked.send(Packet.tcp("10.1.0.11:1", CLIENT, "S"), "rs")
    assert len(tracked.host.conntrack) == 2


@pytest.mark.parametrize(("server", "told"), [("192.0.2.9:53", [(11, 1)]), ("10.1.0.77:53", [])])
def test_fragments_that_conntrack_waits_for(tracked, server, told):
    """Nobody is told of those that would have passed through."""
    first, last = fragment(Packet.udp(CLIENT, server, bytes(100), df=False), 76)
    assert tracked.send(first) == []
    tracked.until(given_up(tracked))
    assert [icmp(packet)[:2] for _, packet, _ in tracked.drain()] == told
    assert tracked.send(last) == []


def test_a_reply_that_is_invalid_cannot_be_changed_by_a_helper(tracked):
    """So it is dropped, as where there is no connection tracking."""
    ftp, server = "192.0.2.1:21", "10.1.0.14:21"
    tracked.send(Packet.tcp(CLIENT, ftp, "S", seq=1000))
    tracked.send(Packet.tcp(server, CLIENT, "SA", seq=9000, ack=1001), "rs")
    tracked.send(Packet.tcp(CLIENT, ftp, "A", seq=1001, ack=9001))
    tracked.send(Packet.tcp(CLIENT, ftp, "PA", seq=1001, ack=9001, payload=b"EPSV\r\n"))
    reply = b"229 Entering Extended Passive Mode (|||43814|)\r\n"
    assert tracked.send(Packet.tcp(server, CLIENT, "PA", seq=9001, ack=99999, payload=reply), "rs") == []
    assert tracked.one(Packet.tcp(server, CLIENT, "PA", seq=9001, ack=1007, payload=b"230 ok\r\n"), "rs")[0] == "cli"


def test_with_conntrack_fragments_are_put_together_before_the_marks(tracked):
    tracked.host.marks.run("iptables -t mangle -A PREROUTING -p udp --dport 53 -j MARK --set-mark 7")
    tracked.admin("-A -f 7 -s rr", "-a -f 7 -r 10.1.0.11:0 -g")
    first, last = fragment(Packet.udp(CLIENT, "192.0.2.9:53", bytes(100), df=False), 76)
    assert tracked.send(first) == []
    assert len(tracked.send(last)) == 2
