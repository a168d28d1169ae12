"""Connection entries: ``struct ip_vs_conn``, creation, binding, control chain, references, expiry.

The table they hang in is in ``conn_table.py``.

source: ip_vs_conn.c, include/net/ip_vs.h
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

from attrs import frozen

from ipvs_model import html
from ipvs_model.dest import Dest
from ipvs_model.events import (
    ConnCreated,
    ConnKey,
    ConnRemoved,
    ControlMoved,
    CounterMoved,
    RefMoved,
    TemplateChecked,
    TimerArmed,
    TimerFired,
    TimerPostponed,
    TimerStopped,
)
from ipvs_model.fields import Field
from ipvs_model.flags import (
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_HASHED,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NFCT,
    IP_VS_CONN_F_NO_CPORT,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_SYNC,
    IP_VS_CONN_F_TEMPLATE,
    IP_VS_STATE_MASTER,
    IPPROTO_UDP,
    conn_flag_names,
)
from ipvs_model.netns import Netns
from ipvs_model.protocol import QUICK_INPUT, QUICK_INPUT_ONLY, TEMPLATE_NONE, State
from ipvs_model.service import Service, find_dest
from ipvs_model.timers import UNLINKED, Bucket, Timer

FIELDS: Final = (
    Field("c_list", "ConnTable", "hlist node", "derived", "one dict by client endpoint; hnext chains entries of the same one"),
    Field("cport", "cport", "be16", "derived", "low 16 bits of client"),
    Field("dport", "dport", "be16", "derived", "low 16 bits of real"),
    Field("vport", "vport", "be16", "derived", "low 16 bits of virt"),
    Field("af", "af", "u16", "derived", "that of the dict it belongs to"),
    Field("caddr", "caddr", "16 bytes", "derived", "the rest of client"),
    Field("vaddr", "vaddr", "16 bytes", "derived", "the rest of virt; a fwmark template has the mark here"),
    Field("daddr", "daddr", "16 bytes", "derived", "the rest of real"),
    Field("flags", "flags", "u32", "slot"),
    Field("protocol", "protocol", "u16", "derived", "that of the dict it belongs to; 0: fwmark template"),
    Field("daf", "daf", "u16", "derived", "family of real: the destination's"),
    Field("ipvs", "ipvs", "pointer", "derived", "that of the dict it belongs to"),
    Field("refcnt", "refcnt", "refcount", "slot"),
    Field("timer", "expires, bucket, prev, next", "timer_list", "slot", "the entry is its own timer"),
    Field("timeout", "timeout", "unsigned long", "slot", "jiffies; 0 drops the whole control chain"),
    Field("lock", "", "spinlock", "not modelled", "one packet at a time"),
    Field("state", "state", "u16", "slot", "a State; .index is the number"),
    Field("old_state", "old_state", "u16", "ext", "state at the last sync decision"),
    Field("fwmark", "fwmark", "u32", "ext", "the packet's mark at creation"),
    Field("sync_endtime", "sync_endtime", "unsigned long", "derived", "the second half of born"),
    Field("control", "control", "pointer", "slot"),
    Field("n_control", "n_control", "atomic int", "ext"),
    Field("dest", "dest", "pointer", "slot"),
    Field("in_pkts", "in_pkts", "atomic int", "slot"),
    Field("packet_xmit", "xmit", "function", "slot", "the transmitter as a shared action; None: none"),
    Field("app", "app", "pointer", "ext", "None: no application"),
    Field("app_data", "app_data", "pointer", "ext"),
    Field("in_seq", "in_seq", "ip_vs_seq", "ext"),
    Field("out_seq", "out_seq", "ip_vs_seq", "ext"),
    Field("pe", "pe", "pointer", "ext", "only templates have an engine"),
    Field("pe_data", "pe_data", "bytes", "ext"),
    Field("pe_data_len", "len(pe_data)", "u8", "derived"),
    Field("rcu_head", "", "rcu_head", "not modelled", "freed at once"),
)

SEQ_FIELDS: Final = (
    Field("init_seq", "init_seq", "u32", "slot", "sequence number of the resized segment"),
    Field("delta", "delta", "u32", "slot", "added to what comes after it"),
    Field("previous_delta", "previous_delta", "u32", "slot", "added to what came before"),
)

INITIAL_TIMEOUT: Final = 3  #: seconds of life for an entry that no state machine has seen
POSTPONE_TIMEOUT: Final = 60  #: seconds after an expiry that had to wait
#: entries with one of these are never for the fast path
UNUSUAL: Final = IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_TEMPLATE | IP_VS_CONN_F_ONE_PACKET
UNHASHED: Final = ~IP_VS_CONN_F_HASHED  #: a mask that is made once, not for each entry
INVALID_PORT: Final = 0xFFFF  #: ports of an invalidated template
#: what is left of 127.0.0.0/8 and ::1 when the low 40 bits of an endpoint are shifted out; 0 has a few other addresses too
LOOPBACK: Final = frozenset((0, 127))


@frozen
class Seq:
    """``struct ip_vs_seq``: sequence adjustment of one direction, all modulo 2**32."""

    init_seq: int = 0
    delta: int = 0
    previous_delta: int = 0


NO_SEQ: Final = Seq()


class ConnExt:
    """What few entries have: helper, engine, sync and mark data."""

    __slots__ = ("app", "app_data", "daf", "fwmark", "hnext", "in_seq", "n_control", "old_state", "out_seq", "pe", "pe_data", "seqadj")

    def __init__(self, daf: int) -> None:
        self.daf = daf
        self.n_control = 0
        self.fwmark = 0
        self.hnext: Conn | None = None
        self.old_state = 0
        self.app: Any = None
        self.app_data = 0
        self.in_seq = self.out_seq = NO_SEQ
        self.pe: Any = None
        self.pe_data = b""
        self.seqadj: Any = None  #: conntrack's own adjustment of a helped connection


@frozen
class ConnParam:
    """``struct ip_vs_conn_param``: the key of a lookup or of a new entry; endpoints are ``addr << 16 | port``."""

    af: int
    protocol: int
    client: int
    virt: int
    pe: Any = None
    pe_data: bytes = b""


def _ext_property(name: str, default: Any) -> property:
    def get(self: Conn) -> Any:
        return default if self.ext is None else getattr(self.ext, name)

    def put(self: Conn, value: Any) -> None:
        if self.ext is None:
            if value == default:
                return
            self.ext = ConnExt(self.af)
            self.table.odd = True
        setattr(self.ext, name, value)

    return property(get, put)


class Table(dict[int, "Conn"]):
    """The entries of one family and protocol: client endpoint → the newest one."""

    __slots__ = ("af", "ns", "odd", "protocol", "services", "virtual")

    ns: Netns
    af: int
    protocol: int
    odd: bool  #: some entry was not an ordinary one (see ``Conn.is_ordinary``)
    services: Mapping[int, Service]  #: those of its family and protocol, by virtual endpoint
    virtual: Container[int]  #: the virtual addresses of its family


class Conn(Timer):
    """``struct ip_vs_conn``: one entry. It is its own timer; rare members hang on ``ext``."""

    __slots__ = (
        "born", "client", "control", "dest", "ext", "flags", "in_pkts", "quick", "real", "refcnt", "state", "table", "timeout", "virt", "xmit",
    )  # fmt: skip

    __init__ = object.__init__  # without one of Python's an object is made in half the time; `new_conn` fills it

    table: Table  #: where entries of its family and protocol stand
    client: int
    virt: int
    real: int
    flags: int
    state: State
    timeout: int
    refcnt: int
    control: Conn | None
    dest: Dest | None
    in_pkts: int
    xmit: Any
    quick: int  #: if nothing about it is unusual, the row of ``State.quick`` for its client's packets; else 0
    born: tuple[int, int]  #: hash_seq and sync_endtime: one object for many entries
    ext: ConnExt | None

    fwmark = _ext_property("fwmark", 0)  #: mark of the packet that made it
    n_control = _ext_property("n_control", 0)  #: entries that it controls
    hnext = _ext_property("hnext", None)  #: the next older entry of the same client endpoint
    old_state = _ext_property("old_state", 0)
    app = _ext_property("app", None)
    app_data = _ext_property("app_data", 0)
    in_seq = _ext_property("in_seq", NO_SEQ)
    out_seq = _ext_property("out_seq", NO_SEQ)
    pe = _ext_property("pe", None)
    pe_data = _ext_property("pe_data", b"")
    seqadj = _ext_property("seqadj", None)

    @property
    def ipvs(self) -> Netns:
        """The namespace."""
        return self.table.ns

    @property
    def hash_seq(self) -> int:
        """Grows; entries hashed one after the other into one table have the same, and stand there in order."""
        return self.born[0]

    @property
    def sync_endtime(self) -> int:
        """When it was last sent to a backup, and how often since, in the two low bits; at first, when it was made."""
        return self.born[1]

    @sync_endtime.setter
    def sync_endtime(self, jiffy: int) -> None:
        self.born = self.born[0], jiffy

    @property
    def af(self) -> int:
        """Family of client and virtual address."""
        return self.table.af

    @property
    def protocol(self) -> int:
        """Transport protocol; 0: a fwmark template."""
        return self.table.protocol

    @property
    def caddr(self) -> int:
        """Client address, or client network of a template."""
        return self.client >> 16

    @property
    def cport(self) -> int:
        """Client port."""
        return self.client & 0xFFFF

    @property
    def vaddr(self) -> int:
        """Virtual address."""
        return self.virt >> 16

    @property
    def vport(self) -> int:
        """Virtual port."""
        return self.virt & 0xFFFF

    @property
    def daddr(self) -> int:
        """Address of the real server."""
        return self.real >> 16

    @property
    def dport(self) -> int:
        """Port on the real server."""
        return self.real & 0xFFFF

    @property
    def daf(self) -> int:
        """Family of the real server's address."""
        return self.af if self.ext is None else self.ext.daf

    @property
    def method(self) -> int:
        """Forwarding method."""
        return self.flags & IP_VS_CONN_F_FWD_MASK

    @property
    def is_template(self) -> bool:
        """A persistence template."""
        return bool(self.flags & IP_VS_CONN_F_TEMPLATE)

    @property
    def is_hashed(self) -> bool:
        """It is in the table."""
        return bool(self.flags & IP_VS_CONN_F_HASHED)

    @property
    def is_ordinary(self) -> bool:
        """All of it that is to be undone is its place in the table and what its destination counts."""
        if not self.quick or self.ext is not None or self.control is not None:
            return False
        return not self.xmit.counted and not self.flags & IP_VS_CONN_F_NFCT and self.table.get(self.client) is self

    @property
    def state_name(self) -> str:
        """The state as listings print it (source: ip_vs_proto.c, ip_vs_state_name)."""
        index = self.state.index
        if self.flags & IP_VS_CONN_F_TEMPLATE:
            return ("NONE", "ASSURED")[index] if index < 2 else "ERR!"
        pd = self.ipvs.protocols.get(self.protocol)
        if pd is None or not pd.pp.has_apps:
            return "NONE" if self.protocol == 0 else "ERR!"
        return pd.pp.state_name(index)

    def key(self) -> ConnKey:
        """Its name for events."""
        return ConnKey(self.af, self.protocol, self.client, self.virt, self.real, self.daf)

    def __repr__(self) -> str:
        left = max(0, self.expires - self.ipvs.clock.now) // self.ipvs.clock.hz if self.bucket is not None else "-"
        return f"<Conn {self.key()} {self.state_name} {left} [{conn_flag_names(self.flags)}] ref {self.refcnt} ctl {self.n_control}>"

    def _repr_html_(self) -> str:
        return html.conn(self)

    def fire(self) -> None:
        """The timer."""
        emit = self.ipvs.emit
        if emit is not None:
            emit(TimerFired("ip_vs_conn_expire", self.key(), self.ipvs.clock.now, self.expires))
        expire(self)

    def fire_from(self, bucket: Bucket) -> int:
        """Of entries that nobody holds, this one and those behind it in the same table: all that ``expire`` does with ordinary ones, in one go."""
        table = self.table
        ns = table.ns
        if ns.emit is not None:
            return super().fire_from(bucket)
        is_odd = table.odd
        before = len(table)
        cp = self
        known, unhashed, load = 0, 0, 0  # flags of the entry before, and what follows from them
        try:
            while True:  # CPython 3.11 speeds a loop up on its way back to the top only if that is no condition
                if cp.refcnt != 1 or (is_odd and not cp.is_ordinary):
                    break
                flags = cp.flags
                if flags != known:
                    known, unhashed, load = flags, flags & UNHASHED, 1 if flags & IP_VS_CONN_F_INACTIVE else 257
                del table[cp.client]
                cp.flags = unhashed
                cp.refcnt = 0
                dest: Dest = cp.dest  # type: ignore[assignment]
                cp.dest = None
                dest.overhead -= load
                total = dest.total
                dest.total = total - 1
                if total == dest.l_threshold_val:
                    dest.update_overload(-1)
                following = cp.next
                cp.bucket = None
                cp.next = UNLINKED
                following.prev = bucket  # that had kept this entry: now it goes while it is in the processor's cache
                cp = following  # type: ignore[assignment]
                if cp.table is not table:
                    break
        finally:
            fired = before - len(table)
            ns.conn_count -= fired
            ns.ebb += 1
            bucket.next = cp
        return fired or super().fire_from(bucket)

    # -- references ------------------------------------------------------------------------------------------------

    def get(self, holder: str = "caller") -> None:
        """Take a reference."""
        self.refcnt += 1
        emit = self.ipvs.emit
        if emit is not None:
            emit(RefMoved("__ip_vs_conn_get", self.key(), 1, self.refcnt, holder))

    def plain_put(self) -> None:
        """Give a reference back; the timer is not touched (source: ip_vs.h, __ip_vs_conn_put)."""
        assert self.refcnt > 1 or not self.flags & IP_VS_CONN_F_HASHED, f"{self!r} was put once too often"
        self.refcnt -= 1
        emit = self.ipvs.emit
        if emit is not None:
            emit(RefMoved("__ip_vs_conn_put", self.key(), -1, self.refcnt, "caller"))

    def put(self) -> None:
        """Give a reference back and restart the timer with the present timeout (source: ip_vs_conn.c, ip_vs_conn_put).

        A one-packet entry that nobody else holds expires at once.
        """
        timeout = self.timeout
        if self.flags & IP_VS_CONN_F_ONE_PACKET:
            if self.refcnt == 1 and self.bucket is None:
                expire(self)
                return
            timeout = 0
        self.arm(timeout)
        self.plain_put()

    def arm(self, timeout: int) -> None:
        """Set the timer ``timeout`` jiffies from now; entries of one state share expiry and bucket within a jiffy."""
        state = self.state
        if self.bucket is state.bucket and timeout == state.timeout:
            self.expires = state.expires
        else:
            self._arm_elsewhere(state, timeout)

    def _arm_elsewhere(self, state: State, timeout: int) -> None:
        """The first of its state in this jiffy, or from another bucket, or with a timeout of its own, or while somebody watches."""
        ns = self.ipvs
        clock = ns.clock
        if ns.emit is not None:
            clock.mod_timer(self, clock.now + timeout)
            ns.emit(TimerArmed("ip_vs_conn_put", self.key(), clock.now, self.expires))
        elif timeout == state.timeout:
            clock.arm_by(self, state)
        else:
            clock.mod_timer(self, clock.now + timeout)

    def expire_now(self) -> None:
        """Let it go at the next tick, unless it is overdue already (source: ip_vs_conn.c, ip_vs_conn_expire_now)."""
        clock = self.ipvs.clock
        if self.bucket is not None and self.expires > clock.now:
            clock.mod_timer_pending(self, clock.now)
            emit = self.ipvs.emit
            if emit is not None:
                emit(TimerStopped("ip_vs_conn_expire_now", self.key(), "expires at the next tick"))

    def update_quick(self) -> None:
        """See whether the fast path may handle its packets: no helper, no template, both endpoints known, a transmitter, a destination."""
        is_usual = (
            not self.flags & UNUSUAL
            and self.dest is not None
            and self.xmit is not None
            and bool(self.client & 0xFFFF)
            # whether its packets cross the border between local and remote is looked at each time
            and self.client >> 40 not in LOOPBACK
            and (self.ext is None or self.ext.app is None)
            # a UDP reply assures the template each time
            and not (self.protocol == IPPROTO_UDP and self.control is not None)
        )
        if not is_usual:
            self.quick = 0
            self.table.odd = True
        else:
            self.quick = QUICK_INPUT_ONLY if self.flags & IP_VS_CONN_F_NOOUTPUT else QUICK_INPUT

    # -- control ---------------------------------------------------------------------------------------------------

    def control_add(self, control: Conn) -> None:
        """Be controlled by another entry, which then outlives this one (source: ip_vs.h, ip_vs_control_add)."""
        if self.control is not None:
            self.control_del()
        self.control = control
        self.table.odd = True
        control.n_control += 1
        self.update_quick()
        emit = self.ipvs.emit
        if emit is not None:
            emit(ControlMoved("ip_vs_control_add", self.key(), control.key(), 1, control.n_control))

    def control_del(self) -> None:
        """Be controlled no more (source: ip_vs.h, ip_vs_control_del)."""
        control = self.control
        if control is None:
            return
        self.control = None
        if control.n_control == 0:
            self.ipvs.log("err", "IPVS: BUG control DEL with n=0")
            return
        control.n_control -= 1
        emit = self.ipvs.emit
        if emit is not None:
            emit(ControlMoved("ip_vs_control_del", self.key(), control.key(), -1, control.n_control))


