"""The incidents that people report, cards S01 to S24, as scripts: what is expected of the director is what a kernel did when it was asked."""

import re
from pathlib import Path

import pytest

from ipvs_model.testing.script import parse
from ipvs_model.testing.script_run import run
from ipvs_model.tools.commands.script import director

FILES = sorted(Path(__file__).parent.glob("*.ipvs"))
SCRIPTS = {path.stem: parse(path.read_text(encoding="utf-8")) for path in FILES}
CASES = [(name, scenario) for name, script in SCRIPTS.items() for scenario in script.scenarios]


@pytest.mark.parametrize(("name", "scenario"), CASES, ids=[f"{name}: {scenario.name}" for name, scenario in CASES])
def test_scenario(name, scenario):
    wrong = [str(shown) for shown in run(SCRIPTS[name], scenario, director()) if not shown.right]
    assert not wrong, "\n".join(wrong)


def test_every_card_has_its_script():
    cards = [script.headers["card"].split()[0] for script in SCRIPTS.values()]
    assert cards == [f"S{number:02}" for number in range(1, 25)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_cites_its_threads_and_says_what_is_claimed(name):
    headers = SCRIPTS[name].headers
    assert headers["claim"]
    assert re.search(r"#\d|msg\d|LVSKB|none found", headers["threads"])
