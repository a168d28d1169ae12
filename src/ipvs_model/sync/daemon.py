"""Starting, stopping and listing the two synchronisation daemons of a namespace.

A namespace may run one master, which sends, and one backup, which listens: independently, in any order, at the same time.

source: ip_vs_ctl.c, ip_vs_genl_new_daemon, ip_vs_genl_dump_daemons; ip_vs_sync.c, start_sync_thread, stop_sync_thread
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ipvs_model import flags as F
from ipvs_model.addresses import parse_addr
from ipvs_model.errors import IPVSError
from ipvs_model.sync.receiver import EngineFinder, SyncReport, ip_vs_process_message
from ipvs_model.sync.sender import SyncDatagram, SyncMaster

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.netns import Netns

IP_VS_SYNC_GROUP: Final = parse_addr("224.0.0.81")
IP_VS_SYNC_PORT: Final = 8848  #: of thread 0; thread i uses this + i
IP_VS_SYNC_TTL: Final = 1
IPVS_SYNC_PORTS_MAX: Final = 64
IP_VS_IFNAME_MAXLEN: Final = 16  #: with the NUL

HEADERS: Final = {F.AF_INET: 28, F.AF_INET6: 48}  #: IP and UDP header of a datagram in bytes
UDP_MAX: Final = 65535
MTU_MIN: Final = 1500  #: an interface with a smaller MTU is taken as this; the master always takes it
BACKUP_MAXLEN_MIN: Final = 1024

MULTICAST: Final = {F.AF_INET: (0xE, 28), F.AF_INET6: (0xFF, 120)}  #: first bits of a multicast address, and the shift that leaves them

#: state → name in the kernel log
STATE_NAMES: Final = {F.IP_VS_STATE_MASTER: "MASTER", F.IP_VS_STATE_BACKUP: "BACKUP"}


@frozen
class DaemonUser:
    """A daemon as a command asks for it (struct ipvs_sync_daemon_cfg); 0 and None mean the default.

    state: 1 master, 2 backup. syncid: unsigned 32 bit, messages carry the low 8 bits. sync_maxlen: bytes of a message. mcast_group: (family, address).
    """

    state: int
    mcast_ifn: str = ""
    syncid: int = 0
    sync_maxlen: int = 0
    mcast_group: tuple[int, int] | None = None
    mcast_port: int = 0
    mcast_ttl: int = 0


@frozen
class DaemonEntry:
    """A running daemon as a listing shows it: everything filled in."""

    state: int
    mcast_ifn: str
    syncid: int
    sync_maxlen: int
    mcast_group: tuple[int, int]
    mcast_port: int
    mcast_ttl: int


class SyncDaemons:
    """The daemons of one namespace. No sockets: what the master sends goes to `out`, or is kept in `outbox` if `out` is None.

    `master` is the running master or None, `backup` the running backup's configuration or None; Netns.sync_state has a bit for each.
    `engines`: where the backup finds persistence engines by name. Making this object fills the slot Netns.sync_conn.
    """

    def __init__(self, ns: Netns, engines: EngineFinder | None = None) -> None:
        self.ns = ns
        self.engines = engines
        self.master: SyncMaster | None = None
        self.backup: DaemonEntry | None = None
        self.threads = 1  #: sender and receiver threads, chosen when the first daemon starts
        self.outbox: list[SyncDatagram] = []
        self.out: Callable[[SyncDatagram], None] | None = None
        ns.sync_conn = self.sync_conn

    # --- commands ---

    def new_daemon(self, user: DaemonUser) -> None:
        """Start a daemon as the netlink command does.

        Raises IPVSError: EINVAL (no interface name, group not multicast, mixed address families among the destinations, unknown state), ENODEV, EEXIST.
        source: ip_vs_ctl.c, ip_vs_genl_new_daemon
        """
        if not 0 < len(user.mcast_ifn) < IP_VS_IFNAME_MAXLEN or not 0 <= user.syncid < 1 << 32:
            raise IPVSError(errno.EINVAL)
        if user.mcast_group is not None:
            af, group = user.mcast_group
            bits, shift = MULTICAST[af]
            if group >> shift != bits:
                raise IPVSError(errno.EINVAL)
        if self.ns.mixed_address_family_dests > 0:
            raise IPVSError(errno.EINVAL)
        self.start_sync_thread(user)

    def start_sync_thread(self, user: DaemonUser) -> None:
        """Start a daemon; the socket-option command comes here directly. Raises IPVSError: ENODEV, EEXIST, EINVAL.

        source: ip_vs_sync.c, start_sync_thread
        """
        ns = self.ns
        entry = DaemonEntry(
            state=user.state,
            mcast_ifn=user.mcast_ifn,
            syncid=user.syncid,
            sync_maxlen=user.sync_maxlen,
            mcast_group=user.mcast_group or IP_VS_SYNC_GROUP,
            mcast_port=user.mcast_port or IP_VS_SYNC_PORT,
            mcast_ttl=user.mcast_ttl or IP_VS_SYNC_TTL,
        )
        mtu = ns.env.interfaces.get(user.mcast_ifn)
        if mtu is None:
            raise IPVSError(errno.ENODEV)
        if user.state not in STATE_NAMES:
            raise IPVSError(errno.EINVAL)
        if ns.sync_state & user.state:
            raise IPVSError(errno.EEXIST)
        entry = evolve(entry, sync_maxlen=message_length(entry, mtu))
        if not ns.sync_state:
            self.threads = min(max(ns.sysctl.sync_ports, 1), IPVS_SYNC_PORTS_MAX)
        if user.state == F.IP_VS_STATE_MASTER:
            self.master = SyncMaster(ns, entry, self.threads, self._deliver)
        else:
            self.backup = entry
        for index in range(self.threads):
            name = STATE_NAMES[user.state]
            ns.log("info", f"IPVS: sync thread started: state = {name}, mcast_ifn = {entry.mcast_ifn}, syncid = {entry.syncid}, id = {index}")
        ns.sync_state |= user.state
        ns.quick_changed()
        if self.master is not None and user.state == F.IP_VS_STATE_MASTER:
            self.master.start()

    def stop_sync_thread(self, state: int) -> None:
        """Stop a daemon; the other goes on. What a master has not sent is lost. Raises IPVSError: EINVAL (no such state), ESRCH (not running).

        source: ip_vs_sync.c, stop_sync_thread
        """
        if state not in STATE_NAMES:
            raise IPVSError(errno.EINVAL)
        if not self.ns.sync_state & state:
            raise IPVSError(errno.ESRCH)
        self.ns.sync_state &= ~state
        self.ns.quick_changed()
        if state == F.IP_VS_STATE_BACKUP:
            self.backup = None
        elif self.master is not None:
            self.master.stop()
            self.master = None

    def get_daemons(self) -> list[DaemonEntry]:
        """The running daemons, master first (source: ip_vs_ctl.c, ip_vs_genl_dump_daemons)."""
        master = [] if self.master is None else [self.master.config]
        return master if self.backup is None else [*master, self.backup]

    # --- what they do ---

    def sync_conn(self, cp: Conn, pkts: int) -> None:
        """Send an entry if a master runs and it is needed; the slot Netns.sync_conn (source: ip_vs_sync.c, ip_vs_sync_conn)."""
        if self.master is not None:
            self.master.sync_conn(cp, pkts)

    def receive(self, payload: bytes, *, af: int | None = None, group: int | None = None, port: int | None = None) -> SyncReport:
        """Give the backup a datagram, at once; what is not told of its destination is taken to fit.

        A payload longer than the backup's sync_maxlen is cut, and so refused. Never raises.
        source: ip_vs_sync.c, sync_thread_backup
        """
        backup = self.backup
        if backup is None:
            return SyncReport(error="stopped")
        if (group is not None and (af if af is not None else backup.mcast_group[0], group) != backup.mcast_group) or (
            port is not None and not 0 <= port - backup.mcast_port < self.threads
        ):
            return SyncReport(error="address")
        return ip_vs_process_message(self.ns, backup.syncid, payload[: backup.sync_maxlen], self.engines)

    def take(self) -> list[SyncDatagram]:
        """The datagrams that left since the last call, when nobody else receives them."""
        sent, self.outbox = self.outbox, []
        return sent

    def _deliver(self, datagram: SyncDatagram) -> None:
        if self.out is not None:
            self.out(datagram)
        else:
            self.outbox.append(datagram)


def message_length(entry: DaemonEntry, mtu: int) -> int:
    """Longest message in bytes: what was asked for within its limits, or what fits the interface (source: ip_vs_sync.c, start_sync_thread).

    >>> message_length(DaemonEntry(1, "eth0", 0, 0, IP_VS_SYNC_GROUP, 8848, 1), 9000)
    1472
    """
    header = HEADERS[entry.mcast_group[0]]
    master = entry.state == F.IP_VS_STATE_MASTER
    if entry.sync_maxlen:
        return min(max(entry.sync_maxlen, 1 if master else BACKUP_MAXLEN_MIN), UDP_MAX - header)
    return (MTU_MIN if master else min(max(mtu, MTU_MIN), UDP_MAX)) - header
