"""The persistence engines by name.

source: ip_vs_pe.c
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from ipvs_model.engines.base import PersistenceEngine
from ipvs_model.engines.sip import Sip
from ipvs_model.errors import IPVSError


def no_log(level: str, text: str) -> None:
    """A log that nobody reads."""


class EngineRegistry:
    """Engines by name: the kernel's, as if its module were loaded, and those that users register. The kernel has one list for all namespaces.

    ``log`` gets the level ("err" or "info") and the line.
    """

    def __init__(self, log: Callable[[str, str], object] = no_log) -> None:
        self._log = log
        self._engines: list[PersistenceEngine] = [Sip()]

    def __iter__(self) -> Iterator[PersistenceEngine]:
        return iter(self._engines)

    def find(self, name: str) -> PersistenceEngine | None:
        """The engine of exactly that name, or None (source: ip_vs_pe.c, __ip_vs_pe_getbyname)."""
        return next((engine for engine in self._engines if engine.name == name), None)

    def get(self, name: str) -> PersistenceEngine:
        """The engine of that name. Raises IPVSError(ENOENT), and logs, if there is none (source: ip_vs_pe.c, ip_vs_pe_getbyname)."""
        engine = self.find(name)
        if engine is None:
            self._log("info", f"IPVS: persistence engine module ip_vs_pe_{name} not found")
            raise IPVSError(errno.ENOENT)
        return engine

    def register(self, engine: PersistenceEngine | type[PersistenceEngine]) -> PersistenceEngine:
        """Add an engine, a class or an object, and return the object. Raises IPVSError(EINVAL), and logs, if its name is taken or empty.

        source: ip_vs_pe.c, register_ip_vs_pe
        """
        if isinstance(engine, type):
            engine = engine()
        if not engine.name:
            raise IPVSError(errno.EINVAL)
        if self.find(engine.name) is not None:
            self._log("err", f"IPVS: register_ip_vs_pe(): [{engine.name}] pe already existed in the system")
            raise IPVSError(errno.EINVAL)
        self._engines.append(engine)
        self._log("info", f"IPVS: [{engine.name}] pe registered.")
        return engine

    def unregister(self, engine: PersistenceEngine) -> None:
        """Remove an engine that no service and no template uses. Raises IPVSError(EINVAL) if it is not there (source: ip_vs_pe.c, unregister_ip_vs_pe)."""
        if not any(other is engine for other in self._engines):
            raise IPVSError(errno.EINVAL)
        self._engines = [other for other in self._engines if other is not engine]
        self._log("info", f"IPVS: [{engine.name}] pe unregistered.")
