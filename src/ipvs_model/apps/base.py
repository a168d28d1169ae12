"""Application helpers: the class that users subclass, its incarnations on ports, and how connections are bound to them.

A helper sees the payload of NAT connections whose virtual port is one of its ports. The kernel's own is FTP (`ftp.Ftp`); another one is a
subclass of `App`, handed to ``IPVS(plugins=[…])``.

source: ip_vs_app.c, include/net/ip_vs.h
"""

from __future__ import annotations

import errno
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from ipvs_model.apps.seq import after, vs_fix_ack_seq, vs_fix_seq, vs_seq_update
from ipvs_model.conn import Conn
from ipvs_model.errors import IPVSError
from ipvs_model.fields import Field
from ipvs_model.flags import (
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_IN_SEQ,
    IP_VS_CONN_F_MASQ,
    IP_VS_CONN_F_OUT_SEQ,
    IPPROTO_TCP,
    PKT_HAS_CT,
    PKT_PARTIAL,
)
from ipvs_model.packet import Packet, set_seq_ack

if TYPE_CHECKING:
    from ipvs_model.netns import Netns

FIELDS: Final = (
    Field("a_list", "AppRegistry.applications, Application.incs", "list node", "derived", "newest first"),
    Field("type", "App.type", "int", "slot", "FTP: 1"),
    Field("name", "App.name", "string", "slot"),
    Field("protocol", "App.protocol", "u16", "slot"),
    Field("module", "", "pointer", "not modelled", "removal is refused while usecnt > 0"),
    Field("incs_list", "Application.incs", "list head", "slot"),
    Field("p_list", "ProtoData.apps", "list node", "derived", "a map from port to incarnation instead of 16 buckets"),
    Field("app", "Incarnation.app", "pointer", "slot"),
    Field("port", "Incarnation.port", "be16", "slot", "compared with the virtual port of a connection"),
    Field("usecnt", "Incarnation.usecnt", "atomic int", "slot", "connections and templates bound now"),
    Field("pkt_out", "App.pkt_out()", "function", "slot"),
    Field("pkt_in", "App.pkt_in()", "function", "slot"),
    Field("init_conn", "App.init_conn()", "function", "slot"),
    Field("done_conn", "App.done_conn()", "function", "slot"),
    Field("bind_conn", "", "function", "not modelled", "never called"),
    Field("unbind_conn", "App.unbind_conn()", "function", "slot"),
    Field("timeouts", "", "pointer", "not modelled", "copied, never read", ("timeout_table", "timeouts_size")),
    Field("conn_schedule", "", "function", "not modelled", "never called"),
    Field("conn_in_get", "", "function", "not modelled", "never called"),
    Field("conn_out_get", "", "function", "not modelled", "never called"),
    Field("state_transition", "", "function", "not modelled", "never called"),
    Field("timeout_change", "", "function", "not modelled", "never called"),
    Field("rcu_head", "", "rcu_head", "not modelled", "freed at once"),
)

IP_VS_APP_MAX_PORTS: Final = 8
TCP_HEADER: Final = 20


class HookResult(NamedTuple):
    """What a helper's hook says about a packet."""

    result: int  #: 0: drop the packet; 1: payload untouched, or its checksum is right; 2: compute the checksum from scratch (UDP, SCTP)
    packet: Packet  #: the packet to go on with
    diff: int = 0  #: TCP: by how many bytes the payload grew; the stream is shifted by it from then on


class App:
    """A helper for one application protocol; subclass it and override the hooks that it needs.

    ``protocol`` is the transport protocol, ``ports`` are the virtual ports of services that it helps (at most 8; 0 entries are skipped).
    Per connection it may keep a small number in ``cp.app_data``.
    """

    name: str = ""  #: as /proc/net/ip_vs_app shows it
    type: int = 0
    protocol: int = IPPROTO_TCP
    ports: tuple[int, ...] = ()

    def init_conn(self, cp: Conn) -> None:
        """A connection was bound; it is not hashed yet."""

    def unbind_conn(self, cp: Conn) -> None:
        """A connection is being unbound, first call."""

    def done_conn(self, cp: Conn) -> None:
        """A connection is being unbound, second call."""

    def pkt_in(self, cp: Conn, pkt: Packet) -> HookResult:
        """Look at a packet of the client, before its destination is rewritten; the state machine has run."""
        return HookResult(1, pkt)

    def pkt_out(self, cp: Conn, pkt: Packet) -> HookResult:
        """Look at a packet of the server, before its source is rewritten, statistics and state machine."""
        return HookResult(1, pkt)

    def __repr__(self) -> str:
        return f"<app {self.name}>"


