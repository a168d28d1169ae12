"""Application helpers: what users subclass, and the kernel's own one, FTP."""

from ipvs_model.apps.base import App, Application, AppRegistry, HookResult, Incarnation, incarnations
from ipvs_model.apps.ftp import Ftp

__all__ = ["App", "AppRegistry", "Application", "Ftp", "HookResult", "Incarnation", "incarnations"]
