"""Mutation testing: small changes to the source, one at a time, each of which some fast test should notice. ``python -m soak mutation``.

The changes are cosmic-ray's, and one of our own (a call left out); ``soak.trial`` tries them. A change of a type hint, or one that leaves the
code as it was, is none; two changes that give the same code are one. Needs the extra ``soak``.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

import ipvs_model
from soak.trial import Mutant, compiled, swaps, tally, try_group

PACKAGE: Final = Path(ipvs_model.__file__).parent
#: the fast tests of each group of modules
TESTS: Final = {
    "structures": (
        "tests/test_conn.py", "tests/test_dest.py", "tests/test_entries.py", "tests/test_service.py", "tests/test_control.py", "tests/test_refusals.py", "tests/test_ipvs.py", "tests/test_fields.py",
        "tests/datapath", "tests/scenarios", "tests/sync/test_receiver.py", "tests/protocols/test_template_states.py", "tests/testing/test_lab.py",
        "tests/test_structures_details.py",
        "src/ipvs_model/service.py",
    ),
    "timers": ("tests/test_timers.py", "tests/test_timers_calls.py", "tests/test_timers_details.py", "tests/test_timers_traces.py", "src/ipvs_model/timers.py"),
    "schedulers": (
        "tests/schedulers/test_vectors.py", "tests/schedulers/test_registry.py", "tests/schedulers/test_properties.py", "tests/schedulers/test_examples.py",
        "tests/schedulers/test_error_report.py", "tests/schedulers/test_lblc_timer.py", "tests/schedulers/test_details.py", "src/ipvs_model/schedulers",
    ),
}  # fmt: skip
GROUPS: Final = {"conn": "structures", "dest": "structures", "service": "structures", "timers": "timers", "schedulers": "schedulers"}
WANTED: Final = 0.85  #: share of mutants that the tests have to notice
#: files of tests for mutants of what runs at import
DIRECT: Final = {
    "conn": ("tests/test_conn.py", "tests/test_structures_details.py", "tests/test_entries.py", "tests/datapath/test_connections.py", "tests/datapath/test_reuse_and_deletion.py", "tests/test_fields.py"),
    "dest": ("tests/test_dest.py", "tests/test_structures_details.py", "tests/test_control.py", "tests/datapath/test_dests.py", "tests/test_fields.py"),
    "service": ("tests/test_service.py", "tests/test_structures_details.py", "tests/test_control.py", "tests/test_fields.py"),
    "timers": ("tests/test_timers.py", "tests/test_timers_calls.py", "tests/test_timers_details.py", "src/ipvs_model/timers.py"),
    "schedulers": (
        "tests/schedulers/test_details.py", "tests/schedulers/test_examples.py", "tests/schedulers/test_vectors.py", "tests/schedulers/test_registry.py",
        "tests/schedulers/test_error_report.py", "tests/schedulers/test_lblc_timer.py", "src/ipvs_model/schedulers",
    ),
}  # fmt: skip


def modules() -> dict[str, Path]:
    """What is mutated: name → file."""
    files = [PACKAGE / f"{name}.py" for name in ("conn", "dest", "service", "timers")] + sorted(PACKAGE.glob("schedulers/*.py"))
    return {str(path.relative_to(PACKAGE).with_suffix("")): path for path in files if path.stem != "__init__"}


class LeaveOutCall(Operator):
    """A statement that is a call is left out."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if node.type == "simple_stmt" and node.children[0].type == "atom_expr":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        call = node.children[0]
        node.children[0] = parso.parse(call.get_first_leaf().prefix + "pass")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _hints(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where type hints stand: with ``from __future__ import annotations`` they are not run."""
    nodes: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            nodes.append(node.returns)
    return [((n.lineno, n.col_offset), (n.end_lineno or 0, n.end_col_offset or 0)) for n in nodes]


def operators() -> list[Operator]:
    """All changes that are tried; cosmic-ray's operators that want arguments are not among them."""
    classes = [get_operator(name) for name in sorted(operator_names())]
    return [kind() for kind in classes if not kind.arguments()] + [LeaveOutCall()]


def mutants_of(module: str, path: Path) -> list[Mutant]:
    """All mutants of a module."""
    source = path.read_text()
    lines = source.splitlines()
    code = compiled(source, path)
    seen = {code}
    hints = _hints(source)
    tree = parso.parse(source)
    nodes = list(ast_nodes(tree))
    found = []
    for operator in operators():
        places = [(node, index, position) for node in nodes for index, position in enumerate(operator.mutation_positions(node))]
        for node, index, (start, end) in places:
            if any(first <= start and end <= last for first, last in hints):
                continue
            changed = _changed(tree, node, operator, index)
            try:
                new = compiled(changed, path)
            except (SyntaxError, ValueError):
                continue
            if new in seen:
                continue
            seen.add(new)
            after = changed.splitlines()
            at = next(number for number, (old, now) in enumerate(zip(lines, after, strict=False)) if old != now)
            found.append(Mutant(module, at + 1, lines[at].strip(), after[at].strip(), changed, swaps(code, new)))
    return sorted(found, key=lambda mutant: mutant.line)


def _changed(tree: Any, node: Any, operator: Operator, index: int) -> str:
    """The source with one node changed; afterwards the tree is as it was, for parsing it again takes long."""
    inner = list(ast_nodes(node))
    values = [(leaf, leaf.value) for leaf in inner if hasattr(leaf, "value")]
    children = [(branch, list(branch.children)) for branch in (node.parent, *inner) if hasattr(branch, "children")]
    place = node.parent.children.index(node)
    changed = operator.mutate(node, index)
    node.parent.children[place : place + 1] = [] if changed is None else [changed]
    source = str(tree.get_code())
    for leaf, value in values:
        leaf.value = value
    for branch, whole in children:
        branch.children = whole
    return source


def run(names: list[str], sample: int | None, seed: int) -> list[Mutant]:
    """Try the mutants of some modules, or a sample of them."""
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    files = {name: path for name, path in modules().items() if not names or name in names or _group(name) in names or name.split("/")[0] in names}
    chosen = [mutant for name, path in files.items() for mutant in mutants_of(name, path)]
    # in a seeded order, so that a run that was stopped is a sample, too
    chosen = random.Random(seed).sample(chosen, min(sample or len(chosen), len(chosen)))
    for group, tests in TESTS.items():
        mutants = [mutant for mutant in chosen if _group(mutant.module) == group]
        if mutants:
            try_group(mutants, files, tests, DIRECT)
    return chosen


def _group(module: str) -> str:
    return GROUPS[module.split("/")[0]]


def main(words: list[str]) -> int:
    """Run it and print what survived; exit status 1 if too few were noticed."""
    parser = argparse.ArgumentParser(prog="python -m soak mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--module", action="append", default=[], metavar="NAME", help="conn, dest, service, timers, schedulers, or one of them such as schedulers/rr")
    parser.add_argument("--sample", type=int, help="try so many of them only")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    given = parser.parse_args(words)
    tried = run(given.module, given.sample, given.seed)
    print(*tally(tried), sep="\n")
    noticed = sum(mutant.fate != "survived" for mutant in tried)
    print(f"mutation: {noticed} of {len(tried)} noticed, {noticed / len(tried):.1%}")
    return noticed < WANTED * len(tried)
