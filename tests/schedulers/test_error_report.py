"""The log line of a scheduler that found nothing, and its limiter."""

from __future__ import annotations

from typing import Any

import pytest
from tests.schedulers.bench import Bench, pool

from ipvs_model.flags import AF_INET6
from ipvs_model.schedulers import SCHEDULERS, RateLimit
from ipvs_model.timers import Clock


@pytest.mark.parametrize(
    ("scheduler", "options", "line"),
    [
        ("rr", {}, "IPVS: rr: TCP 10.0.0.100:80 - no destination available"),
        ("wlc", {"fwmark": 26}, "IPVS: wlc: FWM 26 0x0000001A - no destination available"),
        ("sh", {"protocol": "udp", "af": AF_INET6}, "IPVS: sh: UDP [2001:db8::100]:80 - no destination available"),
        ("lc", {"protocol": "sctp"}, "IPVS: lc: SCTP 10.0.0.100:80 - no destination available"),
        ("mh", {"fwmark": 0xDEADBEEF, "af": AF_INET6}, "IPVS: mh: FWM 3735928559 0xDEADBEEF - no destination available"),
    ],
)
def test_line(scheduler: str, options: dict[str, Any], line: str) -> None:
    bench = Bench(scheduler, **options)
    assert bench.ask() is None
    assert bench.ns.log_lines == [("err", line)]


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULERS if kind.name != "lblcr"], ids=lambda kind: kind.name)
def test_every_refusal_is_reported_once(kind: Any) -> None:
    bench = pool(kind.name, 0, 0)
    assert bench.ask() is None
    assert len(bench.ns.log_lines) == 1


def test_lblcr_is_silent_about_an_address_it_does_not_know() -> None:
    bench = pool("lblcr", 1)
    assert bench.ask() is not None
    bench.edit("10.0.0.1:80", 0)
    assert bench.ask() is None
    assert len(bench.reports()) == 1
    assert bench.ask(bench.header(daddr="10.0.0.101")) is None
    assert not bench.reports()


def test_report_after_the_scheduler_was_taken_away_names_none() -> None:
    bench = pool("rr", 0)
    scheduler = bench.svc.scheduler
    bench.unbind()
    scheduler.schedule(bench.svc, None, bench.header())
    assert bench.reports() == ["IPVS: none: TCP 10.0.0.100:80 - no destination available"]


def test_limited_reports_are_not_logged() -> None:
    bench = pool("rr", 0)
    limit = RateLimit(bench.ns.clock, bench.ns.log)
    bench.ns.net_ratelimit = limit.allow
    bench.choices(13)
    assert len(bench.reports()) == 10
    bench.ns.clock.advance(5 * 250)
    bench.choices(1)
    assert not bench.reports()
    bench.ns.clock.advance(1)
    bench.choices(1)
    assert bench.reports() == ["net_ratelimit: 4 callbacks suppressed", "IPVS: rr: TCP 10.0.0.100:80 - no destination available"]
    assert (limit.begin, limit.printed, limit.missed) == (bench.ns.clock.now, 1, 0)


def test_interval_zero_lets_all_through() -> None:
    limit = RateLimit(Clock(), print, interval=0)
    assert all(limit.allow() for _ in range(100))


def test_quiet_interval_is_not_mentioned() -> None:
    clock = Clock()
    lines: list[tuple[str, str]] = []
    limit = RateLimit(clock, lambda level, text: lines.append((level, text)))
    for _ in range(3):
        assert limit.allow()
        clock.advance(seconds=6)
    assert not lines
