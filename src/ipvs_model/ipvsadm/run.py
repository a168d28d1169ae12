"""Running ipvsadm on a model: exit status, output and error output as the program has them.

source: ipvsadm.c, main, process_options, restore_table, list_all, list_service, list_conn; libipvs.c, ipvs_strerror
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import frozen

from ipvs_model.control import Control, ServiceEntry
from ipvs_model.errors import IPVSError
from ipvs_model.ipvsadm import grammar as G
from ipvs_model.ipvsadm.grammar import Command, Option
from ipvs_model.ipvsadm.listing import TITLES, Style, connection_lines, daemon_line, service_lines, timeout_line, version_line
from ipvs_model.ipvsadm.names import Resolver, TableResolver
from ipvs_model.ipvsadm.order import cmp_dests, cmp_services, merge_sort
from ipvs_model.ipvsadm.parse import EXIT_ARGUMENTS, EXIT_REFUSED, Exit, Failed, Request, hint, parse
from ipvs_model.ipvsadm.save import restored_lines, saved_lines
from ipvs_model.service import ServiceUser

EXIT_UNREADABLE: Final = 1


@frozen
class Result:
    """What a run of ipvsadm left behind: exit status (0, 1, 2 or 255), standard output, error output."""

    status: int
    out: str = ""
    err: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines of both, as one pipe shows them: error output first, because standard output is written when the program ends."""
        return (self.err + self.out).splitlines()

    def __str__(self) -> str:
        return self.err + self.out


def strerror(command: Command | None, code: int) -> str:
    """The text for an error of the kernel (source: libipvs.c, ipvs_strerror).

    >>> strerror(Command.ADDDEST, 3), strerror(Command.DEL, 3)
    ('Service not defined', 'No such service')
    """
    for commands, number, text in G.ERRORS:
        if number == code and (not commands or command in commands):
            return text
    return os.strerror(code)


def run(control: Control, proc: Callable[[str], str], argv: Sequence[str] | str, stdin: str = "", *, resolver: Resolver | None = None) -> Result:
    """Run a command line: the words behind the program's name, or one string that is split on blanks.

    ``proc`` reads a file of /proc/net (for -L -c), ``stdin`` is what -R reads, ``resolver`` finds names (default: `TableResolver`, which knows
    well-known services and no hosts). Never raises for what is in the words.
    """
    program = _Program(control, proc, stdin, resolver if resolver is not None else TableResolver())
    words = argv.split() if isinstance(argv, str) else list(argv)
    try:
        status = program.main(words)
    except Exit as end:
        program.out.append(end.out)
        program.err.append(end.err)
        status = end.status
    return Result(status, "".join(program.out), "".join(program.err))


