"""A laboratory: one director, a client, servers A to D, and packets that are said to it; every step is followed by a check of all invariants.

    lab.service("rr", "A")
    lab.client("S").goes_to("A").state("SYN_RECV", 60)
    lab.server("A", "SA").leaves_from(VIP)

Seconds (`at`, `wait`) count from the beginning of the test. `Lab(fast=False)` takes the layered path only.
"""

from __future__ import annotations

from typing import Any

from ipvs_model.addresses import EndpointLike, format_addr, parse_addr, parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.flags import Hook, Verdict
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.packet.local import local_answer
from ipvs_model.service import Service
from ipvs_model.stats import Stats
from ipvs_model.transmit import Action

VIP, CLIENT, DIRECTOR = "192.0.2.1", "203.0.113.5", "10.1.0.1"
SERVERS = {"A": "10.1.0.11", "B": "10.1.0.12", "C": "10.1.0.13", "D": "10.1.0.14"}
VIP6, CLIENT6 = "2001:db8:2::1", "2001:db8:ffff::5"
SERVERS6 = {"A": "2001:db8:1::11", "B": "2001:db8:1::12", "C": "2001:db8:1::13", "D": "2001:db8:1::14"}
SERVER_PORTS = {"masq": 8080}  #: where servers listen unless said otherwise; other methods: at the virtual port


