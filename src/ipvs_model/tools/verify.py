"""Replay recorded kernel traces and say where the model does something else.

Each scenario runs on the machine of the recorder, from its start_jiffies on. Before a step the clock runs to the step's jiffy, so that due timers have fired; then the
step is done, and what it shows is compared: emitted packets (on every step but "to"), exit codes and output lines, the five files of a dump.
`trace_compare` says what is masked. A scenario ends at its first divergence: behind it the model's state is not the kernel's any more, and what it
would show is no evidence. An exception of the model is a divergence like any other.

Choices. A step that took several jiffies (at[0] < at[1]) leaves open when it acted: a command at at[1] or at[1] - 1, the files of a dump at jiffies of
[at[0], at[1]] that do not go back from file to file (a file of entries that shows no single jiffy: nor from line to line). A command that changed
something keeps its choice for the rest of the scenario: on a divergence the scenario is run again with another one, the latest first, until one run
agrees or none is left (the run that got furthest is then reported). The estimator counts from the birth of the namespace, which no trace tells: 8 to 11
jiffies before the start, one choice for a scenario with estimation. `Checked.choices` counts the steps for which the plain reading (commands at at[1],
files at at[0], 9 jiffies) did not do.
"""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Final

from attrs import frozen

from ipvs_model.errors import IPVSError
from ipvs_model.tools.machine import TRACE_AGES, Host, trace_machine
from ipvs_model.tools.trace_compare import EXPIRES, FILES, compare_emitted, differing, listing_form, read_across
from ipvs_model.tools.traces import Step, Trace, TraceError, read_traces

SYSCTLS: Final = "net.ipv4.vs."
READS_ONLY: Final = ("-L", "-l", "--list", "-S", "--save")  #: ipvsadm commands that change nothing
CONNTRACK_COUNT: Final = "cat /proc/sys/net/netfilter/nf_conntrack_count"  #: its output is not compared
RUNS: Final = 256  #: most runs of one scenario in search of the right choices
LINES: Final = 12  #: most lines of each side that a divergence shows


class SelectionError(ValueError):
    """No scenario is selected."""


@frozen
class Divergence:
    """The first step of a scenario at which the model does something else than the kernel did, and the lines that differ."""

    scenario: str
    step: int  #: counted from 0
    did: str  #: the step in words
    at: tuple[int, int]
    what: str  #: what differs: "emitted packets", "output", "exit code", the name of a file …
    kernel: tuple[str, ...]
    model: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.scenario} step {self.step} at {self.at[0]}..{self.at[1]}: {self.did}\n  {self.what}"
        sides = [f"\n    {side}: {line}" for side, lines in (("kernel", self.kernel), ("model ", self.model)) for line in shown(lines)]
        return head + "".join(sides)


def shown(lines: Sequence[str]) -> list[str]:
    """The first `LINES` lines, and how many more there are; one line of "nothing" for none.

    >>> shown(())
    ['nothing']
    """
    if not lines:
        return ["nothing"]
    return [*lines[:LINES], *([f"… {len(lines) - LINES} more"] if len(lines) > LINES else [])]


@frozen
class Checked:
    """One scenario's result: all its steps were compared, or those up to the divergence."""

    scenario: str
    kernel: str
    steps: int
    choices: int
    divergence: Divergence | None


