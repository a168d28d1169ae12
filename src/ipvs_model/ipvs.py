"""IPVS: one network namespace's ip_vs as an object; it wires the rooms together.

source: ip_vs_core.c, __ip_vs_init; ip_vs_ctl.c
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from attrs import evolve

from ipvs_model import html
from ipvs_model.addresses import AddressLike, EndpointLike, format_addr, parse_addr, parse_endpoint
from ipvs_model.apps import App, AppRegistry
from ipvs_model.conn import Conn
from ipvs_model.conn_table import ConnTable
from ipvs_model.control import Control
from ipvs_model.datapath import run_hook, told
from ipvs_model.datapath.fast import FastPath
from ipvs_model.datapath.told import Kept, Told
from ipvs_model.defence import Defence
from ipvs_model.defrag import IPFRAG_TIME_S, Defragmenter
from ipvs_model.dest import Dest, DestTrash, DestUser, RealServerTable
from ipvs_model.engines import EngineRegistry, PersistenceEngine
from ipvs_model.errors import IPVSError
from ipvs_model.events import Event, Watcher
from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    IP_VS_SVC_F_ONEPACKET,
    IP_VS_SVC_F_PERSISTENT,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PKT_PROPERTY,
    Hook,
    Verdict,
)
from ipvs_model.invariants import all_dests
from ipvs_model.ipvsadm import Resolver, Result
from ipvs_model.ipvsadm import run as run_ipvsadm
from ipvs_model.netns import Environment, Netns
from ipvs_model.packet import Packet
from ipvs_model.packet.icmp_error import ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED
from ipvs_model.procfs import render
from ipvs_model.protocols import PROTOCOLS
from ipvs_model.schedulers import RateLimit, Registry, Scheduler
from ipvs_model.service import Service, ServiceTable, ServiceUser
from ipvs_model.sync.daemon import SyncDaemons
from ipvs_model.sync.receiver import SyncReport
from ipvs_model.timers import Clock
from ipvs_model.transmit import Action, bind_xmit, forget_actions, routes_changed
from ipvs_model.transmit.action import REASONS, Nat
from ipvs_model.transmit.errors import send_error

LOCAL_IN: Final = Hook.LOCAL_IN
SYSCTL_PREFIX: Final = "net.ipv4.vs."
FORWARD_NAMES: Final = {"masq": 0, "nat": 0, "local": 1, "tunnel": 2, "ipip": 2, "gatewaying": 3, "droute": 3, "direct": 3, "dr": 3, "bypass": 4}
PROTOCOL_NAMES: Final = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP, "sctp": IPPROTO_SCTP}
TUN_TYPES: Final = {"ipip": 0, "gue": 1, "gre": 2}


class Reason:
    """Why a packet went where it went. Not to be changed.

    ``code`` is a key of ``ipvs_model.transmit.action.REASONS``, ``text`` says it in words.
    """

    __slots__ = ("_events", "code", "hook", "text")

    def __init__(self, code: str, text: str, hook: Hook, events: tuple[Event, ...] | Told = ()) -> None:
        self.code = code
        self.text = text
        self.hook = hook
        self._events = events

    @property
    def events(self) -> tuple[Event, ...]:
        """The decisions on the way, in order. Those of an ordinary packet are told when somebody asks for them."""
        heard = self._events
        if isinstance(heard, Told):
            self._events = heard = told.events(heard)
        return heard

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reason):
            return NotImplemented
        return (self.code, self.text, self.hook, self.events) == (other.code, other.text, other.hook, other.events)

    def __hash__(self) -> int:
        return hash((self.code, self.hook))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Reason(code={self.code!r}, text={self.text!r}, hook={self.hook!r}, events={self.events!r})"


class Outcome:
    """What became of a packet: the verdict, the packets that left the host in order, what the local stack gets, and why. Not to be changed."""

    __slots__ = ("_emitted", "_why", "delivered", "verdict")

    verdict: Verdict
    delivered: Packet | None
    _emitted: tuple[Packet, ...] | None
    _why: Reason | Kept

    def __init__(self, verdict: Verdict, emitted: tuple[Packet, ...], delivered: Packet | None, reason: Reason | Kept) -> None:
        self.verdict = verdict
        self.delivered = delivered
        self._emitted = emitted
        self._why = reason

    @property
    def emitted(self) -> tuple[Packet, ...]:
        """The packets that left the host, in order. That of an ordinary packet is made when somebody asks for it."""
        packets = self._emitted
        if packets is None:
            self._emitted = packets = (told.departed(Told(*self._why)),)  # type: ignore[misc]  # a Reason is made afterwards only
        return packets

    @property
    def reason(self) -> Reason:
        """Why it went there."""
        why = self._why
        if isinstance(why, tuple):
            kept = Told(*why)
            if self._emitted is None:
                self._emitted = (told.departed(kept),)
            self._why = why = Reason(kept.action.reason, REASONS[kept.action.reason], kept.hook, kept)
        return why

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        mine, theirs = (self.verdict, self.emitted, self.delivered), (other.verdict, other.emitted, other.delivered)
        return mine == theirs and self.reason == other.reason

    __hash__ = None  # type: ignore[assignment]  # no packet has one

    def __repr__(self) -> str:
        return f"Outcome(verdict={self.verdict!r}, emitted={self.emitted!r}, delivered={self.delivered!r}, reason={self.reason!r})"

    def _repr_html_(self) -> str:
        return html.outcome(self)


class OrdinaryOutcome(Outcome):
    """The outcome of a packet that took the quick road: filled in by `IPVS.receive`."""

    __slots__ = ()

    __init__ = object.__init__  # one of Python's would cost as much as a quarter of the packet


class IPVS:
    """A model of one network namespace's IPVS.

    ``plugins``: schedulers (classes or objects), persistence engines and application helpers of the user's own. ``clock``: share one with other
    objects. Control calls raise IPVSError with the kernel's errno and change nothing then; packets never raise.

    >>> ipvs = IPVS()
    >>> web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr")
    >>> _ = ipvs.add_dest(web, "10.1.0.11:8080")
    >>> out = ipvs.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S"))
    >>> out.verdict.name, str(out.reason)
    ('STOLEN', 'sent to its real server')
    >>> out.emitted[0]
    Packet.tcp('203.0.113.7:40000', '10.1.0.11:8080', 'S', ttl=63)
    """

    #: ``process(pkt, hook=Hook.LOCAL_IN)``, the primitive under ``receive``: a shared, immutable action; ``action.apply(pkt)`` makes what leaves
    process: Callable[..., Action]

    def __init__(self, env: Environment | None = None, *, plugins: Iterable[Any] = (), clock: Clock | None = None) -> None:
        self.env = env if env is not None else Environment()
        ns = self.ns = Netns(self.env, clock)
        ns.services = ServiceTable(ns)
        ns.tot_stats.members = ns.services
        ns.conns = ConnTable(ns)
        ns.rs_table = RealServerTable()
        ns.trash = DestTrash(ns)
        for protocol in PROTOCOLS:
            ns.protocols[protocol.protocol] = protocol.net_init(ns)
        self.log_limit = RateLimit(ns.clock, ns.log)
        ns.net_ratelimit = self.log_limit.allow
        self.schedulers = Registry(ns.log)
        self.engines = EngineRegistry(ns.log)
        self.daemons = SyncDaemons(ns, self.engines)
        self.apps = AppRegistry(ns)
        self.control = Control(ns, self.schedulers, self.engines, self.daemons)
        self.defence = Defence(ns)
        self.fast = FastPath(ns)
        self.process = self.fast.process
        self._gatherers = {hook: Defragmenter(ns.clock, IPFRAG_TIME_S, partial(self._fragments_expired, hook)) for hook in Hook}
        ns.bind_xmit = bind_xmit
        ns.bind_app = self.apps.bind
        ns.unbind_app = self.apps.unbind
        ns.send_error = self._send_error
        ns.run_local_out = self._local_out
        ns.gather = self._gather
        ns.routes_changed = routes_changed
        ns.quick_changed = self.fast.refresh
        ns.conntrack_active = self.control.conntrack_active
        for name in ("run_estimation", "est_cpulist", "est_nice"):
            ns.sysctl.on_write[name] = partial(self._estimation_written, name)
        ns.sysctl.on_write["pmtu_disc"] = self._pmtu_disc_written
        self._watchers: list[Watcher] = []
        for plugin in plugins:
            self._plug(plugin)

    def _plug(self, plugin: Any) -> None:
        kind = plugin if isinstance(plugin, type) else type(plugin)
        if issubclass(kind, Scheduler):
            self.schedulers.register(plugin)
        elif issubclass(kind, PersistenceEngine):
            self.engines.register(plugin)
        elif issubclass(kind, App):
            self.apps.register(plugin)
        else:
            raise TypeError(f"not a scheduler, a persistence engine or an application helper: {plugin!r}")

    # -- slots of the namespace ------------------------------------------------------------------------------------

    def _send_error(self, pkt: Packet, hook: Hook, kind: int, code: int, info: int) -> None:
        send_error(self.ns, pkt, hook, kind, code, info)

    def _local_out(self, pkt: Packet) -> Packet | None:
        """A packet that this host makes passes LOCAL_OUT."""
        return run_hook(self.ns, Hook.LOCAL_OUT, pkt).apply(pkt)

    def _gather(self, hook: Hook, pkt: Packet) -> Packet | None:
        return self._gatherers[hook].add(pkt)

    def _fragments_expired(self, hook: Hook, first: Packet) -> None:
        """The rest of a forwarded datagram has not come; of one that this host sends nobody is told (source: ip_fragment.c, ip_expire)."""
        if hook is Hook.FORWARD:
            self._send_error(first, hook, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)

    def _estimation_written(self, name: str) -> None:
        """The thread is stopped and started anew (source: ip_vs_ctl.c, ipvs_proc_est_nice and its sisters)."""
        sysctl, estimator = self.ns.sysctl, self.ns.estimator
        if not sysctl.run_estimation or sysctl.est_cpulist == "":
            estimator.run(False)
        elif not estimator.running:
            estimator.run(True)
        elif name == "est_cpulist":
            estimator.recalibrate()
        else:
            estimator.restart()

    def _pmtu_disc_written(self) -> None:
        """The actions of tunnels were made for another value."""
        for dest in all_dests(self.ns, []):
            forget_actions(dest)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """The virtual clock: ``advance`` lets time pass."""
        return self.ns.clock

    # -- packets ---------------------------------------------------------------------------------------------------

    def run_hook(self, hook: Hook, pkt: Packet) -> Action:
        """Run the functions of one netfilter hook; ICMP errors that IPVS makes meanwhile are left in ``ns.outbox``."""
        return run_hook(self.ns, hook, pkt)

    def receive(self, pkt: Packet, hook: Hook | str | None = None) -> Outcome:
        """A packet reaches the host: run the hook that routing chooses (or the one given), collect what leaves and why.

        The routing provider chooses LOCAL_IN or FORWARD; without a provider, virtual addresses are local. A packet with no way in is dropped
        before any hook. Never raises for what is in the packet.
        """
        chosen = None
        if hook is not None or pkt.mark or self.env.routing is not None:
            chosen = self._hook_of(pkt, hook)
            if chosen is None:
                return Outcome(Verdict.DROP, (), None, Reason("no route", "the host drops it before any hook", LOCAL_IN))
        if self.ns.emit is None:
            kept = self.fast.tell(pkt, chosen)
            if kept is not None:  # sent or passed on as it is now: nothing for the local stack, no errors
                action: Action = kept[0]
                if type(action) is Nat and pkt.rare is None:
                    outcome: Outcome = OrdinaryOutcome()
                    outcome.verdict = action.verdict
                    outcome.delivered = outcome._emitted = None
                    outcome._why = kept
                    return outcome
                packet = action.apply(pkt)
                assert packet is not None
                if packet is not pkt:
                    packet.bits = 0
                    packet.device = None
                return Outcome(action.verdict, (packet,), None, kept)
        return self._receive_layered(pkt, chosen)

    def _receive_layered(self, pkt: Packet, hook: Hook | None) -> Outcome:
        """What `receive` does, with every decision watched; ``hook``: None if the host's own addresses are loopback and the virtual ones."""
        ns = self.ns
        if hook is None:
            hook = self._hook_of(pkt, None)
            assert hook is not None  # only a provider drops packets
        before = ns.emit
        events: list[Event] = []
        if before is None:
            ns.watch(events.append)
        else:

            def both(event: Event, watcher: Watcher = before) -> None:
                events.append(event)
                watcher(event)

            ns.watch(both)
        sent_before = len(ns.outbox)
        try:
            action = run_hook(ns, hook, pkt)
        finally:
            ns.watch(before)
            if not self.fast.tables:
                self.fast.refresh()
        packet = action.apply(pkt)
        errors = [sent.packet for sent in ns.outbox[sent_before:]]
        del ns.outbox[sent_before:]
        delivered = None
        if packet is not None and packet is not pkt:
            packet.bits &= ~PKT_PROPERTY
            packet.device = None
        if action.verdict is Verdict.ACCEPT and hook is LOCAL_IN:
            packet, delivered = None, packet
        emitted = ([packet] if packet is not None else []) + errors
        return Outcome(action.verdict, tuple(emitted), delivered, Reason(action.reason, REASONS[action.reason], hook, tuple(events)))

    def _hook_of(self, pkt: Packet, hook: Hook | str | None) -> Hook | None:
        if hook is not None:
            return Hook[hook] if isinstance(hook, str) else hook
        ns = self.ns
        if self.env.routing is None and ns.services.has_vip(pkt.af, pkt.dst >> 16, pkt.mark):
            return LOCAL_IN
        return ns.routing.input_hook(pkt)

    def which_server(self, pkt: Packet, hook: Hook | str | None = None) -> Dest | None:
        """The destination that a packet would be sent to, without sending it: a dry run on a copy. O(state)."""
        twin = self.fork()
        chosen = twin._hook_of(pkt, hook)
        if chosen is None:
            return None
        before = list(all_dests(twin.ns, list(twin.ns.conns)))
        twin.ns.served = None
        run_hook(twin.ns, chosen, copy.copy(pkt))
        mine = list(all_dests(self.ns, list(self.ns.conns)))
        return next((original for original, copied in zip(mine, before, strict=True) if copied is twin.ns.served), None)

    def receive_sync(self, payload: bytes) -> SyncReport:
        """Give the backup daemon a datagram of a master."""
        return self.daemons.receive(payload)

    # -- control ---------------------------------------------------------------------------------------------------

    def add_service(
        self,
        protocol: str | int = "tcp",
        address: EndpointLike | None = None,
        *,
        fwmark: int = 0,
        ipv6: bool = False,
        scheduler: str = "wlc",
        persistent: int | None = None,
        netmask: AddressLike | int | None = None,
        flags: int = 0,
        one_packet: bool = False,
        engine: str | None = None,
    ) -> Service:
        """Add a service for an address ("192.0.2.1:80") or a ``fwmark``; ``persistent`` in seconds, ``netmask`` a mask or an IPv6 prefix length.

        Raises IPVSError: EEXIST, ENOENT (scheduler or engine), EINVAL (IPv6 prefix).
        """
        return self.control.new_service(self._service_user(protocol, address, fwmark, ipv6, scheduler, persistent, netmask, flags, one_packet, engine))

    def edit_service(self, service: Service, **changes: Any) -> Service:
        """Edit a service: ``scheduler``, ``persistent``, ``netmask``, ``flags``, ``one_packet``, ``engine``; what is not named stays.

        Raises IPVSError: ESRCH, ENOENT, EINVAL, or what the scheduler says.
        """
        user = self.service_user(service)
        plain = {"scheduler": "sched_name", "engine": "pe_name", "flags": "flags"}
        values: dict[str, Any] = {plain[name]: changes.pop(name) for name in list(changes) if name in plain}
        bits = values.pop("flags", user.flags)
        if "persistent" in changes:
            seconds = changes.pop("persistent")
            values["timeout"] = seconds or 0
            bits = bits | IP_VS_SVC_F_PERSISTENT if seconds is not None else bits & ~IP_VS_SVC_F_PERSISTENT
        if "one_packet" in changes:
            bits = bits | IP_VS_SVC_F_ONEPACKET if changes.pop("one_packet") else bits & ~IP_VS_SVC_F_ONEPACKET
        if "netmask" in changes:
            values["netmask"] = _netmask(service.af, changes.pop("netmask"))
        if changes:
            raise TypeError(f"a service has no {', '.join(changes)}")
        return self.control.set_service(evolve(user, **values, flags=bits))

    def delete_service(self, service: Service) -> None:
        """Delete a service; its destinations go to the trash. Raises IPVSError(ESRCH)."""
        self.control.del_service(self.service_user(service))

    @staticmethod
    def service_user(service: Service) -> ServiceUser:
        """The request that would make a service as it is now."""
        return ServiceUser(
            af=service.af, protocol=service.protocol, addr=service.addr, port=service.port, fwmark=service.fwmark,
            sched_name=service.scheduler.name if service.scheduler is not None else "none", pe_name=service.pe.name if service.pe is not None else None,
            flags=service.flags, timeout=service.timeout // service.ipvs.env.hz, netmask=service.netmask,
        )  # fmt: skip

    @staticmethod
    def _service_user(
        protocol: str | int, address: EndpointLike | None, fwmark: int, ipv6: bool, scheduler: str, persistent: int | None,
        netmask: AddressLike | int | None, flags: int, one_packet: bool, engine: str | None,
    ) -> ServiceUser:  # fmt: skip
        if (address is None) == (not fwmark):
            raise TypeError("a service has an address or a fwmark")
        if address is not None:
            af, addr, port = parse_endpoint(address)
        else:
            af, addr, port = (AF_INET6 if ipv6 else AF_INET), 0, 0
        if persistent is not None:
            flags |= IP_VS_SVC_F_PERSISTENT
        if one_packet:
            flags |= IP_VS_SVC_F_ONEPACKET
        number = PROTOCOL_NAMES[protocol.lower()] if isinstance(protocol, str) else protocol
        return ServiceUser(
            af=af, protocol=number, addr=addr, port=port, fwmark=fwmark, sched_name=scheduler, pe_name=engine, flags=flags, timeout=persistent or 0,
            netmask=_netmask(af, netmask),
        )  # fmt: skip

    def add_dest(self, service: Service, address: EndpointLike, **values: Any) -> Dest:
        """Add a destination ("10.1.0.11:8080"; without port: the service's).

        ``forward`` "masq" (default), "direct", "tunnel", "local", "bypass"; ``weight`` (1), ``u_threshold``, ``l_threshold`` (0), ``tun_type`` "ipip",
        "gue", "gre", ``tun_port``, ``tun_flags``. Raises IPVSError: ESRCH, EEXIST, ERANGE (weight, thresholds), EINVAL (address, tunnel, family).
        """
        return self.control.new_dest(self.service_user(service), self._dest_user(service, address, values))

    def edit_dest(self, service: Service, address: EndpointLike | Dest, **values: Any) -> Dest:
        """Edit a destination: the values named as in ``add_dest``; the others stay. Raises IPVSError: ESRCH, ENOENT, ERANGE, EINVAL."""
        dest = address if isinstance(address, Dest) else self.find_dest(service, address)
        kept = {
            "forward": dest.method, "weight": dest.weight, "u_threshold": dest.u_threshold, "l_threshold": dest.l_threshold, "tun_type": dest.tun_type,
            "tun_port": dest.tun_port, "tun_flags": dest.tun_flags,
        }  # fmt: skip
        user = self._dest_user(service, (dest.addr, dest.port), {**kept, **values})
        return self.control.set_dest(self.service_user(service), evolve(user, af=dest.af, addr=dest.addr))

    def delete_dest(self, service: Service, address: EndpointLike | Dest) -> None:
        """Delete a destination: it goes to the trash. Raises IPVSError: ESRCH, ENOENT."""
        dest = address if isinstance(address, Dest) else self.find_dest(service, address)
        self.control.del_dest(self.service_user(service), DestUser(addr=dest.addr, port=dest.port, af=dest.af))

    def find_dest(self, service: Service, address: EndpointLike) -> Dest:
        """A destination of a service by address. Raises IPVSError(ENOENT)."""
        af, addr, port = parse_endpoint(address, service.port)
        dest = service.find_dest(af, addr, port)
        if dest is None:
            raise IPVSError(2, f"No such destination: {format_addr(af, addr)} port {port}")
        return dest

    @staticmethod
    def _dest_user(service: Service, address: EndpointLike, values: dict[str, Any]) -> DestUser:
        af, addr, port = parse_endpoint(address, service.port)
        forward, tun_type = values.pop("forward", "masq"), values.pop("tun_type", 0)
        method = FORWARD_NAMES[forward] if isinstance(forward, str) else forward
        kind = TUN_TYPES[tun_type] if isinstance(tun_type, str) else tun_type
        return DestUser(af=af, addr=addr, port=port, conn_flags=method, tun_type=kind, **values)

    def ipvsadm(self, args: str | Sequence[str], stdin: str = "", *, resolver: Resolver | None = None) -> Result:
        """Run an ipvsadm command line ("-A -t 192.0.2.1:80 -s rr"): exit status, output, error output; ``resolver`` knows host and service names."""
        return run_ipvsadm(self.control, self.proc, args, stdin, resolver=resolver)

    def proc(self, name: str) -> str:
        """The text of a /proc/net file: ip_vs, ip_vs_conn, ip_vs_conn_sync, ip_vs_stats, ip_vs_stats_percpu, ip_vs_app."""
        return render(self.ns, name)

    def sysctl_read(self, name: str) -> str:
        """Read ``net.ipv4.vs.NAME`` (the prefix may be left out). Raises IPVSError(ENOENT)."""
        return self.ns.sysctl.read(name.removeprefix(SYSCTL_PREFIX))

    def sysctl_write(self, name: str, value: int | str) -> None:
        """Write ``net.ipv4.vs.NAME``; the old value stays after an error. Raises IPVSError: ENOENT, EINVAL, ERANGE."""
        self.ns.sysctl.write(name.removeprefix(SYSCTL_PREFIX), str(value))

    # -- looking ---------------------------------------------------------------------------------------------------

    def conns(self, *, state: str | None = None, dest: Dest | None = None, client: EndpointLike | None = None, templates: bool | None = None) -> list[Conn]:
        """Entries in /proc order, those that fit all that is given: printed state, destination, client, template or not."""
        found = self.ns.conns.walk()
        if client is not None:
            af, addr, port = parse_endpoint(client)
            found = [cp for cp in found if cp.af == af and cp.client == addr << 16 | port]
        return [
            cp
            for cp in found
            if (state is None or cp.state_name == state) and (dest is None or cp.dest is dest) and (templates is None or cp.is_template == templates)
        ]

    @property
    def services(self) -> list[Service]:
        """Services in dump order."""
        return self.ns.services.walk()

    @property
    def log(self) -> list[tuple[str, str]]:
        """Lines of the kernel log so far: level and text."""
        return self.ns.log_lines

    def subscribe(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Get every event from now on; returns the function that ends it. Watching changes nothing that the model does."""
        self._watchers.append(watcher)
        self._rewire()

        def unsubscribe() -> None:
            self._watchers.remove(watcher)
            self._rewire()

        return unsubscribe

    def _rewire(self) -> None:
        watchers = list(self._watchers)
        if not watchers:
            self.ns.watch(None)
        elif len(watchers) == 1:
            self.ns.watch(watchers[0])
        else:

            def fan_out(event: Event) -> None:
                for watcher in watchers:
                    watcher(event)

            self.ns.watch(fan_out)
        self.fast.refresh()

    def fork(self) -> IPVS:
        """A deep copy: both go on independently, with clocks of their own; nobody watches the copy."""
        watchers, emit = self._watchers, self.ns.emit
        self._watchers, self.ns.emit = [], None
        try:
            twin = copy.deepcopy(self)
            twin.fast.refresh()
            return twin
        finally:
            self._watchers, self.ns.emit = watchers, emit

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_watchers": []}

    def __iter__(self) -> Iterator[Service]:
        return iter(self.services)

    def __str__(self) -> str:
        return self.ipvsadm("-Ln").out

    def _repr_html_(self) -> str:
        return html.listing(str(self))

    def __repr__(self) -> str:
        return f"<IPVS at {self.clock.now}: {len(self.ns.services)} services, {self.ns.conn_count} connections>"


def _netmask(af: int, value: AddressLike | int | None) -> int:
    """A persistence mask as the kernel keeps it: IPv4 mask, IPv6 prefix length."""
    if value is None:
        return 0xFFFFFFFF if af == AF_INET else 128
    return parse_addr(value)[1] if isinstance(value, str) else int(value)
