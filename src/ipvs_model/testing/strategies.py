"""Hypothesis strategies: addresses, packets whole and damaged, conversations, rules as ipvsadm takes them, sysctls, and how long to wait.

They are weighted as real life is: few clients, few servers and few ports, so that things meet; most packets in turn, some out of turn, few damaged;
clock advances that like the moment before, at and after the next timer. What a strategy draws prints as Python that can be pasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen
from hypothesis import strategies as st

from ipvs_model.packet import Packet
from ipvs_model.testing.conversations import DEVICE, WORDS, Conversation, Say, Side, say_packet
from ipvs_model.timers import Clock

CLIENTS: Final = ("203.0.113.7", "203.0.113.8", "203.0.113.200", "198.51.100.7")
CLIENTS6: Final = ("2001:db8:9::7", "2001:db8:9::8", "2001:db8:9:1::7")
CLIENT_PORTS: Final = (40000, 40001, 40002, 40003)
ODD_PORTS: Final = (20, 1, 1023, 65535, 0)
SERVERS: Final = ("10.1.0.11", "10.1.0.12", "10.1.0.13", "10.2.0.14")
SERVERS6: Final = ("2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13")
VIRTUAL: Final = "192.0.2.1"
VIRTUAL6: Final = "2001:db8:2::1"
VIRTUAL_PORTS: Final = {"tcp": (80, 443, 21), "udp": (80, 53), "sctp": (80, 3868)}
OPTION: Final = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
SCHEDULERS: Final = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos")
SCHED_FLAGS: Final = ("sh-fallback", "sh-port", "sh-fallback,sh-port", "mh-fallback", "mh-port")
METHODS: Final = ("-m", "-m", "-m", "-g", "-i")
SYSCTLS: Final = {
    "conn_reuse_mode": (0, 0, 1, 2, 3),
    "expire_nodest_conn": (0, 1),
    "expire_quiescent_template": (0, 1),
    "sloppy_tcp": (0, 1),
    "sloppy_sctp": (0, 1),
    "schedule_icmp": (0, 1),
    "nat_icmp_send": (0, 1),
    "ignore_tunneled": (0, 1),
    "cache_bypass": (0, 1),
    "drop_packet": (0, 1, 3),
    "drop_entry": (0, 1, 3),
    "secure_tcp": (0, 1, 3),
    "conntrack": (0, 1),
    "pmtu_disc": (0, 1),
}
#: settings as they are drawn: those about reuse and deleted servers three times as often
SETTINGS: Final = tuple((name, value) for number, name in enumerate(SYSCTLS) for value in SYSCTLS[name] for _ in range(3 if number < 3 else 1))
#: periods at which something ends: postponement and SYN_RECV, CLOSE, FIN_WAIT, the trash, UDP, ESTABLISHED
PERIODS_S: Final = (60, 1, 2, 10, 30, 61, 120, 180, 300, 900, 1800)


def often(usual: st.SearchStrategy[str], rare: st.SearchStrategy[str], one_in: int = 16) -> st.SearchStrategy[str]:
    """Mostly the usual, once in a while the rare."""
    return st.integers(0, one_in - 1).flatmap(lambda number: rare if number == one_in - 1 else usual)


SIDES: Final[st.SearchStrategy[Side]] = st.sampled_from(("client", "server"))


# --- addresses --------------------------------------------------------------------------------------------------------
def addresses(*, ipv6: bool = False) -> st.SearchStrategy[str]:
    """Addresses as text: nearly always one of the few that play a part, else any."""
    known = (*CLIENTS6, *SERVERS6, VIRTUAL6) if ipv6 else (*CLIENTS, *SERVERS, VIRTUAL)
    return often(st.sampled_from(known), st.ip_addresses(v=6 if ipv6 else 4).map(str))


def endpoint(address: str, port: int) -> str:
    """An endpoint as people write it.

    >>> endpoint("2001:db8::1", 80)
    '[2001:db8::1]:80'
    """
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def clients(*, ipv6: bool = False) -> st.SearchStrategy[str]:
    """Client endpoints: three networks, a handful of ports, now and then an odd one."""
    ports = st.integers(0, 24).flatmap(lambda number: st.sampled_from(ODD_PORTS if number == 24 else CLIENT_PORTS))
    return st.builds(endpoint, st.sampled_from(CLIENTS6 if ipv6 else CLIENTS), ports)


def servers(*, ipv6: bool = False, ports: Sequence[int] = (80, 8080)) -> st.SearchStrategy[str]:
    """Real servers' endpoints."""
    return st.builds(endpoint, st.sampled_from(SERVERS6 if ipv6 else SERVERS), st.sampled_from(tuple(ports)))


