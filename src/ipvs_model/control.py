"""Control calls: services, destinations, timeouts, zeroing, daemons, with the kernel's checks in the kernel's order.

Every call raises IPVSError with the kernel's errno and changes nothing then. Generic netlink semantics; ``sockopt.py`` has the older dialect.

source: ip_vs_ctl.c
"""

from __future__ import annotations

import errno
from typing import Any, Final

from attrs import evolve, frozen

from ipvs_model.dest import Dest, DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.events import DestChanged, ServiceChanged
from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    FTPPORT,
    IP_VS_CONN_F_DEST_MASK,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_MASQ,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_TUNNEL,
    IP_VS_CONN_F_TUNNEL_TYPE_GUE,
    IP_VS_DEST_CF_AVAILABLE,
    IP_VS_SVC_F_HASHED,
    IP_VS_VERSION_CODE,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from ipvs_model.netns import Netns
from ipvs_model.protocols import tcp
from ipvs_model.schedulers.registry import Registry, bind_scheduler, unbind_scheduler
from ipvs_model.service import Service, ServiceUser
from ipvs_model.stats import StatsEntry
from ipvs_model.sync.daemon import DaemonEntry, DaemonUser, SyncDaemons
from ipvs_model.timers import DelayedWork

INT_MAX: Final = (1 << 31) - 1
NO_SCHEDULER: Final = "none"
NAME_MAX: Final = 15  #: characters of a scheduler name
PE_NAME_MAX: Final = 16


@frozen
class ServiceEntry:
    """A service as a listing reads it; ``timeout`` in seconds, ``pe_name`` None without engine."""

    af: int
    protocol: int
    addr: int
    port: int
    fwmark: int
    sched_name: str
    flags: int
    timeout: int
    netmask: int
    pe_name: str | None
    stats: StatsEntry


@frozen
class DestEntry:
    """A destination as a listing reads it; ``conn_flags`` holds the forwarding method."""

    af: int
    addr: int
    port: int
    conn_flags: int
    weight: int
    u_threshold: int
    l_threshold: int
    activeconns: int
    inactconns: int
    persistconns: int
    tun_type: int
    tun_port: int
    tun_flags: int
    stats: StatsEntry


