"""Retransmitted and reused ports, late replies, servers on the director, deleted services and servers (worked examples of the datapath specification)."""

import pytest
from tests.host import Host
from tests.lab import CLIENT, DIRECTOR, VIP, Lab

from ipvs_model.flags import IP_VS_CONN_F_NFCT, PKT_CT_CONFIRMED, Hook
from ipvs_model.packet import Packet


def closed_by_server(lab: Lab, server: str = "B") -> Lab:
    """A connection in TIME_WAIT."""
    lab.established(server)
    lab.server(server, "FA").state("FIN_WAIT", 120)
    lab.client("FA").state("TIME_WAIT", 120)
    return lab


def test_retransmitted_syn_stays_with_its_server(lab):
    lab.service("rr", "A", "B")
    for packets, jiffy in enumerate((100, 350, 850), 1):
        lab.at_jiffy(jiffy)
        lab.client("S", seq=1).goes_to("B", 8080).state("SYN_RECV", 60).in_pkts(packets)
    lab.totals(1, 3, 0, 120, 0)
    lab.client("S", 40001).goes_to("A")


# --- port reuse: conn_reuse_mode, expire_nodest_conn, weight of the server ---

SAME, ANEW = "B", "A"
REUSE = [
    (0, 0, 1, SAME), (0, 0, 0, SAME),
    (0, 1, 1, SAME), (0, 1, 0, ANEW),
    (1, 0, 1, ANEW), (1, 0, 0, ANEW),
    (1, 1, 1, ANEW), (1, 1, 0, ANEW),
    (2, 0, 1, ANEW), (2, 0, 0, ANEW),
    (2, 1, 1, ANEW), (2, 1, 0, ANEW),
    (-1, 0, 1, ANEW), (4, 0, 1, ANEW),
]  # fmt: skip


@pytest.mark.parametrize(("reuse", "nodest", "weight", "server"), REUSE)
def test_new_syn_on_a_connection_in_time_wait(lab, reuse, nodest, weight, server):
    lab.service("rr", "A", "B").sysctl(conn_reuse_mode=reuse, expire_nodest_conn=nodest)
    old = closed_by_server(lab).conn()
    lab.edit("B", weight=weight)
    said = lab.client("S").goes_to(server, 8080).state("SYN_RECV", 60)
    if server == SAME:
        assert said.conn is old and lab.ns.tot_stats.conns == 1
        return
    assert lab.table == [
        "TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.11:8080 SYN_RECV",
        "TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.12:8080 TIME_WAIT",
    ]
    assert (lab.ns.tot_stats.conns, old.expires) == (2, lab.clock.now)
    lab.counts("A", 1, 0).counts("B", 0, 1)
    lab.wait(jiffies=1)
    assert lab.table == ["TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.11:8080 SYN_RECV"]
    lab.counts("B", 0, 0)


def test_new_syn_on_a_connection_that_was_reset(lab):
    lab.service("rr", "A", "B")
    lab.client("S").goes_to("B")
    lab.server("B", "RA").state("CLOSE", 10)
    lab.client("S").goes_to("A").state("SYN_RECV", 60)


