"""Trying a mutant: does some test notice that a piece of source has changed?

It has to be quick. The tests are collected once, and one run under coverage says which test reaches which line. For each mutant the process forks; the
child puts the changed code into the functions that are there already and runs the tests that reach them until one fails: those that reach the line first,
of them those of the module's own files, the quickest first. A mutant of code that runs at import (constants, defaults, class bodies) needs the package
imported anew: its child does that, and runs the module's own test files.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import coverage
import pytest
from attrs import define, frozen

SLOW: Final = 1.0  #: seconds of CPU time; a test that takes longer is no fast one
ENOUGH: Final = 1.5  #: seconds of CPU time of tests that a mutant has to survive
MEMORY: Final = 4 << 30  #: bytes of address space of a child
#: for pytest, which is not pleased to find its plug-ins imported already
OPTIONS: Final = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
IMPORT_LIMIT: Final = 120.0  #: seconds of CPU time for the tests of a module


@define(eq=False)
class Mutant:
    """One change: where it is, its lines before and after, and the code that goes into functions (None: into the module)."""

    module: str
    line: int
    before: str
    after: str
    source: str
    swaps: dict[tuple[str, int], CodeType] | None
    fate: str = "survived"  #: or killed, or timeout

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line}\n  - {self.before}\n  + {self.after}"


# --- what changes ---------------------------------------------------------------------------------------------------------
def compiled(source: str, path: Path) -> CodeType:
    """A source as code, without a word about what looks odd in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(source, str(path), "exec", dont_inherit=True)


def swaps(old: CodeType, new: CodeType, inside: bool = False) -> dict[tuple[str, int], CodeType] | None:
    """The code of each function that is not as it was, by its name and line; None if something else is not."""
    found: dict[tuple[str, int], CodeType] = {}
    if _own(old) != _own(new) and not (inside and old.co_freevars == new.co_freevars):
        return None
    before, after = ([const for const in code.co_consts if isinstance(const, CodeType)] for code in (old, new))
    if len(before) != len(after):
        return found if inside else None
    for one, other in zip(before, after, strict=True):
        if one == other:
            continue
        is_function = bool(one.co_flags & CO_OPTIMIZED)
        deeper = swaps(one, other, inside or is_function)
        if deeper is None:
            return None
        if is_function:
            found[one.co_qualname, one.co_firstlineno] = other
        found |= deeper
    return found


def _own(code: CodeType) -> tuple[object, ...]:
    """What a code object does, without the code objects in it."""
    consts = tuple((type(const), const) for const in code.co_consts if not isinstance(const, CodeType))
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars


# --- trying it ------------------------------------------------------------------------------------------------------------
@frozen
class Reach:
    """Of each fast test, by its number: its CPU time in seconds; file → line → numbers of the tests that reach it."""

    seconds: dict[int, float]
    lines: dict[str, dict[int, list[int]]]


