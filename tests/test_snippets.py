"""What README and book show is what the code does: Python examples and the output of commands are run.

Fenced blocks: `python` with prompts is a doctest, without prompts it is run as it stands; all of a page share one namespace. In a `console` block each line
`$ ipvs-model ...` is run, and what follows it is compared; `...` stands for anything.
"""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ipvs_model.tools.command_line import group

ROOT = Path(__file__).parents[1]
#: the pages about schedulers have a test of their own, which also looks at their pictures
PAGES = [page for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]) if page.parent.name != "schedulers" and "_build" not in page.parts]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ ipvs-model (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@pytest.fixture(autouse=True)
def beside_the_examples(tmp_path, monkeypatch):
    """Commands find examples/ and write beside it, but not into the project."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)


def run_python(code: str, names: dict[str, object], where: str) -> None:
    if ">>>" not in code:
        exec(compile(code, where, "exec"), names)  # noqa: S102 (our own pages)
        return
    test = doctest.DocTestParser().get_doctest(code, names, where, where, 0)
    test.globs = names  # itself, not a copy: a function of an earlier block sees what a later one assigns
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)


def run_console(text: str) -> None:
    for line, expected in COMMAND.findall(text):
        shown = CliRunner().invoke(group(), shlex.split(line)).output
        assert doctest.OutputChecker().check_output(expected, shown, FLAGS), f"$ ipvs-model {line}\n{shown}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_page_is_true(page):
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block[1] == "python":
            run_python(block[2], names, f"{page.relative_to(ROOT)}, line {text.count(chr(10), 0, block.start()) + 2}")
        else:
            run_console(block[2])


def test_a_wrong_example_is_caught():
    with pytest.raises(AssertionError, match="Expected"):
        run_python(">>> 1 + 1\n3\n", {}, "here")
    with pytest.raises(AssertionError, match="SYN_RECV"):
        run_console("$ ipvs-model states tcp\nnothing\n")


def test_a_right_example_passes():
    names: dict[str, object] = {}
    run_python(">>> n = 1 + 1\n>>> n\n2\n", names, "here")
    run_python("assert n == 2\n", names, "there")
    run_console("$ ipvs-model states udp\nUDP: states\n...\n")
