"""What the script of the report draws, as plain data. Every text and every event stands once and is meant by its number: walks repeat themselves."""

import json
from collections.abc import Hashable, Iterable
from typing import Any, Final

from attrs import Factory, define

from ipvs_model.addresses import format_endpoint
from ipvs_model.tools.lives import Life, Line, Lives, Step
from ipvs_model.tools.result import Result
from ipvs_model.tools.walk import as_json

DIGITS: Final = 6  #: of a second
#: these would end the script element that the data stand in, or mean a new line to JavaScript
UNSAFE: Final = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@define
class Numbers:
    """Numbers for things, in the order in which they are first met.

    >>> numbers = Numbers()
    >>> numbers.of("a"), numbers.of("b"), numbers.of("a")
    (0, 1, 0)
    """

    _known: dict[Hashable, int] = Factory(dict)

    def of(self, thing: Hashable) -> int:
        """The number of a thing."""
        return self._known.setdefault(thing, len(self._known))

    def __iter__(self) -> Any:
        return iter(self._known)


def report_data(result: Result, lives: Lives) -> dict[str, Any]:
    """Everything that is drawn or looked up. All times are seconds since the capture began."""
    words, events = Numbers(), Numbers()

    def short(step: Step) -> dict[str, Any]:
        return _walk(step, words, events)

    followed = [_life(life, words) | {"steps": list(map(short, life.steps))} for life in lives.lives]
    examples = {str(record): short(Step(walk, record)) for record, walk in lives.examples.items()}
    return {
        "duration": round(result.duration, DIGITS),
        "times": sample_times(result),
        "services": _services(result),
        "states": _columns(moment.states for moment in lives.moments),
        "losses": _columns(moment.lost for moment in lives.moments),
        "lives": followed,
        "examples": examples,
        "events": list(events),
        "words": list(words),
    }


def as_script(data: dict[str, Any]) -> str:
    """JSON that is safe inside a script element.

    >>> as_script({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.translate({ord(character): escaped for character, escaped in UNSAFE.items()})


def sample_times(result: Result) -> list[float]:
    """When the samples of the timeline were taken; the last one at the end of the capture."""
    even = [round(number * result.step, DIGITS) for number in range(len(result.timeline) - 1)]
    return [*even, max([round(result.duration, DIGITS), *even[-1:]])]


def _services(result: Result) -> list[dict[str, Any]]:
    services: dict[str, list[dict[str, Any]]] = {}
    for row, samples in zip(result.servers, zip(*result.timeline, strict=True), strict=True):
        lines = {name: [getattr(sample, name) for sample in samples] for name in ("conns", "active", "inactive")}
        services.setdefault(row.service, []).append({"name": row.server, "weight": row.weight, **lines})
    return [{"name": name, "servers": servers} for name, servers in services.items() if any(server["conns"][-1] for server in servers)]


def _columns(samples: Iterable[dict[str, int]]) -> dict[str, list[int]]:
    taken = list(samples)
    return {name: [sample.get(name, 0) for sample in taken] for name in dict.fromkeys(name for sample in taken for name in sample)}


def _life(life: Life, words: Numbers) -> dict[str, Any]:
    return {
        "client": format_endpoint(life.key.af, life.key.client),
        "service": life.service,
        "server": life.server,
        "template": life.is_template,
        "began": round(life.began, DIGITS),
        "ended": None if life.ended is None else round(life.ended, DIGITS),
        "packets": life.packets,
        "lost": life.lost,
        "states": [(round(at, DIGITS), words.of(state)) for at, state in life.states],
        "deadlines": _line(life.deadlines),
        "references": [(round(point.at, DIGITS), point.value, point.peak) for point in life.references],
        "others": _line(life.others),
    }


def _line(line: Line) -> list[tuple[float, float]]:
    return [(round(point.at, DIGITS), round(point.value, DIGITS)) for point in line]


def _walk(step: Step, words: Numbers, events: Numbers) -> dict[str, Any]:
    """A walk as `explain` tells it."""
    told = as_json(step.walk)
    return {
        "record": step.record,
        "lost": step.lost,
        "at": round(told["seconds"], DIGITS),
        "jiffies": told["jiffies"],
        **{name: words.of(told[name]) for name in ("kind", "what", "given", "verdict", "reason", "delivered")},
        "events": [events.of((words.of(event["phase"]), words.of(event["function"]), words.of(event["text"]))) for event in told["events"]],
        "left": list(map(words.of, told["left"])),
        "changes": [
            (words.of(change["what"]), [(words.of(name), *map(words.of, map(_shown, pair))) for name, pair in change["members"].items()])
            for change in told["changes"]
        ],
    }


def _shown(member: str | None) -> str:
    return "-" if member is None else member
