"""The book in a real browser, as `make docs` builds it."""

import subprocess
import sys
from pathlib import Path

from tests.browser.page import DESK, PHONE

DOCS = Path(__file__).parents[2] / "docs"
#: looked at in every way; the others on a phone in the dark
PAGES = ("index.html", "connections.html", "schedulers/wlc.html")


def test_pages_of_the_book_are_quiet_offline_narrow_and_readable(page, tmp_path):
    build = [sys.executable, "-m", "sphinx", "-W", "-q", str(DOCS), str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html") if "_static" not in path.parts}
    assert built > set(PAGES)
    for name in sorted(built):
        for size in (PHONE, DESK) if name in PAGES else (PHONE,):
            for dark in (False, True) if name in PAGES else (True,):
                assert page.open(tmp_path / name, size=size, dark=dark).faults() == [], (name, size, dark)
    assert page.run("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
