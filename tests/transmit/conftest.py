from typing import Any

import pytest
from tests.lab import Lab


@pytest.fixture(params=["fast", "layered"])
def lab(request: Any) -> Lab:
    """A director; each test that asks for one runs on both roads."""
    return Lab(fast=request.param == "fast")
