"""The master daemon: which entries are sent when, and the messages that carry them.

`ip_vs_sync_conn` is called for every client packet while the master runs. Records gather in one buffer a thread; a full buffer is queued and leaves about
20 ms later (at once when eight wait), one that never fills leaves when its first record is two seconds old. What leaves is a `SyncDatagram`: plain data.

source: ip_vs_sync.c
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ipvs_model import flags as F
from ipvs_model.events import SyncDecision
from ipvs_model.sync.decision import NOT_IN_V0, ONE_PACKET, U32, Decision, ip_vs_sync_conn_needed, signed32
from ipvs_model.sync.messages import HEADER_V0_LEN, HEADER_V1_LEN, SyncRecord, SyncSeq, encode_header, encode_record_v0, encode_record_v1, union_addr
from ipvs_model.timers import DelayedWork

if TYPE_CHECKING:
    from ipvs_model.conn import Conn, Seq
    from ipvs_model.netns import Netns
    from ipvs_model.sync.daemon import DaemonEntry

IPVS_SYNC_WAKEUP_RATE: Final = 8  #: queued buffers that wake the thread at once


def send_delay(hz: int) -> int:
    """Jiffies from queueing a buffer to the wake-up of the thread (IPVS_SYNC_SEND_DELAY)."""
    return max(hz // 50, 1)


def check_period(hz: int) -> int:
    """Longest sleep of a sender thread in jiffies (IPVS_SYNC_CHECK_PERIOD)."""
    return hz


def flush_time(hz: int) -> int:
    """Age in jiffies at which a buffer is sent though it is not full (IPVS_SYNC_FLUSH_TIME)."""
    return 2 * hz


# --- records ------------------------------------------------------------------------------------------------------------


def record_of(cp: Conn, hz: int) -> SyncRecord:
    """What a message says about an entry: its timeout (not the time left) in whole seconds, its flags without HASHED."""
    real = cp.real
    if cp.daf != cp.af:
        real = union_addr(real >> 16, cp.daf, cp.af) << 16 | real & 0xFFFF
    seq = cp.flags & F.IP_VS_CONN_F_SEQ_MASK
    return SyncRecord(
        af=cp.af,
        protocol=cp.protocol & 0xFF,
        client=cp.client,
        virt=cp.virt,
        real=real,
        flags=cp.flags & ~F.IP_VS_CONN_F_HASHED,
        state=cp.state.index,
        fwmark=cp.fwmark,
        timeout=(cp.timeout // hz) & U32,
        in_seq=_seq(cp.in_seq) if seq else None,
        out_seq=_seq(cp.out_seq) if seq else None,
        pe_data=cp.pe_data or None,
        pe_name=cp.pe.name.encode("latin-1") if cp.pe is not None and cp.pe_data else None,
    )


def _seq(seq: Seq) -> SyncSeq:
    return SyncSeq(seq.init_seq & U32, seq.delta & U32, seq.previous_delta & U32)


# --- buffers, queue, threads --------------------------------------------------------------------------------------------


@frozen
class SyncDatagram:
    """A message as it is handed to the network: sent on `device` to group:port with this TTL, from the device's address, without DF.

    `thread` is the number of the sender thread; its port is the first port + thread. group is an address of family af.
    """

    thread: int
    device: str
    af: int
    group: int
    port: int
    ttl: int
    payload: bytes


class SyncBuffer:
    """A message that is being filled (struct ip_vs_sync_buff). `firstuse`: jiffy of its first record."""

    __slots__ = ("body", "capacity", "firstuse", "nr_conns", "syncid", "version")

    def __init__(self, version: int, syncid: int, capacity: int, firstuse: int) -> None:
        self.version = version
        self.syncid = syncid
        self.capacity = capacity
        self.firstuse = firstuse
        self.nr_conns = 0  # 8 bits
        self.body = bytearray(HEADER_V0_LEN if version == 0 else HEADER_V1_LEN)

    def __repr__(self) -> str:
        return f"<SyncBuffer v{self.version} {self.nr_conns} records, {len(self.body)} of {self.capacity} bytes, since {self.firstuse}>"

    def takes(self, version: int, size: int) -> bool:
        """Does another record of this version and size fit? A version 0 buffer whose count has wrapped to 0 looks like version 1."""
        seems = 0 if self.version == 0 and self.nr_conns else 1
        return seems == version and len(self.body) + self.padding(version) + size <= self.capacity

    def padding(self, version: int) -> int:
        """Bytes before the next record: version 1 records start at multiples of 4."""
        return -len(self.body) % 4 if version else 0

    def append(self, record: bytes) -> None:
        """Add a record's bytes."""
        self.body += bytes(self.padding(self.version)) + record
        self.nr_conns = self.nr_conns + 1 & 0xFF

    def message(self) -> bytes:
        """The bytes to send."""
        header = encode_header(self.version, self.syncid, len(self.body), self.nr_conns)
        return header + self.body[len(header) :]


