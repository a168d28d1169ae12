"""From words to a request: options one by one from the left, then what the whole line must satisfy.

source: ipvsadm.c, parse_options, parse_sched_flags, generic_opt_check, tunnel_opt_check, process_options
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from attrs import evolve, frozen

from ipvs_model.dest import DestUser
from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    IP_VS_CONN_F_DROUTE,
    IP_VS_CONN_F_MASQ,
    IP_VS_CONN_F_TUNNEL,
    IP_VS_STATE_NONE,
    IP_VS_SVC_F_ONEPACKET,
    IP_VS_SVC_F_PERSISTENT,
    IPPROTO_UDP,
)
from ipvs_model.ipvsadm import grammar as G
from ipvs_model.ipvsadm.grammar import Command, Option
from ipvs_model.ipvsadm.names import Resolver, inet_aton, inet_pton, leading_number, number, parse_service
from ipvs_model.ipvsadm.usage import USAGE
from ipvs_model.ipvsadm.words import BadOption, Given, Words
from ipvs_model.service import ServiceUser
from ipvs_model.sync.daemon import DaemonUser

EXIT_ARGUMENTS: Final = 2
EXIT_REFUSED: Final = 255  #: the program returns -1


#: what is sent unless the line says something else
SERVICE: Final = ServiceUser(sched_name="")
DEST: Final = DestUser(weight=1, conn_flags=IP_VS_CONN_F_DROUTE)
DAEMON: Final = DaemonUser(IP_VS_STATE_NONE)


class Exit(Exception):
    """The program ends here with a status, having written this; during a restore too."""

    def __init__(self, status: int, *, out: str = "", err: str = "") -> None:
        super().__init__(status, out, err)
        self.status = status
        self.out = out
        self.err = err


class Failed(Exception):
    """The command fails with status 255 and this message; a restore goes on with the next line."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def refuse(message: str) -> Exit:
    """Wrong arguments: status 2."""
    return Exit(EXIT_ARGUMENTS, err=message + "\n")


def hint() -> Exit:
    """The line that points to the usage text: status 255."""
    return Exit(EXIT_REFUSED, err=G.HINT + "\n")


@frozen
class Request:
    """A command line that may be run. ``options`` are those that were given; ``timeouts`` those of --set in seconds."""

    command: Command
    options: frozenset[Option] = frozenset()
    service: ServiceUser = SERVICE
    dest: DestUser = DEST
    daemon: DaemonUser = DAEMON
    timeouts: tuple[int, int, int] = (0, 0, 0)


def parse(words: Sequence[str], resolver: Resolver) -> Request:
    """The request of a command line without the program's name. Raises Exit, Failed."""
    request = _Reader(words, resolver).request()
    combine(G.COMBINATIONS[request.command], request.options, request.command.value, "command", Option)
    return _complete(request)


