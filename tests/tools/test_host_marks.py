"""Which packets an iptables rule marks, which it drops, and what the command prints."""

import pytest

from ipvs_model import flags as F
from ipvs_model.packet import Packet
from ipvs_model.packet.fragment import fragment
from ipvs_model.tools.host_marks import MarkError, MarkRules, parse_rule

MANGLE = "iptables -t mangle -A PREROUTING "
TO_MARK = " -j MARK --set-mark 7"


def marked(match, packet, *, program="iptables"):
    """The mark that one rule gives a packet, or None if it drops it."""
    rules = MarkRules()
    assert rules.run(f"{program} -t mangle -A PREROUTING {match}{TO_MARK}") == (0, [])
    return packet.mark if rules.apply(packet) else None


def tcp(port=80, source="203.0.113.7:40000", device="cli"):
    return Packet.tcp(source, f"192.0.2.1:{port}", device=device)


MATCHES = {
    "everything": ("", tcp(), 7),
    "destination": ("-d 192.0.2.0/24", tcp(), 7),
    "one destination": ("-d 192.0.2.2", tcp(), 0),
    "source": ("-s 203.0.113.0/24", tcp(), 7),
    "other source": ("-s 198.51.100.0/24", tcp(), 0),
    "device": ("-i cli", tcp(), 7),
    "other device": ("-i rs", tcp(), 0),
    "protocol": ("-p tcp", tcp(), 7),
    "other protocol": ("-p udp", tcp(), 0),
    "protocol by number": ("-p 6", tcp(), 7),
    "port": ("-p tcp --dport 80", tcp(), 7),
    "other port": ("-p tcp --dport 81", tcp(), 0),
    "range": ("-p tcp --dport 79:81", tcp(), 7),
    "open range": ("-p tcp --dport 79:", tcp(), 7),
    "source port": ("-p tcp --sport 40000", tcp(), 7),
    "multiport": ("-p tcp -m multiport --dports 22,80,443", tcp(), 7),
    "multiport, none": ("-p tcp -m multiport --dports 22,443", tcp(), 0),
    "port of another protocol": ("-p udp --dport 80", tcp(), 0),
    "IPv4 rule, IPv6 packet": ("", Packet.tcp("[2001:db8::1]:1", "[2001:db8::2]:2"), 0),
    "short header": ("-p tcp --dport 80", Packet.parse(tcp().raw[:2] + (32).to_bytes(2, "big") + tcp().raw[4:32]), None),
    "no ports at all": ("-p udp -m multiport --dports 53", Packet.ip("203.0.113.7", "192.0.2.1", F.IPPROTO_UDP, b"\0\0"), None),
    "no ports wanted": ("-p udp", Packet.ip("203.0.113.7", "192.0.2.1", F.IPPROTO_UDP, b"\0\0"), 7),
}


@pytest.mark.parametrize(("match", "packet", "mark"), MATCHES.values(), ids=MATCHES)
def test_match(match, packet, mark):
    packet.mark = 0
    assert marked(match, packet) == mark


def test_only_the_first_fragment_has_ports():
    pieces = fragment(Packet.udp("203.0.113.7:1", "192.0.2.1:53", bytes(100), df=False), 76)
    assert [marked("-p udp --dport 53", piece) for piece in pieces] == [7, 0]


def test_ipv6():
    packet = Packet.udp("[2001:db8:f::1]:1", "[2001:db8:2::1]:53")
    assert marked("-d 2001:db8:2::/64 -p udp --dport 53", packet, program="ip6tables") == 7


def test_the_last_matching_rule_decides():
    rules = MarkRules()
    rules.run(f"{MANGLE} -j MARK --set-mark 1; {MANGLE} -p tcp -j MARK --set-mark 0x2; {MANGLE} -p udp -j MARK --set-mark 3")
    packet = tcp()
    assert rules.apply(packet)
    assert packet.mark == 2


def test_a_mask_keeps_the_other_bits():
    rules = MarkRules()
    rules.run(f"{MANGLE} -j MARK --set-mark 0x10/0xf0")
    packet = tcp()
    packet.mark = 0x123
    assert rules.apply(packet)
    assert packet.mark == 0x113


def test_without_multiport_that_rule_fails_and_the_next_one_counts():
    rules = MarkRules(multiport=False)
    status, printed = rules.run(f"{MANGLE} -p tcp -m multiport --dports 80,443{TO_MARK}; {MANGLE} -p udp --dport 53 -j MARK --set-mark 9")
    assert status == 0
    assert printed == ["Warning: Extension multiport revision 0 not supported, missing kernel module?", "iptables: No chain/target/match by that name."]
    assert [rule.value for rule in rules.rules] == [9]


def test_and_runs_only_after_success():
    rules = MarkRules(multiport=False)
    status, _ = rules.run(f"{MANGLE} -p tcp -m multiport --dports 80{TO_MARK} && {MANGLE} -j MARK --set-mark 9")
    assert (status, rules.rules) == (1, [])


@pytest.mark.parametrize(
    "command",
    [
        "",
        "ip rule add fwmark 1 lookup 100",
        "iptables -A INPUT -j DROP",
        f"{MANGLE} -j DROP",
        f"{MANGLE} -m state --state NEW{TO_MARK}",
        f"{MANGLE} --dport 80{TO_MARK}",
        f"{MANGLE} -p tcp --dport http{TO_MARK}",
        f"{MANGLE} -p nonsense{TO_MARK}",
        f"{MANGLE} -d 2001:db8::/32{TO_MARK}",
        f"{MANGLE} -d 192.0.2.0/33{TO_MARK}",
        f"{MANGLE} -j",
        f"{MANGLE} --ttl 3{TO_MARK}",
    ],
)
def test_what_is_not_understood_is_refused(command):
    with pytest.raises(MarkError):
        parse_rule(command.split())