def new_conn(ns: Netns, param: ConnParam, daf: int, real: int, flags: int, dest: Dest | None, fwmark: int) -> Conn:
    """Make an entry, bind it, and hash it unless it is a one-packet one; the caller holds a reference, the timer is not set.

    source: ip_vs_conn.c, ip_vs_conn_new
    """
    cp: Conn = Conn()
    cp.table = ns.conns.table(param.af, param.protocol)
    cp.client = param.client
    # only the first 32-bit word of a fwmark template's address counts, and it is all that an int mark fills
    cp.virt = param.virt
    cp.real = real
    cp.flags = flags
    cp.refcnt = 1
    cp.control = cp.dest = cp.xmit = cp.ext = cp.bucket = None
    cp.born = 0, ns.clock.now & ~3
    cp.in_pkts = cp.quick = cp.expires = 0
    ns.conn_count += 1
    cp.prev = cp.next = UNLINKED
    if daf != param.af:
        cp.ext = ConnExt(daf)
    if fwmark:
        cp.fwmark = fwmark
    if flags & IP_VS_CONN_F_TEMPLATE and param.pe is not None:
        cp.pe = param.pe
        cp.pe_data = param.pe_data
    if flags & IP_VS_CONN_F_NO_CPORT:
        ns.no_cport_count += 1
    pd = ns.protocols.get(param.protocol)
    # AH and ESP have no states of their own
    cp.state = TEMPLATE_NONE if flags & IP_VS_CONN_F_TEMPLATE or pd is None or not pd.states else pd.states[0]
    cp.timeout = INITIAL_TIMEOUT * ns.env.hz
    bind_dest(cp, dest)
    ns.bind_xmit(cp)
    if pd is not None and pd.appcnt:
        ns.bind_app(cp)
    if ns.sysctl.conntrack:
        cp.flags |= IP_VS_CONN_F_NFCT
        cp.table.odd = True
    cp.update_quick()
    emit = ns.emit
    if emit is not None:
        emit(ConnCreated("ip_vs_conn_new", cp.key(), cp.flags, dest.key() if dest is not None else None))
    ns.conns.hash(cp)
    return cp


