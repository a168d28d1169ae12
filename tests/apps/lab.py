"""A director with helpers, spoken to in packets of one client and its servers."""

from __future__ import annotations

from ipvs_model.addresses import parse_endpoint
from ipvs_model.apps import AppRegistry
from ipvs_model.conn import Conn
from ipvs_model.conn_table import ConnTable
from ipvs_model.datapath import run_hook
from ipvs_model.dest import Dest, DestTrash, RealServerTable
from ipvs_model.engines import PersistenceEngine
from ipvs_model.flags import (
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_DEST_CF_AVAILABLE,
    IP_VS_SVC_F_ONEPACKET,
    IP_VS_SVC_F_PERSISTENT,
    Hook,
)
from ipvs_model.netns import Environment, Netns
from ipvs_model.packet import Packet
from ipvs_model.protocols import PROTOCOLS
from ipvs_model.schedulers import bind_scheduler
from ipvs_model.schedulers.rr import RoundRobin
from ipvs_model.service import Service, ServiceTable, ServiceUser
from ipvs_model.transmit import bind_xmit


def endpoint(text: str) -> int:
    """ "10.0.0.1:80" as one int."""
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port


class Lab:
    """One namespace, wired as far as helpers need it."""

    def __init__(self) -> None:
        ns = self.ns = Netns(Environment())
        ns.services = ServiceTable(ns)
        ns.conns = ConnTable(ns)
        ns.rs_table = RealServerTable()
        ns.trash = DestTrash(ns)
        for protocol in PROTOCOLS:
            ns.protocols[protocol.protocol] = protocol.net_init(ns)
        ns.hooks_afmask = 3
        ns.num_services = 1
        ns.bind_xmit = bind_xmit
        self.apps = AppRegistry(ns)
        ns.bind_app = self.apps.bind
        ns.unbind_app = self.apps.unbind
        self.tracked = True
        ns.conntrack_active = lambda af: self.tracked

    def service(
        self, address: str, *servers: str, protocol: int = 6, method: int = 0, persistent: bool = False, netmask: int | None = None, engine: PersistenceEngine | None = None, one_packet: bool = False
    ) -> Service:
        """A round-robin service with its servers."""
        af, addr, port = parse_endpoint(address)
        if netmask is None:
            netmask = 0xFFFFFFFF if af == 2 else 128
        flags = (IP_VS_SVC_F_PERSISTENT if persistent else 0) | (IP_VS_SVC_F_ONEPACKET if one_packet else 0)
        svc = Service(self.ns, ServiceUser(af=af, protocol=protocol, addr=addr, port=port, netmask=netmask, timeout=60, flags=flags))
        bind_scheduler(svc, RoundRobin())
        svc.pe = engine
        if engine is not None and engine.conn_out is not None:
            self.ns.conn_out_counter += 1
        self.ns.services.hash(svc)
        for server in servers:
            af, addr, port = parse_endpoint(server)
            dest = Dest(svc, af, addr, port)
            dest.svc = svc
            dest.weight = 1
            dest.cflags = IP_VS_DEST_CF_AVAILABLE
            dest.conn_flags = method | IP_VS_CONN_F_INACTIVE | (IP_VS_CONN_F_NOOUTPUT if method else 0)
            svc.link(dest)
            svc.refcnt += 1
            svc.scheduler.add_dest(svc, dest)
            self.ns.rs_table.hash(dest)
        return svc

    def client(self, packet: Packet) -> Packet | None:
        """What leaves for a packet of a client; None: nothing."""
        packet.device = packet.device or "cli"
        return run_hook(self.ns, Hook.LOCAL_IN, packet).apply(packet)

    def server(self, packet: Packet) -> Packet | None:
        """What leaves for a packet of a server."""
        packet.device = packet.device or "rs"
        return run_hook(self.ns, Hook.FORWARD, packet).apply(packet)

    def conns(self) -> list[str]:
        """All entries but templates, as "client virtual real state", sorted."""
        return sorted(f"{cp.key()} {cp.state_name}".split(" ", 1)[1] for cp in self.ns.conns if not cp.is_template)

    def conn(self, client: str) -> Conn:
        """The only entry of a client endpoint."""
        (cp,) = (cp for cp in self.ns.conns if cp.client == endpoint(client))
        return cp