class Session:
    """A pytest plug-in that runs mutants instead of tests."""

    def __init__(self, mutants: list[Mutant], files: dict[str, Path], direct: dict[str, tuple[str, ...]]) -> None:
        self.mutants = mutants
        self.files = files
        self.direct = direct
        self.items: list[pytest.Item] = []
        self.reach = Reach({}, {})
        self.functions: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Measure, then try each mutant."""
        self.items = session.items
        status, self.reach = in_child(self._measure)
        if status:
            raise RuntimeError(f"the tests cannot be run without a mutant: {self.reach}")
        print(f"{len(self.items)} tests, {len(self.reach.seconds)} of them fast", flush=True)
        for thing in gc.get_objects():
            if isinstance(thing, FunctionType):
                code = thing.__code__
                self.functions[code.co_filename, code.co_qualname, code.co_firstlineno].append(thing)
        for number, mutant in enumerate(self.mutants, 1):
            mutant.fate = self._fate(mutant)
            if mutant.fate == "survived":
                print(mutant, flush=True)
            if number % 100 == 0:
                print(f"{number} of {len(self.mutants)} tried", *tally(self.mutants[:number]), sep="\n  ", flush=True)
        return True

    def _measure(self) -> Reach:
        """Run every test under coverage."""
        files = sorted(map(str, self.files.values()))
        slow = set()

        def too_slow(*_: object) -> None:
            slow.add(number)
            raise TimeoutError

        signal.signal(signal.SIGPROF, too_slow)
        cov = coverage.Coverage(data_file=None, include=files, config_file=False)
        seconds = {}
        failing = []
        cov.start()
        for number, item in enumerate(self.items):
            cov.switch_context(str(number))
            before = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SLOW)
            with suppress(TimeoutError):
                if passes(item):
                    seconds[number] = time.process_time() - before
                elif number not in slow:
                    failing.append(item.nodeid)
            signal.setitimer(signal.ITIMER_PROF, 0)
        cov.stop()
        if failing:
            raise RuntimeError(f"fail without a mutant: {failing}")
        data = cov.get_data()
        lines = {file: {line: [int(name) for name in names if name and int(name) in seconds] for line, names in data.contexts_by_lineno(file).items()} for file in files}
        return Reach(seconds, lines)

    def _fate(self, mutant: Mutant) -> str:
        file = str(self.files[mutant.module])
        lines, seconds = self.reach.lines[file], self.reach.seconds
        first = set(lines.get(mutant.line, ()))
        reached = {number for code in mutant.swaps.values() for _, _, line in code.co_lines() for number in lines.get(line, ())}
        direct = self.direct.get(mutant.module.split("/")[0], ())
        chosen = sorted(reached, key=lambda number: (number not in first, not self.items[number].nodeid.startswith(direct), seconds[number]))

        def survives() -> bool:
            for (name, line), code in mutant.swaps.items():
                for function in self.functions[file, name, line]:
                    function.__code__ = code
            spent = 0.0
            for number in chosen:
                signal.setitimer(signal.ITIMER_PROF, 2 + 10 * seconds[number])
                if not passes(self.items[number]):
                    return False
                spent += seconds[number]
                if spent > ENOUGH:
                    break
            return True

        return fate_in_child(survives)


def passes(item: pytest.Item) -> bool:
    """Run one test with its fixtures; nothing is reported, for that takes longer than most tests."""
    state = item.session._setupstate
    try:
        state.setup(item)
        item.runtest()
    except Exception:  # noqa: BLE001 — an assertion, or what a mutant made go wrong
        passed = False
    else:
        passed = True
    try:
        state.teardown_exact(None)
    except Exception:  # noqa: BLE001
        passed = False
    return passed


def survives_import(mutant: Mutant, path: Path, tests: tuple[str, ...]) -> bool:
    """In a child: import the package with the changed module, and run the tests of the module."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("ipvs_model", "tests", "conftest")]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Changed(f"ipvs_model.{mutant.module.replace('/', '.')}", path, mutant.source))
    signal.setitimer(signal.ITIMER_PROF, IMPORT_LIMIT)
    # plain: to rewrite assertions pytest would load the package itself, past the changed module
    return pytest.main([*OPTIONS, "--assert=plain", "-x", *tests]) == 0


class _Changed(MetaPathFinder, SourceFileLoader):
    """Finds one module, and loads another source for it."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self.source = source

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, name: str) -> CodeType:
        return compiled(self.source, Path(self.path))


def in_child(function: Callable[[], Any]) -> tuple[int, Any]:
    """The status of a forked process (below 0: the signal that ended it) that runs a function silently in limited memory, and what it returns or raises."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            silence = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(silence, descriptor)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            answer, status = pickle.dumps(function()), 0
        except BaseException:  # noqa: BLE001 — whatever it is, the child goes no further than this
            answer, status = pickle.dumps(traceback.format_exc()), 1
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, pickle.loads(data) if data else None


def fate_in_child(survives: Callable[[], bool]) -> str:
    """Fork, and see what becomes of a mutant."""
    status, survived = in_child(survives)
    if status == -signal.SIGPROF:
        return "timeout"
    return "survived" if status == 0 and survived else "killed"


def try_group(mutants: list[Mutant], files: dict[str, Path], tests: tuple[str, ...], direct: dict[str, tuple[str, ...]]) -> None:
    """Try mutants that have their tests in common; ``direct``: files of tests for mutants of what runs at import, by the first part of a module's name."""
    inside = [mutant for mutant in mutants if mutant.swaps is not None]
    print(f"{len(mutants)} mutants, {len(inside)} of them inside functions", flush=True)
    pytest.main([*OPTIONS, "-s", *tests], plugins=[Session(inside, files, direct)])
    for mutant in mutants:
        if mutant.swaps is None:
            mutant.fate = fate_in_child(lambda changed=mutant: survives_import(changed, files[changed.module], direct[changed.module.split('/')[0]]))
            if mutant.fate == "survived":
                print(mutant, flush=True)


def tally(mutants: list[Mutant]) -> list[str]:
    """For each module, how many were killed, and so on."""
    lines = []
    for module in sorted({mutant.module for mutant in mutants}):
        fates = Counter(mutant.fate for mutant in mutants if mutant.module == module)
        lines.append(f"{module}: {fates.total()} mutants, {fates['killed']} killed, {fates['timeout']} timeouts, {fates['survived']} survived")
    return lines
