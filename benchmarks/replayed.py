"""D1: `ipvs-model replay` of a generated capture, to the price of an established packet (E1) in the same rounds."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.capture import write
from benchmarks.established import established
from benchmarks.measure import Case, Pair, cpu
from ipvs_model.tools.commands.replay import play
from ipvs_model.tools.replay import Replay


def replayed(packets: int = 1_000_000, connections: int = 100_000) -> Pair:
    """Reading, parsing, feeding and accounting of a whole capture; the other side is as many packets of E1."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "capture.pcap"
    assert write(path, packets, connections, seed=1) == packets
    rules = path.with_suffix(".rules").read_text()
    e1 = established(repeat=100)  # long enough to be as steady as a replay

    def model(kept: tempfile.TemporaryDirectory[str] = folder) -> float:
        replay = Replay(rules)
        seconds = cpu(lambda: play(str(path), replay))
        assert replay.client_packets + replay.answers_fed == replay.emitted == packets
        assert sum(dest.stats.conns for _, dest in replay.servers) == connections
        return seconds

    return Pair(model, lambda: e1.model() * packets / e1.operations, packets)


CASES = [
    Case("D1", "replay of 1,000,000 packets of 100,000 connections, to E1", replayed, allocates=True, rounds=7),
    Case("D1.100k", "replay of 100,000 packets of 10,000 connections, to E1", partial(replayed, 100_000, 10_000), unit="E1", allocates=True, rounds=7),
]
