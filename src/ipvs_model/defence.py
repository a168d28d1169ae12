"""Defence under attack: drop_entry, drop_packet, secure_tcp, and the random removal of entries.

source: ip_vs_ctl.c, update_defense_level, defense_work_handler; ip_vs_conn.c, ip_vs_random_dropentry, todrop_entry
"""

from __future__ import annotations

from ipvs_model.conn import Conn, del_conn
from ipvs_model.events import DefenceChanged
from ipvs_model.flags import IP_VS_CONN_F_TEMPLATE, IP_VS_SVC_F_ONEPACKET, IPPROTO_SCTP, IPPROTO_TCP
from ipvs_model.netns import Netns
from ipvs_model.protocols import tcp
from ipvs_model.timers import DelayedWork, delay_gran

TODROP_IDLE = 60  #: seconds since the timer was last armed before an entry may be dropped by rate
SCTP_INIT1, SCTP_INIT, SCTP_ESTABLISHED = 1, 2, 8


class Defence:
    """The defence work of a namespace: first one second after its start, then one second after each run.

    While no mode is set a run changes nothing, so the work sleeps; its phase is kept.
    """

    def __init__(self, ns: Netns) -> None:
        self.ns = ns
        self.start = ns.clock.now
        self.work = DelayedWork(ns.clock, self.run)
        for name in ("drop_entry", "drop_packet", "secure_tcp"):
            ns.sysctl.on_write[name] = self.mode_written

    def mode_written(self) -> None:
        """A mode has changed: evaluate at once, and keep the work going while there is something to do."""
        self.update_defense_level()
        self._wake()

    def _idle(self) -> bool:
        sysctl = self.ns.sysctl
        return not (sysctl.drop_entry or sysctl.drop_packet or sysctl.secure_tcp or self.ns.old_secure_tcp or self.ns.dropentry or self.ns.drop_rate)

    def _wake(self) -> None:
        """Queue the next run where it would have been had the work never slept."""
        if self._idle() or self.work.pending:
            return
        clock = self.ns.clock
        if clock.mode == "exact":
            self.work.queue(clock.hz - (clock.now - self.start) % clock.hz)
            return
        # runs follow each other by one second rounded up by the wheel
        granularity = delay_gran(clock.hz)
        due = ((self.start + clock.hz) // granularity + 1) * granularity
        period = (clock.hz // granularity + 1) * granularity
        if due <= clock.now:
            due += (clock.now - due) // period * period + period
        clock.mod_timer(self.work, due - 1)  # due is a multiple of the granularity: this fires at due

    def run(self) -> None:
        """One run of the work (source: ip_vs_ctl.c, defense_work_handler)."""
        self.update_defense_level()
        if self.ns.dropentry:
            self.random_dropentry()
        if not self._idle():
            self.work.queue(self.ns.clock.hz)

    def update_defense_level(self) -> None:
        """Decide by mode and memory what is switched on (source: ip_vs_ctl.c, update_defense_level)."""
        ns = self.ns
        sysctl = ns.sysctl
        threshold = max(sysctl.amemthresh, 0)
        available = ns.env.available_pages()
        nomem = available < threshold
        sysctl.drop_entry, ns.dropentry = _switch(sysctl.drop_entry, nomem)
        sysctl.drop_packet, dropping = _switch(sysctl.drop_packet, nomem)
        if not dropping:
            ns.drop_rate = 0
        elif sysctl.drop_packet == 3:
            ns.drop_rate = sysctl.am_droprate
        else:
            ns.drop_rate = ns.drop_counter = threshold // (threshold - available)
        sysctl.secure_tcp, secure = _switch(sysctl.secure_tcp, nomem)
        if bool(secure) != (ns.old_secure_tcp >= 2):
            for pd in ns.protocols.values():
                pd.pp.timeout_change(pd, bool(secure))
        ns.old_secure_tcp = sysctl.secure_tcp
        if ns.emit is not None:
            ns.emit(DefenceChanged("update_defense_level", sysctl.drop_entry, sysctl.drop_packet, sysctl.secure_tcp, nomem))

    def random_dropentry(self) -> None:
        """One pass: 1/32 of the buckets, chosen at random (source: ip_vs_conn.c, ip_vs_random_dropentry)."""
        table = self.ns.conns
        size = table.mask + 1
        self.drop_scan([self.ns.rng.u32() & table.mask for _ in range(size >> 5)])

    def drop_scan(self, buckets: list[int]) -> None:
        """Visit these buckets in order, each from its head, and drop what may be dropped."""
        found = self.ns.conns.in_buckets(set(buckets))
        for bucket in buckets:
            for cp in found[bucket]:
                if cp.is_hashed and not cp.n_control and self._droppable(cp):
                    del_conn(cp)

    def _droppable(self, cp: Conn) -> bool:
        index = cp.state.index
        if cp.flags & IP_VS_CONN_F_TEMPLATE:
            svc = cp.dest.svc if cp.dest is not None else None
            if svc is not None and svc.flags & IP_VS_SVC_F_ONEPACKET:
                return self.todrop_entry(cp)
            return not index & 1
        if cp.protocol == IPPROTO_TCP:
            if index in (tcp.SYN_RECV, tcp.SYNACK):
                return True
            return index == tcp.ESTABLISHED and self.todrop_entry(cp)
        if cp.protocol == IPPROTO_SCTP:
            if index in (SCTP_INIT1, SCTP_INIT):
                return True
            return index == SCTP_ESTABLISHED and self.todrop_entry(cp)
        return self.todrop_entry(cp)

    def todrop_entry(self, cp: Conn) -> bool:
        """Every i-th of the idle entries with i packets, for i up to 8 (source: ip_vs_conn.c, todrop_entry)."""
        ns = self.ns
        if cp.timeout + ns.clock.now < cp.expires + TODROP_IDLE * ns.env.hz:
            return False
        packets = cp.in_pkts
        if not 1 <= packets <= 8:
            return False
        ns.todrop_counter[packets] -= 1
        if ns.todrop_counter[packets] > 0:
            return False
        ns.todrop_counter[packets] = packets
        return True


def _switch(mode: int, nomem: bool) -> tuple[int, int]:
    """New mode and switch: 0 off, 3 on, 1 and 2 follow the memory."""
    if mode in (0, 3):
        return mode, int(mode == 3)
    return (2, 1) if nomem else (1, 0)