@pytest.mark.parametrize("weight", [1, 0])
@pytest.mark.parametrize("state", ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT"])
def test_new_syn_in_other_states_moves_only_from_a_quiesced_server(lab, state, weight):
    lab.service("rr", "A", "B").sysctl(expire_nodest_conn=1)
    lab.client("S").goes_to("B")
    if state != "SYN_RECV":
        lab.client("A")
    if state == "CLOSE_WAIT":
        lab.client("FA")
    if state == "FIN_WAIT":
        lab.server("B", "FA")
    assert lab.conn().state_name == state
    lab.edit("B", weight=weight)
    lab.client("SA").goes_to("B" if weight else "A")


@pytest.mark.parametrize(("reuse", "server"), [(0, SAME), (1, SAME), (2, ANEW), (3, ANEW), (4, SAME), (-1, ANEW)])
def test_direct_connection_in_fin_wait_moves_only_with_the_second_bit(lab, reuse, server):
    lab.service("rr", "A", "B", forward="direct").sysctl(conn_reuse_mode=reuse)
    lab.established("B")
    lab.client("FA").state("FIN_WAIT", 120)
    lab.client("S").goes_to(server).state("SYN_RECV", 60)


def test_persistent_connection_is_controlled_and_therefore_kept(lab):
    lab.service("rr", "A", "B", persistent=60)
    old = closed_by_server(lab).conn()
    assert lab.client("S").goes_to("B").state("SYN_RECV", 60).conn is old


@pytest.mark.parametrize(("quiescent", "server"), [(0, "B"), (1, "A")])
def test_quiesced_persistent_server_keeps_its_client_unless_templates_expire(lab, quiescent, server):
    lab.service("rr", "A", "B", persistent=60).sysctl(expire_nodest_conn=1, expire_quiescent_template=quiescent)
    old = lab.established("B").conn()
    (template,) = lab.templates
    lab.edit("B", weight=0)
    assert lab.client("S").goes_to(server).state("SYN_RECV", 60).conn is not old
    assert [str(ct.key()) for ct in lab.templates] == (
        ["TCP 203.0.113.5:0 -> 192.0.2.1:80 -> 10.1.0.12:8080"]
        if server == "B"
        else ["TCP 203.0.113.5:0 -> 192.0.2.1:65535 -> 10.1.0.12:65535", "TCP 203.0.113.5:0 -> 192.0.2.1:80 -> 10.1.0.11:8080"]
    )
    lab.wait(jiffies=1)
    assert not old.is_hashed and template.is_hashed


def test_confirmed_conntrack_costs_the_packet_that_would_have_moved(lab):
    lab.service("rr", "A", "B").sysctl(conntrack=1)
    old = closed_by_server(lab).conn()
    assert old.flags & IP_VS_CONN_F_NFCT
    lab.client("S", bits=PKT_CT_CONFIRMED).dropped("old conntrack").totals(1, 3, 2, 120, 80)
    lab.wait(jiffies=1)
    assert lab.table == []
    lab.client("S").goes_to("A").state("SYN_RECV", 60)


def test_confirmed_conntrack_of_a_connection_that_controls_others_keeps_it(lab):
    lab.service("rr", "A", "B").sysctl(conntrack=1)
    old = closed_by_server(lab).conn()
    lab.client("S", 40001).conn.control_add(old)
    heard = []
    lab.ipvs.subscribe(lambda event: heard.append(str(event)))
    assert lab.client("S", bits=PKT_CT_CONFIRMED).goes_to("B", 8080).state("SYN_RECV", 60).conn is old
    (told,) = [line for line in heard if "kept" in line]
    assert told.endswith("kept: it controls others, and conntrack holds a confirmed entry")


def test_unconfirmed_conntrack_is_given_up_with_the_connection(lab):
    lab.service("rr", "A", "B").sysctl(conntrack=1)
    old = closed_by_server(lab).conn()
    lab.client("S").goes_to("A")
    assert not old.flags & IP_VS_CONN_F_NFCT


def test_late_reply_revives_the_replaced_connection(lab):
    lab.service("rr", "A", "B")
    closed_by_server(lab)
    lab.at_jiffy(300)
    lab.client("S").goes_to("A")
    old = lab.ipvs.conns(dest=lab.dest("B"))[0]
    lab.server("B", "A").leaves_from(VIP, 80)
    assert (old.state_name, old.expires - lab.clock.now) == ("TIME_WAIT", 120 * lab.hz)
    lab.wait(10)
    assert len(lab.table) == 2
    lab.client("A").goes_to("A").state("ESTABLISHED", 900)
    lab.server("A", "A").leaves_from(VIP, 80)
    lab.server("B", "A").leaves_from(VIP, 80)
    assert old.expires - lab.clock.now == 120 * lab.hz


# --- servers on the director ---


@pytest.fixture
def home() -> Lab:
    return Lab(routing=Host(VIP))


def test_local_nat_server_gets_the_rewritten_packet_and_its_reset_is_translated(home):
    home.service("rr", f"{DIRECTOR}:81")
    said = home.client("S").verdict("ACCEPT", "local").ttl(64)
    assert (said.left.daddr, said.left.dport) == (home.svc.destinations[0].addr, 81)
    said.locally_answered().leaves_from(VIP, 80).state("CLOSE", 10).totals(1, 1, 1, 40, 40).counts(DIRECTOR, 0, 1)


def test_local_direct_server_gets_the_packet_as_it_is(home):
    home.service("rr", f"{DIRECTOR}:80", forward="direct")
    said = home.client("S").accepted("local").ttl(64)
    said.locally_answered().accepted("reply").state("CLOSE", 10).totals(1, 1, 1, 40, 40)
    assert not home.conn().flags & 0x80, "a packet of the server was seen"


@pytest.mark.parametrize("method", ["local", "direct", "tunnel"])
def test_local_server_of_other_methods_is_accepted_unchanged(home, method):
    home.service("rr", f"{DIRECTOR}:80", forward=method)
    home.client("S", ttl=1).accepted("local").state("SYN_RECV", 60)


def test_loopback_nat_server_is_refused_for_remote_clients(home):
    home.service("rr", "127.0.0.1:81")
    home.client("S").stolen("loopback server").silently().state("SYN_RECV", 60).totals(1, 1, 0, 40, 0)


def test_loopback_direct_server_is_fine(home):
    home.service("rr", "127.0.0.1:80", forward="direct")
    home.client("S").accepted("local")


def test_loopback_nat_server_is_fine_for_local_clients(home):
    home.service("rr", "127.0.0.1:81")
    said = home.client("S", address=DIRECTOR, hook=Hook.LOCAL_OUT).verdict("ACCEPT", "local")
    assert said.left.dport == 81


def test_port_unreachable_of_a_local_server_is_translated(home):
    home.service("rr", f"{DIRECTOR}:5353", protocol="udp", port=53)
    said = home.client(payload=b"query").verdict("ACCEPT", "local").locally_answered().verdict("ACCEPT", "icmp translated").totals(1, 1, 1, 33, 61)
    inner = Packet.parse(said.left.l4_bytes[8:])
    assert (said.left.saddr, inner.daddr, inner.dport) == (home.svc.addr, home.svc.addr, 53)


@pytest.mark.parametrize(("method", "port"), [("masq", 8080), ("direct", 80), ("tunnel", None)])
def test_client_on_the_director(home, method, port):
    home.service("rr", "A", forward=method)
    home.client("S", address=VIP, hook=Hook.LOCAL_OUT).goes_to("A").ttl(63)
    if port:
        home.client("S", address=VIP, hook=Hook.LOCAL_OUT).goes_to("A")
        assert home.client("S", address=VIP, hook=Hook.LOCAL_OUT).left.dport == port


def test_loopback_client_cannot_reach_a_remote_server(home):
    home.service("rr", "A")
    home.client("S", address="127.0.0.1", hook=Hook.LOCAL_OUT).stolen("boundary").silently()


def test_reply_of_a_local_server_is_not_taken_for_a_request(home):
    """A service whose port equals a client's: what the local server says to it belongs to the connection that exists."""
    home.service("rr", f"{DIRECTOR}:81")
    home.client("S").verdict("ACCEPT", "local")
    home.service("rr", "A", address=CLIENT, port=40000)
    said = home.says(Packet.tcp((VIP, 80), (CLIENT, 40000), "S"), Hook.LOCAL_OUT)
    said.accepted("local reply")


# --- deletion ---


def test_without_its_last_service_ipvs_sees_no_packet(lab):
    lab.service("rr", "A")
    cp = lab.client("S").conn
    expires = cp.expires
    lab.ipvs.delete_service(lab.svc)
    lab.client("A", ack=5001).accepted("no hooks").locally_answered().accepted("no hooks")
    lab.server("A", "SA").leaves_untranslated("no hooks")
    assert (cp.state_name, cp.expires, cp.is_hashed) == ("SYN_RECV", expires, True)
    lab.wait(62)
    assert not cp.is_hashed


def test_deleted_server_and_its_connection_with_the_default(lab):
    lab.service("rr", "A", "B").established("B")
    cp = lab.conn()
    expires = cp.expires
    lab.wait(10).delete("B")
    lab.client("A").dropped("dest unavailable").silently().totals(1, 2, 1, 80, 40)
    assert (cp.expires, cp.state_name) == (expires, "ESTABLISHED")
    lab.server("B", "A").leaves_from(VIP, 80).state("ESTABLISHED", 900).totals(1, 2, 1, 80, 40)
    assert cp.expires == lab.clock.now + 900 * lab.hz
    lab.client("S").dropped("dest unavailable")


def test_deleted_server_and_its_connection_with_expire_nodest_conn(lab):
    lab.service("rr", "A", "B").established("B")
    lab.delete("B").sysctl(expire_nodest_conn=1)
    lab.client("A", ack=77).accepted("not a starter").locally_answered().accepted("not a starter")
    lab.wait(jiffies=1)
    assert lab.table == []


def test_syn_for_a_deleted_servers_connection_is_placed_at_once(lab):
    lab.service("rr", "A", "B").established("B")
    lab.delete("B").sysctl(expire_nodest_conn=1)
    lab.client("S").goes_to("A", 8080).state("SYN_RECV", 60)
    assert (len(lab.table), lab.ns.tot_stats.conns) == (2, 2)
    lab.wait(jiffies=1)
    assert lab.table == ["TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.11:8080 SYN_RECV"]


def test_confirmed_conntrack_of_a_deleted_server_costs_the_packet(lab):
    lab.service("rr", "A", "B").established("B")
    lab.delete("B").sysctl(expire_nodest_conn=1)
    lab.client("S", bits=PKT_CT_CONFIRMED).dropped("old conntrack")
    lab.wait(jiffies=1)
    assert lab.table == []


def test_local_reset_moves_a_direct_connection_of_a_deleted_server_to_close(home):
    home.service("rr", "A", "B", forward="direct").established("B")
    home.delete("B").sysctl(expire_nodest_conn=1)
    answer = home.client("A", tos=8).accepted("not a starter").locally_answered().accepted("reply").state("CLOSE", 10)
    assert answer.packet.tos == 8
    home.totals(1, 2, 0, 80, 0).wait(jiffies=1)
    assert home.table == ["TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.12:80 CLOSE"]
    home.client("S").goes_to("A").state("SYN_RECV", 60)


def test_flush_of_orphans_comes_two_ticks_after_the_deletion(lab):
    lab.service("rr", "A", "B").sysctl(expire_nodest_conn=1)
    lab.established("B")
    lab.client("S", 40001).goes_to("A")
    lab.delete("B").wait(jiffies=1)
    assert len(lab.table) == 2
    lab.wait(jiffies=1)
    assert lab.table == ["TCP 203.0.113.5:40001 -> 192.0.2.1:80 -> 10.1.0.11:8080 SYN_RECV"]


def test_server_added_again_before_the_flush_keeps_its_connections(lab):
    lab.service("rr", "A", "B").sysctl(expire_nodest_conn=1)
    lab.established("B")
    lab.delete("B").wait(jiffies=1).add("B")
    lab.wait(1)
    assert lab.table == ["TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.12:8080 ESTABLISHED"]
    lab.client("A").goes_to("B")


def test_flush_that_is_queued_is_not_queued_again(lab):
    lab.service("rr", "A", "B").sysctl(expire_nodest_conn=1)
    lab.established("B").established("A", 40001)
    lab.delete("B").wait(jiffies=1).delete("A").wait(jiffies=1)
    assert lab.table == []


def test_sysctl_is_read_when_the_server_is_deleted_not_when_the_flush_runs(lab):
    lab.service("rr", "A", "B").sysctl(expire_nodest_conn=1)
    lab.established("B")
    lab.delete("B").sysctl(expire_nodest_conn=0).wait(jiffies=2)
    assert lab.table == []


@pytest.mark.parametrize("timers", ["kernel", "exact"])
def test_flush_takes_an_idle_template_along_even_an_assured_one(timers):
    lab = Lab(timers=timers)
    lab.service("rr", "A", "B", persistent=300).sysctl(expire_nodest_conn=1)
    lab.established("B")
    assert [ct.state_name for ct in lab.templates] == ["ASSURED"]
    lab.delete("B").wait(jiffies=2 if timers == "kernel" else 1)
    assert lab.table == []
