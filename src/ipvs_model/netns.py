"""One network namespace's IPVS state that the rooms share, what comes in from outside, and the slots for upward calls.

source: include/net/ip_vs.h, struct netns_ipvs
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import Factory, field, frozen

from ipvs_model.events import Logged
from ipvs_model.flags import PKT_CT_CONFIRMED, Hook
from ipvs_model.routing import DefaultRouting, RoutingProvider
from ipvs_model.stats import Estimator, SumStats
from ipvs_model.sysctl import Sysctl
from ipvs_model.timers import Clock

if TYPE_CHECKING:
    from ipvs_model.conn import Conn
    from ipvs_model.conn_table import ConnTable
    from ipvs_model.dest import Dest, DestTrash, RealServerTable
    from ipvs_model.events import Watcher
    from ipvs_model.packet import Packet
    from ipvs_model.protocol import ProtoData
    from ipvs_model.service import ServiceTable


def unlimited_pages() -> int:
    """The default memory measure: plenty."""
    return 1 << 31


def no_conntrack(packet: Packet) -> bool:
    """The default answer to "has conntrack a confirmed entry for this packet?"."""
    return False


@frozen(kw_only=True)
class Environment:
    """Everything that the model gets from outside. Same environment, same inputs: same outputs, bit for bit."""

    hz: int = field(default=250)  #: ticks a second: 100, 250, 300, 1000 are usual
    start_jiffies: int | None = None  #: None: the value at boot
    timers: Literal["kernel", "exact"] = field(default="kernel")  #: "kernel": the timer wheel; "exact": each timer fires at its tick
    seed: int = 0  #: of the random source (drop_entry, twos)
    hash_seed: int = 0  #: 32 random bits that the kernel draws once for the connection table
    tab_bits: int = field(default=12)  #: the connection table has 2**tab_bits buckets
    svc_hash: int = 0  #: the constant that a namespace adds to its service hashes (0..255): order of dumps
    cpus: int = 1  #: lines of ip_vs_stats_percpu; all packets count on CPU 0
    routing: RoutingProvider | None = None  #: None: ``DefaultRouting``, with virtual addresses counted as local
    available_pages: Callable[[], int] = unlimited_pages  #: memory measure of the defence
    ct_confirmed: Callable[[Packet], bool] = no_conntrack  #: has conntrack a confirmed entry for this packet?
    interfaces: Mapping[str, int] = Factory(lambda: {"lo": 65536, "eth0": 1500})  #: name → MTU, for the sync daemons
    fast_path: bool = True  #: False: every packet goes the layered way
    unprivileged_port_start: int = 1024  #: net.ipv4.ip_unprivileged_port_start

    @hz.validator
    def _check_hz(self, attribute: object, value: int) -> None:
        if not 25 <= value <= 10000:
            raise ValueError(f"hz must be 25..10000, not {value}")

    @timers.validator
    def _check_timers(self, attribute: object, value: str) -> None:
        if value not in ("kernel", "exact"):
            raise ValueError(f'timers must be "kernel" or "exact", not {value!r}')

    @tab_bits.validator
    def _check_tab_bits(self, attribute: object, value: int) -> None:
        if not 8 <= value <= 27:
            raise ValueError(f"tab_bits must be 8..27, not {value}")


class Rng:
    """The injected source of randomness, seeded."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, n: int) -> int:
        """Uniform in 0..n-1; for n = 0 a uniform 32-bit number (source: get_random_u32_below)."""
        return self._random.randrange(n) if n else self._random.getrandbits(32)

    def u32(self) -> int:
        """A uniform 32-bit number."""
        return self._random.getrandbits(32)


@frozen
class Sent:
    """A packet that the director made itself; ``kind``: "icmp error"."""

    packet: Packet
    kind: str


def _nothing(*args: Any) -> None:
    """An upward call whose room is not there."""


class Netns:
    """``struct netns_ipvs``: tables, clock, sysctls, counters, watchers, and slots that ``ipvs.py`` fills."""

    services: ServiceTable
    conns: ConnTable
    rs_table: RealServerTable
    trash: DestTrash

    def __init__(self, env: Environment, clock: Clock | None = None) -> None:
        self.env = env
        self.clock = clock if clock is not None else Clock(env.hz, env.start_jiffies, env.timers)
        self.sysctl = Sysctl(env.hz, env.cpus)
        self.rng = Rng(env.seed)
        self.routing: RoutingProvider = env.routing if env.routing is not None else DefaultRouting()
        self.enable = False  #: a service has been added once
        self.hooks_afmask = 0  #: bit 1 = IPv4, bit 2 = IPv6: families whose packets IPVS sees
        self.defrag6 = False  #: IPv6 reassembly was switched on
        self.tot_stats = SumStats()
        self.estimator = Estimator(self.clock)
        self.estimator.start(self.tot_stats)
        self.protocols: dict[int, ProtoData] = {}

        # counters that gate lookups
        self.num_services = 0
        self.num_services6 = 0
        self.ftpsvc_counter = 0
        self.nullsvc_counter = 0
        self.conn_out_counter = 0
        self.mixed_address_family_dests = 0
        self.conn_count = 0
        self.ebb = 0  #: grows when entries have expired, and overheads with them
        self.overheads_wrap = False  #: some destination's overhead may not fit a C ``int``
        self.no_cport_count = 0  #: global in the kernel: shared by all namespaces

        # defence
        self.dropentry = 0
        self.drop_rate = 0
        self.drop_counter = 0
        self.old_secure_tcp = 0
        self.todrop_counter = [0] * 9

        # watching and logging
        self.emit: Watcher | None = None
        self.log_lines: list[tuple[str, str]] = []
        self.outbox: list[Sent] = []
        self.served: Dest | None = None  #: destination of the last packet that went the layered way

        # synchronisation daemons
        self.sync_state = 0

        # slots for upward calls, filled by ipvs.py
        self.bind_xmit: Callable[[Conn], None] = _nothing
        self.bind_app: Callable[[Conn], None] = _nothing
        self.unbind_app: Callable[[Conn], None] = _nothing
        self.drop_conntrack: Callable[[Conn], None] = _nothing
        self.sync_conn: Callable[[Conn, int], None] = _nothing
        self.send_error: Callable[[Packet, Hook, int, int, int], None] = _nothing
        self.run_local_out: Callable[[Packet], Packet | None] = _nothing
        self.gather: Callable[[Hook, Packet], Packet | None] = _nothing
        self.routes_changed: Callable[[Dest], None] = _nothing
        self.quick_changed: Callable[[], None] = _nothing
        self.net_ratelimit: Callable[[], bool] = bool
        self.conntrack_active: Callable[[int], bool] = bool

    def watch(self, emit: Watcher | None) -> None:
        """Tell every event to ``emit`` from now on (None: to nobody). Entries are then armed one by one, so that each is told of."""
        self.emit = emit
        self.clock.spoil()

    def log(self, level: str, text: str) -> None:
        """A line of the kernel log (``level``: "err", "info", "warning"); kept, and emitted when somebody watches."""
        self.log_lines.append((level, text))
        if self.emit is not None:
            self.emit(Logged("printk", level, text))


def uses_old_conntrack(ns: Netns, packet: Packet) -> bool:
    """Whether the packet carries a confirmed conntrack entry (source: ip_vs.h, ip_vs_conn_uses_old_conntrack)."""
    return bool(packet.bits & PKT_CT_CONFIRMED) or ns.env.ct_confirmed(packet)
