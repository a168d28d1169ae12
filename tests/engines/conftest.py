import pytest
from tests.apps.lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()