class SyncThread:
    """One sender: the buffer being filled, the queue, and the sleeping 'thread' (struct ipvs_master_sync_state, sync_thread_master).

    `dropped` counts the buffers lost because the queue was full (sysctl sync_qlen_max); the kernel does not count them.
    """

    __slots__ = ("_sleep", "_wakeup", "buffer", "delay", "dropped", "index", "master", "queue")

    def __init__(self, master: SyncMaster, index: int) -> None:
        self.master = master
        self.index = index
        self.buffer: SyncBuffer | None = None
        self.queue: deque[SyncBuffer] = deque()
        self.delay = 0
        self.dropped = 0
        self._sleep = DelayedWork(master.ns.clock, self.run)
        self._wakeup = DelayedWork(master.ns.clock, self.master_wakeup_work)

    def append(self, version: int, record: bytes) -> None:
        """Put a record into the current buffer; a buffer that cannot take it is queued first (source: ip_vs_sync.c, ip_vs_sync_conn)."""
        buffer = self.buffer
        if buffer is not None and not buffer.takes(version, len(record)):
            self.sb_queue_tail(buffer)
            buffer = None
        if buffer is None:
            config = self.master.config
            header = HEADER_V1_LEN if version else HEADER_V0_LEN
            capacity = max(header + len(record), config.sync_maxlen)
            buffer = self.buffer = SyncBuffer(version, config.syncid & 0xFF, capacity, self.master.ns.clock.now)
        buffer.append(record)

    def sb_queue_tail(self, buffer: SyncBuffer) -> None:
        """Hand a full buffer to the thread, or lose it if the queue is full (source: ip_vs_sync.c, sb_queue_tail)."""
        self.buffer = None
        ns = self.master.ns
        if len(self.queue) >= ns.sysctl.sync_qlen_max:
            self.dropped += 1
            return
        if not self.queue:
            self._wakeup.queue(send_delay(ns.clock.hz))
        self.queue.append(buffer)
        self.delay += 1
        if self.delay == IPVS_SYNC_WAKEUP_RATE:
            self.master.wake_later(self)

    def master_wakeup_work(self) -> None:
        """Send what waits, 20 ms after the queue began to fill (source: ip_vs_sync.c, master_wakeup_work_handler)."""
        if self.queue and self.delay < IPVS_SYNC_WAKEUP_RATE:
            self.delay = IPVS_SYNC_WAKEUP_RATE
            self.wake()

    def wake(self) -> None:
        """End the sleep: the thread runs when the present packet, command or timer tick is done."""
        self._sleep.cancel()
        self._sleep.queue(0)

    def run(self) -> None:
        """What the thread does from waking to sleeping: send the queue, and the current buffer if it is old; then sleep a second at most.

        source: ip_vs_sync.c, sync_thread_master, next_sync_buff
        """
        clock = self.master.ns.clock
        while self.queue:
            buffer = self.queue.popleft()
            if not self.queue:
                self.delay = 0
            self.master.send(self, buffer)
        current = self.buffer
        if current is not None and clock.now - current.firstuse >= flush_time(clock.hz):
            self.buffer = None
            self.master.send(self, current)
        self._sleep.queue(check_period(clock.hz))

    def stop(self) -> None:
        """End the thread; what it holds is thrown away unsent."""
        self._sleep.cancel()
        self._wakeup.cancel()
        self.queue.clear()
        self.buffer = None


# --- the daemon ---------------------------------------------------------------------------------------------------------


