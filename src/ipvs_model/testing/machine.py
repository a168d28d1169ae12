"""A state machine of Hypothesis over a whole IPVS: rules, packets, sysctls and time in any order, all laws after every step.

    from ipvs_model.testing.machine import IPVSMachine

    class Mine(IPVSMachine):
        SCHEDULERS = ("mine",)
        PLUGINS = (MyScheduler,)

    TestMine = Mine.TestCase

What it prints when it has found something is a program: `from ipvs_model.testing.machine import *` and it can be run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from ipvs_model import invariants
from ipvs_model.addresses import format_addr, format_endpoint, parse_endpoint
from ipvs_model.conn import Conn
from ipvs_model.dest import Dest
from ipvs_model.flags import AF_INET, PKT_CT_CONFIRMED, proto_name
from ipvs_model.ipvs import IPVS, Outcome
from ipvs_model.packet import Packet
from ipvs_model.service import Service
from ipvs_model.testing import strategies as draw
from ipvs_model.testing.conversations import DEVICE, WORDS, Conversation, Say, Side, say_packet
from ipvs_model.testing.laws import LAWS, Law, LawBroken
from ipvs_model.testing.snapshots import Snapshot, Step, look
from ipvs_model.testing.strategies import Wait

T = TypeVar("T")
#: the budget of one run: what `make soak` multiplies
BUDGET: Final = settings(
    max_examples=500,
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONGEST_LIFE: Final = 2000  #: timers that may fire, one after the other, until everything is gone
METHODS: Final = {0: "-m", 1: "-m", 2: "-i", 3: "-g"}  #: options of ipvsadm (a local server was added with -m)
ICMP_UNREACHABLE: Final = {2: ((3, 3), (3, 1), (3, 4), (11, 0), (4, 0)), 10: ((1, 4), (1, 0), (2, 0), (3, 0))}
SIDES: Final[st.SearchStrategy[Side]] = st.sampled_from(("client", "server"))


def choose(lines: Callable[[IPVSMachine], Sequence[T]]) -> st.SearchStrategy[T]:
    """One of what a machine has now. What is drawn is a number, so that it shrinks well when earlier steps are left out."""
    return st.builds(lambda machine, number: (found := lines(machine))[number % len(found)], st.runner(), st.integers(0, 11))


SERVICES: Final = st.runner().flatmap(lambda machine: draw.services(machine.SCHEDULERS))
NAMES: Final = choose(lambda machine: machine.identities())
BUSY: Final = choose(lambda machine: machine.busy())


class IPVSMachine(RuleBasedStateMachine):
    """Any order of commands, conversations, damage, errors and waiting. Subclass it: the capitals are yours to set, the methods yours to extend."""

    SCHEDULERS: ClassVar[Sequence[str]] = draw.SCHEDULERS
    PLUGINS: ClassVar[Sequence[Any]] = ()
    LAWS: ClassVar[Sequence[type[Law]]] = LAWS

    flows = Bundle("flows")

    def __init__(self) -> None:
        super().__init__()
        self.ipvs = self.make()
        self.laws = [law() for law in self.LAWS]
        self.held: list[Conn] = []
        self.last: Snapshot = look(self.ipvs)
        self.seen_dests: set[Dest] = set()
        self.seen_services: set[Service] = set()

    def make(self) -> IPVS:
        """The IPVS of a run; override it for another environment."""
        ipvs = IPVS(plugins=self.PLUGINS)
        ipvs.sysctl_write("run_estimation", 0)  # a thread that never sleeps: its timer says nothing
        return ipvs

    # --- what there is to choose from ---------------------------------------------------------------------------------
    def identities(self) -> list[str]:
        """Services as ipvsadm names them, in dump order."""
        return [identity(svc) for svc in self.ipvs.services]

    def members(self) -> list[tuple[str, str]]:
        """Service and server of all that are listed."""
        return [(identity(svc), str(dest.key())) for svc in self.ipvs.services for dest in svc.destinations]

    def busy(self) -> list[tuple[str, str, str]]:
        """The same of those that have connections or templates, or of all if none has, with the option for their forwarding method."""
        members = [(identity(svc), dest) for svc in self.ipvs.services for dest in svc.destinations]
        used = [(name, dest) for name, dest in members if dest.totalconns or dest.persistconns]
        return [(name, str(dest.key()), METHODS[dest.method]) for name, dest in used or members]

    # --- one step -----------------------------------------------------------------------------------------------------
    def _done(self, step: Step) -> None:
        invariants.check(self.ipvs.ns, tuple(self.held))
        self.seen_dests |= step.after.dests.keys()
        self.seen_services |= step.after.services.keys()
        for law in self.laws:
            law.check(step)
        for cp in self.held:
            if cp not in step.after.conns:
                raise LawBroken(f"{cp!r} is gone while somebody holds it\n  step: {step.text}")
        self.last = step.after

    def _step(self, **values: Any) -> None:
        self._done(Step(ipvs=self.ipvs, before=self.last, after=look(self.ipvs), **values))

    def run(self, command: str) -> int:
        """An ipvsadm command line; returns its exit status."""
        result = self.ipvs.ipvsadm(command)
        self._step(kind="command", text=command, status=result.status)
        return result.status

    def write(self, name: str, value: int) -> None:
        """A sysctl is written."""
        self.ipvs.sysctl_write(name, value)
        self._step(kind="sysctl", text=f"{name}={value}")

    def feed(self, packet: Packet) -> Outcome:
        """A packet reaches the director."""
        outcome = self.ipvs.receive(packet)
        self._step(kind="packet", text=repr(packet), packet=packet, outcome=outcome)
        return outcome

    def say(self, flow: Conversation, say: Say, *, bits: int = 0) -> None:
        """A word of a conversation passes the director, or goes past it."""
        if not flow.can(say.side):
            flow.said(say)
            return
        outcome = self.feed(flow.packet(say, bits=bits))
        flow.said(say)
        if outcome.reason.code == "forwarded" and say.side == "client":
            flow.forwarded(outcome.emitted[0])
        elif outcome.emitted and say.side == "server":
            flow.answered = outcome.emitted[0]

    # --- the beginning ------------------------------------------------------------------------------------------------
    @initialize(
        target=flows,
        service=SERVICES,
        other=SERVICES,
        dests=st.lists(draw.dests(), min_size=1, max_size=3),
        settings=st.lists(draw.sysctls(), max_size=2),
    )
    def begins(self, service: str, other: str, dests: list[str], settings: list[tuple[str, int]]) -> Conversation:
        """There are two services with the same servers, a client knows the first, and some sysctls are set."""
        for setting in settings:
            self.write(*setting)
        for text in dict.fromkeys((service, other)):
            if self.run(f"-A {text}"):
                continue
            name = draw.identity(text)
            for number, dest in enumerate(dests):
                self.run(f"-a {name} -r {server_text(name, number)} {dest}")
        return conversation(draw.identity(service), (0, draw.CLIENT_PORTS[0]), 80, "tcp")

    # --- conversations ------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.identities())
    @rule(
        target=flows,
        name=NAMES,
        client=st.tuples(st.integers(0, 3), st.sampled_from(draw.CLIENT_PORTS)),
        port=st.sampled_from((80, 443)),
        protocol=st.sampled_from(("tcp", "udp")),
    )
    def connects(self, name: str, client: tuple[int, int], port: int, protocol: str) -> Conversation:
        """A client begins a conversation with a service and opens it; port and protocol count where the service takes any."""
        flow = conversation(name, client, port, protocol)
        self.goes_on(flow=flow, words=3)
        return flow

    @rule(target=flows, flow=flows, neighbour=st.booleans(), port=st.integers(1, 3), other=st.booleans(), wait=st.one_of(st.just(Wait()), draw.waits()))
    def comes_back(self, flow: Conversation, neighbour: bool, port: int, other: bool, wait: Wait) -> Conversation:
        """After a while the same client, or a neighbour of it, connects from another port, to the same port or (where a service takes any) another."""
        self.waits(wait=wait)
        again = returning(flow, neighbour, port, other)
        self.goes_on(flow=again, words=3)
        return again

    @rule(flow=flows, words=st.integers(1, 4))
    def goes_on(self, flow: Conversation, words: int) -> None:
        """What real peers would say next, so many packets."""
        for _ in range(words):
            self.say(flow, flow.next())

    @rule(flow=flows, side=SIDES, at_once=st.booleans())
    def ends(self, flow: Conversation, side: Side, at_once: bool) -> None:
        """One side closes, after which the rest follows by `goes_on`, or resets."""
        self.say(flow, flow.resetting(side) if at_once else flow.closing(side))

    @rule(flow=flows, after=st.sampled_from(("reset", "close", "nothing")), confirmed=st.integers(0, 7))
    def opens_again(self, flow: Conversation, after: str, confirmed: int) -> None:
        """The client opens from the same port again, after an end or out of the blue; now and then (7) conntrack knows the old connection."""
        if after == "reset":
            self.say(flow, flow.resetting("server"))
        elif after == "close":
            self.say(flow, flow.closing("server"))
            self.goes_on(flow=flow, words=2)
        opening = Conversation(flow.protocol, flow.client, flow.virtual).next()
        self.say(flow, opening, bits=PKT_CT_CONFIRMED if confirmed == 7 else 0)

    @rule(flow=flows, side=SIDES, word=st.integers(0, 12))
    def says(self, flow: Conversation, side: Side, word: int) -> None:
        """Any word at any time."""
        words = WORDS[flow.protocol]
        self.say(flow, Say(side, words[word % len(words)]))

    @rule(flow=flows, side=SIDES, how=st.sampled_from(("icmp 0", "protocol", "client port", "client", "server port", "icmp 1", "icmp 2", "icmp 3", "icmp 4")))
    def strays(self, flow: Conversation, side: Side, how: str) -> None:
        """A packet that would belong to a conversation but for one thing, or a router's ICMP error about the last packet to one side."""
        if how.startswith("icmp"):
            packet = flow.asked if side == "server" else flow.answered
            if packet is not None:
                self.feed(icmp_about(packet, int(how[5:])))
        elif flow.can(side):
            self.feed(almost_packet(flow, side, how))

    @rule(packet=draw.any_packets())
    def any_packet(self, packet: Packet) -> None:
        """A packet of nobody, whole or damaged."""
        self.feed(packet)

    # --- operators ----------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.members())
    @rule(member=BUSY)
    def drains(self, member: tuple[str, str, str]) -> None:
        """An operator sets the weight of a server that has connections to 0."""
        self.run(f"-e {member[0]} -r {member[1]} {member[2]} -w 0")

    @precondition(lambda self: self.members())
    @rule(member=BUSY, dest=draw.dests())
    def edits(self, member: tuple[str, str, str], dest: str) -> None:
        """An operator edits a server that has connections."""
        self.run(f"-e {member[0]} -r {member[1]} {dest}")

    @precondition(lambda self: self.members())
    @rule(member=BUSY, port=st.sampled_from(("", "none", "8080")), flow=flows)
    def deletes(self, member: tuple[str, str, str], port: str, flow: Conversation) -> None:
        """An operator deletes a server, a client goes on; the server is added again, on its own port or another, or not ("none")."""
        self.run(f"-d {member[0]} -r {member[1]}")
        self.goes_on(flow=flow, words=1)
        if port != "none":
            server = f"{member[1].rpartition(':')[0]}:{port}" if port else member[1]
            self.run(f"-a {member[0]} -r {server} {member[2]}")

    @precondition(lambda self: self.identities())
    @rule(name=NAMES, number=st.integers(0, 3), port=st.sampled_from(("", "8080")), dest=draw.dests())
    def adds(self, name: str, number: int, port: str, dest: str) -> None:
        """An operator adds a server, which may be there already."""
        self.run(f"-a {name} -r {server_text(name, number, port)} {dest}")

    @rule(command=st.one_of(SERVICES.map("-A {}".format), st.runner().flatmap(lambda self: draw.commands(self.SCHEDULERS))))
    def runs(self, command: str) -> None:
        """An operator adds a service, or runs any ipvsadm command."""
        self.run(command)

    @rule(flow=flows, setting=st.one_of(draw.sysctls(), draw.timeouts()))
    def tunes(self, flow: Conversation, setting: tuple[str, int] | str) -> None:
        """An operator writes a sysctl or sets timeouts while a client talks."""
        self.goes_on(flow=flow, words=1)
        if isinstance(setting, str):
            self.run(setting)
        else:
            self.write(*setting)
        self.goes_on(flow=flow, words=1)

    # --- references and time ------------------------------------------------------------------------------------------
    @precondition(lambda self: self.last.conns)
    @rule(number=st.integers(0, 7))
    def holds(self, number: int) -> None:
        """Somebody takes a reference on an entry, as another CPU would, or gives the last one back."""
        if self.held:
            self.held.pop().plain_put()
        else:
            conns = self.ipvs.conns()
            cp = conns[number % len(conns)]
            cp.get("the test")
            self.held.append(cp)
        self._step(kind="command", text=f"held: {self.held!r}")

    @rule(wait=draw.waits())
    def waits(self, wait: Wait) -> None:
        """Time passes."""
        until = wait.until(self.ipvs.clock)
        self.ipvs.clock.advance_to(until)
        self._step(kind="wait", text=repr(wait))

    # --- the end ------------------------------------------------------------------------------------------------------
    def teardown(self) -> None:
        """Everything is given back and deleted; then, when all timers have fired, nothing is left of it."""
        while self.held:
            self.held.pop().plain_put()
        for name in ("drop_entry", "drop_packet", "secure_tcp"):
            self.ipvs.sysctl_write(name, 0)
        self.last = look(self.ipvs)
        self.run("-C")
        ns, clock = self.ipvs.ns, self.ipvs.clock
        for _ in range(LONGEST_LIFE):
            due = clock.next_deadline()
            if due is None:
                break
            clock.advance_to(due)
            self._step(kind="wait", text=f"to jiffy {due}")
        leaks = [f"{cp!r} is still there" for cp in ns.conns]
        leaks += [f"{dest!r} is still in the trash" for dest in ns.trash.dests]
        leaks += [f"{dest!r} has refcnt {dest.refcnt} and {dest.svc!r}" for dest in self.seen_dests if dest.refcnt != 1 or dest.svc is not None]
        leaks += [f"{svc!r} has refcnt {svc.refcnt}" for svc in self.seen_services if svc.refcnt]
        leaks += [f"{timer!r} is still armed" for timer in clock.pending_timers()]
        if leaks:
            raise LawBroken("something leaks after everything has expired:\n  " + "\n  ".join(leaks))


