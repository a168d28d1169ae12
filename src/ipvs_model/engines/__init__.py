"""Persistence engines: what users subclass, the registry, and the kernel's own one, SIP."""

from ipvs_model.engines.base import PersistenceEngine
from ipvs_model.engines.registry import EngineRegistry
from ipvs_model.engines.sip import Sip

__all__ = ["EngineRegistry", "PersistenceEngine", "Sip"]