# --- options, one by one ----------------------------------------------------------------------------------------------
class _Reader:
    """Reads a line from the left; what an option says replaces what was there."""

    def __init__(self, words: Sequence[str], resolver: Resolver) -> None:
        self.words = Words(words)
        self.resolver = resolver
        self.given: set[Option] = set()
        self.sched_flags = ""
        self.service, self.dest, self.daemon = SERVICE, DEST, DAEMON

    def request(self) -> Request:
        command = self._command()
        try:
            while (given := self.words.next()) is not None:
                self._option(given)
        except BadOption as bad:
            raise Failed(str(bad)) from None
        timeouts = self._set_timeouts() if command is Command.TIMEOUT else (0, 0, 0)
        if self.words.left_over:
            raise refuse(G.UNEXPECTED.format(self.words.left_over[0]))
        if self.sched_flags:
            bits = _sched_flags(self.service.sched_name or G.DEF_SCHED, self.sched_flags)
            self.service = evolve(self.service, flags=self.service.flags | bits)
        return Request(command, frozenset(self.given), self.service, self.dest, self.daemon, timeouts)

    def _command(self) -> Command:
        """The first option, which must be a command."""
        try:
            given = self.words.next()
        except BadOption:
            raise hint() from None
        if given is None or not isinstance(given.word.means, Command):
            raise hint()
        command = given.word.means
        if command is Command.HELP:
            raise Exit(0, out=f"{G.VERSION}\n{USAGE}")
        if command is Command.VERSION:
            raise Exit(0, out=G.VERSION + "\n")
        if command in (Command.STARTDAEMON, Command.STOPDAEMON):
            state = G.DAEMON_STATES.get(given.argument or "")
            if state is None:
                raise refuse(G.ILLEGAL_START_DAEMON if command is Command.STARTDAEMON else G.ILLEGAL_STOP_DAEMON)
            self.daemon = evolve(self.daemon, state=state)
        return command

    def _option(self, given: Given) -> None:
        option = given.word.means
        if isinstance(option, Command):
            raise refuse(G.INVALID_OPTION.format(given.at))
        if option in G.NAMES:
            if option in self.given:
                raise refuse(G.MULTIPLE.format(G.NAMES[option]))
            self.given.add(option)
        read = READERS.get(option)
        if read is not None:
            read(self, given.word.long, given.argument or "")
        elif option is Option.PERSISTENT:
            seconds = G.DEF_PERSISTENCE if given.argument is None else self._number(option, given.argument)
            self.service = evolve(self.service, flags=self.service.flags | IP_VS_SVC_F_PERSISTENT, timeout=seconds)
        elif option in FIELDS:
            self._set(*FIELDS[option], self._number(option, given.argument or "") if option in G.NUMBERS else (given.argument or "")[: G.NAME_LENGTH[option]])

    def _set(self, part: str, name: str, value: int | str) -> None:
        setattr(self, part, evolve(getattr(self, part), **{name: value}))

    @staticmethod
    def _number(option: Option, text: str) -> int:
        return wanted(text, G.NUMBERS[option])

    def _set_timeouts(self) -> tuple[int, int, int]:
        left = self.words.left_over
        if len(left) < 3:
            raise refuse(G.SET_NEEDS_THREE)
        tcp, fin, udp = (wanted(text, G.SET_TIMEOUT) for text in left[:3])
        del left[:3]
        return tcp, fin, udp

    def service_address(self, long: str, text: str) -> None:
        """-t, -u, --sctp-service, -f"""
        self.service = evolve(self.service, protocol=G.PROTOCOLS[long])
        if long == "fwmark-service":
            self.service = evolve(self.service, af=AF_INET, fwmark=wanted(text, G.FWMARK))
            return
        address = parse_service(text, self.service.protocol, self.resolver)
        if address is None:
            raise refuse(G.ILLEGAL_SERVICE)
        self.service = evolve(self.service, af=address.af, addr=address.addr, port=address.port or 0)
        if address.af == AF_INET6:
            self.service = evolve(self.service, netmask=128)

    def server_address(self, long: str, text: str) -> None:
        """-r: without a port it takes the service's, if that stood before it"""
        protocol = self.service.protocol if Option.SERVICE in self.given else 0
        address = parse_service(text, protocol, self.resolver)
        if address is None:
            raise refuse(G.ILLEGAL_SERVER)
        self.dest = evolve(self.dest, af=address.af, addr=address.addr, port=self.service.port if address.port is None else address.port)

    def netmask(self, long: str, text: str) -> None:
        """-M"""
        if self.service.af == AF_INET6:
            prefix = leading_number(text)
            if not G.IPV6_PREFIX.least <= prefix <= G.IPV6_PREFIX.most:
                raise refuse(G.IPV6_PREFIX.refusal)
            self.service = evolve(self.service, netmask=prefix)
            return
        mask = inet_aton(text)
        if mask is None:
            mask = self.resolver.host_address(text)
        if mask is None:
            raise refuse(G.ILLEGAL_NETMASK)
        self.service = evolve(self.service, netmask=mask)

    def method(self, long: str, text: str) -> None:
        """-g, -i, -m"""
        self.dest = evolve(self.dest, conn_flags=G.METHODS[long])

    def ipv6(self, long: str, text: str) -> None:
        """-6"""
        if not self.service.fwmark:
            raise refuse(G.IPV6_BEFORE_FWMARK)
        self.service = evolve(self.service, af=AF_INET6, netmask=128)

    def one_packet(self, long: str, text: str) -> None:
        """-o"""
        self.service = evolve(self.service, flags=self.service.flags | IP_VS_SVC_F_ONEPACKET)

    def scheduler_flags(self, long: str, text: str) -> None:
        """-b: looked at when the scheduler is known"""
        self.sched_flags = text

    def mcast_group(self, long: str, text: str) -> None:
        """--mcast-group"""
        af, family = (AF_INET6, "IPv6") if ":" in text else (AF_INET, "IPv4")
        group = inet_pton(af, text)
        if group is None or not (group >> 120 == 0xFF if af == AF_INET6 else group >> 28 == 0xE):
            raise refuse(G.ILLEGAL_GROUP.format(family, text))
        self.daemon = evolve(self.daemon, mcast_group=(af, group))

    def tunnel_type(self, long: str, text: str) -> None:
        """--tun-type"""
        if text not in G.TUNNEL_TYPES:
            raise refuse(G.ILLEGAL_TUN_TYPE)
        self.dest = evolve(self.dest, tun_type=G.TUNNEL_TYPES[text])

    def tunnel_flag(self, long: str, text: str) -> None:
        """--tun-nocsum, --tun-csum, --tun-remcsum"""
        self.dest = evolve(self.dest, tun_flags=self.dest.tun_flags | G.TUNNEL_FLAGS[long])


