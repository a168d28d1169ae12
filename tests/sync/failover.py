"""The fail-over study: a master, backups behind links of different loss, seeded traffic, and the master's death in the middle of it.

`python -m tests.sync.failover` prints the table of docs/failover.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from statistics import mean
from typing import Final

from attrs import frozen
from tests.sync.lab import BACKUP, MASTER, VIP, director, start

from ipvs_model.addresses import format_endpoint
from ipvs_model.flags import AF_INET, Hook, Verdict
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.sync.link import SyncLink

HZ: Final = 250
#: jiffies of traffic before the master dies: it is looked at as if it died at each of these moments, and dies at the last
DEATHS: Final = tuple(range(60 * HZ, 100 * HZ + 1, 1000))
AFTER: Final = 20 * HZ  #: jiffies in which new connections go on beginning
SERVERS: Final = tuple(f"10.1.0.{number}:80" for number in range(11, 15))
LOSSES: Final = (0.0, 0.05, 0.5)
SEEDS: Final = (1, 2, 3)  #: of the losses: there are so many links that lose 5 %, and as many that lose 50 %

# --- traffic ------------------------------------------------------------------------------------------------------------


@frozen
class Kind:
    """A kind of client: how many begin in a second, seconds between its packets (least, most), packets between handshake and FIN (least, most)."""

    name: str
    per_second: float
    gap: tuple[float, float]
    packets: tuple[int, int]


KINDS: Final = (
    Kind("page", 2.0, (0.02, 0.4), (1, 6)),  # a few requests, closed at once
    Kind("api", 0.6, (1.0, 6.0), (15, 60)),  # requests over a connection that is kept
    Kind("upload", 0.05, (0.05, 0.15), (200, 600)),
    Kind("waiting", 0.5, (40.0, 80.0), (3, 8)),  # a subscription: one request at once, then a sign of life a minute
    Kind("pool", 0.3, (150.0, 600.0), (1, 2)),  # opened in advance, not used yet
)
TALKS_AT_ONCE: Final = "waiting"


@frozen
class Visit:
    """One connection: its client, and its packets as (jiffies since the start, flags), in order."""

    client: str
    packets: tuple[tuple[int, str], ...]

    def is_open(self, at: int) -> bool:
        """The client has finished the handshake and not begun to close."""
        sent = [flags for when, flags in self.packets if when <= at]
        return "A" in sent and "FA" not in sent


def visit(kind: Kind, number: int, begin: float, dice: random.Random) -> Visit:
    """A client of a kind that begins at a second."""
    at, packets = begin + 0.03, [(begin, "S"), (begin + 0.03, "A")]
    for turn in range(dice.randint(*kind.packets)):
        at += 0.01 if turn == 0 and kind.name == TALKS_AT_ONCE else dice.uniform(*kind.gap)
        packets.append((at, "PA"))
    packets.append((at + dice.uniform(*kind.gap), "FA"))
    client = f"172.16.{number >> 8}.{number & 0xFF}:{dice.randint(1024, 65535)}"
    return Visit(client, tuple((round(second * HZ), flags) for second, flags in packets))


@cache
def traffic(seed: int = 1) -> tuple[Visit, ...]:
    """All connections that begin before the last death or within `AFTER`."""
    dice = random.Random(seed)
    begins = [(second, kind) for kind in KINDS for second in arrivals(kind.per_second, dice)]
    return tuple(visit(kind, number, second, dice) for number, (second, kind) in enumerate(begins))


def arrivals(per_second: float, dice: random.Random) -> Iterator[float]:
    """Seconds at which connections begin, independently of each other."""
    second = dice.expovariate(per_second)
    while second * HZ < DEATHS[-1] + AFTER:
        yield second
        second += dice.expovariate(per_second)


# --- the study ----------------------------------------------------------------------------------------------------------


@frozen
class Setting:
    """What is set on all directors."""

    sync_threshold: str = "3 50"
    sync_refresh_period: int = 0
    sync_retries: int = 0
    daemons: bool = True  #: False: nothing is synchronised; the services use mh, and sloppy_tcp is on

    def __str__(self) -> str:
        if not self.daemons:
            return "no daemons, but `mh` and `sloppy_tcp` 1"
        more = {"`sync_refresh_period`": self.sync_refresh_period, "`sync_retries`": self.sync_retries}
        return ", ".join([f"`{self.sync_threshold}`", *(f"{name} {value}" for name, value in more.items() if value)])

    def apply(self, ipvs: IPVS) -> None:
        """Set a director up, its daemon apart."""
        service = ipvs.add_service("tcp", f"{VIP}:80", scheduler="rr" if self.daemons else "mh")
        for server in SERVERS:
            ipvs.add_dest(service, server)
        for name in ("sync_threshold", "sync_refresh_period", "sync_retries"):
            ipvs.sysctl_write(name, getattr(self, name))
        ipvs.sysctl_write("sloppy_tcp", int(not self.daemons))
        ipvs.sysctl_write("run_estimation", 0)


SETTINGS: Final = (
    Setting("3 50"),
    Setting("2 50"),
    Setting("1 5"),
    Setting("2 5"),
    Setting("0 1"),
    Setting("3 0"),
    Setting("3 0", 10),
    Setting("3 0", 10, 3),
    Setting(daemons=False),
)


@frozen
class Fate:
    """What became of traffic on one backup after the last death."""

    survived: int = 0  #: connections ESTABLISHED on the master whose next packet went to the server that they had
    moved: int = 0  #: … to another server
    refused: int = 0  #: … to none: the host answers with a reset
    newcomers: int = 0  #: connections that began after the death and got a server


@frozen
class Backup:
    """One backup: the share of established connections that it knows at each death, and what came of it."""

    loss: float
    known: tuple[float, ...]
    fate: Fate
    ghosts: int  #: entries ESTABLISHED here at the last death, but not, or no more, on the master


@frozen
class Result:
    """One run: what the master sent before it died, and the backups."""

    setting: Setting
    established: int  #: entries ESTABLISHED on the master when it died
    records: int
    datagrams: int
    backups: tuple[Backup, ...]

    def of(self, loss: float) -> list[Backup]:
        """The backups behind links of this loss."""
        return [backup for backup in self.backups if backup.loss == loss]

    def share(self, loss: float) -> float:
        """Part of the established connections that survives: the mean over links and moments."""
        if not self.setting.daemons:
            return mean(backup.fate.survived for backup in self.of(loss)) / self.established
        return mean(share for backup in self.of(loss) for share in backup.known)

    def ghosts(self, loss: float) -> float:
        """Mean number of ghosts."""
        return mean(backup.ghosts for backup in self.of(loss))


def run(setting: Setting, visits: Sequence[Visit]) -> Result:
    """Let traffic pass the master until it dies, and the backups from then on."""
    master = director()
    setting.apply(master)
    lines = [(loss, seed) for loss in LOSSES for seed in (SEEDS if loss else SEEDS[:1])]
    backups = [director(master.clock) for _ in lines]
    for backup in backups:
        setting.apply(backup)
    links = []
    if setting.daemons:
        start(master, MASTER)
        for backup, (loss, seed) in zip(backups, lines, strict=True):
            start(backup, BACKUP)
            links.append(SyncLink(master, backup, loss=loss, delay=1, seed=seed))
    zero, begin = master.clock.now, -1
    known: list[list[float]] = [[] for _ in backups]
    for death in DEATHS:
        play(master, visits, zero, begin, death)
        begin = death
        established = servers(master)
        for backup, shares in zip(backups, known, strict=True):
            found = servers(backup)
            shares.append(sum(found.get(client) == server for client, server in established.items()) / len(established))
    sent = (links[0].applied, links[0].sent) if links else (0, 0)
    for link in links:
        link.up = False
    ghosts = [len(servers(backup).keys() - established.keys()) for backup in backups]
    fates = [Fate(*counts) for counts in take_over(backups, visits, zero, established)]
    each = zip(lines, known, fates, ghosts, strict=True)
    return Result(setting, len(established), *sent, tuple(Backup(loss, tuple(shares), fate, count) for (loss, _), shares, fate, count in each))


def servers(ipvs: IPVS) -> dict[int, int]:
    """Client and real server of the entries that are ESTABLISHED."""
    return {cp.client: cp.real for cp in ipvs.conns(state="ESTABLISHED")}


def play(master: IPVS, visits: Sequence[Visit], zero: int, begin: int, end: int) -> None:
    """The traffic of the jiffies after `begin` up to `end`: clients' packets and the servers' answers."""
    packets = sorted((at, visit.client, flags) for visit in visits for at, flags in visit.packets if begin < at <= end)
    for at, same in groupby(packets, lambda packet: packet[0]):
        master.clock.advance_to(zero + at)
        for _, client, flags in same:
            there = Packet.tcp(client, f"{VIP}:80", flags)
            out = master.process(there).apply(there)
            assert out is not None
            if flags != "A":
                back = Packet.tcp(format_endpoint(AF_INET, out.dst), client, "SA" if flags == "S" else flags)
                master.process(back, Hook.FORWARD)
    master.clock.advance_to(zero + end)


def take_over(backups: list[IPVS], visits: Sequence[Visit], zero: int, established: dict[int, int]) -> list[tuple[int, int, int, int]]:
    """The next packet of every open connection, and the SYN of every new one, on each backup: survived, moved, refused, newcomers."""
    death = DEATHS[-1]
    first = [
        next((at, visit.client, flags) for at, flags in visit.packets if at > death)
        for visit in visits
        if visit.is_open(death) or visit.packets[0][0] > death
    ]
    counts = [[0, 0, 0, 0] for _ in backups]
    for at, client, flags in sorted(first):
        backups[0].clock.advance_to(zero + at)
        for backup, count in zip(backups, counts, strict=True):
            packet = Packet.tcp(client, f"{VIP}:80", flags)
            action = backup.process(packet)
            out = action.apply(packet) if action.verdict is Verdict.STOLEN else None
            if flags == "S":
                count[3] += out is not None
            elif out is None:
                count[2] += 1
            else:
                count[0 if out.dst == established[packet.src] else 1] += 1
    return [(survived, moved, refused, newcomers) for survived, moved, refused, newcomers in counts]


@cache
def result(setting: Setting) -> Result:
    """A setting under the traffic of the study."""
    return run(setting, traffic())


def table() -> str:
    """The table of docs/failover.md."""
    lines = ["| `sync_threshold` | 0 % lost | 5 % lost | 50 % lost | records | datagrams | ghosts |", "|---|---|---|---|---|---|---|"]
    for found in map(result, SETTINGS):
        shares = [f"{100 * found.share(loss):.0f} %" for loss in LOSSES]
        cells = [str(found.setting), *shares, str(found.records), str(found.datagrams), f"{found.ghosts(0.5):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
