"""Counters and the rate estimator.

Everything is counted once, at the destination; the counters of a service and of a namespace are sums.

A counter has three levels: *live* (moves with each packet), *sampled* (``kstats``, moves every 2 s when the estimator runs),
and *shown* (sampled minus the zero point), which is what user space reads.

source: ip_vs_est.c, ip_vs_chain_estimation, ip_vs_estimation_kthread; ip_vs_ctl.c, ip_vs_zero_stats
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from attrs import frozen

from ipvs_model.timers import Clock, FunctionTimer, delay_gran

COUNTERS: Final = ("conns", "inpkts", "outpkts", "inbytes", "outbytes")
PKTS_SHIFT: Final = 9
BYTES_SHIFT: Final = 4
SCALE: Final = (PKTS_SHIFT, PKTS_SHIFT, PKTS_SHIFT, BYTES_SHIFT, BYTES_SHIFT)  #: left shift of a 2 s difference; the rates are shifted back by one more, rounded
FAR: Final = 1 << 60  #: nothing has wrapped, nor will, where old and new average are below
IPVS_EST_NTICKS: Final = 50

U64: Final = (1 << 64) - 1
Five = tuple[int, int, int, int, int]  #: a number for each of ``COUNTERS``
ZERO5: Final[Five] = (0, 0, 0, 0, 0)


@frozen
class StatsEntry:
    """What user space reads of one object: counters (u64) and rates per second (the byte rates too are bytes)."""

    conns: int = 0
    inpkts: int = 0
    outpkts: int = 0
    inbytes: int = 0
    outbytes: int = 0
    cps: int = 0
    inpps: int = 0
    outpps: int = 0
    inbps: int = 0
    outbps: int = 0


class Estimated:
    """The estimator's side of ``struct ip_vs_stats``: samples, zero points, rates."""

    __slots__ = ("_avg", "added", "idle", "kstats", "kstats0", "last", "row")

    def __init__(self) -> None:
        self.kstats = self.kstats0 = self.last = self._avg = ZERO5
        self.idle = 0  #: estimations in which nothing had moved, not in ``_avg`` yet
        self.row = -1  #: row of the estimator, -1: pending
        self.added = 0  #: jiffy at which it became pending

    def live(self) -> Five:
        """The live counters, in the order of ``COUNTERS``."""
        raise NotImplementedError

    def estimate(self) -> None:
        """One estimation, as if exactly 2 s had passed since the one before (source: ip_vs_est.c, ip_vs_chain_estimation)."""
        live = self.live()
        if live == self.last:
            self.idle += 1
            self.kstats = live
            return
        self.avg = _moved(self.avg, self.last, live)
        self.kstats = self.last = live

    @property
    def avg(self) -> Five:
        """The averages, scaled: see ``SCALE``."""
        self.settle()
        return self._avg

    @avg.setter
    def avg(self, averages: Five) -> None:
        self._avg = averages
        self.idle = 0

    def settle(self) -> None:
        """Bring the averages up to date, as reading them does."""
        while self.idle:
            avg = _moved(self._avg, self.last, self.last)
            self.idle = self.idle - 1 if avg != self._avg else 0  # it comes to rest
            self._avg = avg

    def zero(self) -> None:
        """Set the zero points to the *sampled* values and the rates to 0 (source: ip_vs_ctl.c, ip_vs_zero_stats)."""
        self.kstats0 = self.last = self.kstats
        self.avg = ZERO5

    def shown(self) -> StatsEntry:
        """What user space reads (source: ip_vs_ctl.c, ip_vs_copy_stats; ip_vs_est.c, ip_vs_read_estimator)."""
        counters = ((value - base) & U64 for value, base in zip(self.kstats, self.kstats0, strict=True))
        avg = self.avg
        return StatsEntry(*counters, *((value + 0x1FF >> 10) & U64 for value in avg[:3]), *((value + 0xF >> 5) & U64 for value in avg[3:]))


def _moved(old: Five, last: Five, live: Five) -> Five:
    """The averages after one more estimation."""
    cps, inpps, outpps, inbps, outbps = old
    conns, inpkts, outpkts, inbytes, outbytes = last
    avg = (
        cps + ((live[0] - conns << PKTS_SHIFT) - cps >> 2),
        inpps + ((live[1] - inpkts << PKTS_SHIFT) - inpps >> 2),
        outpps + ((live[2] - outpkts << PKTS_SHIFT) - outpps >> 2),
        inbps + ((live[3] - inbytes << BYTES_SHIFT) - inbps >> 2),
        outbps + ((live[4] - outbytes << BYTES_SHIFT) - outbps >> 2),
    )
    return avg if min(avg) >= 0 and max(avg) < FAR and max(old) < FAR else _wrapped_avg(live, last, old)


