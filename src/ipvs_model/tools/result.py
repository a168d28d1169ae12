"""What a replay found, as data: printed, written as JSON, drawn."""

from typing import Any, Final

from attrs import asdict, evolve, frozen

from ipvs_model.flags import KERNEL_VERSION
from ipvs_model.tools.timeline import Sample

#: a server on the director itself; a fragment that waits for the others; a ping, which the director answers
NOT_LOST: Final = frozenset(("local", "fragment", "not icmp error"))


@frozen
class ServerRow:
    """A real server after the replay. Packets and bytes are IPVS's own counters: a NAT packet counts as it came in, before it is rewritten."""

    service: str  #: "TCP 192.0.2.1:80"
    server: str  #: "10.1.0.11:8080"
    method: str  #: "Masq", "Route", "Tunnel", "Local"
    weight: int
    connections: int  #: scheduled to it
    share: float  #: of its service's connections, 0 to 1
    inpkts: int
    outpkts: int
    inbytes: int
    outbytes: int
    lost: int  #: packets of its connections that did not get through
    active: int  #: at the end
    inactive: int  #: at the end


@frozen
class OutcomeRow:
    """Packets that met the same fate."""

    packets: int
    what: str  #: "client packet" or "answer"
    verdict: str  #: "STOLEN", "ACCEPT", "DROP"
    reason: str  #: a code of Outcome.reason
    text: str  #: the reason in words
    went: str  #: "on" to server or client, to the "director" itself, or "nowhere"
    first_record: int  #: the first of them in the capture

    @property
    def lost(self) -> bool:
        """Whether sender and receiver would call them lost: no connection carried them, and nobody waits for more of them."""
        return self.went != "on" and self.reason not in NOT_LOST


@frozen
class LeftOut:
    """Packets of the capture that were not fed to the model."""

    packets: int
    why: str
    first_record: int


@frozen
class Result:
    """Everything about one replay."""

    capture: str
    format: str
    link_types: tuple[str, ...]
    records: int
    duration: float  #: seconds from the first packet to the last
    problems: tuple[str, ...]  #: what could not be read or understood, with positions
    passed_over: dict[str, int]  #: frames without IP, by kind
    rules: str
    listing: str  #: ipvsadm -Ln at the end
    client_packets: int
    answers: int
    emitted: int  #: packets that left the director, ICMP errors of its own among them
    outcomes: tuple[OutcomeRow, ...]
    left_out: tuple[LeftOut, ...]
    servers: tuple[ServerRow, ...]
    notes: tuple[str, ...]  #: what was assumed or repaired
    step: float  #: seconds between the samples of the timeline
    timeline: tuple[tuple[Sample, ...], ...]  #: one sample for each server, in the order of `servers`
    interrupted: bool = False  #: the capture was not read to its end; the first of the notes says how far

    @property
    def lost(self) -> int:
        """Packets that were fed and did not get through."""
        return sum(row.packets for row in self.outcomes if row.lost)

    def as_json(self) -> dict[str, Any]:
        """Plain data for JSON; the timeline is given as columns for each server."""
        out = asdict(evolve(self, timeline=()))
        out["kernel"] = KERNEL_VERSION
        out["lost"] = self.lost
        out["outcomes"] = [asdict(row) | {"lost": row.lost} for row in self.outcomes]
        columns = [dict(zip(Sample._fields, map(list, zip(*samples, strict=True)), strict=True)) for samples in zip(*self.timeline, strict=True)]
        out["timeline"] = {"step": out.pop("step"), "servers": columns}
        return out