class SyncMaster:
    """The running master daemon: its configuration, its sender threads, and where datagrams go."""

    __slots__ = ("_woken", "config", "deliver", "ns", "threads")

    def __init__(self, ns: Netns, config: DaemonEntry, threads: int, deliver: Callable[[SyncDatagram], None]) -> None:
        self.ns = ns
        self.config = config
        self.deliver = deliver
        self.threads = tuple(SyncThread(self, index) for index in range(threads))
        self._woken: list[SyncThread] = []

    def start(self) -> None:
        """Let the threads run for the first time."""
        for thread in self.threads:
            thread.wake()

    def stop(self) -> None:
        """End the threads; buffers and queues are thrown away unsent."""
        for thread in self.threads:
            thread.stop()

    def sync_conn(self, cp: Conn, pkts: int) -> None:
        """Send an entry, and then what controls it, as far as that is needed. pkts: the entry's packet count, or the threshold.

        The packet counts of its templates rise on the way. Threads that have work to do run when this is done.
        source: ip_vs_sync.c, ip_vs_sync_conn
        """
        if self.ns.sysctl.sync_version == 0:
            self._sync_conn_v0(cp, pkts)
        else:
            self._sync_conn_v1(cp, pkts)
        while self._woken:
            self._woken.pop(0).wake()

    def wake_later(self, thread: SyncThread) -> None:
        """A thread is to be woken when the entry at hand has been treated."""
        self._woken.append(thread)

    def _sync_conn_v1(self, cp: Conn, pkts: int) -> None:
        if cp.flags & F.IP_VS_CONN_F_ONE_PACKET:
            self._tell(cp, ONE_PACKET)
        elif not self._send_v1(cp, pkts):
            return
        entry = cp.control
        while entry is not None:
            if not self._send_v1(entry, self._count(entry)):
                return
            entry = entry.control

    def _send_v1(self, cp: Conn, pkts: int) -> bool:
        """Send one entry if needed; False ends the walk along its controllers."""
        if self._needed(cp, pkts):
            if cp.pe_data and cp.dest is None:
                self.ns.log("err", "IPVS: SYNC, connection pe_data invalid")
                return False
            self._append(cp, 1, encode_record_v1(record_of(cp, self.ns.clock.hz)))
        return True

    def _sync_conn_v0(self, cp: Conn, pkts: int) -> None:
        """source: ip_vs_sync.c, ip_vs_sync_conn_v0"""
        entry: Conn | None = cp
        while entry is not None:
            if entry.af != F.AF_INET:
                self._tell(entry, NOT_IN_V0)
                return
            if entry.flags & F.IP_VS_CONN_F_ONE_PACKET:
                self._tell(entry, ONE_PACKET)
                return
            if not self._needed(entry, pkts):
                return
            self._append(entry, 0, encode_record_v0(record_of(entry, self.ns.clock.hz)))
            entry = entry.control
            if entry is not None:
                pkts = self._count(entry)

    def _count(self, control: Conn) -> int:
        """The packet count with which a controller is judged; a template counts the packet, another controller is judged at the threshold."""
        if not control.flags & F.IP_VS_CONN_F_TEMPLATE:
            return self.ns.sysctl.sync_threshold
        control.in_pkts = signed32(control.in_pkts + 1)
        return control.in_pkts

    def _needed(self, cp: Conn, pkts: int) -> bool:
        decision = ip_vs_sync_conn_needed(self.ns, cp, pkts)
        self._tell(cp, decision)
        return decision.needed

    def _tell(self, cp: Conn, decision: Decision) -> None:
        if self.ns.emit is not None:
            self.ns.emit(SyncDecision("ip_vs_sync_conn_needed", cp.key(), decision.needed, decision.why))

    def _append(self, cp: Conn, version: int, record: bytes) -> None:
        self.threads[thread_of(cp, len(self.threads))].append(version, record)

    def send(self, thread: SyncThread, buffer: SyncBuffer) -> None:
        """Hand a message to the network (source: ip_vs_sync.c, ip_vs_send_sync_msg)."""
        config = self.config
        af, group = config.mcast_group
        self.deliver(SyncDatagram(thread.index, config.mcast_ifn, af, group, config.mcast_port + thread.index, config.mcast_ttl, buffer.message()))


def thread_of(cp: Conn, threads: int) -> int:
    """Number of the sender thread of an entry; `threads` is a power of two.

    The kernel takes it from the entry's address in memory, which nobody can foretell; here it comes from the client's address and port.
    source: ip_vs_sync.c, select_master_thread_id
    """
    if threads == 1:
        return 0
    client = cp.client
    return (client >> 16 ^ client >> 6 ^ client) & threads - 1
