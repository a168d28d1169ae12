"""The book: its tables and pictures are what the code says, its chapters are whole, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ipvs_model
from ipvs_model.conn import FIELDS as CONN_FIELDS
from ipvs_model.fields import Field

DOCS = Path(__file__).parents[1] / "docs"
SOURCES = Path(ipvs_model.__file__).parent
CHAPTERS = ("connections", "destinations", "services", "protocols", "timers", "persistence", "packet-path", "ftp-and-sync", "defence")
COURSE = sorted((DOCS / "course").glob("[1-8]-*.md"))
PAGES = sorted(page for page in DOCS.glob("**/*.md") if "_build" not in page.parts)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_book", DOCS / "make_book.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BOOK: Any = load()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_tables_are_what_the_code_says(page):
    text = page.read_text(encoding="utf-8")
    assert BOOK.fill(text) == text, "python docs/make_book.py writes them"


@pytest.mark.parametrize("name", sorted(BOOK.PICTURES))
def test_pictures_are_what_the_code_draws(name):
    assert (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8") == BOOK.PICTURES[name]()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_its_parts(chapter):
    text = (DOCS / f"{chapter}.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert re.search(r"^\*\*The question that", text, re.MULTILINE)
    assert any(title.startswith("The life of one") for title in titles)
    assert [title for title in titles if title in ("The surprise", "Exercises", "Answers")] == ["The surprise", "Exercises", "Answers"]
    assert "<!-- table: " in text


def test_every_member_of_a_structure_is_in_its_chapter():
    text = (DOCS / "connections.md").read_text(encoding="utf-8")
    assert all(f"| `{field.name}` |" in text for field in CONN_FIELDS)


def test_every_table_of_members_is_in_a_page():
    book = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    tables = [
        f"{info.name}.{name}"
        for info in pkgutil.walk_packages(ipvs_model.__path__, "ipvs_model.")
        for name, value in vars(importlib.import_module(info.name)).items()
        if name.endswith("FIELDS") and isinstance(value, tuple) and isinstance(value[0], Field)
    ]
    assert len(tables) > 8
    assert [table for table in tables if f"<!-- table: fields {table} -->" not in book] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_to_pages_and_pictures_that_are_there(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", sorted(BOOK.PICTURES))
def test_pictures_are_readable_on_a_phone_and_on_a_dark_page(name):
    drawn = BOOK.PICTURES[name]()
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn).groups())
    assert f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>' in drawn, "a light card of its own"
    assert min(map(int, re.findall(r'font-size="(\d+)"', drawn))) * 400 / width > 6


def test_every_picture_is_shown():
    shown = {name for page in PAGES for name in re.findall(r"\]\((?:\.\./)?pictures/(\w+)\.svg\)", page.read_text(encoding="utf-8"))}
    assert shown == set(BOOK.PICTURES)


def test_every_public_name_is_in_the_api():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    names = [name for name in vars(ipvs_model) if not name.startswith("_") and not isinstance(getattr(ipvs_model, name), ModuleType)]
    assert [name for name in names if f":: ipvs_model.{name}\n" not in text] == []


def test_every_room_for_testing_and_every_adapter_is_in_the_api():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    rooms = [f"ipvs_model.{path.parent.name}.{path.stem}" for part in ("testing", "adapters") for path in (SOURCES / part).glob("[a-z]*.py")]
    assert [room for room in rooms if room not in text] == []


def test_the_course_has_eight_exercises():
    assert [page.name[0] for page in COURSE] == list("12345678")


@pytest.mark.parametrize("page", COURSE, ids=lambda page: page.name)
def test_an_exercise_is_open_at_the_start_and_solved_in_the_end(page):
    text = page.read_text(encoding="utf-8")
    start, solution = text.split("<details><summary>Solution</summary>")
    assert "**Goal.**" in start and "## Start" in start and "## Hints" in start and "**And now?**" in solution
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", start, re.DOTALL | re.MULTILINE):
        exec(block, names)  # noqa: S102 (our own pages)
    with pytest.raises(AssertionError):
        names["check"]()
    (solved,) = re.findall(r"^```python\n(.*?)^```$", solution, re.DOTALL | re.MULTILINE)
    assert solved.endswith("\ncheck()\n")
    exec(solved, names)  # noqa: S102


def test_a_changed_table_is_noticed():
    assert "| `c_list` |" in BOOK.fill("<!-- table: fields ipvs_model.conn.FIELDS -->\n<!-- end -->")
    with pytest.raises(KeyError):
        BOOK.fill("<!-- table: nonsense -->\n<!-- end -->")