# --- packets ----------------------------------------------------------------------------------------------------------
#: what a packet may be: protocol and word, the usual ones more than once
PACKET_KINDS: Final = (
    *(("tcp", word) for word in WORDS["tcp"]),
    *(("udp", "DATA"),) * 4,
    *(("sctp", word) for word in WORDS["sctp"]),
    *(("icmp", kind) for kind in ("8/0", "3/1", "3/3", "3/4", "11/0", "4/0", "0/0")),
    ("esp", ""),
    ("ah", ""),
)


@st.composite
def packets(draw: st.DrawFn, *, ipv6: bool | None = None) -> Packet:
    """Whole packets between addresses that play a part: TCP, UDP and SCTP with any word, some ICMP, ESP and AH."""
    six = draw(st.integers(0, 7)) == 7 if ipv6 is None else ipv6
    source, target = draw(addresses(ipv6=six)), draw(addresses(ipv6=six))
    kind, word = draw(st.sampled_from(PACKET_KINDS))
    if kind == "icmp":
        number, _, code = word.partition("/")
        return Packet.icmp(source, target, int(number), int(code), device=DEVICE)
    if kind in ("esp", "ah"):
        return (Packet.esp if kind == "esp" else Packet.ah)(source, target, device=DEVICE)
    ports = (*CLIENT_PORTS, *VIRTUAL_PORTS[kind], 8080, *ODD_PORTS)
    ends = endpoint(source, draw(st.sampled_from(ports))), endpoint(target, draw(st.sampled_from(ports)))
    return say_packet(kind, *ends, word, mark=draw(st.sampled_from((0, 0, 0, 1))))


def damaged(packet: Packet, cut: int, at: int, value: int) -> Packet:
    """A packet with one byte changed, cut off after so many bytes (0 = not cut)."""
    raw = bytearray(packet.raw)
    raw[at % len(raw)] = value
    return Packet.parse(bytes(raw[: cut or None]), mark=packet.mark, device=packet.device)


def damaged_packets() -> st.SearchStrategy[Packet]:
    """Packets cut short or with a wrong byte anywhere: lengths, offsets, checksums, protocols. Never an exception, whatever it is."""
    return st.builds(damaged, packets(), st.one_of(st.just(0), st.integers(1, 60)), st.integers(0, 59), st.integers(0, 255))


def any_packets() -> st.SearchStrategy[Packet]:
    """Mostly whole packets, some damaged."""
    return st.integers(0, 4).flatmap(lambda number: damaged_packets() if number == 4 else packets())


# --- conversations ----------------------------------------------------------------------------------------------------
@st.composite
def conversations(draw: st.DrawFn, protocol: str = "tcp", *, max_words: int = 12) -> list[Say]:
    """What is said in one conversation, in order: it opens as real ones do, goes on mostly in turn, and may close, reset, or say anything.

    Nine of ten reach the open phase. Give the words to a `Conversation` one by one; it keeps the phase by itself.
    """
    talk = Conversation(protocol, "203.0.113.7:40000", "192.0.2.1:80", server="10.1.0.11:80")
    said: list[Say] = []

    def add(say: Say) -> None:
        said.append(say)
        talk.said(say)

    if draw(st.integers(0, 9)) < 9:
        while talk.phase not in ("open", "asked"):
            add(talk.next())
    for move in draw(st.lists(st.sampled_from(("on", "on", "on", "on", "on", "close", "reset", "any")), max_size=max_words)):
        if move == "on":
            add(talk.next())
            continue
        side = draw(SIDES)
        if move == "close":
            add(talk.closing(side))
        elif move == "reset":
            add(talk.resetting(side))
        else:
            add(Say(side, draw(st.sampled_from(WORDS[protocol]))))
    return said


# --- rules, as ipvsadm takes them -------------------------------------------------------------------------------------
#: what a service is for; the usual ones more than once
SERVICE_KINDS: Final = (*("tcp 80",) * 4, "tcp 443", "tcp 21", *("udp 80",) * 3, "udp 53", "sctp 80", "sctp 3868", "mark 1", "mark 2", "tcp 0")
PERSISTENCE: Final = ("-p 5", "-p 300", "-p 60", "-p 1", "-p 5 -M 255.255.255.0", "-p 300 -M 255.255.255.0", "-p 61 -M 255.255.255.0", "-p 60 -M 255.255.0.0")
PERSISTENCE6: Final = ("-p 5", "-p 300", "-p 60", "-p 5 -M 64", "-p 300 -M 64")


