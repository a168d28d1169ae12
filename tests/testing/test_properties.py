"""check_scheduler: the kernel's schedulers pass, wrong ones are found and told in words."""

from __future__ import annotations

import pytest

from ipvs_model import Scheduler
from ipvs_model.testing.properties import KERNEL, PROPERTIES, Promises, SchedulerFault, Trial, check_scheduler
from ipvs_model.testing.trial import Added, Connects, Deleted, Leaves, Weighs


def usable(dest):
    return dest.weight > 0 and not dest.overloaded


class Rotating(Scheduler):
    """A right one: takes the usable servers in turn. State: how many it has given."""

    name = "rotating"

    def init_service(self, svc):
        svc.sched_data = 0

    def schedule(self, svc, pkt, iph):
        live = [dest for dest in svc.destinations if usable(dest)]
        if not live:
            self.error(svc, "no destination available")
            return None
        svc.sched_data += 1
        return live[svc.sched_data % len(live)]


class ForgetsWeight(Rotating):
    """Takes servers of weight 0 too."""

    def schedule(self, svc, pkt, iph):
        svc.sched_data += 1
        live = [dest for dest in svc.destinations if not dest.overloaded]
        return live[svc.sched_data % len(live)] if live else None


class ForgetsThreshold(Rotating):
    """Does not look at OVERLOAD."""

    def schedule(self, svc, pkt, iph):
        svc.sched_data += 1
        live = [dest for dest in svc.destinations if dest.weight > 0]
        return live[svc.sched_data % len(live)] if live else None


class KeepsDeleted(Rotating):
    """Remembers its servers in a list of its own, from which nobody takes them."""

    def init_service(self, svc):
        svc.sched_data = [0, list(svc.destinations)]

    def add_dest(self, svc, dest):
        svc.sched_data[1].append(dest)

    def schedule(self, svc, pkt, iph):
        number, known = svc.sched_data
        live = [dest for dest in known if usable(dest)]
        svc.sched_data[0] += 1
        return live[number % len(live)] if live else None


class GivesUpEarly(Rotating):
    """Refuses when the server whose turn it is cannot be used, although another could."""

    def schedule(self, svc, pkt, iph):
        svc.sched_data += 1
        count = len(svc.destinations)
        dest = svc.destinations[svc.sched_data % count] if count else None
        return dest if dest is not None and usable(dest) else None


class OneState(Rotating):
    """Keeps its state in itself instead of in the service."""

    def __init__(self):
        self.given = 0

    def schedule(self, svc, pkt, iph):
        live = [dest for dest in svc.destinations if usable(dest)]
        self.given += 1
        return live[self.given % len(live)] if live else None

    def __deepcopy__(self, memo):
        return self


class SkipsTheLast(Rotating):
    """A round ends one server too early."""

    def schedule(self, svc, pkt, iph):
        live = [dest for dest in svc.destinations if usable(dest)]
        svc.sched_data += 1
        return live[svc.sched_data % max(1, len(live) - 1)] if live else None


class HoldsForEver(Rotating):
    """Takes a reference for each choice and gives none back."""

    def schedule(self, svc, pkt, iph):
        dest = super().schedule(svc, pkt, iph)
        if dest is not None:
            dest.hold()
        return dest


class CountsEqually(Rotating):
    """Promises shares by weight and gives equal ones."""


WRONG = {
    ForgetsWeight: ("drained", Promises(), "A server of weight 0 gets nothing new.", "server 0 has weight 0 and got a new connection"),
    ForgetsThreshold: ("full", Promises(), "A server above its threshold gets nothing new.", "is above its threshold (1 connections) and got a new connection"),
    KeepsDeleted: ("own", Promises(), "It chooses among the servers that the service has.", "which the service has not (any more)"),
    GivesUpEarly: ("answers", Promises(), "It refuses only when no server is usable.", "it refused a connection although server"),
    OneState: ("alike", Promises(), "It has no state but the service's", "a copy of the model, asked the same, chose"),
    SkipsTheLast: ("round", Promises(round=True), "Each usable server gets one connection a round.", "somebody was left out"),
    HoldsForEver: ("bookkeeping", Promises(), "What it takes it gives back", "has refcnt"),
    CountsEqually: ("weights", Promises(weights=2), "Each server gets its share by weight.", "its share is"),
}


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(SchedulerFault) as caught:
        check_scheduler(KeepsDeleted, Promises(round=True), examples=25)
    told = str(caught.value)
    assert "It chooses among the servers that the service has." in told
    assert "Each usable server gets one connection a round." in told


def test_a_right_scheduler_passes():
    check_scheduler(Rotating, Promises(), examples=25)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_wrong_scheduler_is_found_and_told(wrong):
    name, promises, sentence, what = WRONG[wrong]
    with pytest.raises(SchedulerFault) as caught:
        check_scheduler(wrong, promises, only=[name])
    told = str(caught.value)
    assert sentence in told
    assert what in told
    assert len(told.splitlines()) < 40  # a short story, not a log


@pytest.mark.parametrize("name", [name for name in KERNEL if name != "mh"])
def test_the_kernels_own_pass(name):
    check_scheduler(name, examples=5)


def test_mh_passes():
    check_scheduler("mh", examples=2)


def test_sh_does_not_promise_little_disruption():
    with pytest.raises(SchedulerFault, match="deleting server .* moved"):
        check_scheduler("sh", Promises(refuses=True, disruption=0.25), only=["disruption"], examples=10)


def test_a_scheduler_that_raises_is_told():
    class Raises(Rotating):
        def schedule(self, svc, pkt, iph):
            return svc.destinations[1]

    with pytest.raises(SchedulerFault, match="IndexError: list index out of range"):
        check_scheduler(Raises, only=["own"])


def test_the_story_is_told_in_words():
    trial = Trial("rr")
    trial.run([Added(0), Added(1, 2, 3), Connects(4), Weighs(0, 0), Connects(4), Deleted(1), Connects(4), Leaves(0)])
    assert trial.story == [
        "server 0 is added with weight 1",
        "server 1 is added with weight 2, at most 3 connections",
        "client 4 connects: server 1",
        "server 0 gets weight 0",
        "client 4 connects: server 1",
        "server 1 is deleted",
        "client 4 connects: refused",
        "a connection ends",
    ]


def test_what_is_not_there_is_not_told():
    trial = Trial("rr")
    trial.run([Weighs(0, 3), Deleted(1), Leaves(2)])
    assert trial.story == []


def test_every_property_has_a_sentence_and_a_name_of_its_own():
    assert len({prop.name for prop in PROPERTIES}) == len(PROPERTIES)
    for prop in PROPERTIES:
        assert prop.sentence.endswith(".")
