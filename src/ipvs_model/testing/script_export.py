"""A script as steps for a real kernel: the scenario format of the project's recorder, JSON, one object a scenario.

`{"name": …, "steps": [{"op": "ipvsadm", "args": …}, {"op": "sysctl", "name": …, "value": …}, {"op": "packet", "dev": "cli", "hex": …},
{"op": "reply", "to": 4, "flags": "SA"}, {"op": "to", "jiffies": 250}, {"op": "dump"}]}`; each step has the line it comes from under "line", and what the
script expects of it, in the script's words, under "expect" where it expects something.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ipvs_model.testing.script import Counted, Entries, Ipvsadm, Line, Says, Scenario, Script, Synced, Sysctl
from ipvs_model.testing.script_run import CLIENT_DEVICE, SERVER_DEVICE, packet_of

HZ: Final = 250


def scenario_steps(script: Script, scenario: Scenario) -> list[dict[str, Any]]:
    """The steps of a scenario. Steps take a jiffy each; "to" waits for the next line's time where that is later."""
    steps: list[dict[str, Any]] = []
    free = 0
    asked: dict[str, int] = {}
    for line in scenario.lines:
        at = int(line.at * HZ)
        if at > free:
            steps.append({"op": "to", "jiffies": at})
            free = at
        made = list(_line(script, line, len(steps), asked))
        free += len(made)
        steps += made
    return steps


def _line(script: Script, line: Line, first: int, asked: dict[str, int]) -> list[dict[str, Any]]:
    act = line.act
    made: list[dict[str, Any]]
    if isinstance(act, Ipvsadm):
        made = [{"op": "ipvsadm", "args": script.command(act.args), "expect": f"{act.status} {act.message or ''}".strip()}]
    elif isinstance(act, Sysctl):
        made = [{"op": "sysctl", "name": f"net.ipv4.vs.{act.name}", "value": act.value}]
    elif isinstance(act, Says):
        made = _packets(script, act, first, asked)
        if act.expect.text:
            made[-1]["expect"] = act.expect.text
    elif isinstance(act, (Counted, Entries)):
        made = [{"op": "dump", "expect": line.text.split(None, 1)[1]}]
    else:
        assert isinstance(act, Synced)
        made = [{"op": "dump", "expect": f"{act.number} sync datagrams since the last such line"}]
    for step in made:
        step["line"] = line.number
    return made


def _packets(script: Script, act: Says, first: int, asked: dict[str, int]) -> list[dict[str, Any]]:
    """Packets and replies; ``asked``: the step of each client's last packet, to which a server of unknown name replies."""
    made: list[dict[str, Any]] = []
    for client in act.clients:
        for word in act.words:
            if word.side == "server" and act.server is None:
                made.append({"op": "reply", "to": asked[client], "flags": word.text})
                continue
            packet = packet_of(script, act, client, word, act.server if word.side == "server" else None)
            if word.side == "client":
                asked[client] = first + len(made)
            made.append({"op": "packet", "dev": SERVER_DEVICE if word.side == "server" else CLIENT_DEVICE, "hex": packet.raw.hex()})
    return made


def as_json_lines(script: Script, name: str) -> str:
    """All scenarios, one JSON object a line; ``name`` goes in front of their names."""
    objects = [{"name": f"{name}: {scenario.name}", **script.headers, "steps": scenario_steps(script, scenario)} for scenario in script.scenarios]
    return "".join(json.dumps(value) + "\n" for value in objects)
