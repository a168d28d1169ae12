"""Ready-made properties of schedulers, and `check_scheduler`, which runs all that apply and says in words what failed.

    def test_mine():
        check_scheduler(Mine)
        check_scheduler(Mine, Promises(weights=2))       # it also promises shares by weight

Everybody keeps the first eight properties. What else a scheduler promises is said by `Promises`; those of the kernel's own are in `KERNEL`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipvs_model.schedulers import Scheduler
from ipvs_model.testing.references import TWINS
from ipvs_model.testing.trial import MOST_SERVERS, Added, Connects, Event, Pick, Trial, events

EXAMPLES: Final = 60
CLIENTS: Final = 60  #: of a disruption test
ROUNDS: Final = 3  #: of a shares test


@frozen(kw_only=True)
class Promises:
    """What a scheduler promises beyond what all do."""

    weights: float | None = None  #: of any run of new connections each server gets its share by weight, give or take so many
    round: bool = False  #: each usable server gets one connection a round
    client: bool = False  #: one client, one server, while nobody edits the pool
    disruption: float | None = None  #: a server that leaves or returns moves at most this part of the others' clients, a drained one none
    refuses: bool = False  #: it may refuse although some server is usable (a hash without fallback, a queue that is full)
    remembers: bool = False  #: it may keep a remembered server that is above its threshold
    flags: str = ""  #: scheduler flags of the service, as behind `ipvsadm -b`


KERNEL: Final[dict[str, tuple[Promises, ...]]] = {
    "rr": (Promises(round=True),),
    "wrr": (Promises(weights=1),),
    "lc": (Promises(),),
    "wlc": (Promises(weights=2),),
    "sed": (Promises(weights=2),),
    "nq": (Promises(weights=MOST_SERVERS),),
    "fo": (Promises(),),
    "ovf": (Promises(refuses=True),),
    "dh": (Promises(refuses=True, client=True),),
    "sh": (Promises(refuses=True, client=True), Promises(client=True, flags="sh-fallback")),
    "mh": (Promises(refuses=True, client=True, disruption=0.25), Promises(client=True, refuses=True, disruption=0.25, flags="mh-fallback")),
    "lblc": (Promises(remembers=True),),
    "lblcr": (Promises(remembers=True),),
    "twos": (Promises(),),
}


class SchedulerFault(AssertionError):
    """A scheduler does not keep what it promises: one paragraph for each property that failed, with the smallest story that shows it."""


class _Failed(Exception):
    """One property failed in one story."""


@frozen
class Property:
    """A property: its name, its sentence, the histories to try and how to judge one."""

    name: str
    sentence: str
    strategy: st.SearchStrategy[Sequence[Event]]
    judge: Callable[[Trial, Sequence[Event], Promises], None]
    applies: Callable[[Promises, str], bool] = lambda promises, name: True


def _fail(trial: Trial, what: str) -> None:
    raise _Failed(f"{what}\n{trial.told()}")


def _each(judge: Callable[[Trial, Pick, Promises], str | None]) -> Callable[[Trial, Sequence[Event], Promises], None]:
    """Judge every choice of a history."""

    def run(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
        for event in history:
            pick = trial.do(event)
            wrong = judge(trial, pick, promises) if pick is not None else None
            if wrong:
                _fail(trial, wrong)

    return run


# --- what everybody keeps ---------------------------------------------------------------------------------------------
def _own(trial: Trial, pick: Pick, promises: Promises) -> str | None:
    known = [offer.dest for offer in pick.offers]
    return None if pick.chosen is None or pick.chosen in known else f"it chose server {trial.number(pick.chosen)}, which the service has not (any more)"


def _drained(trial: Trial, pick: Pick, promises: Promises) -> str | None:
    bad = [offer for offer in pick.offers if offer.dest is pick.chosen and offer.weight <= 0]
    return f"server {trial.number(pick.chosen)} has weight 0 and got a new connection" if bad else None


def _full(trial: Trial, pick: Pick, promises: Promises) -> str | None:
    bad = [offer for offer in pick.offers if offer.dest is pick.chosen and offer.overloaded]
    return f"server {trial.number(pick.chosen)} is above its threshold ({bad[0].total} connections) and got a new connection" if bad else None


def _answers(trial: Trial, pick: Pick, promises: Promises) -> str | None:
    able = [trial.number(offer.dest) for offer in pick.offers if offer.usable]
    return f"it refused a connection although server {able[0]} is usable" if pick.chosen is None and able else None


def _keeps(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    for event in history:
        trial.do(event)
        for pick in trial.picks:
            conn = pick.conn
            if conn is not None and conn.is_hashed and conn.dest is not pick.chosen:
                _fail(trial, f"the connection of client {pick.client} changed from server {trial.number(pick.chosen)} to {trial.number(conn.dest)}")


def _bookkeeping(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    """References, timers: everything that the scheduler takes it gives back."""
    dests = set()
    for event in history:
        trial.do(event)
        dests |= set(trial.svc.destinations)
        try:
            trial.check()
        except AssertionError as wrong:
            _fail(trial, f"after that a count is wrong: {wrong}")
    trial.story.append("the service is deleted")
    trial.ipvs.delete_service(trial.svc)
    trial.end_all()
    trial.ipvs.clock.advance(seconds=1200)
    held = [dest for dest in dests if dest.refcnt != 1]
    if held:
        _fail(trial, f"server {trial.number(held[0])} still has {held[0].refcnt - 1} references after its service was deleted")
    timer = next(trial.ipvs.clock.pending_timers(), None)
    if timer is not None:
        _fail(trial, f"a timer still runs after the service was deleted: {timer!r}")


def _alike(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    """State hangs on the service, chance and time come from the model: a copy goes on as the original does."""
    trial.run(history)
    twin = trial.ipvs.fork()
    other = Trial.__new__(Trial)
    other.__dict__ |= trial.__dict__ | {"ipvs": twin, "svc": twin.services[0], "picks": [], "story": list(trial.story)}
    for client in range(4):
        mine, copied = trial.connect(client), other.connect(client)
        if trial.number(mine.chosen) != trial.number(copied.chosen):
            _fail(trial, f"a copy of the model, asked the same, chose {trial.number(copied.chosen)}")


def _twin(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    expected = TWINS[trial.name]
    for event in history:
        wanted = expected(trial.svc, trial.header(event.client)) if isinstance(event, Connects) else None
        pick = trial.do(event)
        if pick is not None and pick.chosen is not wanted:
            _fail(trial, f"it should have been {'refused' if wanted is None else f'server {trial.number(wanted)}'}: {(expected.__doc__ or '').strip()}")


# --- what some promise ------------------------------------------------------------------------------------------------
def _round(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    trial.run(history)
    able = [offer.dest for offer in trial.offers() if offer.usable]
    picks = [trial.connect(number).chosen for number in range(2 * len(able))]
    first, second = picks[: len(able)], picks[len(able) :]
    if len(set(first)) != len(able):
        _fail(trial, f"in one round of {len(able)} usable servers somebody was left out")
    if first != second:
        _fail(trial, "the second round went in another order than the first")


def _shares(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    trial.run(history)
    trial.end_all()
    shares = {offer.dest: offer.weight for offer in trial.offers()}
    whole = sum(shares.values())
    if not whole:
        return
    counts = Counter(trial.connect(number % 250).chosen for number in range(ROUNDS * whole))
    for dest, weight in shares.items():
        due, got = ROUNDS * weight, counts[dest]
        if abs(got - due) > (promises.weights or 0):
            _fail(trial, f"of {ROUNDS * whole} new connections server {trial.number(dest)}, weight {weight} of {whole}, got {got}; its share is {due}")


def _client(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    trial.run(history)
    trial.end_all()
    first = {client: trial.connect(client).chosen for client in range(12)}
    trial.end_all()
    for client, chosen in first.items():
        again = trial.connect(client).chosen
        if again is not chosen:
            _fail(trial, f"client {client} came back to an unchanged pool and went to {trial.number(again)} instead of {trial.number(chosen)}")


def _map(trial: Trial) -> dict[int, int | None]:
    """Where each of the clients goes now, if nobody is connected."""
    found = {client: trial.number(trial.connect(client).chosen) for client in range(CLIENTS)}
    del trial.story[-CLIENTS:]
    trial.story.append(f"{CLIENTS} clients connect")
    trial.end_all()
    return found


def _disruption(trial: Trial, history: Sequence[Event], promises: Promises) -> None:
    trial.run(history)
    trial.end_all()
    usable = [offer for offer in trial.offers() if offer.usable]
    if len(usable) < 2:
        return
    dest, weight = usable[0].dest, usable[0].weight
    leaver = trial.number(dest)
    before = _map(trial)
    others = [client for client, server in before.items() if server != leaver]

    def moved(after: dict[int, int | None]) -> list[int]:
        return [client for client in others if after[client] != before[client]]

    trial.story.append(f"server {leaver} gets weight 0")
    trial.ipvs.edit_dest(trial.svc, dest, weight=0)
    drained = _map(trial)
    if moved(drained):
        _fail(trial, f"draining server {leaver} moved {len(moved(drained))} clients of other servers")
    trial.story.append(f"server {leaver} gets weight {weight}")
    trial.ipvs.edit_dest(trial.svc, dest, weight=weight)
    back = _map(trial)
    if back != before:
        _fail(trial, f"after server {leaver} was drained and had its weight back, {sum(back[c] != before[c] for c in before)} clients go elsewhere")
    limit = (promises.disruption or 0) * len(others) + 2
    trial.story.append(f"server {leaver} is deleted")
    trial.ipvs.delete_dest(trial.svc, dest)
    gone = _map(trial)
    if len(moved(gone)) > limit:
        _fail(trial, f"deleting server {leaver} moved {len(moved(gone))} of {len(others)} clients of other servers")
    trial.story.append(f"server {leaver} is added with weight {weight}")
    trial.ipvs.add_dest(trial.svc, trial.servers[leaver or 0], weight=weight)
    again = _map(trial)
    if len(moved(again)) > limit:
        _fail(trial, f"adding server {leaver} again moved {len(moved(again))} of {len(others)} clients of other servers")


ANY: Final = events()
PLAIN: Final = events(thresholds=False)
#: an even pool and what operators do to it
EVEN: Final = st.integers(2, MOST_SERVERS).flatmap(
    lambda size: st.builds(lambda first, rest: [*first, *rest], st.just([Added(number) for number in range(size)]), events(least=1, thresholds=False))
)

PROPERTIES: Final = (
    Property("own", "It chooses among the servers that the service has.", ANY, _each(_own)),
    Property("drained", "A server of weight 0 gets nothing new.", ANY, _each(_drained)),
    Property("full", "A server above its threshold gets nothing new.", ANY, _each(_full), lambda p, n: not p.remembers),
    Property("answers", "It refuses only when no server is usable.", ANY, _each(_answers), lambda p, n: not p.refuses),
    Property("keeps", "No connection ever changes its server.", ANY, _keeps),
    Property("bookkeeping", "What it takes it gives back: references, timers.", ANY, _bookkeeping),
    Property("alike", "It has no state but the service's: a copy goes on as the original does.", ANY, _alike),
    Property("twin", "It chooses as its description says.", ANY, _twin, lambda p, n: n in TWINS),
    Property("round", "Each usable server gets one connection a round.", PLAIN, _round, lambda p, n: p.round),
    Property("weights", "Each server gets its share by weight.", PLAIN, _shares, lambda p, n: p.weights is not None),
    Property("client", "One client, one server, while nobody edits the pool.", PLAIN, _client, lambda p, n: p.client),
    Property("disruption", "A server that leaves or returns moves few clients of others, a drained one none.", EVEN, _disruption,
             lambda p, n: p.disruption is not None),
)  # fmt: skip


def examine(scheduler: Scheduler | type[Scheduler] | str, promises: Promises, wanted: Property, *, examples: int = EXAMPLES) -> str | None:
    """Search one property; what failed in words, with the smallest story found, or None."""
    name = scheduler if isinstance(scheduler, str) else scheduler.name

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, report_multiple_bugs=False, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(history=wanted.strategy)
    def search(history: Sequence[Event]) -> None:
        trial = Trial(scheduler, promises.flags)
        try:
            wanted.judge(trial, history, promises)
        except _Failed:
            raise
        except Exception as error:
            raise _Failed(f"{type(error).__name__}: {error}\n{trial.told()}") from error

    try:
        search()
    except _Failed as failed:
        flags = f" -b {promises.flags}" if promises.flags else ""
        return f"{name}{flags}: {wanted.sentence}\n  {failed}"
    return None


def check_scheduler(
    scheduler: Scheduler | type[Scheduler] | str, promises: Promises | None = None, *, examples: int = EXAMPLES, only: Sequence[str] | None = None
) -> None:
    """Run all properties that apply to a scheduler (a class, an object, or the name of one of the kernel's); raise SchedulerFault if any fails.

    ``promises``: what it promises beyond what all do; of the kernel's own they are known. ``examples`` of each property, ``only`` the ones named.
    Deterministic: the same scheduler gets the same examples.
    """
    name = scheduler if isinstance(scheduler, str) else scheduler.name
    faults = []
    for promise in (promises,) if promises is not None else KERNEL.get(name, (Promises(),)):
        for wanted in PROPERTIES:
            if wanted.applies(promise, name) and (only is None or wanted.name in only):
                fault = examine(scheduler, promise, wanted, examples=examples)
                if fault is not None:
                    faults.append(fault)
    if faults:
        raise SchedulerFault("\n\n".join(faults))