def _wrapped_avg(live: Five, last: Five, avg: Five) -> Five:
    """The new averages, all modulo 2**64; the difference to an old one is a signed number."""
    new = []
    for value, before, old, shift in zip(live, last, avg, SCALE, strict=True):
        difference = ((value - before << shift) - old) & U64
        if difference >> 63:
            difference -= 1 << 64
        new.append((old + (difference >> 2)) & U64)
    return new[0], new[1], new[2], new[3], new[4]


class Stats(Estimated):
    """``struct ip_vs_stats`` of a destination: every counter is its own."""

    __slots__ = ("conns", "inbytes", "inpkts", "outbytes", "outpkts")

    def __init__(self) -> None:
        super().__init__()
        self.conns = self.inpkts = self.outpkts = self.inbytes = self.outbytes = 0

    def live(self) -> Five:
        """The live counters, in the order of ``COUNTERS``."""
        return self.conns, self.inpkts, self.outpkts, self.inbytes, self.outbytes


class Counted(Protocol):
    """Something with counters: a destination, a service."""

    @property
    def stats(self) -> Estimated: ...


class SumStats(Estimated):
    """``struct ip_vs_stats`` of a service or a namespace: the sums over its members.

    ``gone`` is what members had when they left less what they had when they came.
    """

    __slots__ = ("gone", "members")

    def __init__(self, members: Iterable[Counted] = ()) -> None:
        super().__init__()
        self.members = members
        self.gone = ZERO5

    def live(self) -> Five:
        """The live counters, in the order of ``COUNTERS``. O(members)."""
        conns, inpkts, outpkts, inbytes, outbytes = self.gone
        for member in self.members:
            stats = member.stats
            if type(stats) is Stats:  # a sum would be made anew for each of its counters
                conns += stats.conns
                inpkts += stats.inpkts
                outpkts += stats.outpkts
                inbytes += stats.inbytes
                outbytes += stats.outbytes
            else:
                more_conns, more_inpkts, more_outpkts, more_inbytes, more_outbytes = stats.live()
                conns += more_conns
                inpkts += more_inpkts
                outpkts += more_outpkts
                inbytes += more_inbytes
                outbytes += more_outbytes
        return conns, inpkts, outpkts, inbytes, outbytes

    def joins(self, stats: Estimated) -> None:
        """A member comes: what it has counted so far it has counted elsewhere."""
        self._move(stats, -1)

    def leaves(self, stats: Estimated) -> None:
        """A member goes, what it has counted stays."""
        self._move(stats, 1)

    def _move(self, stats: Estimated, by: int) -> None:
        conns, inpkts, outpkts, inbytes, outbytes = (old + by * value for old, value in zip(self.gone, stats.live(), strict=True))
        self.gone = conns, inpkts, outpkts, inbytes, outbytes

    @property
    def conns(self) -> int:
        """Connections."""
        return self.live()[0]

    @property
    def inpkts(self) -> int:
        """Packets of clients."""
        return self.live()[1]

    @property
    def outpkts(self) -> int:
        """Packets to clients."""
        return self.live()[2]

    @property
    def inbytes(self) -> int:
        """Bytes of ``inpkts``."""
        return self.live()[3]

    @property
    def outbytes(self) -> int:
        """Bytes of ``outpkts``."""
        return self.live()[4]


