"""What is refused, in which words, with which exit status (spec/70 sections 1 to 9)."""

from __future__ import annotations

import errno
import os

import pytest

from ipvs_model.control import Control
from ipvs_model.errors import IPVSError
from ipvs_model.ipvsadm import run
from ipvs_model.ipvsadm.grammar import COMBINATIONS, ERRORS, NAMES, WORDS, Command, Option, Takes
from ipvs_model.ipvsadm.run import strerror

HINT = "Try `ipvsadm -h' or 'ipvsadm --help' for more information."
VIP = "192.0.2.1:80"

#: a valid argument for each option that wants one
ARGUMENTS = {
    Option.SERVICE: VIP,
    Option.SCHEDULER: "rr",
    Option.PERSISTENT: "60",
    Option.NETMASK: "255.255.255.0",
    Option.SERVER: "10.0.0.1",
    Option.WEIGHT: "1",
    Option.UTHRESHOLD: "1",
    Option.LTHRESHOLD: "1",
    Option.MCAST: "eth0",
    Option.SYNCID: "1",
    Option.PERSISTENCE_ENGINE: "sip",
    Option.SCHED_FLAGS: "flag-1",
    Option.MCAST_GROUP: "224.0.0.1",
    Option.MCAST_PORT: "1",
    Option.MCAST_TTL: "1",
    Option.SYNC_MAXLEN: "1000",
    Option.TUN_TYPE: "ipip",
    Option.TUN_PORT: "1",
}


def written(option: Option) -> str:
    """An option as a word."""
    word = next(word for word in WORDS if word.means is option)
    return f"--{word.long}" if word.takes is Takes.NOTHING else f"--{word.long}={ARGUMENTS[option]}"


def spoken(command: Command) -> str:
    """A command as a word."""
    word = next(word for word in WORDS if word.means is command)
    return f"--{word.long}=master" if word.takes is Takes.ARGUMENT else f"--{word.long}"


# --- every cell of the table of combinations -----------------------------------------------------------------------------
@pytest.mark.parametrize("command", COMBINATIONS)
@pytest.mark.parametrize("option", NAMES)
def test_every_option_with_every_command(ipvsadm, command: Command, option: Option) -> None:
    """An option that does not belong to the command is named, unless a compulsory one with a lower number is missing."""
    allowed = COMBINATIONS[command]
    rest = ["1", "2", "3"] if command is Command.TIMEOUT else []
    result = ipvsadm([spoken(command), *(written(needed) for needed in allowed.needs if needed is not option), written(option), *rest])
    illegal = f"Illegal '{NAMES[option]}' option with the '{command.value}' command\n"
    if option in allowed.needs + allowed.one_of + allowed.takes:
        assert result.err != illegal
    else:
        assert (result.status, result.err) == (2, illegal)


@pytest.mark.parametrize("command", [command for command, allowed in COMBINATIONS.items() if allowed.needs])
def test_every_compulsory_option(ipvsadm, command: Command) -> None:
    needs = COMBINATIONS[command].needs
    for missing in needs:
        result = ipvsadm([spoken(command), *(written(option) for option in needs if option is not missing)])
        assert (result.status, result.err) == (2, f"You need to supply the '{NAMES[missing]}' option for the '{command.value}' command\n")