def identity(svc: Service) -> str:
    """A service as ipvsadm names it."""
    if svc.fwmark:
        return f"-f {svc.fwmark}" + ("" if svc.af == AF_INET else " -6")
    return f"{draw.OPTION[proto_name(svc.protocol).lower()]} {format_endpoint(svc.af, svc.endpoint)}"


def server_text(name: str, number: int, port: str = "") -> str:
    """A real server for a service: the one with this number, on the service's port (80 where it has none) or another."""
    pool = draw.SERVERS6 if "[" in name or name.endswith("-6") else draw.SERVERS
    own = "0" if name.endswith(":0") else "80" if name.startswith("-f") else name.rpartition(":")[2]
    return draw.endpoint(pool[number % len(pool)], int(port or own))


def conversation(name: str, client: tuple[int, int], port: int, protocol: str) -> Conversation:
    """A conversation with a service named as ipvsadm does."""
    words = name.split()
    six = "[" in name or "-6" in words
    pool = draw.CLIENTS6 if six else draw.CLIENTS
    source = draw.endpoint(pool[client[0] % len(pool)], client[1])
    virtual = draw.endpoint(draw.VIRTUAL6 if six else draw.VIRTUAL, port)
    if words[0] == "-f":
        return Conversation(protocol, source, virtual, mark=int(words[1]))
    own = next(kind for kind, option in draw.OPTION.items() if option == words[0])
    return Conversation(own, source, virtual if words[1].endswith(":0") else words[1])