def bind_dest(cp: Conn, dest: Dest | None) -> None:
    """Bind an entry to its real server: flags are merged, counters move, the threshold is looked at (source: ip_vs_conn.c, ip_vs_bind_dest)."""
    if dest is None:
        return
    flags = dest.conn_flags
    if cp.protocol != IPPROTO_UDP:
        flags &= ~IP_VS_CONN_F_ONE_PACKET
    if cp.flags & IP_VS_CONN_F_TEMPLATE:
        flags &= ~IP_VS_CONN_F_ONE_PACKET
    if cp.flags & IP_VS_CONN_F_SYNC:
        flags &= ~IP_VS_CONN_F_ONE_PACKET
        if not cp.flags & IP_VS_CONN_F_TEMPLATE:
            flags &= ~IP_VS_CONN_F_INACTIVE
        cp.flags &= ~(IP_VS_CONN_F_FWD_MASK | IP_VS_CONN_F_NOOUTPUT)
    cp.flags |= flags
    cp.dest = dest
    if cp.flags & IP_VS_CONN_F_TEMPLATE:
        dest.persistconns += 1
    else:
        if not cp.flags & IP_VS_CONN_F_INACTIVE:
            dest.activeconns += 1
        dest.totalconns += 1
        if dest.totalconns == dest.u_threshold:
            dest.update_overload(1)
    emit = cp.ipvs.emit
    if emit is not None:
        name, value = ("persistconns", dest.persistconns) if cp.flags & IP_VS_CONN_F_TEMPLATE else ("totalconns", dest.totalconns)
        emit(CounterMoved("ip_vs_bind_dest", str(dest.key()), name, 1, value))