class Said:
    """What became of one packet, and what can be said of it; each method asserts and returns the same object."""

    def __init__(self, lab: Lab, packet: Packet, action: Action, left: Packet | None, errors: list[Packet], client: int) -> None:
        self.lab = lab
        self.packet = packet
        self.action = action
        self.left = left
        self.errors = errors
        self.client = client  #: the client's endpoint

    def __repr__(self) -> str:
        return f"<{self.packet!r}: {self.action!r}, left {self.left!r}, errors {self.errors!r}>"

    # -- where it went ---------------------------------------------------------------------------------------------------

    def verdict(self, name: str, reason: str) -> Said:
        """The verdict and its reason code."""
        assert (self.action.verdict, self.action.reason) == (Verdict[name], reason), self
        return self

    def accepted(self, reason: str) -> Said:
        """The host goes on with the packet, unchanged."""
        assert self.left is not None and self.left.raw == self.packet.raw, self
        return self.verdict("ACCEPT", reason)

    def dropped(self, reason: str) -> Said:
        """Netfilter drops it."""
        assert self.left is None, self
        return self.verdict("DROP", reason)

    def stolen(self, reason: str) -> Said:
        """IPVS has freed it after a failure."""
        assert self.left is None, self
        return self.verdict("STOLEN", reason)

    def goes_to(self, server: str, port: int | None = None) -> Said:
        """Sent to a server; ``port``: its destination port now."""
        self.verdict("STOLEN", "forwarded")
        addr = self.lab.address(server)
        assert self.left is not None and self.action.next_hop == parse_addr(addr)[1], f"{self} does not go to {server}"
        if port is not None:
            assert (format_addr(self.left.af, self.left.daddr), self.left.dport) == (addr, port), self
        return self

    def leaves_from(self, address: str, port: int | None = None) -> Said:
        """A reply, translated: it leaves from this address."""
        self.verdict("ACCEPT", "translated")
        assert self.left is not None and self.left.saddr == parse_addr(address)[1], self
        assert port is None or self.left.sport == port, self
        return self

    def leaves_untranslated(self, reason: str = "no connection") -> Said:
        """A packet of a server that is nobody's reply."""
        return self.accepted(reason)

    def is_refused(self, type: int, code: int, *, length: int | None = None, info: int = 0, source: str = VIP, ttl: int | None = None) -> Said:
        """One ICMP error went back to the sender; ``info``: its second word, ``length``: of the whole error, ``ttl``: of the quoted packet."""
        assert len(self.errors) == 1, self
        error = self.errors[0]
        message = error.l4_bytes
        assert (message[0], message[1], int.from_bytes(message[4:8])) == (type, code, info), f"{error!r}"
        assert (error.daddr, format_addr(error.af, error.saddr)) == (self.packet.saddr, source), f"{error!r}"
        assert length is None or error.length == length, f"{error!r} has {error.length} bytes"
        quoted = error.l4_bytes[8:]
        assert self.packet.raw[:8] == quoted[:8] or self.packet.af == 10
        assert ttl is None or quoted[8 if self.packet.af == 2 else 7] == ttl, f"quoted TTL {quoted[8]}"
        return self

    def silently(self) -> Said:
        """Nobody was told."""
        assert self.errors == [], self
        return self

    def bytes(self, text: str) -> Said:
        """The bytes that leave."""
        assert self.left is not None and self.left.raw.hex() == text, f"{self.left and self.left.raw.hex()}"
        return self

    def ttl(self, value: int) -> Said:
        """Its time to live as it leaves."""
        assert self.left is not None and self.left.ttl == value, self
        return self

    # -- what changed ----------------------------------------------------------------------------------------------------

    @property
    def conn(self) -> Conn:
        """The newest entry of the client's endpoint."""
        conns = [cp for cp in self.lab.ipvs.conns() if cp.client == self.client and not cp.is_template]
        assert conns, f"no entry after {self}"
        return conns[0]

    def state(self, name: str, seconds: int | None = None) -> Said:
        """State and timeout of the connection; its timer runs from now with that timeout."""
        cp = self.conn
        assert cp.state_name == name, f"{cp!r} is not in {name}"
        if seconds is not None:
            hz = self.lab.hz
            assert cp.timeout == seconds * hz, f"{cp!r} has timeout {cp.timeout / hz} s"
            assert cp.expires == self.lab.clock.now + cp.timeout, f"{cp!r}: the timer was not restarted"
        return self

    def no_conn(self) -> Said:
        """The client's endpoint has no entry."""
        assert not [cp for cp in self.lab.ipvs.conns() if cp.client == self.client], self
        return self

    def in_pkts(self, count: int) -> Said:
        """Packets that the connection has counted."""
        assert self.conn.in_pkts == count, f"{self.conn!r} has counted {self.conn.in_pkts}"
        return self

    def totals(self, conns: int, inpkts: int, outpkts: int, inbytes: int, outbytes: int) -> Said:
        """Live counters of the namespace."""
        self.lab.totals(conns, inpkts, outpkts, inbytes, outbytes)
        return self

    def counts(self, server: str, active: int, inactive: int, persistent: int = 0) -> Said:
        """Connections of a server."""
        self.lab.counts(server, active, inactive, persistent)
        return self

    # -- what follows ----------------------------------------------------------------------------------------------------

    def locally_answered(self, **more: Any) -> Said:
        """What the local stack (nobody listens) says to the packet that it got, sent through LOCAL_OUT."""
        assert self.action.verdict is Verdict.ACCEPT and self.left is not None, self
        answer = local_answer(self.left.clone(), **more)
        assert answer is not None, f"no answer to {self.left!r}"
        return self.lab.says(answer, Hook.LOCAL_OUT, client=answer.dst)


