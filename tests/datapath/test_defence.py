"""Defence: levels by mode and memory, dropped packets, the secure TCP table, and when the work runs (worked examples of the control specification)."""

from itertools import pairwise

import pytest
from tests.lab import Lab

from ipvs_model.errors import IPVSError
from ipvs_model.events import DefenceChanged
from ipvs_model.timers import DelayedWork

PERIODS = {100: 104, 250: 256, 300: 304, 1000: 1024}
MODES = ("drop_entry", "drop_packet", "secure_tcp")


class Memory:
    """Available pages that a test sets."""

    def __init__(self, pages: int = 1 << 30) -> None:
        self.pages = pages

    def __call__(self) -> int:
        return self.pages


def defended(pages: int = 1 << 30, **environment) -> tuple[Lab, Memory]:
    memory = Memory(pages)
    return Lab(available_pages=memory, **environment), memory


def modes(lab: Lab) -> list[int]:
    return [int(lab.ipvs.sysctl_read(name)) for name in MODES]


def level(lab: Lab) -> tuple[list[int], int, int, int, bool]:
    """Modes, dropentry, drop_rate, drop_counter, whether the secure table is in force."""
    return modes(lab), lab.ns.dropentry, lab.ns.drop_rate, lab.ns.drop_counter, lab.ns.protocols[6].secure


def next_run(lab: Lab) -> int:
    """Go to the next run of the work; how many jiffies that took."""
    ran = []
    unsubscribe = lab.ipvs.subscribe(lambda event: ran.append(lab.clock.now) if isinstance(event, DefenceChanged) else None)
    before = lab.clock.now
    while not ran:
        lab.clock.advance(1)
    unsubscribe()
    lab.check()
    return lab.clock.now - before


@pytest.mark.parametrize("hz", sorted(PERIODS))
def test_memory_comes_and_goes(hz):
    lab, memory = defended(5000, hz=hz)
    lab.service("rr", "A")
    lab.sysctl(drop_entry=1, drop_packet=1, secure_tcp=1)
    assert level(lab) == ([1, 1, 1], 0, 0, 0, False)
    next_run(lab)
    assert level(lab) == ([1, 1, 1], 0, 0, 0, False)
    memory.pages = 900
    assert next_run(lab) == PERIODS[hz]
    assert level(lab) == ([2, 2, 2], 1, 8, 8, True)
    for sport in range(3):
        lab.client("S", 40000 + sport)
    assert lab.ns.drop_counter == 5
    assert next_run(lab) == PERIODS[hz]
    assert level(lab) == ([2, 2, 2], 1, 8, 8, True)
    lab.client("S", 41000)
    memory.pages = 2000
    assert next_run(lab) == PERIODS[hz]
    assert level(lab) == ([1, 1, 1], 0, 0, 7, False)


def test_written_mode_is_evaluated_at_once():
    lab, _ = defended(900)
    lab.sysctl(drop_entry=1)
    assert (lab.ipvs.sysctl_read("drop_entry"), lab.ns.dropentry) == ("2", 1)


def test_writing_the_present_mode_does_not_even_evaluate():
    lab, memory = defended()
    lab.sysctl(drop_entry=1)
    memory.pages = 900
    lab.sysctl(drop_entry=1)
    assert modes(lab)[0] == 1
    lab.sysctl(drop_packet=1)
    assert modes(lab)[:2] == [2, 2], "a write of one mode evaluates all three"


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("value", ["-1", "4", "x", ""])
def test_modes_are_zero_to_three(name, value):
    lab, _ = defended()
    lab.sysctl(**{name: 3})
    with pytest.raises(IPVSError, match="Invalid argument"):
        lab.sysctl(**{name: value})
    assert lab.ipvs.sysctl_read(name) == "3"


#: mode, memory short, on, new mode
SWITCH = [
    (0, False, 0, 0), (0, True, 0, 0),
    (1, False, 0, 1), (1, True, 1, 2),
    (2, True, 1, 2), (2, False, 0, 1),
    (3, False, 1, 3), (3, True, 1, 3),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "short", "on", "after"), SWITCH)
def test_levels_by_mode_and_memory(mode, short, on, after):
    lab, memory = defended()
    for name in MODES:
        setattr(lab.ns.sysctl, name, mode)
    memory.pages = 768 if short else 1024
    lab.ipvs.defence.update_defense_level()
    assert modes(lab) == [after] * 3
    assert (lab.ns.dropentry, lab.ns.protocols[6].secure) == (on, bool(on))
    assert lab.ns.drop_rate == (10 if mode == 3 else 4 if on else 0)


@pytest.mark.parametrize(("pages", "rate"), [(1023, 1024), (1000, 42), (768, 4), (512, 2), (511, 1), (0, 1)])
def test_drop_rate_by_available_memory(pages, rate):
    lab, _ = defended(pages)
    lab.sysctl(drop_packet=1)
    assert (lab.ns.drop_rate, lab.ns.drop_counter) == (rate, rate)


def test_negative_threshold_counts_as_zero():
    lab, _ = defended(0)
    lab.sysctl(amemthresh=-5, drop_packet=1)
    assert modes(lab)[1] == 1


# --- dropped packets ---


