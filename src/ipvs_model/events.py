"""Everything that can be watched: one frozen event for each decision, with the kernel function that takes it.

Rooms emit events to ``Netns.emit`` when somebody watches; watching never changes what the model does.
Objects are named by small frozen keys, so that an event stays true after its object has changed or gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from ipvs_model.addresses import format_addr, format_endpoint
from ipvs_model.flags import Hook, Verdict, conn_flag_names, proto_name


@frozen
class ConnKey:
    """A connection entry by name: family, protocol and its three endpoints (``addr << 16 | port``)."""

    af: int
    protocol: int
    client: int
    virtual: int
    real: int
    daf: int

    def __str__(self) -> str:
        client, virtual = format_endpoint(self.af, self.client), format_endpoint(self.af, self.virtual)
        return f"{proto_name(self.protocol)} {client} -> {virtual} -> {format_endpoint(self.daf, self.real)}"


@frozen
class DestKey:
    """A real server by name."""

    af: int
    addr: int
    port: int

    def __str__(self) -> str:
        return format_endpoint(self.af, self.addr << 16 | self.port)


@frozen
class ServiceKey:
    """A virtual service by name; ``fwmark`` 0 = an address service."""

    af: int
    protocol: int
    addr: int
    port: int
    fwmark: int

    def __str__(self) -> str:
        if self.fwmark:
            return f"FWM {self.fwmark}" + (" IPv6" if self.af == 10 else "")
        return f"{proto_name(self.protocol)} {format_endpoint(self.af, self.addr << 16 | self.port)}"


@frozen
class Event:
    """Base of all events: ``function`` is the kernel function that decides."""

    function: str

    def __str__(self) -> str:
        return f"{self.function}: {self.describe()}"

    def describe(self) -> str:
        """The event in words."""
        return type(self).__name__


@frozen
class HookEntered(Event):
    """A packet reaches a hook function."""

    hook: Hook
    packet: str

    def describe(self) -> str:
        return f"{self.hook.name}: {self.packet}"


@frozen
class Decided(Event):
    """A hook function has its verdict; ``reason`` is one of the codes of ``Outcome.reason``."""

    verdict: Verdict
    reason: str

    def describe(self) -> str:
        return f"{self.verdict.name} ({self.reason})"


@frozen
class ConnLookup(Event):
    """A connection was searched; ``found`` is None for a miss."""

    af: int
    protocol: int
    source: int
    destination: int
    found: ConnKey | None

    def describe(self) -> str:
        what = f"{proto_name(self.protocol)} {format_endpoint(self.af, self.source)} -> {format_endpoint(self.af, self.destination)}"
        return f"{what}: {'no entry' if self.found is None else self.found}"


@frozen
class ReuseChecked(Event):
    """A packet that opens a connection found an entry: whether it gives way to a new one, and why."""

    conn: ConnKey
    replaced: bool
    why: str

    def describe(self) -> str:
        return f"{self.conn} {'replaced' if self.replaced else 'kept'}: {self.why}"


@frozen
class ServiceLookup(Event):
    """A service was searched; ``rule`` says which step of the lookup hit (fwmark, exact, ftp, port zero, none)."""

    found: ServiceKey | None
    rule: str

    def describe(self) -> str:
        return f"{self.found} by {self.rule}" if self.found else "no service"


@frozen
class Candidate(Event):
    """A destination as the scheduler sees it, with its score (the scheduler's own figure, None where it has none)."""

    dest: DestKey
    weight: int
    activeconns: int
    totalconns: int
    overloaded: bool
    available: bool
    score: int | None

    def describe(self) -> str:
        why = "overloaded" if self.overloaded else "weight 0" if self.weight == 0 else f"score {self.score}" if self.score is not None else "usable"
        return f"{self.dest} weight {self.weight} active {self.activeconns} total {self.totalconns}: {why}"


@frozen
class Scheduled(Event):
    """The scheduler's answer; ``dest`` None = no destination available."""

    service: ServiceKey
    scheduler: str
    dest: DestKey | None

    def describe(self) -> str:
        return f"{self.scheduler} chose {self.dest or 'nothing'} for {self.service}"


@frozen
class ConnCreated(Event):
    """An entry was made."""

    conn: ConnKey
    flags: int
    dest: DestKey | None

    def describe(self) -> str:
        return f"{self.conn} [{conn_flag_names(self.flags)}]"


@frozen
class ConnHashed(Event):
    """An entry entered (or left) the connection table."""

    conn: ConnKey
    hashed: bool

    def describe(self) -> str:
        return f"{self.conn} {'hashed' if self.hashed else 'unhashed'}"


@frozen
class ConnRemoved(Event):
    """An entry is gone, its counters given back."""

    conn: ConnKey

    def describe(self) -> str:
        return f"{self.conn} removed"


@frozen
class RefMoved(Event):
    """A reference on an entry was taken (``by`` +1) or given back (``by`` -1), and by whom."""

    conn: ConnKey
    by: int
    refcnt: int
    holder: str

    def describe(self) -> str:
        return f"{self.holder} {'takes' if self.by > 0 else 'gives back'} {self.conn}: refcnt {self.refcnt}"


@frozen
class ControlMoved(Event):
    """An entry began (``by`` +1) or ceased (-1) to be controlled by another."""

    conn: ConnKey
    control: ConnKey
    by: int
    n_control: int

    def describe(self) -> str:
        return f"{self.conn} {'under' if self.by > 0 else 'leaves'} {self.control}: n_control {self.n_control}"


@frozen
class StateChanged(Event):
    """The state machine was run; ``before`` may equal ``after``."""

    conn: ConnKey
    direction: str
    event: str
    before: str
    after: str
    timeout: int

    def describe(self) -> str:
        return f"{self.direction} {self.event}: {self.before} -> {self.after}, timeout {self.timeout} jiffies"


@frozen
class TimerArmed(Event):
    """An entry's timer was set for jiffy ``expires``."""

    conn: ConnKey
    now: int
    expires: int

    def describe(self) -> str:
        return f"{self.conn} expires in {self.expires - self.now} jiffies"


@frozen
class TimerFired(Event):
    """An entry's timer fired at jiffy ``now``."""

    conn: ConnKey
    now: int
    expires: int

    def describe(self) -> str:
        return f"{self.conn}: timer fired {self.now - self.expires} jiffies after its expiry"


@frozen
class TimerPostponed(Event):
    """An entry could not be removed: its timeout is 60 s now (still in use, or it controls others)."""

    conn: ConnKey
    n_control: int
    refcnt: int

    def describe(self) -> str:
        return f"{self.conn} postponed by 60 s: n_control {self.n_control}, refcnt {self.refcnt}"


@frozen
class TimerStopped(Event):
    """An entry's timer was deleted or pulled to now."""

    conn: ConnKey
    what: str

    def describe(self) -> str:
        return f"{self.conn}: {self.what}"


@frozen
class TemplateChecked(Event):
    """A persistence template was looked at; unusable ones are invalidated."""

    conn: ConnKey
    usable: bool
    why: str

    def describe(self) -> str:
        return f"{self.conn} {'usable' if self.usable else 'not usable'}: {self.why}"


@frozen
class CounterMoved(Event):
    """A counter of a destination (or its service and the total) moved."""

    owner: str
    counter: str
    by: int
    value: int

    def describe(self) -> str:
        return f"{self.owner} {self.counter} {self.by:+d} = {self.value}"


@frozen
class OverloadChanged(Event):
    """A destination's OVERLOAD flag was evaluated and changed."""

    dest: DestKey
    overloaded: bool
    totalconns: int

    def describe(self) -> str:
        return f"{self.dest} {'overloaded' if self.overloaded else 'accepts again'} at {self.totalconns} connections"


@frozen
class DestChanged(Event):
    """A destination was added, edited, deleted, reinstated from the trash, or freed."""

    dest: DestKey
    what: str

    def describe(self) -> str:
        return f"{self.dest} {self.what}"


@frozen
class ServiceChanged(Event):
    """A service was added, edited or deleted."""

    service: ServiceKey
    what: str

    def describe(self) -> str:
        return f"{self.service} {self.what}"


@frozen
class Transmitted(Event):
    """A transmitter ran: ``what`` is sent, accepted locally, or why it failed."""

    conn: ConnKey
    method: str
    what: str

    def describe(self) -> str:
        return f"{self.method} {self.conn}: {self.what}"


@frozen
class ErrorSent(Event):
    """The director made an ICMP error (or could not: ``source`` None)."""

    af: int
    type: int
    code: int
    info: int
    source: int | None
    destination: int

    def describe(self) -> str:
        where = format_addr(self.af, self.destination)
        return f"ICMP {self.type}/{self.code} to {where}" if self.source is not None else f"ICMP {self.type}/{self.code} to {where} cannot be sent"


@frozen
class SyncDecision(Event):
    """Whether an entry is put into a sync message, and why."""

    conn: ConnKey
    needed: bool
    why: str

    def describe(self) -> str:
        return f"{self.conn} {'sent' if self.needed else 'not sent'}: {self.why}"


@frozen
class DefenceChanged(Event):
    """The defence level was evaluated."""

    drop_entry: int
    drop_packet: int
    secure_tcp: int
    nomem: bool

    def describe(self) -> str:
        return f"modes {self.drop_entry} {self.drop_packet} {self.secure_tcp}, memory {'short' if self.nomem else 'enough'}"


@frozen
class Logged(Event):
    """The kernel would have printed this line."""

    level: str
    text: str

    def describe(self) -> str:
        return f"<{self.level}> {self.text}"


Watcher: TypeAlias = Callable[[Event], None]
