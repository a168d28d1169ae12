"""The older control calls: setsockopt and getsockopt on a raw IPv4 socket, with their own checks in their own order.

1. IPv4 only; no persistence engine (an edit removes it), no tunnel options, no family but the service's.
2. A request has its exact length, before anything in it is looked at.
3. Flags are replaced as a whole; a destination may be given ONE_PACKET and NFCT.

Requests and answers are the objects of `control.py`, not bytes: ``length`` stands for the size of what a program hands over.

source: ip_vs_ctl.c, do_ip_vs_set_ctl, do_ip_vs_get_ctl; include/uapi/linux/ip_vs.h
"""

from __future__ import annotations

import errno
from typing import Any, Final

from attrs import evolve, fields, frozen

from ipvs_model.control import NAME_MAX, Control, DestEntry, ServiceEntry, dest_entry, service_entry
from ipvs_model.dest import Dest, DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.flags import (
    AF_INET,
    IP_VS_STATE_BACKUP,
    IP_VS_STATE_MASTER,
    IP_VS_STATE_NONE,
    IP_VS_VERSION,
    IP_VS_VERSION_CODE,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from ipvs_model.service import Service, ServiceUser
from ipvs_model.stats import StatsEntry
from ipvs_model.sync.daemon import IP_VS_IFNAME_MAXLEN, DaemonUser

IP_VS_BASE_CTL: Final = 1152

IP_VS_SO_SET_NONE: Final = 1152
IP_VS_SO_SET_INSERT: Final = 1153
IP_VS_SO_SET_ADD: Final = 1154
IP_VS_SO_SET_EDIT: Final = 1155
IP_VS_SO_SET_DEL: Final = 1156
IP_VS_SO_SET_FLUSH: Final = 1157
IP_VS_SO_SET_LIST: Final = 1158
IP_VS_SO_SET_ADDDEST: Final = 1159
IP_VS_SO_SET_DELDEST: Final = 1160
IP_VS_SO_SET_EDITDEST: Final = 1161
IP_VS_SO_SET_TIMEOUT: Final = 1162
IP_VS_SO_SET_STARTDAEMON: Final = 1163
IP_VS_SO_SET_STOPDAEMON: Final = 1164
IP_VS_SO_SET_RESTORE: Final = 1165
IP_VS_SO_SET_SAVE: Final = 1166
IP_VS_SO_SET_ZERO: Final = 1167

IP_VS_SO_GET_VERSION: Final = 1152
IP_VS_SO_GET_INFO: Final = 1153
IP_VS_SO_GET_SERVICES: Final = 1154
IP_VS_SO_GET_SERVICE: Final = 1155
IP_VS_SO_GET_DESTS: Final = 1156
IP_VS_SO_GET_DEST: Final = 1157
IP_VS_SO_GET_TIMEOUT: Final = 1158
IP_VS_SO_GET_DAEMON: Final = 1159

SERVICE: Final = 44  #: bytes of struct ip_vs_service_user
DEST: Final = 24  #: bytes of struct ip_vs_dest_user
TIMEOUT: Final = 12  #: bytes of struct ip_vs_timeout_user
DAEMON: Final = 24  #: bytes of struct ip_vs_daemon_user

#: exact lengths; what is not here has no meaning and wants none
SET_LENGTHS: Final = {
    IP_VS_SO_SET_ADD: SERVICE,
    IP_VS_SO_SET_EDIT: SERVICE,
    IP_VS_SO_SET_DEL: SERVICE,
    IP_VS_SO_SET_FLUSH: 0,
    IP_VS_SO_SET_ADDDEST: SERVICE + DEST,
    IP_VS_SO_SET_DELDEST: SERVICE + DEST,
    IP_VS_SO_SET_EDITDEST: SERVICE + DEST,
    IP_VS_SO_SET_TIMEOUT: TIMEOUT,
    IP_VS_SO_SET_STARTDAEMON: DAEMON,
    IP_VS_SO_SET_STOPDAEMON: DAEMON,
    IP_VS_SO_SET_ZERO: SERVICE,
}
#: least lengths; SERVICES and DESTS must have exactly this and an entry's size for each entry asked for
GET_LENGTHS: Final = {
    IP_VS_SO_GET_VERSION: 64,
    IP_VS_SO_GET_INFO: 12,
    IP_VS_SO_GET_SERVICES: 8,
    IP_VS_SO_GET_SERVICE: 104,
    IP_VS_SO_GET_DESTS: 24,
    IP_VS_SO_GET_DEST: 24,
    IP_VS_SO_GET_TIMEOUT: 12,
    IP_VS_SO_GET_DAEMON: 48,
}
SERVICE_ENTRY: Final = 104  #: bytes of struct ip_vs_service_entry
DEST_ENTRY: Final = 96  #: bytes of struct ip_vs_dest_entry

PROTOCOLS: Final = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP)
U32: Final = 0xFFFFFFFF
#: counters that the old structure keeps in 64 bits
WIDE: Final = ("inbytes", "outbytes")