class Application:
    """A helper in a namespace, with its incarnations, newest first."""

    def __init__(self, app: App, order: int) -> None:
        self.app = app
        self.order = order  #: when it was registered
        self.incs: list[Incarnation] = []


class Incarnation:
    """A helper on one port: what connections are bound to."""

    __slots__ = ("app", "order", "port", "protocol", "usecnt")

    def __init__(self, app: App, protocol: int, port: int, order: tuple[int, int]) -> None:
        self.app = app
        self.order = order  #: when its application and it were registered
        self.protocol = protocol
        self.port = port
        self.usecnt = 0

    def __repr__(self) -> str:
        return f"<app {self.app.name} port {self.port} usecnt {self.usecnt}>"

    def packet_in(self, cp: Conn, pkt: Packet) -> tuple[int, Packet]:
        """Run the helper on a packet of the client whose header is complete and whose checksum was checked.

        Returns (result, packet): 0 means drop; 2 that the transport checksum has to be computed from scratch (never for TCP).
        source: ip_vs_app.c, ip_vs_app_pkt_in
        """
        return self._packet(cp, pkt, outgoing=False)

    def packet_out(self, cp: Conn, pkt: Packet) -> tuple[int, Packet]:
        """Run the helper on a packet of the server; as `packet_in` (source: ip_vs_app.c, ip_vs_app_pkt_out)."""
        return self._packet(cp, pkt, outgoing=True)

    def _packet(self, cp: Conn, pkt: Packet, outgoing: bool) -> tuple[int, Packet]:
        if self.protocol == IPPROTO_TCP:
            result, pkt = app_tcp(self.app, cp, pkt, outgoing)
            return (result, pkt) if not result or cp.seqadj is None else ct_seq_adjust(cp, pkt, outgoing)
        result, pkt, _ = self.app.pkt_out(cp, pkt) if outgoing else self.app.pkt_in(cp, pkt)
        return result, pkt


def app_tcp(app: App, cp: Conn, pkt: Packet, outgoing: bool) -> tuple[int, Packet]:
    """Shift the numbers of a TCP segment as earlier changes ask, let the helper look, note what it changed.

    Result 0 (drop) or 1. The flags of the segment are not looked at, and the checksum does not follow the numbers.
    source: ip_vs_app.c, app_tcp_pkt_out, app_tcp_pkt_in
    """
    if pkt.l4_len < TCP_HEADER:
        return 0, pkt
    own, other = (IP_VS_CONN_F_OUT_SEQ, IP_VS_CONN_F_IN_SEQ) if outgoing else (IP_VS_CONN_F_IN_SEQ, IP_VS_CONN_F_OUT_SEQ)
    arrived = pkt.seq
    if cp.flags & (own | other):
        own_record, other_record = (cp.out_seq, cp.in_seq) if outgoing else (cp.in_seq, cp.out_seq)
        seq = vs_fix_seq(own_record, arrived) if cp.flags & own else arrived
        ack = vs_fix_ack_seq(other_record, pkt.ack) if cp.flags & other else pkt.ack
        if (seq, ack) != (arrived, pkt.ack):
            pkt = set_seq_ack(pkt, seq, ack)
    result, pkt, diff = app.pkt_out(cp, pkt) if outgoing else app.pkt_in(cp, pkt)
    if not result:
        return 0, pkt
    if diff:
        record = cp.out_seq if outgoing else cp.in_seq
        if not cp.flags & own or after(arrived, record.init_seq):
            record = vs_seq_update(record, arrived, diff)
            cp.flags |= own
            if outgoing:
                cp.out_seq = record
            else:
                cp.in_seq = record
    return 1, pkt


def has_conntrack(cp: Conn, pkt: Packet) -> bool:
    """Whether netfilter follows the packet: it carries an entry, or something asked for tracking in its family (`Netns.conntrack_active`)."""
    return bool(pkt.bits & PKT_HAS_CT) or cp.ipvs.conntrack_active(pkt.af)


def ct_seq_adjust(cp: Conn, pkt: Packet, outgoing: bool) -> tuple[int, Packet]:
    """Conntrack's shift of a connection that `seqadj` describes: (1, packet), or (0, packet) if its TCP options cannot be read.

    The kernel does it when the packet leaves; NAT changes nothing that it reads, so it may as well be done here.
    """
    if not has_conntrack(cp, pkt):
        return 1, pkt
    segment = cp.seqadj.adjust(pkt.l4_bytes, reply=outgoing, partial=bool(pkt.bits & PKT_PARTIAL))
    return (0, pkt) if segment is None else (1, pkt.with_raw(pkt.raw[: pkt.l4] + segment))