class Control:
    """The control interface of one namespace. The registries find schedulers and engines by name."""

    def __init__(self, ns: Netns, schedulers: Registry, engines: Any, daemons: SyncDaemons) -> None:
        self.ns = ns
        self.daemons = daemons
        self.schedulers = schedulers
        self.engines = engines
        self.nodest_work = DelayedWork(ns.clock, ns.conns.expire_nodest)

    # -- services --------------------------------------------------------------------------------------------------

    def _identity(self, user: ServiceUser) -> ServiceUser:
        """What identifies a service: a fwmark alone, or protocol, address and port (source: ip_vs_genl_parse_service)."""
        if user.af not in (AF_INET, AF_INET6):
            raise IPVSError(errno.EAFNOSUPPORT)
        if user.af == AF_INET and user.addr >> 32:
            raise IPVSError(errno.EINVAL)
        if user.fwmark:
            return evolve(user, protocol=IPPROTO_TCP, addr=0, port=0)
        return user

    def find(self, user: ServiceUser) -> Service | None:
        """The service with this identity."""
        services = self.ns.services
        if user.fwmark:
            return services.find_mark(user.af, user.fwmark)
        return services.find_exact(user.af, user.protocol, user.addr, user.port)

    def _existing(self, user: ServiceUser) -> Service:
        svc = self.find(self._identity(user))
        if svc is None:
            raise IPVSError(errno.ESRCH)
        return svc

    def new_service(self, user: ServiceUser) -> Service:
        """Add a service. Raises EINVAL, EAFNOSUPPORT, EEXIST, ENOENT (scheduler or engine), or what the scheduler says."""
        user = self._identity(self._check_names(user))
        if self.find(user) is not None:
            raise IPVSError(errno.EEXIST)
        return self.add_service(evolve(user, flags=user.flags & user.flags_mask))

    def set_service(self, user: ServiceUser) -> Service:
        """Edit a service. Raises as ``new_service``, but ESRCH where there is none."""
        user = self._identity(self._check_names(user))
        svc = self._existing(user)
        self.edit_service(svc, evolve(user, flags=svc.flags & ~user.flags_mask & 0xFFFFFFFF | user.flags & user.flags_mask))
        return svc

    @staticmethod
    def _check_names(user: ServiceUser) -> ServiceUser:
        if len(user.sched_name) > NAME_MAX or len(user.pe_name or "") > PE_NAME_MAX:
            raise IPVSError(errno.EINVAL)
        return user

    def _lookup_names(self, user: ServiceUser) -> tuple[Any, Any]:
        """Scheduler, engine; then the IPv6 prefix is looked at."""
        scheduler = None if user.sched_name == NO_SCHEDULER else self.schedulers.get(user.sched_name)
        engine = self.engines.get(user.pe_name) if user.pe_name else None
        if user.af == AF_INET6 and not 1 <= user.netmask <= 128:
            raise IPVSError(errno.EINVAL)
        return scheduler, engine

    def add_service(self, user: ServiceUser) -> Service:
        """Make a service of a checked request (source: ip_vs_ctl.c, ip_vs_add_service)."""
        ns = self.ns
        scheduler, engine = self._lookup_names(user)
        svc = Service(ns, user)
        if scheduler is not None:
            bind_scheduler(svc, scheduler)
        svc.pe = engine
        if user.af == AF_INET6:
            ns.defrag6 = True
        ns.estimator.start(svc.stats)
        self._count_ports(svc, 1)
        if engine is not None and engine.conn_out is not None:
            ns.conn_out_counter += 1
        if svc.af == AF_INET6:
            ns.num_services6 += 1
        else:
            ns.num_services += 1
        ns.services.hash(svc)
        self._update_hooks()
        if not ns.enable:
            ns.enable = True
            ns.estimator.enabled = True
            ns.estimator.run(self._estimation_wanted())
        if ns.emit is not None:
            ns.emit(ServiceChanged("ip_vs_add_service", svc.key(), "added"))
        return svc

    def _estimation_wanted(self) -> bool:
        sysctl = self.ns.sysctl
        return bool(sysctl.run_estimation) and sysctl.est_cpulist != ""

    def _count_ports(self, svc: Service, by: int) -> None:
        if svc.port == FTPPORT:
            self.ns.ftpsvc_counter += by
        elif svc.port == 0:
            self.ns.nullsvc_counter += by

    def _update_hooks(self) -> None:
        """Packets of a family are seen while it has a service (source: ip_vs_register_hooks, ip_vs_unregister_hooks)."""
        ns = self.ns
        ns.hooks_afmask = (1 if ns.num_services else 0) | (2 if ns.num_services6 else 0)
        ns.quick_changed()

    def edit_service(self, svc: Service, user: ServiceUser) -> None:
        """Change a service (source: ip_vs_ctl.c, ip_vs_edit_service)."""
        ns = self.ns
        scheduler, engine = self._lookup_names(user)
        old = svc.scheduler
        if scheduler is not old:
            unbind_scheduler(svc)
            if scheduler is not None:
                try:
                    bind_scheduler(svc, scheduler)
                except IPVSError:
                    if old is not None:
                        try:
                            bind_scheduler(svc, old)
                        except IPVSError:
                            svc.scheduler = None
                    raise
        svc.flags = user.flags | IP_VS_SVC_F_HASHED
        svc.opens = None
        svc.timeout = user.timeout * ns.env.hz & 0xFFFFFFFF
        svc.netmask = user.netmask
        if engine is not svc.pe:
            ns.conn_out_counter += int(engine is not None and engine.conn_out is not None) - int(svc.pe is not None and svc.pe.conn_out is not None)
            svc.pe = engine
        if ns.emit is not None:
            ns.emit(ServiceChanged("ip_vs_edit_service", svc.key(), "edited"))

    def del_service(self, user: ServiceUser) -> None:
        """Delete a service; its destinations go to the trash. Raises EINVAL, EAFNOSUPPORT, ESRCH."""
        self.unlink_service(self._existing(user))

    def unlink_service(self, svc: Service) -> None:
        """Take a service out and throw its destinations away (source: ip_vs_ctl.c, ip_vs_unlink_service, __ip_vs_del_service)."""
        ns = self.ns
        svc.refcnt += 1
        ns.services.unhash(svc)
        ns.tot_stats.leaves(svc.stats)
        if svc.af == AF_INET6:
            ns.num_services6 -= 1
        else:
            ns.num_services -= 1
        self._update_hooks()
        ns.estimator.stop(svc.stats)
        unbind_scheduler(svc)
        if svc.pe is not None:
            if svc.pe.conn_out is not None:
                ns.conn_out_counter -= 1
            svc.pe = None
        for dest in list(svc.destinations):
            self._unlink_dest(svc, dest, tell=False)
            self._trash(dest)
        self._count_ports(svc, -1)
        svc.conntrack_afmask = 0
        svc.refcnt -= 1
        if ns.emit is not None:
            ns.emit(ServiceChanged("ip_vs_del_service", svc.key(), "deleted"))

    def flush(self) -> None:
        """Delete every service, in dump order (source: ip_vs_ctl.c, ip_vs_flush)."""
        for svc in self.ns.services.walk():
            self.unlink_service(svc)

    def get_service(self, user: ServiceUser) -> ServiceEntry:
        """One service. Raises EINVAL, EAFNOSUPPORT, ESRCH."""
        return service_entry(self._existing(user))

    def get_services(self) -> list[ServiceEntry]:
        """All services in kernel order."""
        return [service_entry(svc) for svc in self.ns.services.walk()]

    # -- destinations ----------------------------------------------------------------------------------------------

    def new_dest(self, ident: ServiceUser, user: DestUser) -> Dest:
        """Add a destination. Raises ESRCH, EINVAL, EAFNOSUPPORT, ERANGE, EEXIST."""
        svc = self._existing(ident)
        return self.add_dest(svc, self._checked_dest(svc, user))

    def set_dest(self, ident: ServiceUser, user: DestUser) -> Dest:
        """Edit a destination; every value is replaced. Raises ESRCH, EINVAL, EAFNOSUPPORT, ERANGE, ENOENT."""
        svc = self._existing(ident)
        return self.edit_dest(svc, self._checked_dest(svc, user))

    def del_dest(self, ident: ServiceUser, user: DestUser) -> None:
        """Delete a destination: it goes to the trash. Raises ESRCH, EINVAL, EAFNOSUPPORT, ENOENT."""
        svc = self._existing(ident)
        self.remove_dest(svc, self._with_family(svc, user))

    @staticmethod
    def _with_family(svc: Service, user: DestUser) -> DestUser:
        user = evolve(user, af=user.af or svc.af)
        if user.af != svc.af and user.af not in (AF_INET, AF_INET6):
            raise IPVSError(errno.EAFNOSUPPORT)
        if user.af == AF_INET and user.addr >> 32:
            raise IPVSError(errno.EINVAL)
        return user

    def _checked_dest(self, svc: Service, user: DestUser) -> DestUser:
        """Family rules of generic netlink (source: ip_vs_ctl.c, ip_vs_genl_set_cmd)."""
        user = self._with_family(svc, user)
        if user.af != svc.af and (self.ns.sync_state or user.conn_flags & IP_VS_CONN_F_FWD_MASK != IP_VS_CONN_F_TUNNEL):
            raise IPVSError(errno.EINVAL)
        return evolve(user, conn_flags=user.conn_flags & IP_VS_CONN_F_FWD_MASK)

    @staticmethod
    def _check_values(user: DestUser) -> None:
        if user.weight < 0 or user.l_threshold > user.u_threshold:
            raise IPVSError(errno.ERANGE)
        if user.u_threshold > INT_MAX or (user.tun_type == IP_VS_CONN_F_TUNNEL_TYPE_GUE and not user.tun_port):
            raise IPVSError(errno.EINVAL)

    def add_dest(self, svc: Service, user: DestUser) -> Dest:
        """Add a destination of a checked request, or take it out of the trash (source: ip_vs_ctl.c, ip_vs_add_dest)."""
        self._check_values(user)
        if svc.find_dest(user.af, user.addr, user.port) is not None:
            raise IPVSError(errno.EEXIST)
        dest = self.ns.trash.get(svc, user.af, user.addr, user.port)
        what = "reinstated"
        if dest is None:
            self._check_address(user)
            dest = Dest(svc, user.af, user.addr, user.port)
            what = "added"
        self.ns.estimator.start(dest.stats)
        self._update_dest(svc, dest, user, add=True)
        if self.ns.emit is not None:
            self.ns.emit(DestChanged("ip_vs_add_dest", dest.key(), what))
        return dest

    def _check_address(self, user: DestUser) -> None:
        """Only own and unicast addresses (source: ip_vs_ctl.c, ip_vs_new_dest)."""
        if self.ns.routing.addr_type(user.af, user.addr) not in ("unicast", "local"):
            raise IPVSError(errno.EINVAL)
        if user.af == AF_INET6:
            self.ns.defrag6 = True

    def edit_dest(self, svc: Service, user: DestUser) -> Dest:
        """Edit a destination of a checked request (source: ip_vs_ctl.c, ip_vs_edit_dest)."""
        self._check_values(user)
        dest = svc.find_dest(user.af, user.addr, user.port)
        if dest is None:
            raise IPVSError(errno.ENOENT)
        self._update_dest(svc, dest, user, add=False)
        if self.ns.emit is not None:
            self.ns.emit(DestChanged("ip_vs_edit_dest", dest.key(), "edited"))
        return dest

    def _update_dest(self, svc: Service, dest: Dest, user: DestUser, add: bool) -> None:
        """What add, reinstatement and edit have in common (source: ip_vs_ctl.c, __ip_vs_update_dest)."""
        ns = self.ns
        if add and user.af != svc.af:
            ns.mixed_address_family_dests += 1
        if add or user.weight:
            dest.last_weight = user.weight
        dest.weight = user.weight
        conn_flags = user.conn_flags & IP_VS_CONN_F_DEST_MASK | IP_VS_CONN_F_INACTIVE
        method = conn_flags & IP_VS_CONN_F_FWD_MASK
        if (method, user.tun_type, user.tun_port) != (dest.method, dest.tun_type, dest.tun_port):
            ns.rs_table.unhash(dest)
        dest.tun_type, dest.tun_port, dest.tun_flags = user.tun_type, user.tun_port, user.tun_flags
        if method != IP_VS_CONN_F_MASQ:
            conn_flags |= IP_VS_CONN_F_NOOUTPUT
        elif svc.port == FTPPORT:
            svc.conntrack_afmask |= 1 if svc.af == AF_INET else 2
        dest.conn_flags = conn_flags
        ns.rs_table.hash(dest)
        if dest.svc is not svc:
            if dest.svc is not None:
                dest.stats.zero()
                dest.svc.refcnt -= 1
            dest.svc = svc
            svc.refcnt += 1
        dest.cflags |= IP_VS_DEST_CF_AVAILABLE
        if (dest.u_threshold, dest.l_threshold) != (user.u_threshold, user.l_threshold):
            dest.u_threshold, dest.l_threshold = user.u_threshold, user.l_threshold
            dest.l_threshold_val = user.l_threshold or user.u_threshold - (user.u_threshold >> 2)
            dest.update_overload(0)
        ns.routes_changed(dest)
        if add:
            svc.stats.joins(dest.stats)
            svc.link(dest)
            if svc.scheduler is not None:
                svc.scheduler.add_dest(svc, dest)
        elif svc.scheduler is not None:
            svc.scheduler.upd_dest(svc, dest)

    def remove_dest(self, svc: Service, user: DestUser) -> None:
        """Delete a destination (source: ip_vs_ctl.c, ip_vs_del_dest)."""
        dest = svc.find_dest(user.af, user.addr, user.port)
        if dest is None:
            raise IPVSError(errno.ENOENT)
        self._unlink_dest(svc, dest, tell=True)
        self._trash(dest)

    def _unlink_dest(self, svc: Service, dest: Dest, tell: bool) -> None:
        """Take a destination out of its service (source: ip_vs_ctl.c, __ip_vs_unlink_dest)."""
        ns = self.ns
        dest.cflags &= ~IP_VS_DEST_CF_AVAILABLE
        position = svc.unlink(dest)
        svc.stats.leaves(dest.stats)
        if dest.af != svc.af:
            ns.mixed_address_family_dests -= 1
        ns.routes_changed(dest)
        if tell and svc.scheduler is not None:
            svc.scheduler.del_dest(svc, dest, position)

    def _trash(self, dest: Dest) -> None:
        """Throw an unlinked destination away (source: ip_vs_ctl.c, __ip_vs_del_dest)."""
        ns = self.ns
        ns.estimator.stop(dest.stats)
        ns.rs_table.unhash(dest)
        ns.trash.put(dest)
        if ns.sysctl.expire_nodest_conn:
            self.nodest_work.queue(1)
        if ns.emit is not None:
            ns.emit(DestChanged("ip_vs_del_dest", dest.key(), "deleted"))

    def get_dests(self, ident: ServiceUser) -> list[DestEntry]:
        """Destinations of a service, newest first; none at all for an unknown one."""
        try:
            svc = self.find(self._identity(ident))
        except IPVSError:
            return []
        return [dest_entry(dest) for dest in svc.destinations] if svc is not None else []

    # -- the rest --------------------------------------------------------------------------------------------------

    def zero(self, ident: ServiceUser | None = None) -> None:
        """Zero one service and its destinations, or everything and the totals. Raises EINVAL, EAFNOSUPPORT, ESRCH."""
        if ident is not None:
            self.zero_service(self._existing(ident))
            return
        for svc in self.ns.services:
            self.zero_service(svc)
        self.ns.tot_stats.zero()

    @staticmethod
    def zero_service(svc: Service) -> None:
        """Zero a service and its destinations (source: ip_vs_ctl.c, ip_vs_zero_service)."""
        for dest in svc.destinations:
            dest.stats.zero()
        svc.stats.zero()

    def get_config(self) -> tuple[int, int, int]:
        """Timeouts in seconds: tcp, tcpfin, udp (source: ip_vs_ctl.c, __ip_vs_get_timeouts)."""
        hz = self.ns.env.hz
        tcp_data, udp_data = self.ns.protocols[IPPROTO_TCP], self.ns.protocols[IPPROTO_UDP]
        return tcp_data.timeout(tcp.ESTABLISHED) // hz, tcp_data.timeout(tcp.FIN_WAIT) // hz, udp_data.timeout(0) // hz

    def set_config(self, tcp_timeout: int = 0, fin_timeout: int = 0, udp_timeout: int = 0) -> None:
        """Set timeouts in seconds, 0 = leave alone. Raises EINVAL outside 0..INT_MAX/HZ (source: ip_vs_ctl.c, ip_vs_set_timeout)."""
        hz = self.ns.env.hz
        values = (tcp_timeout, fin_timeout, udp_timeout)
        if any(not 0 <= value <= INT_MAX // hz for value in values):
            raise IPVSError(errno.EINVAL)
        for value, (protocol, state) in zip(values, ((IPPROTO_TCP, tcp.ESTABLISHED), (IPPROTO_TCP, tcp.FIN_WAIT), (IPPROTO_UDP, 0)), strict=True):
            if value:
                self.ns.protocols[protocol].set_timeout(state, value * hz)

    def new_daemon(self, user: DaemonUser) -> None:
        """Start a sync daemon. Raises EINVAL, ENODEV, EEXIST."""
        self.daemons.new_daemon(user)

    def del_daemon(self, state: int) -> None:
        """Stop a sync daemon. Raises EINVAL, ESRCH."""
        self.daemons.stop_sync_thread(state)

    def get_daemons(self) -> list[DaemonEntry]:
        """Running daemons, master first."""
        return self.daemons.get_daemons()

    def get_info(self) -> tuple[int, int]:
        """Version and size of the connection table."""
        return IP_VS_VERSION_CODE, self.ns.conns.mask + 1

    def conntrack_active(self, af: int) -> bool:
        """Whether an FTP service asked for conntrack in a family (source: ip_vs_ctl.c, ip_vs_register_conntrack)."""
        bit = 1 if af == AF_INET else 2
        return any(svc.conntrack_afmask & bit for svc in self.ns.services)


def service_entry(svc: Service) -> ServiceEntry:
    """A snapshot of a service."""
    return ServiceEntry(
        svc.af, svc.protocol, svc.addr, svc.port, svc.fwmark, svc.scheduler.name if svc.scheduler is not None else NO_SCHEDULER, svc.flags,
        svc.timeout // svc.ipvs.env.hz, svc.netmask, svc.pe.name if svc.pe is not None else None, svc.stats.shown(),
    )  # fmt: skip


def dest_entry(dest: Dest) -> DestEntry:
    """A snapshot of a destination."""
    return DestEntry(
        dest.af, dest.addr, dest.port, dest.method, dest.weight, dest.u_threshold, dest.l_threshold, dest.activeconns, dest.inactconns, dest.persistconns,
        dest.tun_type, dest.tun_port, dest.tun_flags, dest.stats.shown(),
    )  # fmt: skip
