"""What holds for every record and every traffic: a record passed on stays what it was, and losses invent nothing."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sync.examples import ep
from tests.sync.lab import BACKUP, CLIENT, MASTER, VIP, director, received, start, tcp, udp
from tests.sync.strategies import seqs, u32

from ipvs_model import flags as F
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.sync import SyncRecord, decode_message
from ipvs_model.sync.decision import SENT_STATES
from ipvs_model.sync.link import SyncLink
from ipvs_model.sync.sender import SyncDatagram, record_of
from ipvs_model.timers import Clock

# --- passed on ----------------------------------------------------------------------------------------------------------

VIP6 = "[2001:db8:100::1]"
#: method and NOOUTPUT of an entry → a destination of that method, for each family
DESTS = {
    (F.AF_INET, 0x00): "10.1.0.11:8080",
    (F.AF_INET, 0x82): "10.1.0.12:80",
    (F.AF_INET, 0x83): "10.1.0.13:80",
    (F.AF_INET6, 0x00): "[2001:db8:1::11]:8080",
    (F.AF_INET6, 0x82): "[2001:db8:1::12]:80",
    (F.AF_INET6, 0x83): "[2001:db8:1::13]:80",
}
FORWARD = {0x00: "masq", 0x82: "tunnel", 0x83: "direct"}
STRANGERS = {F.AF_INET: "10.1.0.99:80", F.AF_INET6: "[2001:db8:1::99]:80"}


def relay(clock: Clock | None = None, version: int = 1) -> IPVS:
    """A director that listens and sends on, with a destination for each method."""
    ipvs = director(clock)
    for protocol in (F.IPPROTO_TCP, F.IPPROTO_UDP, F.IPPROTO_SCTP):
        for af, vip in ((F.AF_INET, VIP), (F.AF_INET6, VIP6)):
            svc = ipvs.add_service(protocol, f"{vip}:80", scheduler="rr")
            for (family, bits), dest in DESTS.items():
                if family == af:
                    ipvs.add_dest(svc, dest, forward=FORWARD[bits])
    ipvs.sysctl_write("sync_threshold", "0 1")
    ipvs.sysctl_write("sync_version", version)
    start(ipvs, BACKUP)
    start(ipvs, MASTER)
    return ipvs


@st.composite
def plain_connections(draw: st.DrawFn, families: tuple[int, ...] = (F.AF_INET, F.AF_INET6)) -> SyncRecord:
    """A connection that a master would send: no template, no engine; on a server that the backup has, or on one that it has not."""
    af = draw(st.sampled_from(families))
    protocol = draw(st.sampled_from([F.IPPROTO_TCP, F.IPPROTO_UDP, F.IPPROTO_SCTP, F.IPPROTO_ESP, F.IPPROTO_AH]))
    bits = draw(st.sampled_from(sorted(FORWARD)))
    stranger = draw(st.booleans())
    in_seq, out_seq = draw(st.one_of(st.just((None, None)), st.tuples(seqs, seqs)))
    activity = draw(st.sampled_from([0, F.IP_VS_CONN_F_INACTIVE]))
    return SyncRecord(
        af=af,
        protocol=protocol,
        client=draw(st.integers(1, (1 << (32 if af == F.AF_INET else 128)) - 1)) << 16 | draw(st.integers(1, 65535)),
        virt=ep(f"{VIP if af == F.AF_INET else VIP6}:80"),
        real=ep(STRANGERS[af] if stranger else DESTS[af, bits]),
        flags=bits | activity | (F.IP_VS_CONN_F_SEQ_MASK if in_seq is not None else 0),
        state=draw(st.sampled_from(sorted(SENT_STATES[protocol][1]))) if protocol in SENT_STATES else 0,
        fwmark=draw(u32),
        timeout=draw(st.integers(1, (1 << 32) - 1)),
        in_seq=in_seq,
        out_seq=out_seq,
    )


def sent_on(ipvs: IPVS) -> list[bytes]:
    """What a relay sends when each of its entries is offered."""
    for cp in ipvs.conns():
        ipvs.daemons.sync_conn(cp, cp.in_pkts)
    ipvs.clock.advance(seconds=4)
    return [datagram.payload for datagram in ipvs.daemons.take()]


def records_in(payload: bytes) -> list[SyncRecord | None]:
    """The records of a message."""
    return [item.record for item in decode_message(payload).entries]


@given(plain_connections())
def test_a_record_applied_to_a_fresh_backup_and_sent_on_is_the_same_record(record: SyncRecord) -> None:
    """But for the flag SYNC, which says that the entry came that way; after the second hop there is no difference at all."""
    second = relay()
    assert received(second, record).applied == 1
    (payload,) = sent_on(second)
    assert records_in(payload) == [evolve(record, flags=record.flags | F.IP_VS_CONN_F_SYNC)]
    check(second.ns)
    third = relay()
    assert third.receive_sync(payload).applied == 1
    assert sent_on(third) == [payload]
    check(third.ns)


@given(plain_connections((F.AF_INET,)))
def test_in_version_0_too_which_knows_neither_timeout_nor_mark(record: SyncRecord) -> None:
    record = evolve(record, timeout=0, fwmark=0)
    second = relay(version=0)
    assert received(second, record, version=0).applied == 1
    (payload,) = sent_on(second)
    assert records_in(payload) == [evolve(record, flags=record.flags | F.IP_VS_CONN_F_SYNC)]
    third = relay(version=0)
    assert third.receive_sync(payload).applied == 1
    assert sent_on(third) == [payload]


# --- lost on the way ----------------------------------------------------------------------------------------------------

SERVERS = ("10.1.0.11:80", "10.1.0.12:80", "10.1.0.13:80")


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, int, int]:
    """Something that happens: what, which client or server, and how much."""
    what = draw(st.sampled_from(["tcp"] * 6 + ["udp", "persistent", "server", "time", "time", "weight"]))
    return what, draw(st.integers(0, 2)), draw(st.sampled_from([0, 1, 2, 3, 40, 300, 800, 3000, 20000]))


def happen(master: IPVS, what: str, who: int, much: int) -> None:
    """Let it happen."""
    sport = 3000 + who
    match what:
        case "tcp":
            tcp(master, ("S", "A", "FA", "R")[much % 4], sport)
        case "persistent":
            tcp(master, ("S", "A")[much % 2], sport, vport=443)
        case "udp":
            udp(master, sport)
        case "server":
            for cp in master.conns(client=f"{CLIENT}:{sport}"):
                server = next((name for name in SERVERS if ep(name) == cp.real), None)
                if server is not None:
                    master.process(Packet.tcp(server, f"{CLIENT}:{sport}", ("SA", "FA", "R", "A")[much % 4]))
        case "weight":
            for svc in master.services:
                master.edit_dest(svc, svc.destinations[who], weight=much % 3)
        case _:
            master.clock.advance(much)


def lossy(loss: float, delay: tuple[int, int], seed: int, threshold: str) -> tuple[IPVS, IPVS, SyncLink]:
    """A master and a backup with TCP, UDP and persistent services, both directors with the same servers."""
    master = director()
    backup = director(master.clock)
    for ipvs, state in ((master, MASTER), (backup, BACKUP)):
        for protocol, port, persistent in (("tcp", 80, None), ("udp", 80, None), ("tcp", 443, 60)):
            svc = ipvs.add_service(protocol, f"{VIP}:{port}", scheduler="rr", persistent=persistent)
            for server in SERVERS:
                ipvs.add_dest(svc, server)
        ipvs.sysctl_write("sync_threshold", threshold)
        ipvs.sysctl_write("expire_nodest_conn", 1)
        ipvs.sysctl_write("run_estimation", 0)
        start(ipvs, state)
    return master, backup, SyncLink(master, backup, loss=loss, delay=delay, seed=seed)


def entries(ipvs: IPVS) -> set[tuple[int, int, int, int, int, int]]:
    """The entries: protocol, client, virtual and real endpoint, template or not, state."""
    return {(cp.protocol, cp.client, cp.virt, cp.real, cp.flags & F.IP_VS_CONN_F_TEMPLATE, cp.state.index) for cp in ipvs.conns()}


@settings(max_examples=60)
@given(
    st.lists(steps(), min_size=5, max_size=60),
    st.sampled_from([0.0, 0.3, 0.6, 0.9]),
    st.sampled_from([(0, 0), (1, 60), (30, 2000)]),
    st.integers(0, 9),
    st.sampled_from(["0 1", "1 2", "3 50"]),
)
def test_losses_and_delays_make_no_entry_and_no_state_that_the_master_never_had(
    program: list[tuple[str, int, int]], loss: float, delay: tuple[int, int], seed: int, threshold: str
) -> None:
    master, backup, link = lossy(loss, delay, seed, threshold)
    ever: set[tuple[int, int, int, int, int, int]] = set()
    for step in program:
        happen(master, *step)
        ever |= entries(master)
        assert entries(backup) <= ever
    for _ in range(8):
        master.clock.advance(500)
        assert entries(backup) <= ever
    check(master.ns)
    check(backup.ns)
    assert link.sent == link.lost + link.delivered


@settings(max_examples=40)
@given(st.lists(steps(), min_size=5, max_size=60), st.sampled_from(["0 1", "1 2"]))
def test_an_entry_of_the_backup_says_what_the_latest_record_said(program: list[tuple[str, int, int]], threshold: str) -> None:
    """Entries are made, updated, replaced and ended by real traffic."""
    master, backup, link = lossy(0.0, (0, 0), 0, threshold)
    link.unplug()
    latest: dict[tuple[int, int, int, int], SyncRecord] = {}

    def deliver(datagram: SyncDatagram) -> None:
        for item in backup.receive_sync(datagram.payload).records:
            record = item.record
            assert record is not None and item.code == 0
            if item.fate != "ignored":
                latest[record.protocol, record.client, record.virt, record.flags & F.IP_VS_CONN_F_TEMPLATE] = record
        for cp in backup.conns():
            record = latest[cp.protocol, cp.client, cp.virt, cp.flags & F.IP_VS_CONN_F_TEMPLATE]
            if cp.real == record.real:  # not one that was just replaced, nor a template, which keeps the server that it had
                assert record_of(cp, 250) == evolve(record, flags=record.flags | F.IP_VS_CONN_F_SYNC)

    master.daemons.out = deliver
    for step in program:
        happen(master, *step)
    master.clock.advance(seconds=4)
