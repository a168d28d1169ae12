"""Virtual time: jiffies, timers, delayed works and the clock that runs them as the kernel's timer wheel does."""

from ipvs_model.timers.clock import Clock, DelayedWork
from ipvs_model.timers.jiffies import (
    expires_seconds,
    initial_jiffies,
    jiffies_to_msecs,
    jiffies_to_seconds,
    jiffies_to_sync_seconds,
    max_timeout_seconds,
    persistence_to_jiffies,
    seconds_to_jiffies,
    sync_seconds_to_jiffies,
)
from ipvs_model.timers.timer import LVL_DEPTH, Bucket, FunctionTimer, Timer, lvl_depth, lvl_gran, lvl_start

__all__ = [
    "LVL_DEPTH",
    "Bucket",
    "Clock",
    "DelayedWork",
    "FunctionTimer",
    "Timer",
    "expires_seconds",
    "initial_jiffies",
    "jiffies_to_msecs",
    "jiffies_to_seconds",
    "jiffies_to_sync_seconds",
    "lvl_depth",
    "lvl_gran",
    "lvl_start",
    "max_timeout_seconds",
    "persistence_to_jiffies",
    "seconds_to_jiffies",
    "sync_seconds_to_jiffies",
]