def unbind_dest(cp: Conn) -> None:
    """Undo ``bind_dest`` (source: ip_vs_conn.c, ip_vs_unbind_dest)."""
    dest = cp.dest
    if dest is None:
        return
    if cp.flags & IP_VS_CONN_F_TEMPLATE:
        dest.persistconns -= 1
    else:
        if not cp.flags & IP_VS_CONN_F_INACTIVE:
            dest.activeconns -= 1
        before = dest.totalconns
        dest.totalconns = before - 1
        if before == dest.l_threshold_val:
            dest.update_overload(-1)
    cp.dest = None
    if cp.xmit is not None and cp.xmit.counted:
        cp.xmit.users -= 1
    emit = cp.ipvs.emit
    if emit is not None:
        name, value = ("persistconns", dest.persistconns) if cp.flags & IP_VS_CONN_F_TEMPLATE else ("totalconns", dest.totalconns)
        emit(CounterMoved("ip_vs_unbind_dest", str(dest.key()), name, -1, value))


def try_bind_dest(cp: Conn) -> None:
    """Find a real server for a synced entry that has none (source: ip_vs_conn.c, ip_vs_try_bind_dest)."""
    ns = cp.ipvs
    masq = not cp.flags & IP_VS_CONN_F_FWD_MASK
    dest = find_dest(ns, cp.af, cp.af, cp.daddr, cp.dport, cp.vaddr, cp.vport, cp.protocol, cp.fwmark, masq)
    if dest is None:
        return
    if cp.app is not None:
        ns.unbind_app(cp)
    bind_dest(cp, dest)
    ns.bind_xmit(cp)
    pd = ns.protocols.get(cp.protocol)
    if pd is not None and pd.appcnt:
        ns.bind_app(cp)
    cp.update_quick()


