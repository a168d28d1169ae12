"""The checks find what they look for."""

import pytest
from tests.browser.page import PHONE

FAULTY = {
    "<script>console.error('broken')</script>": "console: ",
    "<script>nowhere()</script>": "console: ",
    "<img src='http://127.0.0.1:9/picture.png' alt=''>": "network: http://127.0.0.1:9/picture.png",
    "<link rel='stylesheet' href='https://127.0.0.1:9/style.css'>": "network: https://127.0.0.1:9/style.css",
    "<div style='width:500px'>wide</div>": "scrolls sideways: ",
    "<p style='color:#999'>grey</p>": "contrast 2.85: 'grey'",
    "<p style='color:#fff;background:#fff'><b style='background:#888'>on grey</b></p>": "contrast 3.54: 'on grey'",
    "<p style='opacity:.5'>half there</p>": "contrast 3.98: 'half there'",
    "<svg width='99' height='20'><text y='15' fill='#bbb'>drawn</text></svg>": "contrast 1.92: 'drawn'",
}
FAULTLESS = {
    "large": "<h1 style='color:#888;font-size:24px'>3.54 is enough for a title</h1>",
    "hidden": "<p style='color:#999' hidden>grey</p><p style='opacity:0'>gone</p>",
    "boxed": "<div style='overflow-x:auto'><div style='width:900px'>scrolls in its box</div></div>",
    "inline": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==' alt=''>",
}


def written(tmp_path, body):
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><html lang='en'><head><link rel='icon' href='data:,'><title>page</title></head><body>{body}</body></html>", "utf-8")
    return path


@pytest.mark.parametrize("body", FAULTY)
def test_a_fault_is_found(page, tmp_path, body):
    faults = page.open(written(tmp_path, body), size=PHONE).faults()
    assert [fault for fault in faults if fault.startswith(FAULTY[body])], faults


@pytest.mark.parametrize("body", FAULTLESS.values(), ids=FAULTLESS)
def test_what_is_in_order_is_no_fault(page, tmp_path, body):
    assert page.open(written(tmp_path, body), size=PHONE).faults() == []


def test_the_dark_is_checked_too(page, tmp_path):
    path = written(tmp_path, "<style>@media (prefers-color-scheme: dark) { body { background: #222; color: #444 } }</style>text")
    assert page.open(path).faults() == []
    assert [fault.partition(":")[0] for fault in page.open(path, dark=True).faults()] == ["contrast 1.63"]
