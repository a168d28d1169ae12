"""How mutants are tried: what a change means for the code that is there, and whether a test is seen to notice it."""

import os
import signal
import sys

import pytest
from soak.trial import Mutant, compiled, fate_in_child, in_child, swaps, try_group

SOURCE = """
from __future__ import annotations

LIMIT = 3

class Box:
    size: int = 1

    def double(self, by: int = 2) -> int | None:
        return max(self.size * by, *(n + 1 for n in range(by)))

def make(n):
    def inner():
        return n - 1
    return inner
"""


def changed(before: str, after: str):
    assert before in SOURCE
    old, new = (compiled(source, "sample.py") for source in (SOURCE, SOURCE.replace(before, after)))
    found = swaps(old, new)
    return None if found is None else {name for name, _ in found}


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("self.size * by", "self.size + by", {"Box.double"}),
        ("n + 1", "n + 2", {"Box.double", "Box.double.<locals>.<genexpr>"}),
        ("n - 1", "n + 1", {"make", "make.<locals>.inner"}),
        ("LIMIT = 3", "LIMIT = 4", None),
        ("by: int = 2", "by: int = 3", None),
        ("size: int = 1", "size: int = 2", None),
        ("return inner", "return inner()", {"make"}),
    ],
)
def test_what_a_change_puts_into_functions(before, after, names):
    assert changed(before, after) == names


def test_what_becomes_of_a_child():
    assert in_child(lambda: [1, "two"]) == (0, [1, "two"])
    status, said = in_child(lambda: 1 / 0)
    assert (status, said.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
    assert fate_in_child(lambda: True) == "survived"
    assert fate_in_child(lambda: False) == "killed"
    assert fate_in_child(lambda: 1 / 0) == "killed"
    assert fate_in_child(lambda: os.kill(os.getpid(), signal.SIGPROF)) == "timeout"


def test_a_mutant_is_killed_by_the_test_that_notices_it(tmp_path, monkeypatch):
    source = "def double(n):\n    return n * 2\n\n\ndef half(n):\n    return n // 2\n\n\ndef unused(n):\n    return n\n"
    path = tmp_path / "sample_of_a_module.py"
    path.write_text(source)
    test = tmp_path / "test_sample.py"
    test.write_text(
        "import sample_of_a_module as m\ndef test_double(): assert m.double(3) == 6\ndef test_half(): assert m.half(4) == 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def mutant(line: int, before: str, after: str) -> Mutant:
        new = source.replace(before, after)
        return Mutant("sample", line, before, after, new, swaps(compiled(source, path), compiled(new, path)))

    changes = (2, "n * 2", "n + 2"), (6, "n // 2", "n / 2"), (10, "return n\n", "return -n\n")

    def fates() -> list[str]:
        sys.modules.pop("conftest", None)
        mutants = [mutant(*change) for change in changes]
        try_group(mutants, {"sample": path}, ("-c", os.devnull, "--rootdir", str(tmp_path), "--import-mode=prepend", str(test)), {})
        return [tried.fate for tried in mutants]

    # half is still right for 4, and nothing reaches the last function
    assert in_child(fates) == (0, ["killed", "survived", "survived"])