@frozen
class OldServiceEntry(ServiceEntry):
    """``struct ip_vs_service_entry``: as the newer entry, with the number of destinations; most counters in 32 bits."""

    num_dests: int


Request = ServiceUser | tuple[ServiceUser, DestUser] | tuple[int, int, int] | DaemonUser | None


class Sockopt:
    """The older dialect in front of a namespace's control calls.

    >>> from ipvs_model import IPVS, DestUser, ServiceUser
    >>> old = Sockopt(IPVS().control)
    >>> web = ServiceUser(addr=0xC0000201, port=80, sched_name="rr")
    >>> old.set(IP_VS_SO_SET_ADD, web)
    >>> old.set(IP_VS_SO_SET_ADDDEST, (web, DestUser(addr=0x0A01000B, port=8080)))
    >>> [dest.port for dest in old.get(IP_VS_SO_GET_DESTS, (web, 1))]
    [8080]
    """

    def __init__(self, control: Control) -> None:
        self.control = control
        self.ns = control.ns

    # -- setsockopt --------------------------------------------------------------------------------------------------

    def set(self, command: int, request: Request = None, length: int | None = None) -> None:
        """Do a set command: a ServiceUser, (ServiceUser, DestUser), (tcp, tcp_fin, udp) in seconds, a DaemonUser, or nothing for FLUSH.

        ``length``: bytes handed over, None: the right number. Raises IPVSError: ENOPROTOOPT for a number outside 1152..1167, EINVAL for a wrong length
        or a command without meaning, EFAULT for a protocol other than TCP, UDP, SCTP, and what the command itself may raise.
        """
        if not IP_VS_SO_SET_NONE <= command <= IP_VS_SO_SET_ZERO:
            raise IPVSError(errno.ENOPROTOOPT)
        right = SET_LENGTHS.get(command, 0)
        if (right if length is None else length) != right:
            raise IPVSError(errno.EINVAL)
        if command in (IP_VS_SO_SET_STARTDAEMON, IP_VS_SO_SET_STOPDAEMON):
            assert isinstance(request, DaemonUser), "a daemon"
            self._daemon(command, request)
        elif command == IP_VS_SO_SET_FLUSH:
            self.control.flush()
        elif command == IP_VS_SO_SET_TIMEOUT:
            assert isinstance(request, tuple), "three timeouts"
            self.control.set_config(*request)
        elif not right:
            raise IPVSError(errno.EINVAL)
        elif isinstance(request, ServiceUser):
            self._service(command, request)
        else:
            assert isinstance(request, tuple), "a service and a destination"
            self._dest(command, *request)

    def _daemon(self, command: int, user: DaemonUser) -> None:
        if command == IP_VS_SO_SET_STOPDAEMON:
            self.control.daemons.stop_sync_thread(user.state)
            return
        if not 0 < len(user.mcast_ifn) < IP_VS_IFNAME_MAXLEN:
            raise IPVSError(errno.EINVAL)
        self.control.daemons.start_sync_thread(DaemonUser(user.state, user.mcast_ifn, user.syncid))

    def _service(self, command: int, user: ServiceUser) -> None:
        if command == IP_VS_SO_SET_ZERO and not (user.fwmark or user.addr or user.port):
            self.control.zero()
            return
        if command in (IP_VS_SO_SET_ADD, IP_VS_SO_SET_EDIT) and len(user.sched_name) > NAME_MAX:
            raise IPVSError(errno.EINVAL)
        user = evolve(user, af=AF_INET, pe_name=None)
        svc = self._checked(user)
        if command == IP_VS_SO_SET_ADD:
            if svc is not None:
                raise IPVSError(errno.EEXIST)
            self.control.add_service(user)
            return
        svc = self._existing(svc, user)
        if command == IP_VS_SO_SET_EDIT:
            self.control.edit_service(svc, user)
        elif command == IP_VS_SO_SET_DEL:
            self.control.unlink_service(svc)
        else:
            self.control.zero_service(svc)

    def _dest(self, command: int, ident: ServiceUser, user: DestUser) -> None:
        ident = evolve(ident, af=AF_INET)
        svc = self._existing(self._checked(ident), ident)
        user = evolve(user, af=AF_INET, tun_type=0, tun_port=0, tun_flags=0)
        if user.addr > U32:
            raise IPVSError(errno.EINVAL)
        if command == IP_VS_SO_SET_ADDDEST:
            self.control.add_dest(svc, user)
        elif command == IP_VS_SO_SET_EDITDEST:
            self.control.edit_dest(svc, user)
        else:
            self.control.remove_dest(svc, user)

    def _checked(self, user: ServiceUser) -> Service | None:
        """The service meant; the protocol is looked at first, for firewall marks too."""
        if user.protocol not in PROTOCOLS:
            raise IPVSError(errno.EFAULT)
        if user.addr > U32:
            raise IPVSError(errno.EINVAL)
        return self._find(user)

    def _find(self, user: ServiceUser) -> Service | None:
        return self.control.find(evolve(user, af=AF_INET))

    @staticmethod
    def _existing(svc: Service | None, user: ServiceUser) -> Service:
        """A service found by its mark must have the protocol too."""
        if svc is None or svc.protocol != user.protocol:
            raise IPVSError(errno.ESRCH)
        return svc

    # -- getsockopt --------------------------------------------------------------------------------------------------

    def get(self, command: int, request: Any = None, length: int | None = None) -> Any:
        """Do a get command.

        VERSION: text. INFO: version, table size, IPv4 services. SERVICES: for a number of entries, a list. SERVICE: for a ServiceUser, its entry. DESTS: for
        (ServiceUser, number), a list of DestEntry with complete ``conn_flags``. TIMEOUT: tcp, tcp_fin, udp in seconds. DAEMON: master and backup, state 0
        for one that does not run. ``length``: bytes of the buffer, None: the right number. Raises IPVSError: ENOPROTOOPT, EINVAL (length, DEST), ESRCH.
        """
        least = GET_LENGTHS.get(command)
        if least is None:
            raise IPVSError(errno.ENOPROTOOPT)
        if command == IP_VS_SO_GET_SERVICES:
            fits = length in (None, least + SERVICE_ENTRY * request)
        elif command == IP_VS_SO_GET_DESTS:
            fits = length in (None, least + DEST_ENTRY * request[1])
        else:
            fits = command != IP_VS_SO_GET_DEST and (length is None or length >= least)
        if not fits:
            raise IPVSError(errno.EINVAL)
        return self._answer(command, request)

    def _answer(self, command: int, request: Any) -> Any:
        size = self.ns.conns.mask + 1
        if command == IP_VS_SO_GET_VERSION:
            return f"IP Virtual Server version {IP_VS_VERSION} (size={size})"
        if command == IP_VS_SO_GET_INFO:
            return IP_VS_VERSION_CODE, size, self.ns.num_services
        if command == IP_VS_SO_GET_SERVICES:
            return [old_service_entry(svc) for svc in self.ns.services.walk() if svc.af == AF_INET][:request]
        if command == IP_VS_SO_GET_SERVICE:
            return old_service_entry(self._shown(request))
        if command == IP_VS_SO_GET_DESTS:
            ident, count = request
            return [old_dest_entry(dest) for dest in self._shown(ident).destinations if dest.af == AF_INET][:count]
        if command == IP_VS_SO_GET_TIMEOUT:
            return self.control.get_config()
        running = {entry.state: DaemonUser(entry.state, entry.mcast_ifn, entry.syncid) for entry in self.control.get_daemons()}
        return tuple(running.get(state, DaemonUser(IP_VS_STATE_NONE)) for state in (IP_VS_STATE_MASTER, IP_VS_STATE_BACKUP))

    def _shown(self, user: ServiceUser) -> Service:
        svc = self._find(user)
        if svc is None:
            raise IPVSError(errno.ESRCH)
        return svc


def old_stats(stats: StatsEntry) -> StatsEntry:
    """Counters and rates as the old structure holds them: bytes in 64 bits, all others in 32."""
    return StatsEntry(*(getattr(stats, member.name) & (-1 if member.name in WIDE else U32) for member in fields(StatsEntry)))


def old_service_entry(svc: Service) -> OldServiceEntry:
    """A snapshot of a service (source: ip_vs_ctl.c, ip_vs_copy_service)."""
    entry = service_entry(svc)
    members = {member.name: getattr(entry, member.name) for member in fields(ServiceEntry)}
    return OldServiceEntry(**{**members, "stats": old_stats(entry.stats), "pe_name": None}, num_dests=svc.num_dests)


def old_dest_entry(dest: Dest) -> DestEntry:
    """A snapshot of a destination with all its connection flags (source: ip_vs_ctl.c, __ip_vs_get_dest_entries)."""
    entry = dest_entry(dest)
    return evolve(entry, conn_flags=dest.conn_flags, tun_type=0, tun_port=0, tun_flags=0, stats=old_stats(entry.stats))
