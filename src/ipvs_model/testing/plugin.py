"""pytest plugin: fixtures `ipvs`, a fresh `IPVS`, and `lab`, a fresh `Lab`. Found by its entry point; nothing is imported until a test asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ipvs_model import IPVS
    from ipvs_model.testing.lab import Lab


@pytest.fixture
def ipvs() -> IPVS:
    """A director without rules, just booted."""
    from ipvs_model import IPVS

    return IPVS()


@pytest.fixture
def lab(ipvs: IPVS) -> Lab:
    """A lab around it: builders, and statements about packets."""
    from ipvs_model.testing.lab import Lab

    return Lab(ipvs)
