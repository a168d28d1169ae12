"""A model, and ipvsadm on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipvs_model.ipvs import IPVS
from ipvs_model.ipvsadm import Result


@pytest.fixture
def ipvs() -> IPVS:
    return IPVS()


@pytest.fixture
def ipvsadm(ipvs: IPVS) -> Callable[..., Result]:
    return ipvs.ipvsadm