# --- single messages -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("line", ["-q", "-n", "-t 10.0.0.1:80 -A", "1 2 3", "-", "--bogus", "--start-daemon", "-A=", "--numeric=5", "--", "-- -L"])
def test_the_first_option_must_be_a_command(ipvsadm, line: str) -> None:
    result = ipvsadm(line)
    assert (result.status, result.out, result.err) == (255, "", HINT + "\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # words
        ("-A -D -t 10.0.0.1:80", "invalid option `-D'"),
        ("-Ah", "invalid option `-Ah'"),
        ("-L --start-daemon master", "invalid option `master'"),
        ("-L x y", "unexpected argument x"),
        ("--set 1 2 3 4", "unexpected argument 4"),
        ("--set 1 2", "--set option requires 3 timeout values"),
        ("--set 1 2 x", "invalid timeout value `x' specified"),
        ("--set 2678401 2 3", "invalid timeout value `2678401' specified"),
        # duplicates
        ("-A -t 10.0.0.1:80 -u 10.0.0.1:80", "multiple 'service-address' options specified"),
        ("-A -t 10.0.0.1:80 -f 1", "multiple 'service-address' options specified"),
        ("-a -g -i", "multiple 'forwarding-method' options specified"),
        ("-A -s rr --scheduler wlc", "multiple 'scheduler' options specified"),
        # values
        ("-A -t 1234", "illegal virtual server address[:port] specified"),
        ("-a -t 10.0.0.1:80 -r 1234", "illegal real server address[:port] specified"),
        ("-A -f 0", "invalid fwmark value `0' specified"),
        ("-A -f 4294967296", "invalid fwmark value `4294967296' specified"),
        ("-A -f 0x7", "invalid fwmark value `0x7' specified"),
        ("-A -t 10.0.0.1:80 -p 0", "invalid timeout value `0' specified"),
        ("-A -t 10.0.0.1:80 -p 2678401", "invalid timeout value `2678401' specified"),
        ("-A -t 10.0.0.1:80 -p=", "invalid timeout value `' specified"),
        ("-A -t 10.0.0.1:80 -M /24", "illegal virtual server persistent mask specified"),
        ("-A -t [::1]:80 -M 129", "illegal ipv6 netmask specified"),
        ("-A -t [::1]:80 -M 0", "illegal ipv6 netmask specified"),
        ("-a -w -1", "illegal weight specified"),
        ("-a -w 2147483648", "illegal weight specified"),
        ("-a -x -1", "illegal u_threshold specified"),
        ("-a -y 1x", "illegal l_threshold specified"),
        ("--start-daemon both", "illegal start-daemon parameter specified"),
        ("--stop-daemon both", "illegal start_daemon specified"),
        ("--start-daemon master --syncid 256", "illegal syncid specified"),
        ("--start-daemon master --mcast-port 0", "illegal mcast-port specified"),
        ("--start-daemon master --mcast-ttl 256", "illegal mcast-ttl specified"),
        ("--start-daemon master --sync-maxlen 65508", "illegal sync-maxlen specified"),
        ("--start-daemon master --mcast-group 10.0.0.1", "invalid IPv4 mcast-group `10.0.0.1'"),
        ("--start-daemon master --mcast-group 2001::1", "invalid IPv6 mcast-group `2001::1'"),
        ("-A -6 -f 1", "-6 used before -f\n"),
        ("-A -t 10.0.0.1:80 -6", "-6 used before -f\n"),
        ("-a --tun-type vxlan", "illegal tunnel type specified"),
        ("-a --tun-port 0", "illegal tunnel port specified"),
        # scheduler flags
        ("-A -t 10.0.0.1:80 -b nosuch", "invalid scheduler flag `nosuch'"),
        ("-A -t 10.0.0.1:80 -b sh-port", "incompatible scheduler flag `sh-port'"),
        ("-A -t 10.0.0.1:80 -s sh -b mh-port", "incompatible scheduler flag `mh-port'"),
        ("-A -t 10.0.0.1:80 -b ,", "invalid scheduler flag `,'"),
        # combinations
        ("-A", "You need to supply the 'service-address' option for the 'add-service' command"),
        ("-C -t 10.0.0.1:80", "Illegal 'service-address' option with the 'flush' command"),
        ("-L -c --timeout", "The option 'timeout' conflicts with the 'connection' option in the 'list' command"),
        ("-L --daemon -t 10.0.0.1:80", "The option 'daemon' conflicts with the 'service-address' option in the 'list' command"),
        ("-L -c --stats", "options conflicts in the list command"),
        ("-L --timeout --rate", "options conflicts in the list command"),
        ("-L --daemon --thresholds", "options conflicts in the list command"),
        ("-L --daemon --persistent-conn", "options conflicts in the list command"),
        # the line as a whole
        ("-A -t 10.0.0.1", "Zero port specified for non-persistent service"),
        ("-E -t 10.0.0.1:0 -o", "Zero port specified for non-persistent service"),
        ("-A -t 10.0.0.1:80 -o", "One-Packet Scheduling is only for UDP virtual services"),
        ("-a -t 10.0.0.1:80 -r [::1]:80 -m", "Different address family is allowed only for tunneling servers"),
        ("-e -t [::1]:80 -r 10.0.0.1:80", "Different address family is allowed only for tunneling servers"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 --tun-type ipip", "Tunnel options conflict with forward method"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -m --tun-nocsum", "Tunnel options conflict with forward method"),
    ],
)
def test_refused_with_status_2(ipvs, ipvsadm, line: str, message: str) -> None:
    result = ipvsadm(line)
    assert (result.status, result.out, result.err) == (2, "", message + "\n")
    assert not ipvs.services


TUNNEL = "-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ipip --tun-port 1", "Illegal 'tun-port' option with the 'ipip' tunnel type"),
        ("ipip --tun-nocsum", "Illegal 'tun-nocsum' option with the 'ipip' tunnel type"),
        ("ipip --tun-csum", "Illegal 'tun-csum' option with the 'ipip' tunnel type"),
        ("ipip --tun-remcsum", "Illegal 'tun-remcsum' option with the 'ipip' tunnel type"),
        ("gue", "You need to supply the 'tun-port' option for the 'gue' tunnel type"),
        ("gue --tun-csum --tun-nocsum", "You need to supply the 'tun-port' option for the 'gue' tunnel type"),
        ("gue --tun-port 1 --tun-csum --tun-nocsum", "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gue' tunnel type"),
        ("gue --tun-port 1 --tun-csum --tun-remcsum", "The option 'tun-remcsum' conflicts with the 'tun-csum' option in the 'gue' tunnel type"),
        ("gre --tun-port 1", "Illegal 'tun-port' option with the 'gre' tunnel type"),
        ("gre --tun-remcsum", "Illegal 'tun-remcsum' option with the 'gre' tunnel type"),
        ("gre --tun-csum --tun-nocsum", "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type"),
    ],
)
def test_tunnel_options_that_do_not_fit(ipvsadm, options: str, message: str) -> None:
    result = ipvsadm(TUNNEL + options)
    assert (result.status, result.err) == (2, message + "\n")


