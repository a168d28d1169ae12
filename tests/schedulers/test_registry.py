"""Registering, finding, binding."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from tests.schedulers.bench import Bench, pool

from ipvs_model.errors import IPVSError
from ipvs_model.schedulers import SCHEDULERS, Registry, Scheduler, bind_scheduler, unbind_scheduler


class First(Scheduler):
    """The newest destination."""

    name = "first"

    def schedule(self, svc: Any, pkt: Any, iph: Any) -> Any:
        return svc.destinations[0] if svc.destinations else None


class Diary(First):
    """Writes down which callbacks run, and what it sees then."""

    name = "diary"

    def __init__(self) -> None:
        self.lines: list[str] = []

    def init_service(self, svc: Any) -> None:
        self.lines.append(f"init bound={svc.scheduler is self} dests={svc.num_dests}")

    def done_service(self, svc: Any) -> None:
        self.lines.append(f"done bound={svc.scheduler is self} dests={svc.num_dests}")

    def add_dest(self, svc: Any, dest: Any) -> None:
        self.lines.append(f"add first={svc.destinations[0] is dest} weight={dest.weight}")

    def upd_dest(self, svc: Any, dest: Any) -> None:
        self.lines.append(f"upd weight={dest.weight}")

    def del_dest(self, svc: Any, dest: Any, position: int) -> None:
        self.lines.append(f"del position={position} listed={dest in svc.destinations} available={dest.available}")


class Refusing(First):
    name = "refusing"

    def init_service(self, svc: Any) -> None:
        raise IPVSError(errno.ENOMEM)


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def registry(lines: list[tuple[str, str]]) -> Registry:
    return Registry(lambda level, text: lines.append((level, text)))


def refused(error: pytest.ExceptionInfo[IPVSError]) -> int | None:
    return error.value.errno


def test_all_fourteen_are_there_without_a_word(registry: Registry, lines: list[tuple[str, str]]) -> None:
    names = ["rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"]
    assert [registry.get(name).name for name in names] == names == [kind.name for kind in SCHEDULERS]
    assert not lines


@pytest.mark.parametrize("name", ["", "RR", "rr ", "ftp", "none"])
def test_unknown_name_is_enoent(registry: Registry, lines: list[tuple[str, str]], name: str) -> None:
    with pytest.raises(IPVSError) as error:
        registry.get(name)
    assert refused(error) == errno.ENOENT
    assert lines == [("info", f"IPVS: Scheduler module ip_vs_{name} not found")]


def test_registered_class_is_found_and_stands_first(registry: Registry, lines: list[tuple[str, str]]) -> None:
    first = registry.register(First)
    assert registry.get("first") is first is next(iter(registry))
    assert lines == [("info", "IPVS: [first] scheduler registered.")]


def test_registries_do_not_share() -> None:
    one, other = Registry(), Registry()
    one.register(First)
    with pytest.raises(IPVSError):
        other.get("first")


@pytest.mark.parametrize(
    ("candidate", "text"),
    [
        (None, "NULL arg"),
        (type("Nameless", (First,), {"name": ""}), "NULL scheduler_name"),
        (type("Impostor", (First,), {"name": "rr"}), "[rr] scheduler already existed in the system"),
    ],
)
def test_refused_registration(registry: Registry, lines: list[tuple[str, str]], candidate: Any, text: str) -> None:
    with pytest.raises(IPVSError) as error:
        registry.register(candidate)
    assert refused(error) == errno.EINVAL
    assert lines == [("err", f"IPVS: register_ip_vs_scheduler(): {text}")]
    assert len(list(registry)) == 14


def test_object_can_be_linked_once_only_even_after_unregistering(registry: Registry, lines: list[tuple[str, str]]) -> None:
    first = registry.register(First)
    for _ in range(2):
        with pytest.raises(IPVSError) as error:
            registry.register(first)
        assert refused(error) == errno.EINVAL
        assert lines[-1] == ("err", "IPVS: register_ip_vs_scheduler(): [first] scheduler already linked")
        if first in registry:
            registry.unregister(first)
            assert lines[-1] == ("info", "IPVS: [first] scheduler unregistered.")
    assert registry.register(First) is not first


def test_unregistering_what_is_not_there(registry: Registry, lines: list[tuple[str, str]]) -> None:
    for candidate, text in ((None, "NULL arg"), (First(), "[first] scheduler is not in the list. failed")):
        with pytest.raises(IPVSError) as error:
            registry.unregister(candidate)
        assert refused(error) == errno.EINVAL
        assert lines[-1] == ("err", f"IPVS: unregister_ip_vs_scheduler(): {text}")


def test_scheduler_without_schedule_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        type("Empty", (Scheduler,), {"name": "empty"})()


def test_callbacks_run_after_the_change() -> None:
    bench, diary = Bench(None), Diary()
    bench.add("10.0.0.1:80", 5)
    bind_scheduler(bench.svc, diary)
    bench.add("10.0.0.2:80", 7)
    bench.edit("10.0.0.1:80", 0)
    bench.delete("10.0.0.1:80")
    unbind_scheduler(bench.svc)
    unbind_scheduler(bench.svc)
    assert diary.lines == [
        "init bound=False dests=1",
        "add first=True weight=7",
        "upd weight=0",
        "del position=1 listed=False available=False",
        "done bound=False dests=1",
    ]


def test_failed_init_leaves_the_service_unbound_and_says_so() -> None:
    bench = Bench(None)
    with pytest.raises(IPVSError) as error:
        bind_scheduler(bench.svc, Refusing())
    assert refused(error) == errno.ENOMEM
    assert bench.svc.scheduler is None
    assert bench.ns.log_lines == [("err", "IPVS: ip_vs_bind_scheduler(): init error")]


def test_sched_data_outlives_its_scheduler() -> None:
    bench = pool("rr", 1, 1)
    bench.ask()
    data = bench.svc.sched_data
    bench.unbind()
    bench.bind("wlc")
    assert bench.svc.sched_data is data


@pytest.mark.parametrize("kind", SCHEDULERS, ids=lambda kind: kind.name)
def test_one_object_serves_many_services(kind: type[Scheduler]) -> None:
    scheduler = kind()
    benches = [pool(kind.name, 1, 2, 3) for _ in range(3)]
    for bench in benches:
        bench.unbind()
        bind_scheduler(bench.svc, scheduler)
    alone = [[bench.choices(1) for _ in range(9)] for bench in benches]
    assert alone[0] == alone[1] == alone[2]
    assert not vars(scheduler)


def test_defaults_of_an_own_scheduler() -> None:
    bench = Bench(None)
    first = First()
    bind_scheduler(bench.svc, first)
    dest = bench.add("10.0.0.1:80", 1)
    bench.edit("10.0.0.1:80", 2)
    assert bench.choices(1) == ["10.0.0.1:80"]
    assert first.score(bench.svc, dest) is None
    bench.delete("10.0.0.1:80")
    assert bench.choices(1) == ["-"]
    assert repr(first) == "<scheduler first>"