def expire(cp: Conn) -> None:
    """Remove an entry, or postpone it by 60 s if it controls others or is in use (source: ip_vs_conn.c, ip_vs_conn_expire)."""
    ns = cp.ipvs
    if cp.n_control == 0 and ns.conns.unlink(cp):
        if cp.bucket is not None:
            ns.clock.del_timer(cp)
        control = cp.control
        if control is not None:
            _leave_control(cp, control)
        if cp.flags & IP_VS_CONN_F_NFCT and not cp.flags & IP_VS_CONN_F_ONE_PACKET and cp.cport:
            ns.drop_conntrack(cp)
        if cp.ext is not None and cp.ext.app is not None:
            ns.unbind_app(cp)
        unbind_dest(cp)
        if cp.flags & IP_VS_CONN_F_NO_CPORT:
            ns.no_cport_count -= 1
        ns.conn_count -= 1
        emit = ns.emit
        if emit is not None:
            emit(ConnRemoved("ip_vs_conn_expire", cp.key()))
        return
    emit = ns.emit
    if emit is not None:
        emit(TimerPostponed("ip_vs_conn_expire", cp.key(), cp.n_control, cp.refcnt))
    cp.refcnt += 1
    cp.timeout = POSTPONE_TIMEOUT * ns.env.hz
    if ns.sync_state & IP_VS_STATE_MASTER:
        ns.sync_conn(cp, ns.sysctl.sync_threshold)
    cp.put()


