"""NAT of TCP connections the straightforward way: frozen attrs packets and keys, enums, a table of tables, one sorted list of timers.

It is written as one would write it from a description of the kernel, without a thought for speed, and does a part of what the model does: lookups in
both directions, wlc, the TCP states, counters, and timers with the kernel's rounding and order. On that part it must agree with the model in everything.
"""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag

from attrs import define, evolve, field, frozen
from sortedcontainers import SortedKeyList
from tests.naive_timers import place

from ipvs_model.protocols.tcp import CODES, NORMAL, STATES

HZ = 250
WHEEL_LEVELS = 9


class Flags(IntFlag):
    """TCP flags."""

    FIN = 1
    SYN = 2
    RST = 4
    ACK = 16


State = IntEnum("State", [(row.name, row.index) for row in STATES])
TRANSITIONS = {
    direction: {event: [State(CODES.index(code)) for code in cells.split()] for event, cells in rows.items()} for direction, rows in NORMAL.items()
}


class Direction(Enum):
    """Which way a packet goes."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


@frozen
class Endpoint:
    """Address and port."""

    addr: int
    port: int


@frozen
class NaivePacket:
    """What is looked at."""

    src: Endpoint
    dst: Endpoint
    flags: Flags
    length: int
    ttl: int


@frozen
class Key:
    """Both ends of one direction."""

    src: Endpoint
    dst: Endpoint


@define(eq=False)
class Server:
    """A real server."""

    endpoint: Endpoint
    weight: int = 1
    active: int = 0
    total: int = 0
    inpkts: int = 0
    outpkts: int = 0
    inbytes: int = 0
    outbytes: int = 0


@define(eq=False)
class Connection:
    """An entry."""

    client: Endpoint
    virtual: Endpoint
    server: Server
    state: State = State.NONE
    expires: int = 0
    timer: tuple[int, int, int] | None = None  #: tick, minus the level, minus the sequence number


@define(eq=False)
class Naive:
    """A director with one NAT service."""

    now: int
    virtual: Endpoint
    servers: list[Server]
    table: dict[Key, tuple[Connection, Direction]] = field(factory=dict)
    timers: SortedKeyList = field(factory=lambda: SortedKeyList(key=lambda conn: conn.timer))
    sequence: int = 0
    expired: list[tuple[int, Endpoint]] = field(factory=list)

    def process(self, packet: NaivePacket) -> NaivePacket | None:
        """The translated packet; None: it has no connection and begins none."""
        found = self.table.get(Key(packet.src, packet.dst))
        if found is None:
            if packet.dst != self.virtual or Flags.SYN not in packet.flags:
                return None
            found = self.schedule(packet), Direction.INPUT
        conn, direction = found
        self.count(conn.server, direction, packet)
        self.change_state(conn, direction, packet)
        self.rearm(conn)
        if direction is Direction.INPUT:
            return evolve(packet, dst=conn.server.endpoint, ttl=packet.ttl - 1)
        return evolve(packet, src=conn.virtual)

    def schedule(self, packet: NaivePacket) -> Connection:
        """wlc: the least overhead (256 for an active connection, 1 for every connection) for the weight."""
        server = min(self.servers, key=lambda server: (server.active * 256 + server.total) / server.weight)
        server.total += 1
        conn = Connection(packet.src, packet.dst, server)
        self.table[Key(conn.client, conn.virtual)] = conn, Direction.INPUT
        self.table[Key(server.endpoint, conn.client)] = conn, Direction.OUTPUT
        return conn

    @staticmethod
    def count(server: Server, direction: Direction, packet: NaivePacket) -> None:
        """Packets and bytes."""
        if direction is Direction.INPUT:
            server.inpkts += 1
            server.inbytes += packet.length
        else:
            server.outpkts += 1
            server.outbytes += packet.length

    @staticmethod
    def change_state(conn: Connection, direction: Direction, packet: NaivePacket) -> None:
        """The transition table, and who counts as active."""
        for flag, event in ((Flags.RST, "rst"), (Flags.SYN, "syn"), (Flags.FIN, "fin"), (Flags.ACK, "ack")):
            if flag in packet.flags:
                after = TRANSITIONS[direction.value][event][conn.state]
                break
        else:
            after = State.CLOSE
        conn.server.active += STATES[after].active - STATES[conn.state].active
        conn.state = after

    def rearm(self, conn: Connection) -> None:
        """The kernel's wheel: the same expiry or the same bucket keeps its place."""
        expires = self.now + STATES[conn.state].timeout * HZ
        if conn.timer is not None and conn.expires == expires:
            return
        level, tick = place(expires, self.now, WHEEL_LEVELS)
        if conn.timer is None or conn.timer[:2] != (tick, -level):
            if conn.timer is not None:
                self.timers.remove(conn)
            self.sequence += 1
            conn.timer = (tick, -level, -self.sequence)
            self.timers.add(conn)
        conn.expires = expires

    def advance(self, jiffies: int) -> None:
        """Let time pass."""
        end = self.now + jiffies
        while self.timers and self.timers[0].timer[0] <= end:
            conn = self.timers.pop(0)
            self.now = conn.timer[0]
            self.expire(conn)
        self.now = end

    def expire(self, conn: Connection) -> None:
        """An entry goes."""
        del self.table[Key(conn.client, conn.virtual)], self.table[Key(conn.server.endpoint, conn.client)]
        conn.server.total -= 1
        conn.server.active -= STATES[conn.state].active
        self.expired.append((self.now, conn.client))
