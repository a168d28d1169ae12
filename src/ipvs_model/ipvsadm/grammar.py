"""Commands, options and allowed combinations of ipvsadm 1.31, and its messages: tables that the other files interpret.

source: ipvsadm.c, options_table, commands_v_options, tunnel_types_v_options; libipvs.c, ipvs_strerror
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final

from attrs import frozen

from ipvs_model import flags as F

VERSION: Final = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)"
PROGRAM: Final = "ipvsadm"


# --- commands ---------------------------------------------------------------------------------------------------------
class Command(Enum):
    """What a command line asks for; the value is its name in messages."""

    ADD = "add-service"
    EDIT = "edit-service"
    DEL = "delete-service"
    FLUSH = "flush"
    LIST = "list"
    ADDDEST = "add-server"
    DELDEST = "delete-server"
    EDITDEST = "edit-server"
    TIMEOUT = "set"
    STARTDAEMON = "start-daemon"
    STOPDAEMON = "stop-daemon"
    RESTORE = "restore"
    SAVE = "save"
    ZERO = "zero"
    HELP = "help"
    VERSION = "version"


# --- options ----------------------------------------------------------------------------------------------------------
class Option(IntEnum):
    """Options by their number: the position in which combinations are checked. Negative ones are never checked."""

    NUMERIC = 0
    CONNECTION = 1
    SERVICE = 2
    SCHEDULER = 3
    PERSISTENT = 4
    NETMASK = 5
    SERVER = 6
    FORWARD = 7
    WEIGHT = 8
    UTHRESHOLD = 9
    LTHRESHOLD = 10
    MCAST = 11
    TIMEOUT = 12
    DAEMON = 13
    STATS = 14
    RATE = 15
    THRESHOLDS = 16
    PERSISTENTCONN = 17
    NOSORT = 18
    SYNCID = 19
    EXACT = 20
    ONEPACKET = 21
    PERSISTENCE_ENGINE = 22
    SCHED_FLAGS = 23
    MCAST_GROUP = 24
    MCAST_PORT = 25
    MCAST_TTL = 26
    SYNC_MAXLEN = 27
    TUN_INFO = 28
    TUN_TYPE = 29
    TUN_PORT = 30
    TUN_NOCSUM = 31
    TUN_CSUM = 32
    TUN_REMCSUM = 33
    SORT = -1
    IPV6 = -2


#: option → its name in messages (source: ipvsadm.c, optnames)
NAMES: Final[Mapping[Option, str]] = {
    Option.NUMERIC: "numeric",
    Option.CONNECTION: "connection",
    Option.SERVICE: "service-address",
    Option.SCHEDULER: "scheduler",
    Option.PERSISTENT: "persistent",
    Option.NETMASK: "netmask",
    Option.SERVER: "real-server",
    Option.FORWARD: "forwarding-method",
    Option.WEIGHT: "weight",
    Option.UTHRESHOLD: "u-threshold",
    Option.LTHRESHOLD: "l-threshold",
    Option.MCAST: "mcast-interface",
    Option.TIMEOUT: "timeout",
    Option.DAEMON: "daemon",
    Option.STATS: "stats",
    Option.RATE: "rate",
    Option.THRESHOLDS: "thresholds",
    Option.PERSISTENTCONN: "persistent-conn",
    Option.NOSORT: "nosort",
    Option.SYNCID: "syncid",
    Option.EXACT: "exact",
    Option.ONEPACKET: "ops",
    Option.PERSISTENCE_ENGINE: "pe",
    Option.SCHED_FLAGS: "sched-flags",
    Option.MCAST_GROUP: "mcast-group",
    Option.MCAST_PORT: "mcast-port",
    Option.MCAST_TTL: "mcast-ttl",
    Option.SYNC_MAXLEN: "sync-maxlen",
    Option.TUN_INFO: "tun-info",
    Option.TUN_TYPE: "tun-type",
    Option.TUN_PORT: "tun-port",
    Option.TUN_NOCSUM: "tun-nocsum",
    Option.TUN_CSUM: "tun-csum",
    Option.TUN_REMCSUM: "tun-remcsum",
}


# --- words ------------------------------------------------------------------------------------------------------------
class Takes(Enum):
    """Whether an option has an argument."""

    NOTHING = "none"
    ARGUMENT = "argument"
    OPTIONAL = "optional argument"


@frozen
class Word:
    """How an option is written: one letter, a long name, or both; and what it means."""

    letters: str
    long: str
    means: Command | Option
    takes: Takes = Takes.NOTHING


_ARG: Final = Takes.ARGUMENT
WORDS: Final = (
    Word("A", "add-service", Command.ADD),
    Word("E", "edit-service", Command.EDIT),
    Word("D", "delete-service", Command.DEL),
    Word("C", "clear", Command.FLUSH),
    Word("Ll", "list", Command.LIST),
    Word("a", "add-server", Command.ADDDEST),
    Word("d", "delete-server", Command.DELDEST),
    Word("e", "edit-server", Command.EDITDEST),
    Word("", "set", Command.TIMEOUT),
    Word("", "start-daemon", Command.STARTDAEMON, _ARG),
    Word("", "stop-daemon", Command.STOPDAEMON, _ARG),
    Word("R", "restore", Command.RESTORE),
    Word("S", "save", Command.SAVE),
    Word("Z", "zero", Command.ZERO),
    Word("h", "help", Command.HELP),
    Word("v", "version", Command.VERSION),
    Word("n", "numeric", Option.NUMERIC),
    Word("c", "connection", Option.CONNECTION),
    Word("t", "tcp-service", Option.SERVICE, _ARG),
    Word("u", "udp-service", Option.SERVICE, _ARG),
    Word("", "sctp-service", Option.SERVICE, _ARG),
    Word("f", "fwmark-service", Option.SERVICE, _ARG),
    Word("s", "scheduler", Option.SCHEDULER, _ARG),
    Word("p", "persistent", Option.PERSISTENT, Takes.OPTIONAL),
    Word("M", "netmask", Option.NETMASK, _ARG),
    Word("r", "real-server", Option.SERVER, _ARG),
    Word("g", "gatewaying", Option.FORWARD),
    Word("i", "ipip", Option.FORWARD),
    Word("m", "masquerading", Option.FORWARD),
    Word("w", "weight", Option.WEIGHT, _ARG),
    Word("x", "u-threshold", Option.UTHRESHOLD, _ARG),
    Word("y", "l-threshold", Option.LTHRESHOLD, _ARG),
    Word("", "mcast-interface", Option.MCAST, _ARG),
    Word("", "timeout", Option.TIMEOUT),
    Word("", "daemon", Option.DAEMON),
    Word("", "stats", Option.STATS),
    Word("", "rate", Option.RATE),
    Word("", "thresholds", Option.THRESHOLDS),
    Word("", "persistent-conn", Option.PERSISTENTCONN),
    Word("", "nosort", Option.NOSORT),
    Word("", "sort", Option.SORT),
    Word("", "syncid", Option.SYNCID, _ARG),
    Word("X", "exact", Option.EXACT),
    Word("6", "ipv6", Option.IPV6),
    Word("o", "ops", Option.ONEPACKET),
    Word("", "pe", Option.PERSISTENCE_ENGINE, _ARG),
    Word("b", "sched-flags", Option.SCHED_FLAGS, _ARG),
    Word("", "mcast-group", Option.MCAST_GROUP, _ARG),
    Word("", "mcast-port", Option.MCAST_PORT, _ARG),
    Word("", "mcast-ttl", Option.MCAST_TTL, _ARG),
    Word("", "sync-maxlen", Option.SYNC_MAXLEN, _ARG),
    Word("", "tun-info", Option.TUN_INFO),
    Word("", "tun-type", Option.TUN_TYPE, _ARG),
    Word("", "tun-port", Option.TUN_PORT, _ARG),
    Word("", "tun-nocsum", Option.TUN_NOCSUM),
    Word("", "tun-csum", Option.TUN_CSUM),
    Word("", "tun-remcsum", Option.TUN_REMCSUM),
)
SHORT: Final[Mapping[str, Word]] = {letter: word for word in WORDS for letter in word.letters}
LONG: Final[Mapping[str, Word]] = {word.long: word for word in WORDS}

#: long name of a service option → protocol; a fwmark service has TCP's number, which nobody reads
PROTOCOLS: Final[Mapping[str, int]] = {
    "tcp-service": F.IPPROTO_TCP,
    "udp-service": F.IPPROTO_UDP,
    "sctp-service": F.IPPROTO_SCTP,
    "fwmark-service": F.IPPROTO_TCP,
}
#: long name of a forwarding option → method
METHODS: Final[Mapping[str, int]] = {"gatewaying": F.IP_VS_CONN_F_DROUTE, "ipip": F.IP_VS_CONN_F_TUNNEL, "masquerading": F.IP_VS_CONN_F_MASQ}


# --- numbers ----------------------------------------------------------------------------------------------------------
@frozen
class Range:
    """A decimal argument: smallest and largest value, and the message for any other word (``{}`` stands for the word)."""

    least: int
    most: int
    refusal: str


INT_MAX: Final = 2147483647
MAX_TIMEOUT: Final = 31 * 24 * 3600  #: seconds
TIMEOUT_REFUSAL: Final = "invalid timeout value `{}' specified"

NUMBERS: Final[Mapping[Option, Range]] = {
    Option.PERSISTENT: Range(1, MAX_TIMEOUT, TIMEOUT_REFUSAL),
    Option.WEIGHT: Range(0, INT_MAX, "illegal weight specified"),
    Option.UTHRESHOLD: Range(0, INT_MAX, "illegal u_threshold specified"),
    Option.LTHRESHOLD: Range(0, INT_MAX, "illegal l_threshold specified"),
    Option.SYNCID: Range(0, 255, "illegal syncid specified"),
    Option.MCAST_PORT: Range(1, 65535, "illegal mcast-port specified"),
    Option.MCAST_TTL: Range(1, 255, "illegal mcast-ttl specified"),
    Option.SYNC_MAXLEN: Range(1, 65535 - 28, "illegal sync-maxlen specified"),
    Option.TUN_PORT: Range(1, 65535, "illegal tunnel port specified"),
}
FWMARK: Final = Range(1, 0xFFFFFFFF, "invalid fwmark value `{}' specified")
SET_TIMEOUT: Final = Range(0, MAX_TIMEOUT, TIMEOUT_REFUSAL)  #: the three words after --set
PORT: Final = Range(0, 65535, "")  #: another word may still be the name of a service
IPV6_PREFIX: Final = Range(1, 128, "illegal ipv6 netmask specified")

# --- defaults ---------------------------------------------------------------------------------------------------------
DEF_SCHED: Final = "wlc"
DEF_MCAST_IFN: Final = "eth0"
DEF_PERSISTENCE: Final = 360  #: seconds; the manual page says 300
NAME_LENGTH: Final[Mapping[Option, int]] = {Option.SCHEDULER: 15, Option.MCAST: 15, Option.PERSISTENCE_ENGINE: 16}  #: longer names are cut
DAEMON_STATES: Final[Mapping[str, int]] = {"master": F.IP_VS_STATE_MASTER, "backup": F.IP_VS_STATE_BACKUP}


# --- combinations -----------------------------------------------------------------------------------------------------
@frozen
class Combination:
    """Which options a command takes: those that it needs, those of which it takes one at most, and those that it takes beside them."""

    needs: tuple[Option, ...] = ()
    one_of: tuple[Option, ...] = ()
    takes: tuple[Option, ...] = ()


O = Option  # short, so that the tables can be read
_SERVICE_OPTIONS: Final = (O.SCHEDULER, O.PERSISTENT, O.NETMASK, O.ONEPACKET, O.PERSISTENCE_ENGINE, O.SCHED_FLAGS)
TUNNEL_OPTIONS: Final = (O.TUN_PORT, O.TUN_NOCSUM, O.TUN_CSUM, O.TUN_REMCSUM)
_DEST_OPTIONS: Final = (O.FORWARD, O.WEIGHT, O.UTHRESHOLD, O.LTHRESHOLD, O.TUN_TYPE, *TUNNEL_OPTIONS)
COMBINATIONS: Final[Mapping[Command, Combination]] = {
    Command.ADD: Combination(needs=(O.SERVICE,), takes=_SERVICE_OPTIONS),
    Command.EDIT: Combination(needs=(O.SERVICE,), takes=_SERVICE_OPTIONS),
    Command.DEL: Combination(needs=(O.SERVICE,)),
    Command.FLUSH: Combination(),
    Command.LIST: Combination(
        one_of=(O.CONNECTION, O.SERVICE, O.TIMEOUT, O.DAEMON),
        takes=(O.NUMERIC, O.STATS, O.RATE, O.THRESHOLDS, O.PERSISTENTCONN, O.NOSORT, O.SYNCID, O.EXACT, O.TUN_INFO),
    ),
    Command.ADDDEST: Combination(needs=(O.SERVICE, O.SERVER), takes=_DEST_OPTIONS),
    Command.DELDEST: Combination(needs=(O.SERVICE, O.SERVER)),
    Command.EDITDEST: Combination(needs=(O.SERVICE, O.SERVER), takes=_DEST_OPTIONS),
    Command.TIMEOUT: Combination(),
    Command.STARTDAEMON: Combination(takes=(O.MCAST, O.SYNCID, O.MCAST_GROUP, O.MCAST_PORT, O.MCAST_TTL, O.SYNC_MAXLEN)),
    Command.STOPDAEMON: Combination(takes=(O.SYNCID,)),
    Command.RESTORE: Combination(),
    Command.SAVE: Combination(takes=(O.NUMERIC,)),
    Command.ZERO: Combination(takes=(O.SERVICE,)),
}
MISSING: Final = "You need to supply the '{option}' option for the '{of}' {kind}"
ILLEGAL: Final = "Illegal '{option}' option with the '{of}' {kind}"
CONFLICT: Final = "The option '{option}' conflicts with the '{earlier}' option in the '{of}' {kind}"

#: -L: no option of the first group together with one of the second
LIST_CONFLICTS: Final = (
    ((O.CONNECTION, O.TIMEOUT, O.DAEMON), (O.STATS, O.RATE, O.THRESHOLDS)),
    ((O.TIMEOUT, O.DAEMON), (O.PERSISTENTCONN,)),
)

# --- tunnels ----------------------------------------------------------------------------------------------------------
TUNNEL_TYPES: Final[Mapping[str, int]] = {
    "ipip": F.IP_VS_CONN_F_TUNNEL_TYPE_IPIP,
    "gue": F.IP_VS_CONN_F_TUNNEL_TYPE_GUE,
    "gre": F.IP_VS_CONN_F_TUNNEL_TYPE_GRE,
}
TUNNEL_COMBINATIONS: Final[Mapping[str, Combination]] = {
    "ipip": Combination(),
    "gue": Combination(needs=(O.TUN_PORT,), one_of=(O.TUN_NOCSUM, O.TUN_CSUM, O.TUN_REMCSUM)),
    "gre": Combination(one_of=(O.TUN_NOCSUM, O.TUN_CSUM)),
}
TUNNEL_FLAGS: Final[Mapping[str, int]] = {
    "tun-nocsum": F.IP_VS_TUNNEL_ENCAP_FLAG_NOCSUM,
    "tun-csum": F.IP_VS_TUNNEL_ENCAP_FLAG_CSUM,
    "tun-remcsum": F.IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM,
}

# --- scheduler flags --------------------------------------------------------------------------------------------------
#: flag → its bit, and the only scheduler that it goes with ("": any)
SCHED_FLAGS: Final[Mapping[str, tuple[int, str]]] = {
    "flag-1": (F.IP_VS_SVC_F_SCHED1, ""),
    "flag-2": (F.IP_VS_SVC_F_SCHED2, ""),
    "flag-3": (F.IP_VS_SVC_F_SCHED3, ""),
    "sh-fallback": (F.IP_VS_SVC_F_SCHED_SH_FALLBACK, "sh"),
    "sh-port": (F.IP_VS_SVC_F_SCHED_SH_PORT, "sh"),
    "mh-fallback": (F.IP_VS_SVC_F_SCHED_MH_FALLBACK, "mh"),
    "mh-port": (F.IP_VS_SVC_F_SCHED_MH_PORT, "mh"),
}
SCHED_FLAG_BITS: Final = F.IP_VS_SVC_F_SCHED1 | F.IP_VS_SVC_F_SCHED2 | F.IP_VS_SVC_F_SCHED3


def sched_flag_names(scheduler: str, flags: int) -> list[str]:
    """The scheduler flags of a service by name: sh and mh have names of their own, and none for bit 0x20.

    >>> sched_flag_names("sh", 0x18), sched_flag_names("wrr", 0x28), sched_flag_names("mh", 0x20)
    (['sh-fallback', 'sh-port'], ['flag-1', 'flag-3'], [])
    """
    own = scheduler if any(only == scheduler for _, only in SCHED_FLAGS.values()) else ""
    return [name for name, (bit, only) in SCHED_FLAGS.items() if only == own and flags & bit]


# --- messages ---------------------------------------------------------------------------------------------------------
HINT: Final = f"Try `{PROGRAM} -h' or '{PROGRAM} --help' for more information."
NO_IPVS: Final = "Can't initialize ipvs: {}\nAre you sure that IP Virtual Server is built in the kernel or as module?"
ILLEGAL_SERVICE: Final = "illegal virtual server address[:port] specified"
ILLEGAL_SERVER: Final = "illegal real server address[:port] specified"
ILLEGAL_NETMASK: Final = "illegal virtual server persistent mask specified"
ILLEGAL_START_DAEMON: Final = "illegal start-daemon parameter specified"
ILLEGAL_STOP_DAEMON: Final = "illegal start_daemon specified"
ILLEGAL_TUN_TYPE: Final = "illegal tunnel type specified"
ILLEGAL_GROUP: Final = "invalid {} mcast-group `{}'"
INVALID_SCHED_FLAG: Final = "invalid scheduler flag `{}'"
INCOMPATIBLE_SCHED_FLAG: Final = "incompatible scheduler flag `{}'"
IPV6_BEFORE_FWMARK: Final = "-6 used before -f\n"
MULTIPLE: Final = "multiple '{}' options specified"
INVALID_OPTION: Final = "invalid option `{}'"
SET_NEEDS_THREE: Final = "--set option requires 3 timeout values"
UNEXPECTED: Final = "unexpected argument {}"
ZERO_PORT: Final = "Zero port specified for non-persistent service"
OPS_ONLY_UDP: Final = "One-Packet Scheduling is only for UDP virtual services"
OTHER_FAMILY: Final = "Different address family is allowed only for tunneling servers"
TUNNEL_CONFLICT: Final = "Tunnel options conflict with forward method"
LIST_CONFLICT: Final = "options conflicts in the list command"
NO_FILE: Final = "cannot open file /proc/net/ip_vs_conn"

#: commands (none = any), errno, text; the first that fits (source: libipvs.c, ipvs_strerror)
ERRORS: Final[tuple[tuple[tuple[Command, ...], int, str], ...]] = (
    ((Command.ADD,), errno.EEXIST, "Service already exists"),
    ((Command.ADD, Command.EDIT), errno.ENOENT, "Scheduler or persistence engine not found"),
    ((Command.EDIT, Command.DEL, Command.ZERO), errno.ESRCH, "No such service"),
    ((Command.ADDDEST,), errno.ESRCH, "Service not defined"),
    ((Command.ADDDEST,), errno.EEXIST, "Destination already exists"),
    ((Command.EDITDEST, Command.DELDEST), errno.ESRCH, "Service not defined"),
    ((Command.EDITDEST, Command.DELDEST), errno.ENOENT, "No such destination"),
    ((Command.STARTDAEMON,), errno.EEXIST, "Daemon has already run"),
    ((Command.STOPDAEMON,), errno.ESRCH, "No daemon is running"),
    ((Command.LIST,), errno.ESRCH, "No such service"),
    ((), errno.EPERM, "Permission denied (you must be root)"),
    ((), errno.EINVAL, "Invalid operation.  Possibly wrong module version, address not unicast, ..."),
    ((), errno.ENOPROTOOPT, "Protocol not available"),
    ((), errno.ENOMEM, "Memory allocation problem"),
    ((), errno.EOPNOTSUPP, "Operation not supported with IPv6"),
    ((), errno.EAFNOSUPPORT, "Operation not supported with specified address family"),
    ((), errno.EMSGSIZE, "Module is wrong version"),
    ((), errno.ERANGE, "Numerical result out of range"),
    ((), errno.ENODEV, "No such device"),
    ((), errno.ENETUNREACH, "Network is unreachable"),
)
