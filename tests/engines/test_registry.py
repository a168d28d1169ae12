"""Engines by name (spec/60 section 8.1)."""

import errno

import pytest

from ipvs_model.engines import EngineRegistry, PersistenceEngine, Sip
from ipvs_model.engines.base import FIELDS
from ipvs_model.errors import IPVSError
from ipvs_model.fields import names


class Mine(PersistenceEngine):
    name = "mine"


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def registry(lines: list[tuple[str, str]]) -> EngineRegistry:
    return EngineRegistry(lambda level, text: lines.append((level, text)))


def test_sip_is_there(registry: EngineRegistry) -> None:
    assert isinstance(registry.get("sip"), Sip) and registry.find("sip") is registry.get("sip")
    assert [repr(engine) for engine in registry] == ["<engine sip>"]


def test_an_unknown_name(registry: EngineRegistry, lines: list[tuple[str, str]]) -> None:
    assert registry.find("SIP") is None
    with pytest.raises(IPVSError) as refused:
        registry.get("SIP")
    assert refused.value.errno == errno.ENOENT
    assert lines == [("info", "IPVS: persistence engine module ip_vs_pe_SIP not found")]


def test_a_users_engine_comes_and_goes(registry: EngineRegistry, lines: list[tuple[str, str]]) -> None:
    mine = registry.register(Mine)
    assert registry.get("mine") is mine
    registry.unregister(mine)
    assert registry.find("mine") is None
    assert [text for _, text in lines] == ["IPVS: [mine] pe registered.", "IPVS: [mine] pe unregistered."]


@pytest.mark.parametrize("engine", [Sip(), PersistenceEngine()])
def test_names_are_taken_once_and_not_empty(registry: EngineRegistry, engine: PersistenceEngine) -> None:
    with pytest.raises(IPVSError) as refused:
        registry.register(engine)
    assert refused.value.errno == errno.EINVAL


def test_only_what_is_there_can_be_unregistered(registry: EngineRegistry) -> None:
    with pytest.raises(IPVSError) as refused:
        registry.unregister(Sip())
    assert refused.value.errno == errno.EINVAL


def test_an_engine_has_only_the_methods_that_it_defines() -> None:
    bare = Mine()
    assert (bare.fill_param, bare.ct_match, bare.hashkey_raw, bare.conn_out) == (None, None, None, None)
    assert {"fill_param", "ct_match", "hashkey_raw", "show_pe_data", "conn_out"} <= names(FIELDS)
