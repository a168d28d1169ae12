"""A page in headless Chromium, and what every page of the project has to be: quiet, offline, narrow enough for a phone, readable by day and by night."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
#: addresses that lead to no network; the last are those of the page that a browser starts with
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:")
PATIENCE_S = 10
PHONE, DESK = (400, 800), (1280, 900)
CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")


class Page:
    """The browser with one page open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, *, size: tuple[int, int] = DESK, dark: bool = False) -> Page:
        """Load a file as somebody with this screen would see it."""
        self.driver.get_log("browser"), self.driver.get_log("performance")
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False})
        self.driver.get(path.as_uri())
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        """The elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first element of a CSS selector; what a click sets off may come a little later."""
        return WebDriverWait(self.driver, PATIENCE_S).until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))

    def texts(self, selector: str) -> list[str]:
        """The texts of those that can be seen."""
        found: list[str] = self.run("return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility()).map((one) => one.innerText)", selector)
        return found

    def show(self, selector: str) -> WebElement:
        """Scroll to the first element of a CSS selector."""
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def faults(self) -> list[str]:
        """Everything that no page may have: messages on the console, requests to a network, a page wider than its window, text that cannot be read."""
        found = [f"console: {entry['message']}" for entry in self.driver.get_log("browser")]
        found += [f"network: {address}" for address in self._requested() if not address.startswith(LOCAL)]
        wide, room = self.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        if wide > room:
            found.append(f"scrolls sideways: {wide} of {room} pixels")
        return found + [f"contrast {ratio:.2f}: {text!r} ({colours})" for text, ratio, colours in self.run(CONTRAST)]

    def _requested(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]


@contextmanager
def chromium() -> Iterator[Page]:
    """A fresh browser. Raises when there is none: these tests are not skipped."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
        try:
            yield Page(driver)
        finally:
            driver.quit()
