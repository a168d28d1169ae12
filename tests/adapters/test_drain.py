"""A controller tested against the fake: when does it delete, and what if a call fails?"""

import errno
import inspect
from pathlib import Path

import pytest
from pyroute2 import IPVSDest, IPVSService
from pyroute2.netlink.exceptions import NetlinkError
from tests.adapters.drain import Drainer

from ipvs_model.adapters.pyroute2_front import IPVS
from ipvs_model.testing.lab import Lab

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.fixture
def front():
    """A director with server A, and B beside it."""
    front = IPVS()
    front.service("add", service=service())
    for address in ("10.1.0.11", "10.1.0.12"):
        front.dest("add", service(), IPVSDest(addr=address, port=80, fwd_method=0))
    return front


def service():
    return IPVSService(addr="192.0.2.1", port=80, protocol=6, sched_name="rr")


def busy(front):
    """A lab in which B has one connection that is closed and one that is not."""
    lab = Lab(front.model)
    lab.last = front.model.services[0]
    lab.established(port=1).established(port=2).established(port=3)
    for who in ("server", "client"):
        getattr(lab, who)("FA", port=1)
    return lab


def polls(drainer, front, every=60, limit=40):
    """Seconds until the drainer is done, if it is polled so often."""
    for number in range(limit):
        if drainer.poll():
            return number * every
        front.model.clock.advance(seconds=every)
    return None


def test_an_idle_server_is_gone_at_the_second_look(front):
    assert polls(Drainer(front, service(), "10.1.0.12", 80), front) == 60
    assert len(front.model.services[0].destinations) == 1


def test_a_client_that_crashed_holds_it_for_a_quarter_of_an_hour(front):
    lab = busy(front).counts("B", 1, 1)
    assert polls(Drainer(front, service(), "10.1.0.12", 80), front) == 960
    lab.client("S", port=9).goes_to("A")


def test_nobody_loses_a_connection(front):
    lab = busy(front)
    drainer = Drainer(front, service(), "10.1.0.12", 80)
    for minute in range(1, 12):
        assert not drainer.poll()
        lab.client("PA", port=3, at=60 * minute).goes_to("B")


@pytest.mark.parametrize("command", ["dest dump", "dest set", "dest del"])
def test_a_call_that_fails_once_is_tried_again(front, command):
    front.fail(errno.ENOBUFS, command=command)
    assert polls(Drainer(front, service(), "10.1.0.12", 80), front) == 120


def test_a_failure_that_stays_is_told(front):
    front.fail(errno.EPERM, command="dest set")
    with pytest.raises(NetlinkError, match="not permitted"):
        Drainer(front, service(), "10.1.0.12", 80).poll()


def test_somebody_else_was_quicker(front):
    front.dest("del", service(), IPVSDest(addr="10.1.0.12", port=80))
    assert Drainer(front, service(), "10.1.0.12", 80).poll()


def test_the_page_shows_this_controller():
    assert inspect.getsource(Drainer) in PAGE.read_text(encoding="utf-8")