def _leave_control(cp: Conn, control: Conn) -> None:
    """A removed entry leaves its controller; a forced removal (timeout 0) takes an idle one along unless it is an assured template."""
    chain = cp.timeout == 0
    if chain:
        control.refcnt += 1
    cp.control_del()
    if not chain:
        return
    if not control.n_control and not (control.flags & IP_VS_CONN_F_TEMPLATE and control.state.index & 1):
        del_put(control)
    else:
        control.plain_put()


def _stop(cp: Conn) -> bool:
    if not cp.ipvs.clock.del_timer(cp):
        return False
    if cp.control is not None:
        cp.timeout = 0
    emit = cp.ipvs.emit
    if emit is not None:
        emit(TimerStopped("ip_vs_conn_del", cp.key(), "timer deleted"))
    return True


def del_conn(cp: Conn) -> None:
    """Remove an entry that the caller does not hold; nothing if its timer is not pending (source: ip_vs_conn.c, ip_vs_conn_del)."""
    if _stop(cp):
        expire(cp)


def del_put(cp: Conn) -> None:
    """Remove an entry and give back the caller's reference (source: ip_vs_conn.c, ip_vs_conn_del_put)."""
    stopped = _stop(cp)
    cp.plain_put()
    if stopped:
        expire(cp)


