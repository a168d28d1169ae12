"""Transmitters: how a packet of a connection leaves, and the actions that say so."""

from ipvs_model.transmit.action import Accepted, Action, Dropped, Prepared, Stolen
from ipvs_model.transmit.xmit import Transmitter, bind_xmit, forget_actions, routes_changed

__all__ = ["Accepted", "Action", "Dropped", "Prepared", "Stolen", "Transmitter", "bind_xmit", "forget_actions", "routes_changed"]
