"""One browser for all tests of a process."""

from collections.abc import Iterator

import pytest
from tests.browser.page import Page, chromium


@pytest.fixture(scope="session")
def page() -> Iterator[Page]:
    with chromium() as opened:
        yield opened
