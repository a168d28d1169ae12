"""Entries: templates that are checked, control chains, references, expiry, forced removal, random drop (worked examples of the connections' specification)."""

from __future__ import annotations

import pytest
from tests.lab import CLIENT, VIP, Lab, endpoint

from ipvs_model.conn import Conn, ConnParam, check_template, del_conn, del_put, new_conn
from ipvs_model.events import ConnRemoved, TimerPostponed
from ipvs_model.flags import IP_VS_CONN_F_TEMPLATE
from ipvs_model.packet import Packet
from ipvs_model.protocol import TEMPLATE_ASSURED

INVALID = "TCP 203.0.113.5:0 -> 192.0.2.1:65535 -> 10.1.0.12:65535"


def persistent(lab: Lab, seconds: int = 100, **more) -> Conn:
    """A persistent service on A and B with one connection of the client, to B; its template."""
    lab.service("rr", "A", "B", persistent=seconds, **more)
    lab.client("S").goes_to("B")
    (ct,) = lab.templates
    return ct


# --- template check ---


@pytest.mark.parametrize("why", ["deleted", "quiesced"])
def test_unusable_template_is_invalidated_and_replaced(lab, why):
    ct = persistent(lab)
    if why == "quiesced":
        lab.sysctl(expire_quiescent_template=1).edit("B", weight=0)
    else:
        lab.delete("B")
    before = (ct.expires, ct.timeout, ct.state, ct.flags, ct.dest)
    lab.wait(1)
    lab.client("S", 40001).goes_to("A")
    assert str(ct.key()) == INVALID
    assert (ct.expires, ct.timeout, ct.state, ct.flags, ct.dest) == before
    assert (ct.refcnt, ct.n_control, lab.conn().control) == (1, 1, ct)
    assert [str(one.key()) for one in lab.templates] == [
        "TCP 203.0.113.5:0 -> 192.0.2.1:65535 -> 10.1.0.12:65535",
        "TCP 203.0.113.5:0 -> 192.0.2.1:80 -> 10.1.0.11:8080",
    ]
    lab.counts("A", 1, 0, 1).counts("B", 1, 0, 1)


def test_quiesced_server_keeps_its_templates_with_the_default(lab):
    persistent(lab)
    lab.edit("B", weight=0)
    lab.client("S", 40001).goes_to("B")


def test_overloaded_server_keeps_its_templates(lab):
    persistent(lab, u_threshold=1)
    assert lab.dest("B").overloaded
    lab.client("S", 40001).goes_to("B").counts("B", 2, 0, 1)


def test_invalid_template_cannot_be_found_and_runs_out_after_its_children(lab):
    ct = persistent(lab, 10)
    lab.delete("B")
    lab.client("S", 40001).goes_to("A")
    seq = ct.hash_seq
    lab.client("S", 40002).goes_to("A")
    assert ct.hash_seq == seq, "it is invalidated once"
    lab.at(50)
    assert ct.is_hashed and ct.timeout == 60 * lab.hz
    lab.at(200)
    assert not ct.is_hashed


def test_templates_of_port_65535_are_never_invalidated(lab):
    lab.service("rr", "A:0", "B:0", port=65535, persistent=100)
    lab.client("S").goes_to("B")
    (ct,) = lab.templates
    lab.delete("B")
    lab.client("S", 40001).goes_to("A")
    assert (str(ct.key()), len(lab.templates)) == ("TCP 203.0.113.5:0 -> 192.0.2.1:65535 -> 10.1.0.12:0", 2)


def test_template_of_another_server_than_wanted_is_not_usable(lab):
    ct = persistent(lab)
    ct.get()
    assert check_template(ct, lab.dest("B"))
    assert not check_template(ct, lab.dest("A")), "and the reference is given back"
    lab.check()
    assert str(ct.key()) == INVALID


# --- references of a persistent connection ---


def test_references_of_template_and_children(lab):
    ct = persistent(lab, 300)
    first = lab.conn()
    assert (ct.refcnt, ct.n_control, first.refcnt, ct.expires - lab.clock.now) == (1, 1, 1, 300 * lab.hz)
    lab.wait(7).client("S", 40001)
    assert (ct.refcnt, ct.n_control, ct.expires - lab.clock.now) == (1, 2, 300 * lab.hz)
    lab.wait(60)
    assert (ct.n_control, first.is_hashed) == (1, False)
    lab.wait(20)
    assert (ct.n_control, ct.refcnt, ct.is_hashed) == (0, 1, True)
    lab.wait(300)
    assert (ct.refcnt, ct.is_hashed) == (0, False)