def returning(flow: Conversation, neighbour: bool, port: int, other: bool) -> Conversation:
    """Another conversation of a conversation's client, or of one in the same network."""
    af, addr, own = parse_endpoint(flow.client)
    source = format_endpoint(af, (addr ^ 15 if neighbour else addr) << 16 | (own + port & 0xFFFF))
    host, _, target = flow.virtual.rpartition(":")
    return Conversation(flow.protocol, source, f"{host}:{443 if target == '80' else 80}" if other else flow.virtual, mark=flow.mark)


def almost_packet(flow: Conversation, side: Side, change: str) -> Packet:
    """A packet of a conversation with another protocol, client port, client, or server's (virtual) port."""
    protocol = {"tcp": "udp", "udp": "tcp", "sctp": "udp"}[flow.protocol] if change == "protocol" else flow.protocol
    client = near(flow.client, port=change == "client port", address=change == "client")
    server = near((flow.virtual if side == "client" else flow.server) or flow.virtual, port=change == "server port")
    word = {"tcp": "A", "udp": "DATA", "sctp": "DATA"}[protocol]
    source, target = (client, server) if side == "client" else (server, client)
    return say_packet(protocol, source, target, word, mark=flow.mark if side == "client" else 0)


def near(endpoint: str, *, port: bool = False, address: bool = False) -> str:
    """An endpoint, or its neighbour."""
    af, addr, own = parse_endpoint(endpoint)
    return format_endpoint(af, (addr ^ address) << 16 | (own + port & 0xFFFF))


def icmp_about(packet: Packet, kind: int) -> Packet:
    """An ICMP error of a router about a packet: it quotes the packet and goes to its sender."""
    types = ICMP_UNREACHABLE[packet.af]
    type_, code = types[kind % len(types)]
    router = "198.51.100.99" if packet.af == AF_INET else "2001:db8:9:9::99"
    rest = bytes(2) + (1400).to_bytes(2, "big") if type_ in (2, 3) else bytes(4)
    return Packet.icmp(router, format_addr(packet.af, packet.src >> 16), type_, code, rest, packet.raw[:68], device=DEVICE)


__all__ = ["BUDGET", "Conversation", "IPVSMachine", "Packet", "Say", "Wait"]
