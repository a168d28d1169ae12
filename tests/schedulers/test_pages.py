"""The scheduler pages of the documentation: complete, their examples true, their pictures drawn by this code."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from ipvs_model.schedulers import SCHEDULERS

DOCS = Path(__file__).parents[2] / "docs" / "schedulers"
PAGES = sorted(page.name for page in DOCS.glob("*.md"))
NAMES = sorted(kind.name for kind in SCHEDULERS)
SECTIONS = ["What it is for", "How it decides", "A run", "When not to use it"]


@pytest.fixture(scope="module")
def pictures() -> Any:
    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PICTURES


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_page(page: str) -> None:
    """All examples of a page run in one namespace, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, str(DOCS / page), 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(examples)
    assert results.failed == 0
    assert results.attempted > 0


@pytest.mark.parametrize("name", NAMES)
def test_page_has_its_sections_and_its_picture(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert f"]({name}.svg)" in text


@pytest.mark.parametrize("name", NAMES)
def test_picture_is_what_the_code_does(name: str, pictures: Any) -> None:
    assert (DOCS / f"{name}.svg").read_text(encoding="utf-8") == str(pictures[name]())


def test_every_page_is_in_the_list() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert all(f"]({page})" in index for page in PAGES if page != "index.md")
