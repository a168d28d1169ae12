"""One or two directors with daemons, and the traffic of the specification's examples."""

from __future__ import annotations

from typing import Any

from tests.sync.examples import ep

from ipvs_model.conn import Conn
from ipvs_model.flags import Hook
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.service import Service
from ipvs_model.sync import DaemonUser, SyncMessage, SyncRecord, SyncReport, encode_message
from ipvs_model.timers import Clock

VIP = "192.168.100.1"
CLIENT = "172.16.0.5"
MASTER, BACKUP = 1, 2


def director(clock: Clock | None = None, plugins: tuple[Any, ...] = (), **env: Any) -> IPVS:
    """A director without daemons."""
    return IPVS(Environment(**env), plugins=plugins, clock=clock)


def web(ipvs: IPVS, *dests: str, port: int = 80, protocol: str = "tcp", forward: str = "masq", **options: Any) -> Service:
    """A service at the virtual address with destinations."""
    svc = ipvs.add_service(protocol, f"{VIP}:{port}", scheduler="rr", **options)
    for dest in dests or ("10.1.0.11:8080",):
        ipvs.add_dest(svc, dest, forward=forward)
    return svc


def start(ipvs: IPVS, state: int, syncid: int = 7, **options: Any) -> None:
    """Start a daemon on eth0."""
    ipvs.control.new_daemon(DaemonUser(state, "eth0", syncid, **options))


def tcp(ipvs: IPVS, flags: str, sport: int = 3000, vport: int = 80, client: str = CLIENT) -> None:
    """Client packets, one for each word of `flags`: "S A A"."""
    for one in flags.split():
        ipvs.process(Packet.tcp(f"{client}:{sport}", f"{VIP}:{vport}", one))


def udp(ipvs: IPVS, sport: int, vport: int = 80, payload: bytes = b"x", client: str = CLIENT) -> None:
    """One client datagram."""
    ipvs.process(Packet.udp(f"{client}:{sport}", f"{VIP}:{vport}", payload))


def reply(ipvs: IPVS, flags: str, server: str = "10.1.0.11:8080", client: str = f"{CLIENT}:3000") -> None:
    """An answer of a real server."""
    ipvs.process(Packet.tcp(server, client, flags), Hook.FORWARD)


def sent(ipvs: IPVS, seconds: float = 4) -> list[str]:
    """Let time pass and take the messages that left, in hex."""
    ipvs.clock.advance(seconds=seconds)
    return [datagram.payload.hex() for datagram in ipvs.daemons.take()]


def received(ipvs: IPVS, *records: SyncRecord, version: int = 1, syncid: int = 7) -> SyncReport:
    """Give the backup a message."""
    return ipvs.receive_sync(encode_message(SyncMessage(version, syncid, records)))


def entry(ipvs: IPVS, client: str = f"{CLIENT}:3000") -> Conn:
    """The one entry of a client endpoint."""
    (cp,) = (cp for cp in ipvs.conns() if cp.client == ep(client))
    return cp
