"""A recorder of traces on the model itself: what it writes, a replay must reproduce, and a changed copy must be caught."""

from __future__ import annotations

import json
import shlex
from typing import Any

from ipvs_model.packet import Packet
from ipvs_model.tools.machine import trace_machine
from ipvs_model.tools.trace_compare import FILES
from ipvs_model.tools.traces import Trace, parse_trace

START = 4294900000


class Recorder:
    """Does steps on a trace machine and keeps what they show, in the recorder's format."""

    def __init__(self, name: str = "made", *, estimation: bool = False) -> None:
        self.host = trace_machine(START, estimation=estimation)
        self.steps: list[dict[str, Any]] = []
        self.trace: dict[str, Any] = {"name": name, "kernel": "model", "hz": 250, "start_jiffies": START, "steps": self.steps}
        if estimation:
            self.trace["estimation"] = True

    def at(self, jiffies: int) -> Recorder:
        """Let time pass."""
        self.host.run_until(START + jiffies)
        return self

    @property
    def now(self) -> int:
        return self.host.ipvs.clock.now - START

    def _step(self, step: dict[str, Any], at: tuple[int, int] | None = None) -> dict[str, Any]:
        step["at"] = list(at or (self.now, self.now))
        if step["op"] != "to":
            emitted = [[emission.device, emission.raw.hex()] for emission in self.host.drain()]
            if emitted:
                step["emitted"] = sorted(emitted, key=lambda pair: pair[0])
        self.steps.append(step)
        return step

    def to(self, jiffies: int) -> Recorder:
        self.at(jiffies)
        self._step({"op": "to", "jiffies": jiffies})
        return self

    def admin(self, args: str, at: tuple[int, int] | None = None) -> Recorder:
        """An ipvsadm command that acts now; ``at`` may say that it took longer."""
        result = self.host.ipvs.ipvsadm(shlex.split(args))
        step: dict[str, Any] = {"op": "ipvsadm", "args": args, "rc": result.status}
        if out := [*result.err.splitlines(), *result.out.splitlines()]:
            step["out"] = out
        self._step(step, at)
        return self

    def packet(self, packet: Packet, device: str = "cli") -> Recorder:
        self.host.inject(device, packet.raw)
        self._step({"op": "packet", "dev": device, "hex": packet.raw.hex()})
        return self

    def dump(self, *later: int, at: tuple[int, int] | None = None) -> Recorder:
        """The files of a dump; ``later``: the jiffies at which the second, third … file is read."""
        files = {}
        for number, name in enumerate(FILES):
            if 0 < number <= len(later):
                self.at(later[number - 1])
            files[name] = self.host.ipvs.proc(name).splitlines()
        self._step({"op": "dump", "files": files}, at)
        return self

    def parsed(self) -> Trace:
        return parse_trace("made", 1, json.dumps(self.trace))
