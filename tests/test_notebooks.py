"""The notebooks of the book: what they show is what they do."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def notebooks(monkeypatch) -> Iterator[Any]:
    """docs/make_notebooks.py, with all that Jupyter writes in a directory of the test: one with a short name, because sockets in it have no long ones."""
    with TemporaryDirectory() as scratch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
            monkeypatch.setenv(name, scratch)
        yield _load("make_notebooks")


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.name for path in DOCS.glob("*.ipynb")))
def test_a_notebook_shows_what_its_cells_do(notebooks, name):
    kept = notebooks.nbformat.read(DOCS / name, as_version=4)
    assert notebooks.outputs(notebooks.run(DOCS / name)) == notebooks.outputs(kept), "python docs/make_notebooks.py writes them"


def test_the_connection_goes_through_its_whole_life(notebooks):
    notebook = notebooks.nbformat.read(DOCS / "a-connection.ipynb", as_version=4)
    shown = [str(output.get("data", output)) for _, outputs in notebooks.outputs(notebook) for output in outputs]
    position = -1
    for state in ("SYN_RECV", "ESTABLISHED", "FIN_WAIT", "TIME_WAIT", "jiffies after its expiry", "may not begin a connection"):
        position = next(number for number, text in enumerate(shown) if state in text and number >= position)
    assert sum("<table" in text for text in shown) >= 6, "listings, service, entry and outcome are shown as tables"


def test_as_a_page_a_notebook_keeps_its_cells_and_what_they_showed():
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {
            "cell_type": "code", "source": ["a = 1\n", "a"],
            "outputs": [
                {"output_type": "stream", "text": ["heard\n"]},
                {"output_type": "execute_result", "data": {"text/plain": ["1"]}},
                {"output_type": "execute_result", "data": {"text/html": ["<b>", "</b>"], "text/plain": ["bold"]}},
            ],
        },
    ]  # fmt: skip
    page = _load("notebook_page").as_markdown(json.dumps({"cells": cells}))
    assert page == (
        "# Title\nText.\n\n```python\na = 1\na\n```\n\n```text\nheard\n```\n\n```text\n1\n```\n\n"
        '```{raw} html\n<div style="overflow-x:auto"><b></b></div>\n```\n'
    )