class Estimator:
    """The estimation thread of a namespace: 50 rows, one a tick of HZ/25 jiffies, each object estimated every 2 s.

    Only rows that hold something wake it. Every wait ends one jiffy late, as a wheel timer does.
    source: ip_vs_est.c, ip_vs_estimation_kthread, ip_vs_est_reload_start
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.tick: int = 2 * clock.hz // IPVS_EST_NTICKS
        self.members: dict[Estimated, None] = {}
        self.pending: dict[Estimated, None] = {}  #: members that have no row yet
        self.rows: dict[int, dict[Estimated, None]] = {}  #: members by row, no empty ones
        self.enabled = False  #: the namespace has had a service
        self.running = False
        self.est_timer = clock.now  #: jiffy for which ``est_row`` is due; first that of the namespace's start
        self.est_row = 0
        self.asleep = 0  #: no row is taken before that jiffy: the thread, started anew, waits for a whole tick
        self.add_row = 0
        self.late = 1 if clock.mode == "kernel" else 0  #: a wait of less than 63 jiffies ends this much after its expiry
        self.timer = FunctionTimer(self._wake)

    def start(self, stats: Estimated) -> None:
        """Begin estimating an object (source: ip_vs_est.c, ip_vs_start_estimator)."""
        self._forget(stats)
        stats.row = -1
        stats.added = self.clock.now
        self.members[stats] = self.pending[stats] = None
        self._arm()

    def stop(self, stats: Estimated) -> None:
        """Cease estimating an object: what it shows freezes (source: ip_vs_est.c, ip_vs_stop_estimator)."""
        self.members.pop(stats, None)
        self._forget(stats)

    def _forget(self, stats: Estimated) -> None:
        self.pending.pop(stats, None)
        row = self.rows.get(stats.row, {})
        if stats in row:
            del row[stats]
            if not row:
                del self.rows[stats.row]

    def run(self, wanted: bool) -> None:
        """Start or stop the thread, as ``run_estimation`` and the first service do (source: ip_vs_ctl.c, est_reload_work_handler)."""
        wanted = wanted and self.enabled
        if wanted and not self.running:
            self._begin()
        elif not wanted and self.running:
            self._catch_up()
            self.running = False
            self.clock.del_timer(self.timer)
            # the row that the thread waits for is consumed without being estimated
            self._step()

    def _begin(self, *, calibrating: bool = False) -> None:
        now = self.clock.now
        if abs(self.est_timer - now) > 4 * self.tick:
            self.est_timer = now
        if self.est_timer - now > self.tick and not calibrating:  # then it goes on as if it were late: the next rows are taken at once
            self.est_timer = now - self.tick
            self.asleep = now + self.tick + self.late
        self.running = True
        self._place(now)
        self._arm()

    def restart(self) -> None:
        """Stop and start the thread if it runs, as a change of ``est_nice`` does (source: ip_vs_est_reload_start).

        The row that it waits for is passed over, and the next three are taken together a tick later: what they hold is estimated 21 to 30 jiffies early at HZ 250.
        """
        if self.running:
            self.run(False)
            self.run(True)

    def recalibrate(self) -> None:
        """Stop and start the thread, as a write to ``est_cpulist`` does: objects added from now on go to another row than those before.

        The 60 to 75 ms of the calibration itself are not modelled (source: ip_vs_est.c, ip_vs_est_calc_phase).
        """
        self.run(False)
        self.add_row = self.est_row
        if self.enabled:
            self._begin(calibrating=True)

    def estimate_now(self) -> None:
        """Estimate every object at once, whatever its row (a convenience: makes tests exact)."""
        for stats in self.members:
            stats.estimate()

    def _place_row(self) -> int:
        return (self.add_row + IPVS_EST_NTICKS - 1) % IPVS_EST_NTICKS

    def _step(self, rows: int = 1) -> None:
        self.est_row = (self.est_row + rows) % IPVS_EST_NTICKS
        self.est_timer += rows * self.tick

    def _to_next_row(self, rows: Iterable[int]) -> int:
        """How many steps it is to the first of these."""
        at = self.est_row
        return min([(row - at) % IPVS_EST_NTICKS for row in rows], default=IPVS_EST_NTICKS)

    def _catch_up(self) -> None:
        """Pass over the rows, all empty, whose time is up; pending objects are placed on the way."""
        while self._due() <= self.clock.now:
            self._place(self._looped())
            self._step()
        self._place(self._looped())

    def _due(self) -> int:
        """The jiffy at which ``est_row`` is taken."""
        return max(self.asleep, self.est_timer + self.late)

    def _looped(self) -> int:
        """The thread began to wait for that at this jiffy or the next."""
        return max(self.asleep - self.late, self.est_timer) - self.tick

    def _place(self, passed: int) -> None:
        """The thread looped at jiffy ``passed`` + 1: objects added by then get their row."""
        if not self.pending:
            return
        row = self._place_row()
        for stats in [stats for stats in self.pending if stats.added <= passed]:
            del self.pending[stats]
            stats.row = row
            self.rows.setdefault(row, {})[stats] = None

    def _wake(self) -> None:
        """The timer fired: the row that is due now is estimated."""
        now = self.clock.now
        while self._due() <= now:
            if self.pending:
                self._place(self._looped())
            elif self.est_row not in self.rows:
                due = (now - self.late - self.est_timer) // self.tick + 1
                self._step(min(due, self._to_next_row(self.rows)))
                continue
            for stats in self.rows.get(self.est_row, ()):
                stats.estimate()
            self._step()
        self._arm()

    def _arm(self) -> None:
        """Set the timer for the next row that holds something or will."""
        if not self.running or not self.members:
            return
        rows = {*self.rows, self._place_row()} if self.pending else self.rows
        expires = max(self.asleep - self.late, self.est_timer + self._to_next_row(rows) * self.tick)
        # a far expiry would be rounded up by the wheel: wake a little early and set the timer anew
        ahead = expires - self.clock.now
        if self.late and ahead > 62:
            expires -= delay_gran(ahead)
        self.clock.mod_timer(self.timer, expires)