class Lab:
    """A director and its neighbourhood."""

    def __init__(self, *, fast: bool = True, routing: Any = None, plugins: tuple[Any, ...] = (), **environment: Any) -> None:
        self.ipvs = IPVS(Environment(fast_path=fast, routing=routing, **environment), plugins=plugins)
        self.clock = self.ipvs.clock
        self.ns = self.ipvs.ns
        self.control = self.ipvs.control
        self.hz: int = self.clock.hz
        self.start = self.clock.now
        self.svc: Service = None  # type: ignore[assignment]
        self.ports: dict[str, int] = {}

    # -- time ------------------------------------------------------------------------------------------------------------

    @property
    def jiffies(self) -> int:
        """Jiffies since the beginning."""
        return self.clock.now - self.start

    def at(self, seconds: float) -> Lab:
        """Go on at so many seconds after the beginning."""
        return self.at_jiffy(round(seconds * self.hz))

    def at_jiffy(self, jiffies: int) -> Lab:
        """Go on at so many jiffies after the beginning."""
        self.clock.advance_to(self.start + jiffies)
        self.check()
        return self

    def wait(self, seconds: float = 0, *, jiffies: int = 0) -> Lab:
        """Let time pass."""
        return self.at_jiffy(self.jiffies + round(seconds * self.hz) + jiffies)

    # -- set-up ----------------------------------------------------------------------------------------------------------

    def service(self, scheduler: str = "rr", *servers: str, address: EndpointLike | None = VIP, port: int = 80, protocol: str = "tcp", **options: Any) -> Lab:
        """Add a service with servers: "A", "B:0", or whole endpoints. Options of a destination (forward, weight, thresholds, tun_…) hold for all.

        ``fwmark=7`` instead of an address; ``address=VIP6`` for IPv6.
        """
        own = ("persistent", "netmask", "flags", "one_packet", "engine", "ipv6")
        kept = {name: options.pop(name) for name in own if name in options}
        if "fwmark" in options:
            self.svc = self.ipvs.add_service(protocol, fwmark=options.pop("fwmark"), scheduler=scheduler, **kept)
        else:
            assert isinstance(address, str)
            self.svc = self.ipvs.add_service(protocol, (address, port), scheduler=scheduler, **kept)
        for server in servers:
            self.add(server, **options)
        self.check()
        return self

    def address(self, server: str) -> str:
        """Address of a server by name, in the family of the service; an address stands for itself."""
        names = SERVERS if self.svc is None or self.svc.af == 2 else SERVERS6
        return names.get(server, server)

    def add(self, server: str, **options: Any) -> Dest:
        """Add a server to the service: "A" listens at the method's usual port, "A:0" at that port."""
        name, _, port = server.partition(":") if server[0] in SERVERS else (server, "", "")
        usual = SERVER_PORTS.get(options.get("forward", "masq"), self.svc.port) if name in SERVERS else None
        if port:
            where: Any = (self.address(name), int(port))
        else:
            where = (self.address(name), usual) if usual is not None else server
        dest = self.ipvs.add_dest(self.svc, where, **options)
        self.ports[name] = dest.port
        self.check()
        return dest

    def dest(self, server: str) -> Dest:
        """A server by name: linked, or in the trash."""
        addr = parse_addr(self.address(server))[1]
        found = [dest for dest in (*self.svc.destinations, *self.ns.trash.dests) if dest.addr == addr]
        assert found, f"no server {server}"
        return found[0]

    def edit(self, server: str, **values: Any) -> Lab:
        """Edit a server; what is not named stays."""
        self.ipvs.edit_dest(self.svc, self.dest(server), **values)
        self.check()
        return self

    def delete(self, server: str) -> Lab:
        """Delete a server."""
        self.ipvs.delete_dest(self.svc, self.dest(server))
        self.check()
        return self

    def sysctl(self, **values: int | str) -> Lab:
        """Write sysctls."""
        for name, value in values.items():
            self.ipvs.sysctl_write(name, value)
        self.check()
        return self

    # -- packets ---------------------------------------------------------------------------------------------------------

    def says(self, packet: Packet, hook: Hook = Hook.LOCAL_IN, client: int | None = None) -> Said:
        """Any packet at any hook."""
        before = len(self.ns.outbox)
        action = self.ipvs.process(packet, hook)
        left = action.apply(packet)
        errors = [sent.packet for sent in self.ns.outbox[before:]]
        self.check()
        return Said(self, packet, action, left, errors, client if client is not None else packet.dst if hook is Hook.FORWARD else packet.src)

    def client(
        self, flags: str = "", sport: int = 40000, *, vport: int | None = None, address: str | None = None, vip: str | None = None, hook: Hook = Hook.LOCAL_IN,
        protocol: str | None = None, **more: Any,
    ) -> Said:  # fmt: skip
        """A packet of a client to the service: TCP flags, or ``payload`` for UDP, ``chunks`` for SCTP."""
        six = self.svc is not None and self.svc.af == 10
        source = (address or (CLIENT6 if six else CLIENT), sport)
        target = (vip or (VIP6 if six else VIP), vport if vport is not None else (self.svc.port if self.svc else 80) or 80)
        device = None if hook is Hook.LOCAL_OUT else "cli"
        return self.says(self._packet(protocol, source, target, flags, device=device, **more), hook, None)

    def server(
        self, server: str, flags: str = "", sport: int = 40000, *, port: int | None = None, address: str | None = None, hook: Hook = Hook.FORWARD,
        protocol: str | None = None, **more: Any,
    ) -> Said:  # fmt: skip
        """A packet of a server to the client at ``sport``, as FORWARD sees it: with one hop less."""
        six = self.svc is not None and self.svc.af == 10
        target = (address or (CLIENT6 if six else CLIENT), sport)
        source = (self.address(server), port if port is not None else self.ports[server])
        device = None if hook is Hook.LOCAL_OUT else "rs"
        packet = self._packet(protocol, source, target, flags, device=device, **{"ttl": 63, **more})
        return self.says(packet, hook, packet.dst)

    def _packet(self, protocol: str | None, source: tuple[str, int], target: tuple[str, int], flags: str, **more: Any) -> Packet:
        kind = protocol or {17: "udp", 132: "sctp"}.get(self.svc.protocol if self.svc else 6, "tcp")
        if kind == "tcp":
            return Packet.tcp(source, target, flags, **more)
        return (Packet.udp if kind == "udp" else Packet.sctp)(source, target, **more)

    def established(self, server: str = "A", sport: int = 40000, *, at: float | None = None, **more: Any) -> Lab:
        """A TCP handshake with a server; direct methods see the client's side only."""
        if at is not None:
            self.at(at)
        said = self.client("S", sport, **more).goes_to(server)
        if said.conn.method == 0:
            self.server(server, "SA", sport, port=said.conn.dport, **({"address": more["address"]} if "address" in more else {})).leaves_from(
                format_addr(said.packet.af, said.packet.daddr)
            )
        self.client("A", sport, **more).goes_to(server).state("ESTABLISHED", 900)
        return self

    # -- looking ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """All invariants."""
        check(self.ns)

    def conn(self, sport: int = 40000, address: str | None = None) -> Conn:
        """The newest entry of a client's endpoint."""
        client = parse_addr(address or (CLIENT6 if self.svc.af == 10 else CLIENT))[1] << 16 | sport
        return next(cp for cp in self.ipvs.conns(templates=False) if cp.client == client)

    @property
    def templates(self) -> list[Conn]:
        """Persistence templates, newest last."""
        return [cp for cp in self.ipvs.ns.conns.by_age() if cp.is_template]

    @property
    def table(self) -> list[str]:
        """All entries as one line each: "client virtual real state", in the order of /proc."""
        return [f"{cp.key()} {cp.state_name}" for cp in self.ipvs.conns()]

    def stats(self, stats: Stats, *live: int) -> Lab:
        """Live counters of anything."""
        assert stats.live() == live, f"counters are {stats.live()}"
        return self

    def totals(self, conns: int, inpkts: int, outpkts: int, inbytes: int, outbytes: int) -> Lab:
        """Live counters of the namespace."""
        return self.stats(self.ns.tot_stats, conns, inpkts, outpkts, inbytes, outbytes)

    def counts(self, server: str, active: int, inactive: int, persistent: int = 0) -> Lab:
        """Connections of a server."""
        dest = self.dest(server)
        assert (dest.activeconns, dest.inactconns, dest.persistconns) == (active, inactive, persistent), f"{dest!r}, templates {dest.persistconns}"
        return self


def endpoint(text: str) -> int:
    """ "10.0.0.1:80" as one int."""
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port