class _Program:
    """One run of the program."""

    def __init__(self, control: Control, proc: Callable[[str], str], stdin: str, resolver: Resolver) -> None:
        self.control = control
        self.proc = proc
        self.stdin = stdin
        self.resolver = resolver
        self.restoring = False
        self.out: list[str] = []
        self.err: list[str] = []

    def main(self, words: Sequence[str]) -> int:
        try:
            self.control.get_info()
        except IPVSError as error:
            raise Exit(EXIT_ARGUMENTS, err=G.NO_IPVS.format(strerror(None, error.errno or 0)) + "\n") from None
        if not words:
            self.print_all(Request(Command.LIST))
            return 0
        return self.process(words)

    def process(self, words: Sequence[str]) -> int:
        """One command line. Raises Exit where the program ends (source: ipvsadm.c, process_options)."""
        try:
            request = parse(words, self.resolver)
            return ACTIONS[request.command](self, request) or 0
        except Failed as failure:
            self.err.append(failure.message + "\n")
        except IPVSError as error:
            self.err.append(strerror(request.command, error.errno or 0) + "\n")
        return EXIT_REFUSED

    def print(self, *lines: str) -> None:
        self.out += (line + "\n" for line in lines)

    # --- changing -----------------------------------------------------------------------------------------------------
    def add(self, request: Request) -> None:
        self.control.new_service(request.service)

    def edit(self, request: Request) -> None:
        self.control.set_service(request.service)

    def delete(self, request: Request) -> None:
        self.control.del_service(request.service)

    def flush(self, request: Request) -> None:
        self.control.flush()

    def add_dest(self, request: Request) -> None:
        self.control.new_dest(request.service, request.dest)

    def edit_dest(self, request: Request) -> None:
        self.control.set_dest(request.service, request.dest)

    def delete_dest(self, request: Request) -> None:
        self.control.del_dest(request.service, request.dest)

    def zero(self, request: Request) -> None:
        """One service, unless it is nothing but zeros: then everything."""
        service = request.service
        self.control.zero(service if service.fwmark or service.addr or service.port else None)

    def set_timeouts(self, request: Request) -> None:
        self.control.set_config(*request.timeouts)

    def start_daemon(self, request: Request) -> None:
        self.control.new_daemon(request.daemon)

    def stop_daemon(self, request: Request) -> None:
        self.control.del_daemon(request.daemon.state)

    def restore(self, request: Request) -> int:
        """Standard input line by line; the status is that of the last line (source: ipvsadm.c, restore_table)."""
        if self.restoring:
            raise hint()
        self.restoring = True
        status = 0
        for words in restored_lines(self.stdin):
            status = self.process(words)
        return status

    # --- showing ------------------------------------------------------------------------------------------------------
    def list(self, request: Request) -> None:
        options = request.options
        if Option.CONNECTION in options:
            self.print_connections(request)
        elif Option.SERVICE in options:
            self.print_one(request)
        elif Option.TIMEOUT in options:
            self.print(timeout_line(self.control.get_config()))
        elif Option.DAEMON in options:
            self.print(*map(daemon_line, self.control.get_daemons()))
        else:
            self.print_all(request)

    def print_one(self, request: Request) -> None:
        try:
            entry = self.control.get_service(request.service)
        except IPVSError as error:
            raise Exit(EXIT_UNREADABLE, err=strerror(Command.LIST, error.errno or 0) + "\n") from None
        self.print(*TITLES[self.style(request).format])
        self.print_service(entry, request)

    def print_all(self, request: Request) -> None:
        self.print(version_line(*self.control.get_info()), *TITLES[self.style(request).format])
        for entry in self.services(request):
            self.print_service(entry, request)

    def save(self, request: Request) -> None:
        for entry in self.services(request):
            dests = merge_sort(self.control.get_dests(identity(entry)), cmp_dests)
            self.print(*saved_lines(entry, dests, self.style(request).resolver))

    def services(self, request: Request) -> Sequence[ServiceEntry]:
        entries = self.control.get_services()
        return entries if Option.NOSORT in request.options else merge_sort(entries, cmp_services)

    def print_service(self, entry: ServiceEntry, request: Request) -> None:
        dests = self.control.get_dests(identity(entry))
        if Option.NOSORT not in request.options:
            dests = merge_sort(dests, cmp_dests)
        self.print(*service_lines(entry, dests, self.style(request)))

    def print_connections(self, request: Request) -> None:
        try:
            text = self.proc("ip_vs_conn")
        except OSError:
            raise Exit(EXIT_UNREADABLE, err=G.NO_FILE + "\n") from None
        self.print(*connection_lines(text, persistent=Option.PERSISTENTCONN in request.options, resolver=self.style(request).resolver))

    def style(self, request: Request) -> Style:
        return Style.of(request.options, self.resolver)


def identity(entry: ServiceEntry) -> ServiceUser:
    """What identifies the service that an entry shows."""
    return ServiceUser(af=entry.af, protocol=entry.protocol, addr=entry.addr, port=entry.port, fwmark=entry.fwmark)


ACTIONS: Final[Mapping[Command, Callable[[_Program, Request], int | None]]] = {
    Command.ADD: _Program.add,
    Command.EDIT: _Program.edit,
    Command.DEL: _Program.delete,
    Command.FLUSH: _Program.flush,
    Command.LIST: _Program.list,
    Command.ADDDEST: _Program.add_dest,
    Command.DELDEST: _Program.delete_dest,
    Command.EDITDEST: _Program.edit_dest,
    Command.TIMEOUT: _Program.set_timeouts,
    Command.STARTDAEMON: _Program.start_daemon,
    Command.STOPDAEMON: _Program.stop_daemon,
    Command.RESTORE: _Program.restore,
    Command.SAVE: _Program.save,
    Command.ZERO: _Program.zero,
}
