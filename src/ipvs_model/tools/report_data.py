"""What the script of the report draws, as plain data. Every text and every event stands once and is meant by its number: walks repeat themselves."""

import json
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final

from attrs import Factory, define

from ipvs_model.addresses import format_endpoint
from ipvs_model.tools.lives import Life, Line, Lives, Step
from ipvs_model.tools.result import Result, ServerRow
from ipvs_model.tools.walk import as_json

DIGITS: Final = 6  #: of a second
COLOURS: Final = 10  #: that the page has
DRAWN: Final = 12  #: services whose servers are drawn over time
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


def colours(rows: Sequence[ServerRow]) -> list[int]:
    """The number of each server's colour: of many, the busiest have their own, and the others share the last."""
    if len(rows) <= COLOURS:
        return list(range(len(rows)))
    busiest = sorted(range(len(rows)), key=lambda place: -rows[place].connections)[: COLOURS - 1]
    own = {place: colour for colour, place in enumerate(sorted(busiest))}
    return [own.get(place, COLOURS - 1) for place in range(len(rows))]


def by_service(result: Result) -> dict[str, list[int]]:
    """Places of each service's servers in the result."""
    services: dict[str, list[int]] = {}
    for place, row in enumerate(result.servers):
        services.setdefault(row.service, []).append(place)
    return services


def _services(result: Result) -> list[dict[str, Any]]:
    """Lines of the busiest services, one for each colour."""
    services = by_service(result)
    given = {name: sum(result.servers[place].connections for place in places) for name, places in services.items()}
    drawn = sorted((name for name in services if given[name]), key=lambda name: -given[name])[:DRAWN]
    return [{"name": name, "lines": _lines(result, services[name])} for name in services if name in drawn]


def _lines(result: Result, places: Sequence[int]) -> list[dict[str, Any]]:
    rows = [result.servers[place] for place in places]
    together: dict[int, list[int]] = {}
    for place, colour in zip(places, colours(rows), strict=True):
        together.setdefault(colour, []).append(place)
    lines = []
    for colour, summed in sorted(together.items()):
        first = result.servers[summed[0]]
        samples = [[moment[place] for place in summed] for moment in result.timeline]
        lines.append({
            "name": f"{first.server} (weight {first.weight})" if len(summed) == 1 else f"{len(summed)} others",
            "colour": colour,
            "given": [sum(sample.conns for sample in moment) for moment in samples],
            "held": [sum(sample.active + sample.inactive for sample in moment) for moment in samples],
        })  # fmt: skip
    return lines


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
