"""Explained steps as text, as a Mermaid sequence diagram, as plain data."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ipvs_model import events as ev
from ipvs_model.tools.explain import COMMAND, WAIT, Change, HostAnswered, Walk

#: kind of event → what the kernel is about
PHASES: Final[dict[type[ev.Event], str]] = {
    ev.HookEntered: "hook",
    ev.ConnLookup: "lookup",
    ev.ReuseChecked: "lookup",
    ev.ServiceLookup: "lookup",
    ev.TemplateChecked: "lookup",
    ev.Candidate: "schedule",
    ev.Scheduled: "schedule",
    ev.ConnCreated: "entry",
    ev.ConnHashed: "entry",
    ev.ConnRemoved: "entry",
    ev.RefMoved: "reference",
    ev.ControlMoved: "control",
    ev.StateChanged: "state",
    ev.TimerArmed: "timer",
    ev.TimerFired: "timer",
    ev.TimerPostponed: "timer",
    ev.TimerStopped: "timer",
    ev.CounterMoved: "counter",
    ev.OverloadChanged: "counter",
    ev.DestChanged: "rules",
    ev.ServiceChanged: "rules",
    ev.Transmitted: "transmit",
    ev.ErrorSent: "transmit",
    ev.SyncDecision: "sync",
    ev.DefenceChanged: "defence",
    ev.Logged: "log",
    ev.Decided: "verdict",
}
HOST: Final = "host"  #: the phase of what the host does beside IPVS
#: what a sequence diagram says of events
TOLD: Final = (
    ev.Scheduled, ev.StateChanged, ev.ConnRemoved, ev.TimerFired, ev.TimerPostponed, ev.TemplateChecked, ev.ReuseChecked, ev.DestChanged, ev.ServiceChanged,
    ev.OverloadChanged,
)  # fmt: skip
JIFFIES: Final = re.compile(r"(-?\d+) jiffies")
PUNCTUATION: Final = str.maketrans({";": ",", "#": "no. "})  #: these would end a message of a diagram


def as_text(walk: Walk) -> str:
    """A step as a numbered walk."""
    title = walk.what if walk.kind != WAIT else "time passes"
    lines = [f"{walk.number}  at {walk.seconds:.3f} s (jiffy {walk.jiffies}): {title}"]
    if walk.verdict or walk.kind not in (COMMAND, WAIT):
        lines.append(f"   {walk.kind}" + (f", fed as {walk.given}" if walk.given else ""))
    count = 0
    for heading, happened in (("while time passed:", walk.before), ("", walk.events)):
        if heading and happened:
            lines.append(f"   {heading}")
        for event in happened:
            count += 1
            lines.append(f"   {walk.number}.{count:<3} {_phase(event):10} {event.function:26} {_words(event, walk)}".rstrip())
    if walk.verdict:
        lines.append(f"   {walk.verdict}: {walk.reason}")
    if walk.delivered:
        lines.append(f"   the host gets: {walk.delivered}")
    lines += [f"   {'prints' if walk.kind == COMMAND else 'leaves'}: {text}".rstrip() for text in walk.left]
    for change in walk.changes:
        lines += _change_lines(change)
    return "\n".join(lines) + "\n"


def _phase(event: ev.Event) -> str:
    return HOST if isinstance(event, HostAnswered) else PHASES[type(event)]


def _words(event: ev.Event, walk: Walk) -> str:
    """An event without what stands above it already, and jiffies in seconds too."""
    if isinstance(event, ev.HookEntered):
        return event.hook.name
    return JIFFIES.sub(lambda found: f"{found[0]} ({int(found[1]) / walk.hz:g} s)", event.describe())


def _change_lines(change: Change) -> list[str]:
    rows = [("", "before", "after"), *((name, _shown(before), _shown(after)) for name, before, after in change.members)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"   {change.what}", *(f"     {name:{widths[0]}}  {before:>{widths[1]}}  {after}".rstrip() for name, before, after in rows)]


def _shown(value: str | None) -> str:
    return "-" if value is None else value


def as_mermaid(walks: Sequence[Walk], *, timers: bool = False) -> str:
    """Steps as a Mermaid sequence diagram: one lifeline a host, the director in the middle, decisions as notes; `timers`: their restarts, too."""
    told = (*TOLD, ev.TimerArmed) if timers else TOLD
    clients = dict.fromkeys(hop.source for walk in walks if walk.kind == "client packet" for hop in walk.hops if hop.source)
    others = dict.fromkeys(host for walk in walks for hop in walk.hops for host in (hop.source, hop.target) if host and host not in clients)
    names = {"": "D"} | {host: f"C{number}" for number, host in enumerate(clients, 1)} | {host: f"S{number}" for number, host in enumerate(others, 1)}
    lines = ["sequenceDiagram"]
    lines += [f"    participant {names[host]} as {host}" for host in clients]
    lines.append("    participant D as director")
    lines += [f"    participant {names[host]} as {host}" for host in others]
    last = 0.0
    for walk in walks:
        if walk.seconds > last:
            lines.append(f"    Note over D: {walk.seconds - last:.3f} s later")
        last = walk.seconds
        lines += _notes(walk.before, walk, told)
        if walk.kind == COMMAND:
            lines.append(f"    Note over D: {walk.what.translate(PUNCTUATION)}")
        for number, hop in enumerate(walk.hops):
            arrow = "-x" if hop.lost else "->>"
            lines.append(f"    {names[hop.source]}{arrow}{names[hop.target]}: {hop.text}")
            if number == 0:
                lines += _notes(walk.events, walk, told)
                if len(walk.hops) == 1:
                    lines.append(f"    Note over D: {walk.verdict}: {walk.reason.translate(PUNCTUATION)}")
        if not walk.hops:
            lines += _notes(walk.events, walk, told)
    return "\n".join(lines) + "\n"


def _notes(happened: Iterable[ev.Event], walk: Walk, told: tuple[type[ev.Event], ...]) -> list[str]:
    notes = []
    for event in happened:
        if isinstance(event, told) and not (isinstance(event, ev.StateChanged) and event.before == event.after):
            text = _note(event, walk)
            notes.append(f"    Note over D: {text.translate(PUNCTUATION)}")
    return notes


def _note(event: ev.Event, walk: Walk) -> str:
    """An event in the few words that a diagram has room for."""
    if isinstance(event, ev.StateChanged):
        return f"{event.before} to {event.after}"
    if isinstance(event, ev.TimerArmed):
        return f"timer set to {(event.expires - event.now) / walk.hz:g} s"
    if isinstance(event, ev.TimerFired):
        return f"timer fired {(event.now - event.expires) / walk.hz:g} s late"
    return _words(event, walk)


def as_json(walk: Walk) -> dict[str, Any]:
    """Plain data for JSON."""

    def told(happened: Iterable[ev.Event]) -> list[dict[str, str]]:
        return [{"phase": _phase(event), "event": type(event).__name__, "function": event.function, "text": _words(event, walk)} for event in happened]

    return {
        "number": walk.number,
        "seconds": walk.seconds,
        "jiffies": walk.jiffies,
        "hz": walk.hz,
        "what": walk.what,
        "kind": walk.kind,
        "given": walk.given,
        "before": told(walk.before),
        "events": told(walk.events),
        "verdict": walk.verdict,
        "reason": walk.reason,
        "delivered": walk.delivered,
        "left": list(walk.left),
        "changes": [{"what": change.what, "members": {name: [before, after] for name, before, after in change.members}} for change in walk.changes],
    }
