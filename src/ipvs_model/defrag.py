"""Reassembly under the clock: a datagram whose fragments do not all come is given up.

source: ip_fragment.c, ip_expire; ipv6_frag.h, ip6frag_expire_frag_queue; inet_fragment.c, inet_frag_create, inet_frag_kill
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ipvs_model.packet import Packet
from ipvs_model.packet.reassembly import Key, Malformed, Queue, Reassembler, Tailroom, drop, no_room
from ipvs_model.timers import Clock, FunctionTimer

IPFRAG_TIME_S: Final = 30  #: net.ipv4.ipfrag_time
IP6FRAG_TIME_S: Final = 60  #: net.ipv6.ip6frag_time


def forget(first: Packet) -> None:
    """Tell nobody."""


class Defragmenter(Reassembler):
    """A Reassembler with a timer for each datagram, counted from the fragment that came first.

    `expired` gets the first fragment of what is given up, if there is one: about it, a host sends "reassembly time exceeded".
    """

    def __init__(self, clock: Clock, seconds: int, expired: Callable[[Packet], object] = forget, malformed: Malformed = drop, tailroom: Tailroom = no_room) -> None:
        super().__init__(malformed, tailroom)
        self.clock = clock
        self.timeout = seconds * clock.hz
        self.expired = expired
        self._timers: dict[Key, FunctionTimer] = {}

    def _open(self, key: Key) -> Queue:
        timer = self._timers[key] = FunctionTimer(partial(self._expire, key))
        self.clock.mod_timer(timer, self.clock.now + self.timeout)
        return super()._open(key)

    def _close(self, key: Key) -> Queue:
        self.clock.del_timer(self._timers.pop(key))
        return super()._close(key)

    def _expire(self, key: Key) -> None:
        queue = self._close(key)
        if queue.begun:
            self.expired(queue.parts[0].quotable())