@pytest.mark.parametrize("options", ["ipip", "gue --tun-port 1", "gue --tun-port 1 --tun-remcsum", "gre", "gre --tun-nocsum", "gre --tun-csum"])
def test_tunnel_options_that_fit(ipvsadm, options: str) -> None:
    ipvsadm("-A -t 10.0.0.1:80")
    assert ipvsadm(TUNNEL + options).status == 0


def test_options_are_read_before_combinations_are_looked_at(ipvsadm) -> None:
    assert ipvsadm("-C -t 10.0.0.1:80 -w x").err == "illegal weight specified\n"
    assert ipvsadm("-C -t 10.0.0.1:80 left").err == "unexpected argument left\n"
    assert ipvsadm("-C -t 10.0.0.1:80 -b nosuch").err == "invalid scheduler flag `nosuch'\n"


def test_an_unknown_option_behind_the_command_is_no_argument_error(ipvsadm) -> None:
    result = ipvsadm("-A -t 10.0.0.1:80 --bogus left")
    assert (result.status, result.err) == (255, "--bogus: unknown option\n")


# --- errors of the kernel ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-A -t 192.0.2.1:80", "Service already exists"),
        ("-A -t 192.0.2.1:81 -s nosuch", "Scheduler or persistence engine not found"),
        ("-E -t 192.0.2.1:80 --pe nosuch", "Scheduler or persistence engine not found"),
        ("-E -t 192.0.2.1:81", "No such service"),
        ("-D -u 192.0.2.1:80", "No such service"),
        ("-Z -f 9", "No such service"),
        ("-a -t 192.0.2.1:81 -r 10.0.0.1", "Service not defined"),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1", "Destination already exists"),
        ("-e -f 9 -r 10.0.0.1", "Service not defined"),
        ("-e -t 192.0.2.1:80 -r 10.0.0.2", "No such destination"),
        ("-d -f 9 -r 10.0.0.1", "Service not defined"),
        ("-d -t 192.0.2.1:80 -r 10.0.0.1:8080", "No such destination"),
        ("-a -t 192.0.2.1:80 -r 224.0.0.1", "Invalid operation.  Possibly wrong module version, address not unicast, ..."),
        ("-a -t 192.0.2.1:80 -r 10.0.0.3 -y 5", "Numerical result out of range"),
        ("--start-daemon master --mcast-interface nosuch", "No such device"),
        ("--start-daemon backup", "Daemon has already run"),
        ("--stop-daemon master", "No daemon is running"),
    ],
)
def test_refused_by_the_kernel_with_status_255(ipvsadm, line: str, message: str) -> None:
    for setup in ("-A -t 192.0.2.1:80", "-a -t 192.0.2.1:80 -r 10.0.0.1", "--start-daemon backup"):
        assert ipvsadm(setup).status == 0
    result = ipvsadm(line)
    assert (result.status, result.out, result.err) == (255, "", message + "\n")


def test_every_text_of_the_table_is_found() -> None:
    for commands, code, text in ERRORS:
        for command in commands or (Command.FLUSH,):
            assert strerror(command, code) == text


def test_errors_without_a_text_of_their_own_have_the_systems() -> None:
    assert strerror(Command.ADD, errno.EIO) == os.strerror(errno.EIO)
    assert strerror(Command.FLUSH, errno.ESRCH) == os.strerror(errno.ESRCH)


def test_an_unreadable_listing_has_status_1(ipvsadm) -> None:
    result = ipvsadm("-L -t 192.0.2.1:80")
    assert (result.status, result.out, result.err) == (1, "", "No such service\n")


def test_a_missing_connection_file_has_status_1(ipvs) -> None:
    def nothing(name: str) -> str:
        raise FileNotFoundError(name)

    result = run(ipvs.control, nothing, "-Lc")
    assert (result.status, result.out, result.err) == (1, "", "cannot open file /proc/net/ip_vs_conn\n")


class Refusing(Control):
    """A kernel that lets nobody in."""

    def get_info(self) -> tuple[int, int]:
        raise IPVSError(errno.EPERM)


@pytest.mark.parametrize("line", ["", "-h", "-v", "-L", "--bogus"])
def test_without_ipvs_nothing_works(ipvs, line: str) -> None:
    control = Refusing(ipvs.ns, ipvs.schedulers, ipvs.engines, ipvs.daemons)
    result = run(control, ipvs.proc, line)
    assert (result.status, result.out) == (2, "")
    assert result.lines == [
        "Can't initialize ipvs: Permission denied (you must be root)",
        "Are you sure that IP Virtual Server is built in the kernel or as module?",
    ]