# --- expiry ---


@pytest.mark.parametrize("fast", [True, False])
def test_template_is_postponed_by_sixty_seconds_while_it_controls(fast):
    lab = Lab(fast=fast, timers="exact")
    ct = persistent(lab)
    lab.client("A").state("ESTABLISHED", 900)
    postponed: list[int] = []
    lab.ipvs.subscribe(lambda event: postponed.append(lab.jiffies // lab.hz) if isinstance(event, TimerPostponed) else None)
    lab.at(899.996)
    assert postponed == [100, *range(160, 890, 60)] and len(lab.table) == 2
    lab.at(900)
    assert (len(lab.table), ct.n_control, ct.refcnt) == (1, 0, 1)
    lab.at(939.996)
    assert ct.is_hashed
    lab.at(940)
    assert (lab.table, ct.refcnt) == ([], 0)


def test_postponed_template_is_rearmed_with_sixty_seconds_by_a_new_connection():
    lab = Lab(timers="exact")
    ct = persistent(lab)
    lab.client("A").state("ESTABLISHED", 900)
    lab.at(170).client("S", 40001)
    assert (ct.expires, ct.timeout) == (lab.start + 230 * lab.hz, 60 * lab.hz)


def test_edited_service_timeout_leaves_existing_templates_alone(lab):
    ct = persistent(lab)
    lab.ipvs.edit_service(lab.svc, persistent=500)
    lab.client("S", 40001)
    assert ct.timeout == 100 * lab.hz
    lab.client("S", address="203.0.113.6")
    assert lab.templates[-1].timeout == 500 * lab.hz


def test_persistence_timeout_zero_is_postponed_at_the_next_tick():
    lab = Lab(timers="exact")
    ct = persistent(lab, 0)
    assert (ct.timeout, ct.expires) == (0, lab.clock.now)
    lab.wait(jiffies=1)
    assert (ct.timeout, ct.expires - lab.clock.now) == (60 * lab.hz, 60 * lab.hz)


def test_removed_connection_never_removes_its_template(lab):
    ct = persistent(lab, 300)
    lab.wait(65)
    assert lab.ipvs.conns() == [ct] and ct.n_control == 0


def test_entry_that_somebody_holds_is_postponed(lab):
    lab.service("rr", "A")
    cp = lab.client("S").conn
    cp.get()
    lab.clock.advance(seconds=63)
    assert (cp.is_hashed, cp.refcnt, cp.timeout, cp.state_name) == (True, 2, 60 * lab.hz, "SYN_RECV")
    lab.clock.advance(seconds=10)
    cp.put()
    lab.check()
    assert (cp.refcnt, cp.expires - lab.clock.now) == (1, 60 * lab.hz)
    lab.client("A").state("ESTABLISHED", 900)


def test_putting_once_too_often_is_loud(lab):
    lab.service("rr", "A")
    with pytest.raises(AssertionError, match="was put once too often"):
        lab.client("S").conn.plain_put()


# --- expire_now ---


def test_entry_let_go_shows_zero_and_goes_at_the_next_tick(lab):
    lab.service("rr", "A")
    cp = lab.client("S").conn
    lab.wait(5)
    cp.expire_now()
    lab.check()
    assert (cp.expires, cp.timeout) == (lab.clock.now, 60 * lab.hz)
    assert lab.ipvs.proc("ip_vs_conn").split("\n")[1].endswith("SYN_RECV          0")
    lab.wait(jiffies=1)
    assert not cp.is_hashed


def test_overdue_entry_is_not_let_go_any_earlier():
    lab = Lab(start_jiffies=4294892296)
    lab.service("rr", "A")
    cp = lab.client("S").conn
    lab.at_jiffy(60 * 250 + 50)
    assert cp.expires < lab.clock.now
    cp.expire_now()
    lab.at_jiffy(60 * 250 + 95)
    assert cp.is_hashed
    lab.at_jiffy(60 * 250 + 96)
    assert not cp.is_hashed


def test_letting_a_child_go_leaves_its_template(lab):
    ct = persistent(lab, 300)
    lab.conn().expire_now()
    lab.wait(jiffies=1)
    assert lab.ipvs.conns() == [ct]


# --- forced removal: data → control → template ---


class Chain:
    """A data entry controlled by a control connection, which a template controls."""

    def __init__(self, lab: Lab, *, assured: bool) -> None:
        self.lab = lab
        lab.service("rr", "A", persistent=300)
        dest = lab.dest("A")
        make = [
            ("203.0.113.5:0", "192.0.2.1:0", IP_VS_CONN_F_TEMPLATE),
            ("203.0.113.5:40000", f"{VIP}:21", 0),
            ("203.0.113.5:51210", f"{VIP}:20", 0),
        ]
        self.template, self.control, self.data = (
            new_conn(lab.ns, ConnParam(2, 6, endpoint(client), endpoint(virtual)), 2, endpoint("10.1.0.11:21"), flags, dest, 0)
            for client, virtual, flags in make
        )
        self.data.control_add(self.control)
        self.control.control_add(self.template)
        for cp in (self.template, self.control, self.data):
            cp.put()
        if assured:
            self.template.state = TEMPLATE_ASSURED
        lab.check()
        self.gone: list[Conn] = []
        by_key = {str(cp.key()): cp for cp in (self.template, self.control, self.data)}
        lab.ipvs.subscribe(lambda event: self.gone.append(by_key[str(event.conn)]) if isinstance(event, ConnRemoved) else None)


def test_removed_data_entry_takes_control_and_template_along(lab):
    chain = Chain(lab, assured=False)
    del_conn(chain.data)
    lab.check()
    assert chain.gone == [chain.template, chain.control, chain.data]
    assert [cp.refcnt for cp in chain.gone] == [0, 0, 0]
    lab.counts("A", 0, 0)


def test_assured_template_survives_with_its_timer(lab):
    chain = Chain(lab, assured=True)
    expires = chain.template.expires
    lab.clock.advance(seconds=1)
    del_conn(chain.data)
    lab.check()
    assert chain.gone == [chain.control, chain.data]
    assert (chain.template.expires, chain.template.refcnt, chain.template.n_control) == (expires, 1, 0)


def test_control_entry_with_another_data_entry_stays(lab):
    chain = Chain(lab, assured=False)
    other = new_conn(lab.ns, ConnParam(2, 6, endpoint("203.0.113.5:51211"), endpoint(f"{VIP}:20")), 2, endpoint("10.1.0.11:20"), 0, lab.dest("A"), 0)
    other.control_add(chain.control)
    other.put()
    del_conn(chain.data)
    lab.check()
    assert (chain.gone, chain.control.n_control, chain.control.is_hashed) == ([chain.data], 1, True)


def test_removal_of_a_controller_is_postponed(lab):
    chain = Chain(lab, assured=False)
    del_conn(chain.control)
    lab.check()
    assert (chain.gone, chain.control.timeout, chain.control.expires) == ([], 60 * lab.hz, lab.clock.now + 60 * lab.hz)


def test_removal_by_who_holds_a_reference(lab):
    chain = Chain(lab, assured=False)
    chain.data.get()
    del_put(chain.data)
    lab.check()
    assert len(chain.gone) == 3


def test_entry_without_timer_is_not_removed(lab):
    lab.service("rr", "A")
    cp = lab.client("S").conn
    lab.clock.del_timer(cp)
    del_conn(cp)
    assert cp.is_hashed
    cp.get()
    cp.put()
    lab.check()


def test_entry_can_be_controlled_by_one_only(lab):
    chain = Chain(lab, assured=False)
    chain.data.control_add(chain.template)
    lab.check()
    assert (chain.control.n_control, chain.template.n_control) == (0, 2)
    chain.data.control_del()
    chain.data.control_del()
    lab.check()
    assert chain.template.n_control == 1


def test_control_that_was_lost_already_is_reported_as_a_bug(lab):
    chain = Chain(lab, assured=False)
    chain.control.n_control = 0
    chain.data.control_del()
    assert (chain.control.n_control, lab.ns.log_lines) == (0, [("err", "IPVS: BUG control DEL with n=0")])
    lab.check()


def test_flush_of_the_namespace_removes_everything_in_passes(lab):
    chain = Chain(lab, assured=True)
    lab.ns.conns.flush()
    lab.check()
    assert (sorted(map(id, chain.gone)), lab.ns.conn_count) == (sorted(map(id, (chain.template, chain.control, chain.data))), 0)


# --- random drop ---


def scan(lab: Lab, cp: Conn) -> list[str]:
    """One visit of the bucket of an entry; who is left."""
    lab.ipvs.defence.drop_scan([lab.ns.conns.bucket(cp)])
    lab.check()
    return lab.table


def drops(lab: Lab, cp: Conn) -> bool:
    scan(lab, cp)
    return not cp.is_hashed


@pytest.mark.parametrize(
    ("says", "state", "dropped"),
    [
        ("S", "SYN_RECV", True),
        ("SA", "ESTABLISHED", False),
        ("SA FA", "CLOSE_WAIT", False),
        ("S R", "SYN_RECV", True),
        ("SA R", "CLOSE", False),
    ],
)
def test_half_open_connections_are_dropped_others_not(lab, says, state, dropped):
    lab.service("rr", "A")
    for flags in says.replace("SA", "S A").split():
        lab.client(flags)
    cp = lab.conn()
    assert cp.state_name == state
    assert drops(lab, cp) == dropped


def test_idle_established_connection_is_droppable_from_sixty_seconds_on(lab):
    lab.service("rr", "A").established()
    cp = lab.conn()
    lab.wait(60, jiffies=-1)
    assert not drops(lab, cp)
    lab.wait(jiffies=1)
    assert drops(lab, cp)


@pytest.mark.parametrize(("packets", "dropped"), [(0, False), (1, True), (3, True), (8, True), (9, False), (-1, False)])
def test_only_connections_with_one_to_eight_packets_are_droppable(lab, packets, dropped):
    lab.service("rr", "A", protocol="udp", port=53)
    cp = lab.client(payload=b"q").conn
    cp.in_pkts = packets
    lab.wait(100)
    assert drops(lab, cp) == dropped


@pytest.mark.parametrize(("packets", "pattern"), [(1, "DDDDDD"), (2, "DKDKDK"), (3, "DKKDKK"), (8, "DKKKKKKKDK")])
def test_every_nth_of_the_connections_with_n_packets_is_dropped(lab, packets, pattern):
    lab.service("rr", "A", protocol="udp", port=53)
    conns = [lab.client(sport=5000 + n, payload=b"q").conn for n in range(len(pattern))]
    for cp in conns:
        cp.in_pkts = packets
    lab.wait(100)
    assert "".join("D" if drops(lab, cp) else "K" for cp in conns) == pattern


def test_template_that_is_not_assured_is_dropped_once_it_controls_nobody(lab):
    ct = persistent(lab, 300)
    assert not drops(lab, ct)
    lab.wait(65)
    assert drops(lab, ct)


def test_assured_template_is_kept_and_a_dropped_child_leaves_it(lab):
    ct = persistent(lab, 300)
    lab.client("A").state("ESTABLISHED")
    lab.wait(65)
    cp = lab.conn()
    assert drops(lab, cp) and ct.is_hashed
    assert not drops(lab, ct)


def test_dropped_child_takes_an_unassured_template_along(lab):
    ct = persistent(lab, 300)
    assert drops(lab, lab.conn()) and not ct.is_hashed


def test_templates_of_one_packet_services_go_by_their_packets(lab):
    lab.service("rr", "A:53", protocol="udp", port=53, one_packet=True, persistent=300)
    lab.client(payload=b"q")
    (ct,) = lab.templates
    assert not drops(lab, ct)
    lab.wait(100)
    assert drops(lab, ct)


@pytest.mark.parametrize(("chunks", "state", "dropped"), [("1", "INIT1", True), ("1 1", "INIT", True), ("1 10", "INIT", True), ("1 6", "CLOSED", False)])
def test_sctp_connections_being_set_up_are_dropped_closed_ones_not(lab, chunks, state, dropped):
    lab.service("rr", "A", protocol="sctp")
    for kind in chunks.split():
        lab.client(chunks=((int(kind), 0, bytes(16)),))
    assert lab.conn().state_name == state
    assert drops(lab, lab.conn()) == dropped


def test_pass_draws_one_bucket_in_thirty_two():
    lab = Lab(tab_bits=8)
    lab.service("rr", "A", "B")
    for port in range(40000, 40512):
        lab.ipvs.process(Packet.tcp((CLIENT, port), (VIP, 80), "S"))
    before = {cp.client: lab.ns.conns.bucket(cp) for cp in lab.ipvs.conns()}
    lab.ipvs.defence.random_dropentry()
    lab.check()
    gone = set(before) - {cp.client for cp in lab.ipvs.conns()}
    buckets = {before[client] for client in gone}
    assert 0 < len(buckets) <= 8
    assert {client for client, bucket in before.items() if bucket in buckets} == gone, "whole buckets"
