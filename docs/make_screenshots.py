"""The README's pictures of a report: `python docs/make_screenshots.py` makes them anew from the example capture. Needs Chromium and selenium (extra: dev)."""

import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from click.testing import CliRunner
from PIL import Image

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.page import Page, chromium

from ipvs_model.tools.command_line import group

COLOURS: Final = 256  #: enough for the pages, and half of the bytes
CAPTURE: Final = "examples/web-and-dns.pcap.gz"
#: name → size of the window, dark or not, and what is done before the picture is taken
PICTURES: Final = {
    "report-light": ((1300, 1340), False, "scrollTo(0, 0)"),
    "report-dark": ((1180, 1180), True, "showView(0, 0.8); choose(1, false); document.getElementById('connections').scrollIntoView()"),
}


def main() -> None:
    """Write all of `PICTURES`."""
    with TemporaryDirectory() as directory, chromium() as page:
        report = Path(directory) / "report.html"
        rules = CAPTURE.replace(".pcap.gz", ".rules")
        CliRunner().invoke(group(), ["replay", CAPTURE, "--rules", rules, "--report", str(report)], catch_exceptions=False)
        for name, (size, dark, script) in PICTURES.items():
            page.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            page.open(report, size=size, dark=dark)
            page.run(script)
            picture(page).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(ROOT / "docs" / "pictures" / f"{name}.png", optimize=True)


def picture(page: Page) -> Image.Image:
    """The window, when everything is drawn."""
    page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    return Image.open(BytesIO(b64decode(page.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]))).convert("RGB")


if __name__ == "__main__":
    main()
