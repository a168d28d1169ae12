"""The README's pictures of a report."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_BYTES = 150_000


def test_the_readme_shows_pictures_that_are_there_and_small():
    spec = spec_from_file_location("make_screenshots", ROOT / "docs" / "make_screenshots.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    shown = re.findall(r"!\[.+?\]\((docs/pictures/.*?)\)", (ROOT / "README.md").read_text("utf-8"))
    assert shown == [f"docs/pictures/{name}.png" for name in module.PICTURES]
    for name in shown:
        content = (ROOT / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < MOST_BYTES