@frozen
class Report:
    """The results of all scenarios."""

    checked: tuple[Checked, ...]

    @property
    def scenarios(self) -> int:
        """Scenarios replayed."""
        return len(self.checked)

    @property
    def steps(self) -> int:
        """Steps compared."""
        return sum(checked.steps for checked in self.checked)

    @property
    def choices(self) -> int:
        """Steps of several jiffies for which the plain reading did not do."""
        return sum(checked.choices for checked in self.checked)

    @property
    def divergences(self) -> list[Divergence]:
        """One for each scenario that has one."""
        return [checked.divergence for checked in self.checked if checked.divergence is not None]

    @property
    def kernel(self) -> str:
        """The kernel that was recorded (several, joined by commas, if files of several are mixed)."""
        return ",".join(sorted({checked.kernel for checked in self.checked}))

    def summary(self) -> str:
        """The last line that the command prints."""
        return f"scenarios={self.scenarios} steps={self.steps} divergences={len(self.divergences)}"

    def as_json(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return {
            "scenarios": self.scenarios,
            "steps": self.steps,
            "divergences": len(self.divergences),
            "divergent_scenarios": [divergence.scenario for divergence in self.divergences],
            "choices": self.choices,
            "kernel": self.kernel,
        }


def raised(error: Exception) -> tuple[str, ...]:
    """An exception in lines: what it says, then where it comes from, the innermost place first."""
    places = traceback.extract_tb(error.__traceback__)
    return (f"{type(error).__name__}: {error}", *(f"{place.filename}:{place.lineno} in {place.name}: {place.line}" for place in reversed(places)))


class _Differs(Exception):
    """What a step shows is not what the kernel showed."""

    def __init__(self, what: str, kernel: Iterable[str], model: Iterable[str]) -> None:
        super().__init__(what)
        self.what = what
        self.kernel = tuple(kernel)
        self.model = tuple(model)


# --- one scenario -----------------------------------------------------------------------------------------------------
def check(trace: Trace, *, layered: bool = False) -> Checked:
    """Replay one scenario, with as many choices as it takes; ``layered``: without the quick road."""
    best: Checked | None = None
    for age in TRACE_AGES if trace.estimation else TRACE_AGES[:1]:
        checked = _check_at(trace, age, layered)
        if checked.divergence is None:
            return checked
        if best is None or checked.steps > best.steps:
            best = checked
    assert best is not None
    return best


def _check_at(trace: Trace, age: int, layered: bool) -> Checked:
    best: Checked | None = None
    choices: tuple[bool, ...] = ()
    for _ in range(RUNS):
        run = _Run(trace, choices, age, layered)
        checked = run.check()
        if checked.divergence is None:
            return checked
        if best is None or checked.steps > best.steps:
            best = checked
        # the next sequence of choices: the latest one that was at[1] becomes at[1] - 1, those behind it are open again
        taken = run.taken
        while taken and taken[-1]:
            taken.pop()
        if not taken:
            break
        choices = (*taken[:-1], True)
    assert best is not None
    return best


class _Run:
    """One replay of a scenario. ``choices``: for its first long commands, whether they act a jiffy early; ``taken`` holds those of all that were met."""

    def __init__(self, trace: Trace, choices: Sequence[bool], age: int, layered: bool) -> None:
        self.trace = trace
        self.open = list(choices)
        self.taken: list[bool] = []
        self.needed = int(age != TRACE_AGES[0])
        self.host: Host = trace_machine(trace.start_jiffies, hz=trace.hz, estimation=trace.estimation, age=age, fast_path=not layered)
        self.start = self.host.ipvs.clock.now

    def check(self) -> Checked:
        trace = self.trace
        for index, step in enumerate(trace.steps):
            try:
                self._do(step)
            except _Differs as found:
                divergence = Divergence(trace.name, index, str(step), step.at, found.what, found.kernel, found.model)
            except Exception as error:  # noqa: BLE001 (whatever the model raises is its divergence: a packet or a timer never raises in the kernel)
                divergence = Divergence(trace.name, index, str(step), step.at, "the model raised", (), raised(error))
            else:
                continue
            return Checked(trace.name, trace.kernel, index + 1, self.needed, divergence)
        return Checked(trace.name, trace.kernel, len(trace.steps), self.needed, None)

    def _do(self, step: Step) -> None:
        op = step.op
        begin, end = step.at
        if op == "to":
            self._until(end)
            return
        if op == "packet":
            self._until(begin)
            self.host.inject(step.operands["dev"], bytes.fromhex(step.operands["hex"]))
        elif op == "dump":
            self._dump(step)
        elif op == "ipvsadm":
            self._ipvsadm(step)
        elif op == "sysctl":
            self._until(end)
            self._sysctl(step)
        else:
            self._until(end)
            self._sh(step)
        self._until(end)
        differences = compare_emitted(step.emitted, self.host.drain())
        if differences is not None:
            raise _Differs("emitted packets", *differences)

    def _until(self, jiffies: int) -> None:
        self.host.run_until(self.start + jiffies)

    def _dump(self, step: Step) -> None:
        """The files, each at the first jiffy from the last one's on that shows it."""
        begin, end = step.at
        files = step.operands["files"]
        unknown = [name for name in files if name not in FILES]
        if unknown:
            raise _Differs(f"file {unknown[0]}", files[unknown[0]], ["this file is not known"])
        shots: list[dict[str, list[str]]] = []
        for jiffies in range(begin, end + 1):
            self._until(jiffies)
            shots.append({name: self.host.ipvs.proc(name).splitlines() for name in files})
        now = 0
        for name in FILES:
            if name in files:
                now = self._shown_at(name, files[name], shots, now)
        self.needed += now > 0

    @staticmethod
    def _shown_at(name: str, kernel: Sequence[str], shots: Sequence[dict[str, list[str]]], now: int) -> int:
        """Number of the first shot from ``now`` on that shows a file; of the last one it takes, if entries were printed while time went on."""
        form = FILES[name]
        expected = form(kernel)
        for number in range(now, len(shots)):
            if form(shots[number][name]) == expected:
                return number
        if name in EXPIRES:
            more = read_across(name, kernel, [shot[name] for shot in shots[now:]])
            if more is not None:
                return now + more
        raise _Differs(f"file {name}", *differing(kernel, shots[now][name]))

    def _ipvsadm(self, step: Step) -> None:
        begin, end = step.at
        args = shlex.split(step.operands["args"])
        if begin == end or step.operands["rc"]:
            self._until(end)
            difference = self._run_ipvsadm(step, args)
        elif args and args[0].startswith(READS_ONLY):
            self._until(end - 1)
            early = self._run_ipvsadm(step, args)
            self._until(end)
            difference = self._run_ipvsadm(step, args)
            if difference is not None and early is None:
                self.needed += 1
                difference = None
        else:
            early_act = self.open.pop(0) if self.open else False
            self.taken.append(early_act)
            self.needed += early_act
            self._until(end - early_act)
            difference = self._run_ipvsadm(step, args)
        if difference is not None:
            raise difference

    def _run_ipvsadm(self, step: Step, args: list[str]) -> _Differs | None:
        result = self.host.ipvs.ipvsadm(args)
        if result.status != step.operands["rc"]:
            return _Differs("exit code", [str(step.operands["rc"]), *step.out], [str(result.status), *result.err.splitlines(), *result.out.splitlines()])
        model = [*result.err.splitlines(), *result.out.splitlines()]
        form = listing_form(args, step.out[0] if step.out else "")
        return None if form(step.out) == form(model) else _Differs("output", *differing(step.out, model))

    def _sysctl(self, step: Step) -> None:
        name = step.operands["name"]
        if not name.startswith(SYSCTLS):
            raise _Differs("sysctl", [name], ["this sysctl is not known"])
        code = 0
        try:
            self.host.ipvs.sysctl_write(name.removeprefix(SYSCTLS), step.operands["value"])
        except IPVSError as error:
            code = error.errno or 0
        if code != step.operands["rc"]:
            raise _Differs("errno", [str(step.operands["rc"])], [str(code)])

    def _sh(self, step: Step) -> None:
        command = step.operands["cmd"]
        if command == CONNTRACK_COUNT:
            return
        status, lines = self.host.marks.run(command)
        if (status, lines) != (step.operands["rc"], list(step.out)):
            raise _Differs("output", [str(step.operands["rc"]), *step.out], [str(status), *lines])


# --- many -------------------------------------------------------------------------------------------------------------
def read_names(path: str | Path) -> frozenset[str]:
    """Names of scenarios, one a line; empty lines and those that begin with # are skipped. Raises OSError."""
    lines = (line.strip() for line in Path(path).read_text().splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


def select(paths: Iterable[str | Path], names: frozenset[str] | None = None) -> Iterator[Trace]:
    """The scenarios of trace files, all or those named, as they are read. Raises TraceError, OSError; SelectionError if there are none."""
    some = False
    for path in paths:
        for trace in read_traces(path):
            if names is None or trace.name in names:
                some = True
                yield trace
    if not some:
        raise SelectionError("no scenario in these files" if names is None else "none of the scenarios named is in these files")


def verify(traces: Iterable[Trace], *, jobs: int = 1, layered: bool = False) -> Iterator[Checked]:
    """Replay scenarios, in ``jobs`` processes; the results come in the order of the scenarios. ``layered``: without the quick road."""
    one = partial(check, layered=layered)
    if jobs <= 1:
        yield from map(one, traces)
        return
    with Pool(jobs) as pool:
        yield from pool.imap(one, traces, chunksize=4)


__all__ = ["Checked", "Divergence", "Report", "SelectionError", "TraceError", "check", "read_names", "select", "verify"]
