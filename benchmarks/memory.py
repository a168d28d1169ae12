"""What a million connections weigh: run in a process of its own."""

from __future__ import annotations

import gc
import json
import os

from benchmarks.cases import VIP, director
from ipvs_model import Packet


def resident() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(conns: int) -> None:
    """Establish so many connections and print the growth as JSON."""
    ipvs = director()
    for number in range(1000):
        ipvs.process(Packet.tcp((1 + number, 1024), VIP, "S", device="cli"))
    gc.collect()
    before = resident()
    for number in range(conns):
        source = (0x64000000 + number // 50, 1024 + number * 37 % 60000)
        ipvs.process(Packet.tcp(source, VIP, "S", device="cli"))
        ipvs.process(Packet.tcp(source, VIP, "A", device="cli"))
        if number % 400 == 0:
            ipvs.clock.advance(1)
    assert ipvs.ns.conn_count >= conns
    print(json.dumps({"conns": conns, "bytes": (resident() - before) / conns}))