def dropped(lab: Lab, count: int, **more) -> list[int]:
    """Which of so many first packets are dropped, from 1."""
    before = lab.ns.tot_stats.conns
    lost = []
    for number in range(1, count + 1):
        said = lab.client("S", 30000 + number, **more)
        if said.action.reason == "drop_packet":
            said.dropped("drop_packet").silently().no_conn()
            lost.append(number)
    assert lab.ns.tot_stats.conns - before == count - len(lost)
    return lost


@pytest.mark.parametrize(
    ("rate", "lost"), [(10, [1, 11, 21, 31]), (3, [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34]), (1, [*range(1, 36)]), (-4, [*range(1, 36)]), (0, [])]
)
def test_every_nth_first_packet_is_dropped_in_mode_three(rate, lost):
    lab, _ = defended()
    lab.service("rr", "A").sysctl(am_droprate=rate, drop_packet=3)
    assert dropped(lab, 35) == lost


def test_automatic_mode_drops_from_the_nth_on():
    lab, _ = defended(768)
    lab.service("rr", "A").sysctl(drop_packet=1)
    assert dropped(lab, 13) == [4, 8, 12]


def test_automatic_mode_never_drops_where_few_connections_come():
    lab, _ = defended(768)
    lab.service("rr", "A").sysctl(drop_packet=1)
    for run in range(5):
        assert dropped(lab, 3, address=f"203.0.113.{run + 10}") == []
        next_run(lab)


def test_only_packets_that_would_begin_a_connection_with_a_service_are_counted():
    lab, _ = defended()
    lab.service("rr", "A").sysctl(am_droprate=2, drop_packet=3)
    lab.client("S").dropped("drop_packet")
    for _ in range(3):
        lab.client("A").accepted("not a starter")
        lab.client("S", vport=81).accepted("no service")
    lab.client("S").goes_to("A")
    lab.client("S").goes_to("A")
    lab.client("S", 40001).dropped("drop_packet")


def test_changed_drop_rate_acts_at_the_next_run():
    lab, _ = defended()
    lab.service("rr", "A").sysctl(am_droprate=3, drop_packet=3)
    lab.sysctl(am_droprate=1)
    assert dropped(lab, 4) == [1, 4]
    next_run(lab)
    assert dropped(lab, 4, address="203.0.113.9") == [3, 4], "what was left of the old count, then every one"


# --- secure_tcp ---


def test_secure_table_does_not_believe_the_first_ack():
    lab, _ = defended()
    lab.service("rr", "A").sysctl(secure_tcp=3)
    lab.client("S").state("SYN_RECV", 60)
    lab.client("A").state("SYN_RECV", 60)
    lab.server("A", "SA").state("SYNACK", 120)
    lab.client("A").state("SYNACK", 120)
    lab.server("A", "A").state("ESTABLISHED", 900)


def test_connections_keep_their_state_when_the_table_changes():
    lab, _ = defended()
    lab.service("rr", "A").sysctl(secure_tcp=3)
    cp = lab.client("S").conn
    expires = cp.expires
    lab.wait(3).sysctl(secure_tcp=0)
    assert (cp.state_name, cp.expires) == ("SYN_RECV", expires)
    lab.client("A").state("ESTABLISHED", 900)


def test_direct_connection_begins_in_synack_under_the_secure_table():
    lab, _ = defended()
    lab.service("rr", "A", forward="direct").sysctl(secure_tcp=3)
    lab.client("S").state("SYNACK", 120)


# --- random drop, once a second ---


def test_drop_entry_removes_half_open_connections_within_seconds():
    lab, _ = defended(tab_bits=8)
    lab.service("rr", "A")
    for sport in range(30000, 30200):
        lab.client("S", sport)
    lab.established(sport=50000)
    lab.sysctl(drop_entry=3)
    assert len(lab.table) == 201, "a written mode alone removes nothing"
    next_run(lab)
    assert 150 < len(lab.table) < 201
    lab.wait(40)
    left = len(lab.table)
    lab.sysctl(drop_entry=0).wait(10)
    assert len(lab.table) == left < 100
    assert lab.conn(50000).state_name == "ESTABLISHED"


# --- when the work runs ---


class AlwaysAwake:
    """A work that re-queues itself for ever, as the kernel's does: the twin of one that sleeps while there is nothing to do."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ticks: list[int] = []
        self.work = DelayedWork(lab.clock, self.run)
        self.work.queue(lab.hz)

    def run(self) -> None:
        self.ticks.append(self.lab.clock.now)
        self.work.queue(self.lab.hz)


@pytest.mark.parametrize("timers", ["kernel", "exact"])
@pytest.mark.parametrize("hz", [25, 50, 100, 250, 300, 1000, 5000])
def test_work_that_sleeps_keeps_the_phase_of_one_that_does_not(hz, timers):
    lab = Lab(hz=hz, timers=timers, start_jiffies=1_000_003)
    twin = AlwaysAwake(lab)
    ran: list[int] = []
    for pause, duration in [(0, 3), (1, 2.5), (7.3, 4), (0.4, 2)]:
        lab.wait(pause)
        lab.sysctl(drop_entry=3)
        begin = lab.clock.now
        unsubscribe = lab.ipvs.subscribe(lambda event: ran.append(lab.clock.now) if isinstance(event, DefenceChanged) else None)
        lab.wait(duration)
        unsubscribe()
        assert ran == [tick for tick in twin.ticks if tick > begin]
        ran.clear()
        lab.sysctl(drop_entry=0)
    assert len({after - before for before, after in pairwise(twin.ticks[1:])}) == 1