@st.composite
def services(draw: st.DrawFn, schedulers: Sequence[str] = SCHEDULERS, *, ipv6: bool | None = None) -> str:
    """A virtual service with its options, as it stands behind `ipvsadm -A`: "-t 192.0.2.1:80 -s rr -p 300".

    Address services of three protocols, some IPv6, some for any port, some by fwmark; half of them persistent, a quarter of the UDP ones one-packet.
    """
    kind, port = draw(st.sampled_from(SERVICE_KINDS)).split()
    scheduler = draw(st.sampled_from(tuple(schedulers)))
    options = draw(st.integers(0, 11))
    six = draw(st.integers(0, 9)) == 9 if ipv6 is None else ipv6
    name = f"-f {port}" + (" -6" if six else "") if kind == "mark" else f"{OPTION[kind]} {endpoint(VIRTUAL6 if six else VIRTUAL, int(port))}"
    words = [name, f"-s {scheduler}"]
    flags = [flags for flags in SCHED_FLAGS if flags.startswith(scheduler)]
    if flags and options & 1:
        words.append(f"-b {draw(st.sampled_from(flags))}")
    if port == "0" or options > 5:
        words.append(draw(st.sampled_from(PERSISTENCE6 if six else PERSISTENCE)))
    if kind == "udp" and options % 4 == 3:
        words.append("-o")
    return " ".join(words)


def identity(service: str) -> str:
    """The part of a service's text that names it.

    >>> identity("-t 192.0.2.1:80 -s rr -p 300")
    '-t 192.0.2.1:80'
    """
    words = service.split()
    return " ".join(words[:3] if words[2:3] == ["-6"] else words[:2])


#: no thresholds half of the time, else small ones, so that they are reached
THRESHOLDS: Final = (
    *("",) * 8, "-x 1", "-x 2", "-x 3", "-x 4", "-x 5", "-x 2 -y 1", "-x 4 -y 2", "-x 4 -y 4", "-x 5 -y 1",
)  # fmt: skip


def dests(*, methods: Sequence[str] = METHODS, max_weight: int = 5) -> st.SearchStrategy[str]:
    """A real server's options, as they stand behind `-r ADDRESS`: "-m -w 3 -x 4 -y 2"."""
    weights = st.sampled_from((1, 1, *range(max_weight + 1)))
    return st.builds(_dest, st.sampled_from(tuple(methods)), weights, st.sampled_from(THRESHOLDS))


def _dest(method: str, weight: int, thresholds: str) -> str:
    return f"{method} -w {weight} {thresholds}".rstrip()


COMMANDS: Final = (
    *("add",) * 4,
    *("edit",) * 3,
    "delete",
    "service",
    "service",
    "edit service",
    "delete service",
    "zero",
    "flush",
    "timeouts",
    "wrong",
    "wrong too",
)


@st.composite
def commands(draw: st.DrawFn, schedulers: Sequence[str] = SCHEDULERS) -> str:
    """An ipvsadm command line, mostly one that works on what such commands make, some that fail."""
    kind = draw(st.sampled_from(COMMANDS))
    if kind in ("zero", "flush"):
        return "-Z" if kind == "zero" else "-C"
    if kind == "timeouts":
        return draw(timeouts())
    service = draw(services(schedulers))
    name = identity(service)
    if kind.endswith("service"):
        return {"service": f"-A {service}", "edit service": f"-E {service}", "delete service": f"-D {name}"}[kind]
    if kind == "wrong":
        return f"-A {name} -s nothing"
    server = draw(servers(ipv6="[" in name or "-6" in name))
    if kind in ("delete", "wrong too"):
        return f"-d {name} -r {server}" if kind == "delete" else f"-a {name} -r {server} -x 1 -y 2"
    return f"{'-a' if kind == 'add' else '-e'} {name} -r {server} {draw(dests())}"


def timeouts() -> st.SearchStrategy[str]:
    """`ipvsadm --set`: TCP, TCP after FIN, UDP, in seconds; 0 leaves alone."""
    seconds = st.sampled_from((0, 900, 60, 7200, 10, 300))
    return st.builds("--set {} {} {}".format, seconds, seconds, seconds)


def sysctls() -> st.SearchStrategy[tuple[str, int]]:
    """A sysctl that the packet path reads, and a value it may have."""
    return st.sampled_from(SETTINGS)


# --- time -------------------------------------------------------------------------------------------------------------
@frozen
class Wait:
    """A stretch of time: so many jiffies from now; with ``deadline``, from the tick at which the next timer fires, if there is one."""

    jiffies: int = 0
    deadline: bool = False

    def until(self, clock: Clock) -> int:
        """The jiffy at which it ends, never in the past."""
        due = clock.next_deadline() if self.deadline else None
        return max(clock.now, (clock.now if due is None else due) + self.jiffies)


def waits(hz: int = 250) -> st.SearchStrategy[Wait]:
    """How long to wait: half of them end just before, at or just after the next timer, others at a usual period or within a jiffy of it."""
    near = st.sampled_from((0, -1, 1))
    return st.one_of(
        st.builds(Wait, near, deadline=st.just(True)),
        st.builds(Wait, near, deadline=st.just(True)),
        st.builds(lambda seconds, by: Wait(max(0, seconds * hz + by)), st.sampled_from(PERIODS_S), near),
        st.builds(Wait, st.integers(0, 4 * hz)),
    )
