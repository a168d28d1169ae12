"""The backup daemon: what a received message does to the connection table.

Nothing that a datagram holds makes it raise. Each record gets a `RecordReport`; a record that is not valid changes nothing.

source: ip_vs_sync.c, ip_vs_process_message, ip_vs_proc_sync_conn, ip_vs_proc_conn
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from attrs import frozen

from ipvs_model import flags as F
from ipvs_model.conn import Conn, ConnParam, Seq, new_conn, try_bind_dest
from ipvs_model.events import ConnKey
from ipvs_model.jiffies import sync_seconds_to_jiffies
from ipvs_model.protocol import TEMPLATE_ASSURED, TEMPLATE_NONE, State
from ipvs_model.service import find_dest
from ipvs_model.sync.messages import MESSAGE_ERRORS, RESULTS, SyncRecord, SyncSeq, decode_message, engine_name, union_addr, validate

if TYPE_CHECKING:
    from ipvs_model.netns import Netns

DEFAULT_TIMEOUT: Final = 180  #: seconds, for a record without timeout whose protocol has no timeout table, and for templates
TIMED_PROTOCOLS: Final = frozenset({F.IPPROTO_TCP, F.IPPROTO_UDP, F.IPPROTO_SCTP})  #: those with a timeout table

#: created: new entry. updated: the entry was there. replaced: its old entry, on another server, was expired and a new one made.
#: ignored: the end of a connection that is on another server by now. skipped: this record is refused. dropped: it and the rest of the message are.
Fate: TypeAlias = Literal["created", "updated", "replaced", "ignored", "skipped", "dropped"]


class EngineFinder(Protocol):
    """Where persistence engines are found by name."""

    def find(self, name: str) -> Any:
        """The engine, or None."""


@frozen
class RecordReport:
    """What became of the record at one offset of a message; `conn` names the entry that was made or updated."""

    offset: int
    code: int
    fate: Fate
    record: SyncRecord | None = None
    conn: ConnKey | None = None

    @property
    def why(self) -> str:
        """The result code in words."""
        return RESULTS[self.code]


@frozen
class SyncReport:
    """What became of a datagram; `error` (a key of MESSAGE_ERRORS) if all of it was ignored."""

    records: tuple[RecordReport, ...] = ()
    error: str | None = None

    @property
    def why(self) -> str:
        """The error in words; empty if there is none."""
        return "" if self.error is None else MESSAGE_ERRORS[self.error]

    @property
    def applied(self) -> int:
        """How many records made or updated an entry."""
        return sum(1 for record in self.records if record.conn is not None)


def ip_vs_process_message(ns: Netns, syncid: int, payload: bytes, engines: EngineFinder | None = None) -> SyncReport:
    """Apply a datagram. syncid: the backup's; 0 takes messages of every group, one above 255 none. Never raises.

    source: ip_vs_sync.c, ip_vs_process_message, ip_vs_process_message_v0
    """
    message = decode_message(payload)
    if message.error is not None:
        return SyncReport(error=message.error)
    if syncid not in (0, message.syncid):
        return SyncReport(error="syncid")
    return SyncReport(tuple(_process(ns, entry.offset, entry.code, entry.record, engines) for entry in message.entries))


def _process(ns: Netns, offset: int, code: int, record: SyncRecord | None, engines: EngineFinder | None) -> RecordReport:
    if record is None:
        return RecordReport(offset, code, "dropped" if code < 0 else "skipped")
    code = code or validate(record, lambda name: engines is not None and engines.find(name) is not None)
    if code:
        return RecordReport(offset, code, "skipped", record)
    engine = engines.find(engine_name(record.pe_name)) if engines is not None and record.pe_data and record.pe_name else None
    fate, cp = ip_vs_proc_conn(ns, record, engine)
    return RecordReport(offset, 0, fate, record, None if cp is None else cp.key())


def ip_vs_proc_conn(ns: Netns, record: SyncRecord, engine: Any = None) -> tuple[Fate, Conn | None]:
    """Apply a valid record: find its entry, or make it; returns what was done, and the entry.

    source: ip_vs_sync.c, ip_vs_proc_conn
    """
    flags = record.flags & F.IP_VS_CONN_F_BACKUP_MASK | F.IP_VS_CONN_F_SYNC
    param = ConnParam(record.af, record.protocol, record.client, record.virt, engine, record.pe_data or b"" if engine is not None else b"")
    cp = _find(ns, param, record)
    fate: Fate = "created" if cp is None else "updated"
    if cp is not None and not record.is_template and not _same_server(cp, record):
        if record.flags & F.IP_VS_CONN_F_INACTIVE:
            cp.plain_put()
            return "ignored", None
        cp.expire_now()
        cp.plain_put()
        cp, fate = None, "replaced"
    if cp is not None:
        _update(cp, flags)
    else:
        cp = _create(ns, param, record, flags)
    if record.in_seq is not None and record.out_seq is not None:
        cp.in_seq, cp.out_seq = _seq(record.in_seq), _seq(record.out_seq)
    cp.in_pkts = ns.sysctl.sync_threshold
    cp.state = _state(ns, record)
    cp.old_state = record.state
    cp.timeout = _timeout(ns, record)
    cp.put()
    return fate, cp


def _find(ns: Netns, param: ConnParam, record: SyncRecord) -> Conn | None:
    if record.is_template:
        return ns.conns.ct_in_get(param)
    return ns.conns.in_get(record.af, record.protocol, record.client, record.virt)


def _same_server(cp: Conn, record: SyncRecord) -> bool:
    port = record.real & 0xFFFF
    return cp.dport == port and cp.daddr == union_addr(record.real >> 16, record.af, cp.daf)


def _update(cp: Conn, flags: int) -> None:
    """Take activity and sequence flags from a record; bind an entry that has no destination yet."""
    dest = cp.dest
    if (cp.flags ^ flags) & F.IP_VS_CONN_F_INACTIVE and not flags & F.IP_VS_CONN_F_TEMPLATE and dest is not None:
        dest.activeconns += -1 if flags & F.IP_VS_CONN_F_INACTIVE else 1
    cp.flags = flags & F.IP_VS_CONN_F_BACKUP_UPD_MASK | cp.flags & ~F.IP_VS_CONN_F_BACKUP_UPD_MASK
    if dest is None:
        try_bind_dest(cp)


def _create(ns: Netns, param: ConnParam, record: SyncRecord, flags: int) -> Conn:
    masq = not flags & F.IP_VS_CONN_F_FWD_MASK
    vaddr, vport, daddr, dport = record.virt >> 16, record.virt & 0xFFFF, record.real >> 16, record.real & 0xFFFF
    dest = find_dest(ns, record.af, record.af, daddr, dport, vaddr, vport, record.protocol, record.fwmark, masq)
    return new_conn(ns, param, record.af, record.real, flags, dest, record.fwmark)


def _state(ns: Netns, record: SyncRecord) -> State:
    if record.is_template:
        return TEMPLATE_ASSURED if record.state else TEMPLATE_NONE
    states = ns.protocols[record.protocol].states
    return states[record.state] if states else TEMPLATE_NONE  # AH and ESP have no state machine


def _timeout(ns: Netns, record: SyncRecord) -> int:
    """Jiffies that the entry lives from now on."""
    if record.timeout:
        return sync_seconds_to_jiffies(record.timeout, ns.env.hz)
    if not record.is_template and record.protocol in TIMED_PROTOCOLS:
        return ns.protocols[record.protocol].timeout(record.state)
    return DEFAULT_TIMEOUT * ns.env.hz


def _seq(seq: SyncSeq) -> Seq:
    return Seq(seq.init_seq, seq.delta, seq.previous_delta)