#: options that need more than a number or a name
READERS: Final[Mapping[Option, Callable[[_Reader, str, str], None]]] = {
    Option.SERVICE: _Reader.service_address,
    Option.NETMASK: _Reader.netmask,
    Option.SERVER: _Reader.server_address,
    Option.FORWARD: _Reader.method,
    Option.IPV6: _Reader.ipv6,
    Option.ONEPACKET: _Reader.one_packet,
    Option.SCHED_FLAGS: _Reader.scheduler_flags,
    Option.MCAST_GROUP: _Reader.mcast_group,
    Option.TUN_TYPE: _Reader.tunnel_type,
    Option.TUN_NOCSUM: _Reader.tunnel_flag,
    Option.TUN_CSUM: _Reader.tunnel_flag,
    Option.TUN_REMCSUM: _Reader.tunnel_flag,
}
#: options that set one field: part of the request, field
FIELDS: Final[Mapping[Option, tuple[str, str]]] = {
    Option.SCHEDULER: ("service", "sched_name"),
    Option.PERSISTENCE_ENGINE: ("service", "pe_name"),
    Option.WEIGHT: ("dest", "weight"),
    Option.UTHRESHOLD: ("dest", "u_threshold"),
    Option.LTHRESHOLD: ("dest", "l_threshold"),
    Option.TUN_PORT: ("dest", "tun_port"),
    Option.MCAST: ("daemon", "mcast_ifn"),
    Option.SYNCID: ("daemon", "syncid"),
    Option.MCAST_PORT: ("daemon", "mcast_port"),
    Option.MCAST_TTL: ("daemon", "mcast_ttl"),
    Option.SYNC_MAXLEN: ("daemon", "sync_maxlen"),
}


def wanted(text: str, allowed: G.Range) -> int:
    """A number in a range. Raises Exit with the range's message."""
    value = number(text, allowed)
    if value is None:
        raise refuse(allowed.refusal.format(text))
    return value


def _sched_flags(scheduler: str, text: str) -> int:
    """The bits of a comma list of scheduler flags. The program crashes on a list of commas alone; here it is refused."""
    bits = 0
    for name in [item for item in text.split(",") if item] or [text]:
        if name not in G.SCHED_FLAGS:
            raise refuse(G.INVALID_SCHED_FLAG.format(name))
        bit, only = G.SCHED_FLAGS[name]
        if only not in ("", scheduler):
            raise refuse(G.INCOMPATIBLE_SCHED_FLAG.format(name))
        bits |= bit
    return bits


# --- the line as a whole ----------------------------------------------------------------------------------------------
def combine(combination: G.Combination, given: Collection[Option], of: str, kind: str, options: Iterable[Option]) -> None:
    """Whether these options may stand together; they are looked at in the order of their numbers. Raises Exit for the first that may not."""
    earlier = ""
    for option in options:
        if option not in G.NAMES:
            continue
        name = G.NAMES[option]
        if option not in given:
            if option in combination.needs:
                raise refuse(G.MISSING.format(option=name, of=of, kind=kind))
        elif option in combination.one_of:
            if earlier:
                raise refuse(G.CONFLICT.format(option=name, earlier=earlier, of=of, kind=kind))
            earlier = name
        elif option not in combination.needs + combination.takes:
            raise refuse(G.ILLEGAL.format(option=name, of=of, kind=kind))


def _complete(request: Request) -> Request:
    """Checks and defaults of each command."""
    match request.command:
        case Command.ADD | Command.EDIT:
            return _complete_service(request)
        case Command.ADDDEST | Command.EDITDEST:
            return _complete_dest(request)
        case Command.STARTDAEMON:
            return evolve(request, daemon=evolve(request.daemon, mcast_ifn=request.daemon.mcast_ifn or G.DEF_MCAST_IFN))
        case Command.LIST:
            if any(request.options.intersection(some) and request.options.intersection(others) for some, others in G.LIST_CONFLICTS):
                raise refuse(G.LIST_CONFLICT)
    return request


def _complete_service(request: Request) -> Request:
    service = request.service
    if not service.fwmark and not service.port and not service.flags & IP_VS_SVC_F_PERSISTENT:
        raise refuse(G.ZERO_PORT)
    if service.flags & IP_VS_SVC_F_ONEPACKET and not service.fwmark and service.protocol != IPPROTO_UDP:
        raise refuse(G.OPS_ONLY_UDP)
    return evolve(request, service=evolve(service, sched_name=service.sched_name or G.DEF_SCHED))


def _complete_dest(request: Request) -> Request:
    service, dest = request.service, request.dest
    if not service.fwmark and dest.conn_flags != IP_VS_CONN_F_MASQ:
        dest = evolve(dest, port=service.port)  # silently, whatever -r said
    if dest.conn_flags != IP_VS_CONN_F_TUNNEL:
        if dest.af != service.af:
            raise refuse(G.OTHER_FAMILY)
        if request.options.intersection((Option.TUN_TYPE, *G.TUNNEL_OPTIONS)):
            raise refuse(G.TUNNEL_CONFLICT)
    kind = next(name for name, tun_type in G.TUNNEL_TYPES.items() if tun_type == dest.tun_type)
    combine(G.TUNNEL_COMBINATIONS[kind], request.options, kind, "tunnel type", G.TUNNEL_OPTIONS)
    return evolve(request, dest=dest)
