"""Firewall marks: the few iptables commands by which a director marks packets for its fwmark services.

Understood: ``-t mangle -A PREROUTING [-s NET] [-d NET] [-i DEVICE] [-p PROTO [--sport P[:Q]] [--dport P[:Q]]] [-m multiport --sports LIST | --dports LIST]
-j MARK --set-mark N[/MASK]``, several separated by ``;`` or ``&&``, for iptables and ip6tables.

source: net/netfilter/xt_tcpudp.c, xt_multiport.c, xt_mark.c
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ipvs_model.flags import AF_INET, AF_INET6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from ipvs_model.packet import Packet

FAMILIES: Final = {"iptables": AF_INET, "ip6tables": AF_INET6}
PROTOCOLS: Final = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP, "sctp": IPPROTO_SCTP, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "esp": 50, "ah": 51, "all": 0}
MATCHES_OF_PROTOCOLS: Final = ("tcp", "udp", "sctp")

#: header bytes that a match on ports must be able to read, or the packet is dropped
PORT_MATCH_BYTES: Final = {IPPROTO_TCP: 20, IPPROTO_UDP: 8, IPPROTO_SCTP: 12}
MULTIPORT_BYTES: Final = 4

NO_MULTIPORT: Final = (
    "Warning: Extension multiport revision 0 not supported, missing kernel module?",
    "{}: No chain/target/match by that name.",
)

Ports = tuple[tuple[int, int], ...]
Network = tuple[int, int]


class MarkError(ValueError):
    """A firewall command that this host does not know."""


@frozen
class MarkRule:
    """One rule. ``ports`` None: not tested; ``mask``: the bits of the mark that are replaced by those of ``value``."""

    af: int
    source: Network | None = None
    destination: Network | None = None
    device: str | None = None
    protocol: int = 0
    sports: Ports | None = None
    dports: Ports | None = None
    multiport: bool = False
    value: int = 0
    mask: int = 0xFFFFFFFF

    def matches(self, packet: Packet) -> bool | None:
        """Whether the rule applies; None: the ports that it wants cannot be read, and the packet is dropped."""
        if packet.af != self.af or (self.device is not None and packet.device != self.device):
            return False
        for network, address in ((self.source, packet.src >> 16), (self.destination, packet.dst >> 16)):
            if network is not None and address >> network[0] != network[1]:
                return False
        if self.protocol and packet.proto != self.protocol:
            return False
        if self.sports is None and self.dports is None:
            return True
        if packet.fragoffs or (packet.frag and not packet.has_ports):
            return False
        if packet.l4_len < (MULTIPORT_BYTES if self.multiport else PORT_MATCH_BYTES[self.protocol]):
            return None
        return _within(self.sports, packet.src & 0xFFFF) and _within(self.dports, packet.dst & 0xFFFF)


def _within(ports: Ports | None, port: int) -> bool:
    return ports is None or any(low <= port <= high for low, high in ports)


class MarkRules:
    """The mangle PREROUTING chains of a host. ``multiport``: whether its kernel has that match."""

    def __init__(self, *, multiport: bool = True) -> None:
        self.multiport = multiport
        self.rules: list[MarkRule] = []

    def run(self, command: str) -> tuple[int, list[str]]:
        """Run iptables commands as a shell would; exit status of the last one and what all of them printed. Raises MarkError for any other command."""
        status = 0
        printed: list[str] = []
        for words, needs_success in _commands(command):
            if needs_success and status:
                continue
            rule, uses_multiport = parse_rule(words)
            if uses_multiport and not self.multiport:
                status = 1
                printed += [line.format(words[0]) for line in NO_MULTIPORT]
            else:
                status = 0
                self.rules.append(rule)
        return status, printed

    def apply(self, packet: Packet) -> bool:
        """Set a received packet's mark; False: a rule dropped it."""
        for rule in self.rules:
            match rule.matches(packet):
                case None:
                    return False
                case True:
                    packet.mark = packet.mark & ~rule.mask ^ rule.value
        return True


def _commands(text: str) -> Iterable[tuple[list[str], bool]]:
    """The commands of a shell line, and whether each runs only if the one before succeeded ("&&" in front)."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&")
    lexer.whitespace_split = True
    words: list[str] = []
    joint = ";"
    for word in [*lexer, ";"]:
        if word not in (";", "&&"):
            words.append(word)
        elif words:
            yield words, joint == "&&"
            words, joint = [], word


def parse_rule(words: list[str]) -> tuple[MarkRule, bool]:
    """The rule of one command, and whether it needs the multiport match. Raises MarkError.

    >>> parse_rule("iptables -t mangle -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 7".split())[0].value
    7
    """
    if not words or words[0] not in FAMILIES:
        raise MarkError(f"not a firewall command: {' '.join(words)}")
    rule = MarkRule(FAMILIES[words[0]])
    target = table = chain = None
    rest = iter(words[1:])
    for option in rest:
        value = next(rest, None)
        if value is None:
            raise MarkError(f"{option} wants a value")
        match option:
            case "-t" | "--table":
                table = value
            case "-A" | "--append":
                chain = value
            case "-j" | "--jump":
                target = value
            case "-p" | "--protocol":
                rule = evolve(rule, protocol=_protocol(value))
            case "-s" | "--source":
                rule = evolve(rule, source=_network(rule.af, value))
            case "-d" | "--destination":
                rule = evolve(rule, destination=_network(rule.af, value))
            case "-i" | "--in-interface":
                rule = evolve(rule, device=value)
            case "-m" | "--match":
                if value != "multiport" and value not in MATCHES_OF_PROTOCOLS:
                    raise MarkError(f"unknown match {value}")
                rule = evolve(rule, multiport=rule.multiport or value == "multiport")
            case "--sport" | "--source-port" | "--sports" | "--source-ports":
                rule = evolve(rule, sports=_ports(value))
            case "--dport" | "--destination-port" | "--dports" | "--destination-ports":
                rule = evolve(rule, dports=_ports(value))
            case "--set-mark" | "--set-xmark":
                mark, _, mask = value.partition("/")
                rule = evolve(rule, value=int(mark, 0), mask=int(mask, 0) if mask else 0xFFFFFFFF)
            case _:
                raise MarkError(f"unknown option {option}")
    if (table, chain, target) != ("mangle", "PREROUTING", "MARK"):
        raise MarkError(f"only marks in mangle PREROUTING are known, not {target} in {table} {chain}")
    if (rule.sports or rule.dports) and rule.protocol not in PORT_MATCH_BYTES:
        raise MarkError("a match on ports needs -p tcp, udp or sctp")
    return rule, rule.multiport


def _protocol(text: str) -> int:
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    if text.isdecimal() and int(text) < 256:
        return int(text)
    raise MarkError(f"unknown protocol {text}")


def _network(af: int, text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise MarkError(str(error)) from None
    if network.version != (4 if af == AF_INET else 6):
        raise MarkError(f"{text} is of the other family")
    drop = network.max_prefixlen - network.prefixlen
    return drop, int(network.network_address) >> drop


def _ports(text: str) -> Ports:
    out = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        try:
            out.append((int(low or "0"), int(high or "65535") if colon else int(low)))
        except ValueError:
            raise MarkError(f"not a port: {part}") from None
    return tuple(out)
