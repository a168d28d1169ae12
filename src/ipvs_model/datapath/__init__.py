"""The packet path: hook functions, scheduling, ICMP."""

from ipvs_model.datapath.hooks import HANDLERS, run_hook

__all__ = ["HANDLERS", "run_hook"]