class AppRegistry:
    """The applications of a namespace, newest first."""

    def __init__(self, ns: Netns) -> None:
        self.ns = ns
        self.applications: list[Application] = []
        self._registered = 0

    def register(self, app: App | type[App]) -> Application:
        """Load a helper, a class or an object: one incarnation for each of its ports, in order. All or nothing.

        Raises IPVSError: EEXIST (name or port taken), EPROTONOSUPPORT, EOPNOTSUPP; EINVAL for more than 8 ports or no name.
        """
        if isinstance(app, type):
            app = app()
        if not app.name or len(app.ports) > IP_VS_APP_MAX_PORTS:
            raise IPVSError(errno.EINVAL)
        application = self.register_app(app)
        try:
            for port in app.ports:
                if port:
                    self.register_inc(application, app.protocol, port)
        except IPVSError:
            self._remove(application)
            raise
        return application

    def unregister(self, name: str) -> None:
        """Unload a helper. Raises IPVSError: ENOENT if there is none of that name, EAGAIN while connections are bound to it."""
        for application in self.applications:
            if application.app.name == name:
                if any(inc.usecnt for inc in application.incs):
                    raise IPVSError(errno.EAGAIN)
                self._remove(application)
                return
        raise IPVSError(errno.ENOENT)

    def register_app(self, app: App) -> Application:
        """Add an application without incarnations. Raises IPVSError(EEXIST) (source: ip_vs_app.c, register_ip_vs_app)."""
        if any(other.app.name == app.name for other in self.applications):
            raise IPVSError(errno.EEXIST)
        application = Application(app, self._next())
        self.applications.insert(0, application)
        return application

    def register_inc(self, application: Application, protocol: int, port: int) -> Incarnation:
        """Let an application serve a port (source: ip_vs_app.c, ip_vs_app_inc_new).

        Raises IPVSError: EPROTONOSUPPORT (unknown to IPVS), EOPNOTSUPP (AH, ESP), EEXIST (port taken, by whatever application).
        """
        pd = self.ns.protocols.get(protocol)
        if pd is None:
            raise IPVSError(errno.EPROTONOSUPPORT)
        if not pd.pp.has_apps:
            raise IPVSError(errno.EOPNOTSUPP)
        if port in pd.apps:
            raise IPVSError(errno.EEXIST)
        inc = Incarnation(application.app, protocol, port, (application.order, self._next()))
        pd.apps[port] = inc
        pd.appcnt += 1
        application.incs.insert(0, inc)
        return inc

    def _next(self) -> int:
        self._registered += 1
        return self._registered

    def _remove(self, application: Application) -> None:
        for inc in application.incs:
            pd = self.ns.protocols[inc.protocol]
            del pd.apps[inc.port]
            pd.appcnt -= 1
        self.applications.remove(application)

    def bind(self, cp: Conn) -> None:
        """Bind a new NAT connection to the helper of its virtual port, if there is one (source: ip_vs_proto_tcp.c, tcp_app_conn_bind)."""
        pd = self.ns.protocols.get(cp.protocol)
        if pd is None or cp.flags & IP_VS_CONN_F_FWD_MASK != IP_VS_CONN_F_MASQ:
            return
        inc: Incarnation | None = pd.apps.get(cp.vport)
        if inc is None:
            return
        inc.usecnt += 1
        cp.app = inc
        inc.app.init_conn(cp)

    def unbind(self, cp: Conn) -> None:
        """Undo `bind`; ``app_data`` stays (source: ip_vs_app.c, ip_vs_unbind_app)."""
        inc: Incarnation | None = cp.app
        if inc is None:
            return
        inc.app.unbind_conn(cp)
        inc.app.done_conn(cp)
        inc.usecnt -= 1
        cp.app = None


def incarnations(ns: Netns) -> list[Incarnation]:
    """All incarnations in the order of /proc/net/ip_vs_app: newest application first, in it newest incarnation first."""
    return sorted((inc for pd in ns.protocols.values() for inc in pd.apps.values()), key=lambda inc: inc.order, reverse=True)


def check(ns: Netns) -> None:
    """What must hold: ``appcnt`` counts the ports, ``usecnt`` the entries bound; raises AssertionError naming what is wrong. O(entries)."""
    bound = Counter(id(cp.app) for cp in ns.conns if cp.app is not None)
    for pd in ns.protocols.values():
        assert pd.appcnt == len(pd.apps), f"appcnt of {pd.pp.name} is {pd.appcnt}, there are {len(pd.apps)} incarnations"
        for port, inc in pd.apps.items():
            assert (inc.protocol, inc.port) == (pd.pp.protocol, port), f"{inc!r} stands under another port"
            assert inc.usecnt == bound.pop(id(inc), 0), f"{inc!r} is used by another number of entries"
    assert not bound, "an entry is bound to an application that is gone"
