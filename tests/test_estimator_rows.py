"""The estimator's rows: who is in which, and what leaves when an object goes."""

import pytest

from ipvs_model.stats import Estimator, Stats
from ipvs_model.timers import Clock


@pytest.fixture
def estimator():
    """A running estimator with the totals placed in row 49."""
    estimator = Estimator(Clock(hz=250, start_jiffies=1000))
    estimator.enabled = True
    estimator.start(Stats())
    estimator.run(True)
    estimator.clock.advance(seconds=1)
    return estimator


def held(estimator):
    return {row: len(members) for row, members in estimator.rows.items()}


def test_an_object_waits_for_its_row_and_joins_the_others(estimator):
    stats = Stats()
    estimator.start(stats)
    assert (held(estimator), list(estimator.pending), stats.row) == ({49: 1}, [stats], -1)
    estimator.clock.advance(seconds=2)
    assert (held(estimator), list(estimator.pending), stats.row) == ({49: 2}, [], 49)


def test_an_object_that_goes_leaves_its_row_and_is_estimated_no_more(estimator):
    stats = Stats()
    estimator.start(stats)
    estimator.clock.advance(seconds=2)
    estimator.stop(stats)
    assert held(estimator) == {49: 1}
    stats.conns = 7
    estimator.clock.advance(seconds=4)
    assert stats.shown().conns == 0
    estimator.stop(stats)  # it has gone already
    assert held(estimator) == {49: 1}


def test_an_empty_row_is_no_row(estimator):
    (total,) = estimator.members
    estimator.stop(total)
    assert (estimator.rows, estimator.members, estimator.pending) == ({}, {}, {})


def test_an_object_that_comes_back_waits_again(estimator):
    (total,) = estimator.members
    estimator.start(total)
    assert (estimator.rows, list(estimator.pending), list(estimator.members)) == ({}, [total], [total])


def test_an_object_that_goes_while_it_waits_is_forgotten(estimator):
    stats = Stats()
    estimator.start(stats)
    estimator.stop(stats)
    estimator.clock.advance(seconds=4)
    assert (held(estimator), stats.row) == ({49: 1}, -1)


def test_a_restart_passes_over_the_row_that_is_waited_for(estimator):
    waited_for = (estimator.clock.now - 1000) // estimator.tick  # 25, due now
    estimator.restart()
    assert (estimator.est_row, estimator.est_timer, estimator.running) == (waited_for + 1, estimator.clock.now + estimator.tick, True)


@pytest.mark.parametrize(("after", "early"), [(0, 0), (1, 29), (2, 28), (8, 22), (9, 21), (10, 0), (11, 29)])
@pytest.mark.parametrize("twice", [False, True])
def test_after_a_restart_three_rows_are_taken_together(estimator, after, early, twice):
    """As recorded: `tests/kernel/fresh/estimator_restarts`."""
    (total,) = estimator.members
    usual = 1000 + 49 * 10 + 1
    estimator.clock.advance(after)
    estimator.restart()
    if twice and early:  # a second one at once goes on where the first one was
        estimator.clock.advance(2)
        estimator.restart()
    total.conns = 5
    estimator.clock.advance_to(usual - early - 1)
    assert total.shown().conns == 0
    estimator.clock.advance(1)
    assert total.shown().conns == 5


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_the_rows_taken_together_are_estimated_too(estimator, ahead):
    (total,) = estimator.members
    total.conns = 5
    estimator.clock.advance_to(1000 + 10 * (49 - ahead) - 5)  # the thread waits for the row that many before the last
    estimator.restart()
    estimator.clock.advance(10)
    assert total.shown().conns == 0
    estimator.clock.advance(1)
    assert total.shown().conns == 5


def test_a_thread_that_does_not_run_is_not_restarted(estimator):
    estimator.run(False)
    row = estimator.est_row
    estimator.restart()
    assert (estimator.est_row, estimator.running) == (row, False)


def test_before_the_first_service_a_calibration_starts_nothing():
    estimator = Estimator(Clock(hz=250))
    estimator.recalibrate()
    assert not estimator.running


def test_after_a_calibration_new_objects_go_to_another_row_and_old_ones_stay(estimator):
    (total,) = estimator.members
    estimator.recalibrate()
    stats = Stats()
    estimator.start(stats)
    estimator.clock.advance(seconds=2)
    assert (total.row, stats.row) == (49, (estimator.add_row + 49) % 50)
    assert held(estimator) == {49: 1, stats.row: 1} and stats.row != 49
    total.conns = stats.conns = 5
    estimator.clock.advance(seconds=2)
    assert (total.shown().conns, stats.shown().conns) == (5, 5)
