"""What a replay of a kernel trace has to reproduce, and the few fields that nobody can foretell.

Masked, on both sides alike and nowhere else: the IPv4 id of packets that the director's host makes (tunnel headers without DF, ICMP messages, sync datagrams),
the IPv6 flow label of ICMPv6 messages, resets and sync datagrams of the host, the source port of sync datagrams and GUE headers. A checksum that covers a
masked field is replaced by one word for "right"; a wrong one stays and is compared.

Lines whose order depends on the kernel's random seeds are compared as multisets: entries of the connection table; services (each with its destinations
in exact order) in /proc/net/ip_vs and in listings that ipvsadm does not sort.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Final

from ipvs_model.flags import IPPROTO_ICMPV6, IPPROTO_UDP
from ipvs_model.packet.checksum import csum16
from ipvs_model.tools.host_output import Emission, Origin

IPPROTO_IGMP: Final = 2
IPPROTO_HOPOPTS: Final = 0
IPPROTO_FRAGMENT: Final = 44
MLD2_REPORT: Final = 143
RIGHT: Final = b"\xff\xff"  #: stands for "the checksum is right" where a field under it is masked

#: whose IPv4 id, IPv6 flow label, UDP source port is masked
MASK_ID: Final = frozenset({Origin.TUNNEL, Origin.ICMP, Origin.SYNC})
MASK_FLOW_LABEL: Final = frozenset({Origin.ICMP, Origin.RESET, Origin.SYNC})
MASK_PORT: Final = frozenset({Origin.TUNNEL, Origin.SYNC})


# --- packets ----------------------------------------------------------------------------------------------------------
def is_join(raw: bytes) -> bool:
    """Whether a packet is the host's own IGMP or MLD report: the only packets that a comparison leaves out.

    >>> is_join(bytes.fromhex("46c00028000040000102f9ef0a090001e0000016940400002200f9ac00000001"))
    True
    """
    if len(raw) >= 20 and raw[0] >> 4 == 4:
        return raw[9] == IPPROTO_IGMP and raw[8] == 1 and raw[16] >> 4 == 0xE
    if len(raw) > 48 and raw[0] >> 4 == 6:
        return raw[6] == IPPROTO_HOPOPTS and raw[40] == IPPROTO_ICMPV6 and raw[48] == MLD2_REPORT and raw[24] == 0xFF
    return False


def masked(raw: bytes, origin: Origin) -> bytes:
    """A packet with the unpredictable fields of its origin blotted out; damaged and all other packets come back as they are."""
    if origin not in MASK_ID and origin not in MASK_FLOW_LABEL:
        return raw
    if len(raw) >= 20 and raw[0] >> 4 == 4:
        return _masked4(raw, origin)
    if len(raw) >= 40 and raw[0] >> 4 == 6:
        return _masked6(raw, origin)
    return raw


def _masked4(raw: bytes, origin: Origin) -> bytes:
    out = bytearray(raw)
    header = (raw[0] & 15) * 4
    word = raw[6] << 8 | raw[7]
    if origin in MASK_ID and not word & 0x4000:
        if not csum16(raw[:header]):
            out[10:12] = RIGHT
        out[4:6] = bytes(2)
    if origin in MASK_PORT and raw[9] == IPPROTO_UDP and not word & 0x1FFF:
        pseudo = raw[12:20] + bytes((0, IPPROTO_UDP)) + (len(raw) - header).to_bytes(2, "big")
        _mask_port(out, header, pseudo, whole=not word & 0x2000)
    return bytes(out)


def _masked6(raw: bytes, origin: Origin) -> bytes:
    out = bytearray(raw)
    if origin in MASK_FLOW_LABEL:
        out[1:4] = bytes((raw[1] & 0xF0, 0, 0))
    if origin in MASK_PORT:
        if raw[6] == IPPROTO_UDP:
            _mask_port(out, 40, raw[8:40] + (len(raw) - 40).to_bytes(4, "big") + bytes((0, 0, 0, IPPROTO_UDP)), whole=True)
        elif raw[6] == IPPROTO_FRAGMENT and len(raw) >= 56 and raw[40] == IPPROTO_UDP and not (raw[42] << 8 | raw[43]) & 0xFFF8:
            _mask_port(out, 48, b"", whole=False)
    return bytes(out)


def _mask_port(out: bytearray, l4: int, pseudo: bytes, *, whole: bool) -> None:
    """Blot out a UDP source port; the checksum of a datagram in pieces cannot be judged and goes with it. Checksum 0 (none) stays."""
    if len(out) < l4 + 8:
        return
    if out[l4 + 6 : l4 + 8] != bytes(2) and (not whole or not csum16(pseudo + bytes(out[l4:]))):
        out[l4 + 6 : l4 + 8] = RIGHT
    out[l4 : l4 + 2] = bytes(2)


def compare_emitted(kernel: Iterable[tuple[str, bytes]], model: Sequence[Emission]) -> tuple[list[str], list[str]] | None:
    """The packets that differ, device by device and in order, as lines of both sides; None if none do."""
    expected: dict[str, list[bytes]] = {}
    for device, raw in kernel:
        if not is_join(raw):
            expected.setdefault(device, []).append(raw)
    found: dict[str, list[Emission]] = {}
    for emission in model:
        found.setdefault(emission.device, []).append(emission)
    left: list[str] = []
    right: list[str] = []
    for device in dict.fromkeys([*expected, *found]):
        for raw, made in zip_longest(expected.get(device, ()), found.get(device, ())):
            if raw is None or made is None or masked(raw, made.origin) != masked(made.raw, made.origin):
                left.append(f"{device}: {raw.hex()}" if raw is not None else f"{device}: nothing")
                right.append(f"{device}: {made.raw.hex()} ({made.origin})" if made is not None else f"{device}: nothing")
    return (left, right) if left else None


# --- text -------------------------------------------------------------------------------------------------------------
def _blocks(lines: Sequence[str], starts: Callable[[str], bool]) -> tuple[tuple[str, ...], Counter[tuple[str, ...]]]:
    """Lines before the first block, and the multiset of blocks; a block is a line that starts one and those that follow it."""
    head: list[str] = []
    blocks: list[list[str]] = []
    for line in lines:
        if starts(line):
            blocks.append([line])
        else:
            (blocks[-1] if blocks else head).append(line)
    return tuple(head), Counter(tuple(block) for block in blocks)


def _is_service(line: str) -> bool:
    """The line of a service in /proc/net/ip_vs and `ipvsadm -L`: no arrow in front, and below the title."""
    return not line.startswith(("  ->", "IP Virtual Server", "Prot "))


def exact(lines: Sequence[str]) -> object:
    """Lines whose order counts."""
    return tuple(lines)


def services(lines: Sequence[str]) -> object:
    """Services in any order, each with its destinations in exact order."""
    return _blocks(lines, _is_service)


def entries(lines: Sequence[str]) -> object:
    """Connection entries in any order, below the title of one or two lines."""
    head = 2 if lines and lines[0] == "IPVS connection entries" else 1
    return tuple(lines[:head]), Counter(lines[head:])


#: file of entries → column of its lines that changes with time
EXPIRES: Final[Mapping[str, int]] = {"ip_vs_conn": 8, "ip_vs_conn_sync": 9}


def read_across(name: str, kernel: Sequence[str], shots: Sequence[Sequence[str]]) -> int | None:
    """Whether a file of entries was read while the jiffies went on: index of the last of the model's ``shots`` (one a jiffy) that is needed, None if none will do.

    Line by line, in the order in which the kernel printed them, each is shown by a shot not before that of the line above; each entry is shown once, and all that
    the last shot holds are there.
    """
    now = 0
    shown: Counter[str] = Counter()
    lines = [Counter(shot) for shot in shots]
    for line in kernel:
        while shown[line] >= lines[now][line]:
            now += 1
            if now == len(shots):
                return None
        shown[line] += 1

    def identities(counted: Counter[str]) -> Counter[str]:
        out: Counter[str] = Counter()
        for line, count in counted.items():
            words = line.split()
            del words[EXPIRES[name] : EXPIRES[name] + 1]
            out[" ".join(words)] += count
        return out

    held, printed = identities(lines[now]), identities(shown)
    possible = Counter[str]()
    for shot in lines[: now + 1]:
        possible |= identities(shot)
    return now if held <= printed <= possible else None


#: file of a dump → how its lines are compared; the order is that in which a dump shows them
FILES: Final[Mapping[str, Callable[[Sequence[str]], object]]] = {
    "ip_vs": services,
    "ip_vs_conn": entries,
    "ip_vs_stats": exact,
    "ip_vs_stats_percpu": exact,
    "ip_vs_conn_sync": entries,
}


def listing_form(args: Sequence[str], first_line: str) -> Callable[[Sequence[str]], object]:
    """How the output of an ipvsadm command is compared: exactly, but for entries, and for services that it was told not to sort."""
    if first_line == "IPVS connection entries":
        return entries
    return services if "--nosort" in args else exact


def differing(kernel: Sequence[str], model: Sequence[str]) -> tuple[list[str], list[str]]:
    """Lines that only one side has; all lines if only their order differs."""
    a, b = Counter(kernel), Counter(model)
    if a == b:
        return list(kernel), list(model)
    return list((a - b).elements()), list((b - a).elements())