def template_flaw(ct: Conn, wanted: Dest | None = None) -> str:
    """Why a template may not be used, or ""."""
    dest = ct.dest
    if dest is None:
        return "it has no destination"
    if not dest.available:
        return "its destination is deleted"
    if ct.ipvs.sysctl.expire_quiescent_template and dest.weight == 0:
        return "its destination is quiesced"
    if wanted is not None and dest is not wanted:
        return "it belongs to another destination"
    return ""


def check_template(ct: Conn, wanted: Dest | None = None) -> bool:
    """Whether a held template may be used; an unusable one is invalidated and put (source: ip_vs_conn.c, ip_vs_check_template)."""
    ns = ct.ipvs
    why = template_flaw(ct, wanted)
    emit = ns.emit
    if emit is not None:
        emit(TemplateChecked("ip_vs_check_template", ct.key(), not why, why or "its destination is available"))
    if not why:
        return True
    if ct.vport != INVALID_PORT and ns.conns.unhash(ct):
        ct.client = ct.caddr << 16
        ct.virt = ct.vaddr << 16 | INVALID_PORT
        ct.real = ct.daddr << 16 | INVALID_PORT
        ns.conns.hash(ct)
    ct.plain_put()
    return False


def fill_cport(cp: Conn, port: int) -> None:
    """Give a no-client-port entry its port and hash it anew (source: ip_vs_conn.c, ip_vs_conn_fill_cport)."""
    ns = cp.ipvs
    if not ns.conns.unhash(cp):
        return
    if cp.flags & IP_VS_CONN_F_NO_CPORT:
        ns.no_cport_count -= 1
        cp.flags &= ~IP_VS_CONN_F_NO_CPORT
        cp.client = cp.caddr << 16 | port
    cp.update_quick()
    ns.conns.hash(cp)
