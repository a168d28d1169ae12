"""Connection entries at their edges: entries without a destination, one-packet entries that somebody holds, tables that are asked twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.lab import CLIENT, VIP, Lab
from tests.snapshot import whole
from tests.sync.examples import record
from tests.sync.lab import BACKUP, received, start

from ipvs_model.apps import Ftp
from ipvs_model.conn import ConnParam, check_template, fill_cport, new_conn
from ipvs_model.conn_table import conn_hashkey
from ipvs_model.engines import PersistenceEngine
from ipvs_model.events import ConnRemoved
from ipvs_model.flags import AF_INET, IP_VS_CONN_F_NO_CPORT, IP_VS_CONN_F_ONE_PACKET, IPPROTO_TCP, IPPROTO_UDP, Hook
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet


def one_packet_entry(lab, flags=IP_VS_CONN_F_ONE_PACKET):
    """An entry as scheduling makes it for a one-packet service, held by the caller."""
    param = ConnParam(AF_INET, IPPROTO_UDP, 0xCB007105 << 16 | 40000, lab.svc.endpoint)
    return new_conn(lab.ns, param, AF_INET, lab.dest("A").addr << 16 | 8080, flags, lab.dest("A"), 0)


def test_one_packet_entry_that_somebody_holds_goes_at_the_next_tick_after_the_last_put():
    lab = Lab()
    lab.service("rr", "A", protocol="udp", one_packet=True)
    cp = one_packet_entry(lab)
    cp.get("a test")
    cp.put()
    assert (cp.bucket is not None, cp.expires, cp.refcnt, lab.ns.conn_count) == (True, lab.clock.now, 1, 1)
    lab.wait(jiffies=1)
    assert (lab.ns.conn_count, lab.dest("A").totalconns, lab.dest("A").refcnt) == (0, 0, 1)


def test_one_packet_entry_is_never_in_the_table():
    lab = Lab()
    lab.service("rr", "A", protocol="udp", one_packet=True)
    cp = one_packet_entry(lab, IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_NO_CPORT)
    fill_cport(cp, 5)  # an entry that is not in the table keeps its key
    assert (cp.is_hashed, cp.cport, lab.ns.conns.unhash(cp)) == (False, 40000, False)


def test_an_entry_is_hashed_and_taken_out_once():
    lab = Lab()
    lab.service("rr", "A").client("S")
    cp, table = lab.conn(), lab.ns.conns
    assert table.hash(cp) is False
    assert lab.ipvs.log[-1] == ("err", "IPVS: ip_vs_conn_hash(): request for already hashed")
    cp.get("a test")
    assert (table.unhash(cp), table.unhash(cp), cp.refcnt) == (True, False, 1)
    assert (table.unlink(cp), cp.refcnt) == (False, 1)
    table.hash(cp)
    cp.plain_put()
    lab.check()


@given(st.lists(st.tuples(st.sampled_from((IPPROTO_TCP, IPPROTO_UDP)), st.integers(1, 3), st.integers(1, 3)), max_size=40))
def test_age_is_the_order_of_hashing_whoever_comes_and_goes(toggled):
    lab = Lab(tab_bits=8)
    lab.service("rr", "A")
    made, hashed = {}, []
    for key in toggled:
        protocol, client, virtual = key
        cp = made.get(key)
        if cp is None:
            cp = made[key] = new_conn(lab.ns, ConnParam(AF_INET, protocol, client, virtual), AF_INET, 0, 0, lab.dest("A"), 0)
        elif not lab.ns.conns.unhash(cp):
            lab.ns.conns.hash(cp)
        hashed = [other for other in hashed if other is not cp] + [cp] * cp.is_hashed
        assert lab.ns.conns.by_age() == hashed
    hashed.reverse()
    assert lab.ns.conns.walk() == sorted(hashed, key=lab.ns.conns.bucket)


def test_flush_leaves_what_somebody_holds():
    lab = Lab()
    lab.service("rr", "A").client("S")
    lab.client("S", 40001)
    held = lab.conn(40001)
    held.get("a test")
    lab.ns.conns.flush()
    assert lab.ipvs.conns() == [held]
    check(lab.ns, (held,))
    held.plain_put()
    assert held.expires == lab.clock.now + 60 * lab.hz  # postponed
    lab.ns.conns.flush()
    assert lab.ipvs.conns() == []


def ordinary(lab):
    lab.service("rr", "A").established()


def half_open(lab):
    lab.service("rr", "A").client("S")


def last_below_the_threshold(lab):
    lab.service("rr", "A", u_threshold=2, l_threshold=1)
    lab.client("S", 40000)
    lab.wait(1).client("S", 40001)


def overloaded_until_half_are_gone(lab):
    lab.service("rr", "A", u_threshold=4)
    for sport in range(40000, 40004):
        lab.wait(1).client("S", sport)


def of_a_template(lab):
    lab.service("rr", "A", persistent=300).established()


def of_a_deleted_server(lab):
    lab.service("rr", "A", "B").established("B").delete("B")


def beside_another_of_its_client(lab):
    lab.service("rr", "A").client("S")
    lab.service("rr", "A:81", port=81).client("S")


def with_conntrack(lab):
    lab.sysctl(conntrack=1).service("rr", "A").client("S")


def without_a_conversation(lab):
    lab.service("rr", "A", protocol="udp").client(payload=b"x")


def active_and_inactive_ones(lab):
    lab.service("rr", "A").ipvs.ipvsadm("--set 60 60 300")
    for sport in range(40000, 40004):
        lab.client("S", sport)
        lab.server("A", "SA", sport)
        lab.client("A", sport).state("ESTABLISHED", 60)
        if sport & 1:
            lab.client("FA", sport).state("CLOSE_WAIT", 60)


@pytest.mark.parametrize(
    "story",
    [
        ordinary, half_open, active_and_inactive_ones, last_below_the_threshold, overloaded_until_half_are_gone, of_a_template, of_a_deleted_server, beside_another_of_its_client,
        with_conntrack, without_a_conversation,
    ],
)  # fmt: skip
def test_an_entry_that_nobody_watches_leaves_the_same_behind(story):
    seen, unseen = Lab(), Lab()
    story(seen)
    story(unseen)
    removed = []
    seen.ipvs.subscribe(lambda event: removed.append(event) if isinstance(event, ConnRemoved) else None)
    before = unseen.ns.conn_count
    for _ in range(25):
        for lab in (seen, unseen):
            lab.wait(61)
        assert whole(seen.ipvs) == whole(unseen.ipvs)
    assert (len(removed), unseen.ns.conn_count) == (before, 0)


def test_entries_that_expire_together_give_the_transmitters_of_their_endpoints_up():
    lab = Lab().service("rr", "A:0", fwmark=7)
    for last in (1, 1, 2):
        lab.client("S", 40000 + lab.ns.conn_count, vip=f"192.0.2.{last}", mark=7)
    (dest,) = lab.svc.destinations
    assert [xmit.users for xmit in dest.xmits.values()] == [2, 1]
    lab.wait(62)
    assert (lab.ns.conn_count, [xmit.users for xmit in dest.xmits.values()]) == (0, [0, 0])


def test_once_entries_have_expired_the_least_loaded_is_looked_for_anew():
    lab = Lab().service("wlc", "A", "B")
    first, second = (lab.client("S", sport).conn.dest for sport in (40000, 40001))
    assert first is not second
    lab.wait(30)
    for sport, dest in ((40002, first), (40003, second), (40004, first)):
        assert lab.client("S", sport).conn.dest is dest
    lab.wait(32)
    assert (first.totalconns, second.totalconns) == (2, 1)
    assert lab.client("S", 40005).conn.dest is second


def backup(lab):
    start(lab.ipvs, BACKUP)
    return lab


def test_template_without_a_destination_is_not_used():
    lab = backup(Lab())
    lab.service("rr", persistent=60)
    assert received(lab.ipvs, record(6, 0x1100, 1, f"{CLIENT}:0", f"{VIP}:80", "10.1.0.99:80", 100)).applied == 1
    (template,) = lab.ipvs.conns()
    lab.add("A")
    lab.client("S").goes_to("A")
    assert (template.vport, template.dest, template.n_control) == (0xFFFF, None, 0)
    template.get("a test")
    assert check_template(template) is False
    assert template.refcnt == 1


def test_a_destination_that_comes_late_brings_the_helper_of_its_service():
    lab = backup(Lab(plugins=(Ftp,)))
    lab.service("rr", port=21)
    entry = record(6, 0, 1, f"{CLIENT}:40000", f"{VIP}:21", "10.1.0.11:21", 900)
    received(lab.ipvs, entry)
    (cp,) = lab.ipvs.conns()
    first = cp.app
    dest = lab.add("A:21")
    received(lab.ipvs, entry)
    assert (cp.dest, cp.app.app.name, first is None or first.usecnt == 1, cp.app.usecnt) == (dest, "ftp", True, 1)
    lab.check()


def test_a_destination_that_comes_late_makes_an_entry_quick():
    lab = backup(Lab())
    lab.service("rr")
    seen = record(6, 0, 1, f"{CLIENT}:40000", f"{VIP}:80", "10.1.0.11:8080", 900)
    received(lab.ipvs, seen)
    (cp,) = lab.ipvs.conns()
    assert (cp.dest, cp.quick) == (None, False)
    dest = lab.add("A")
    received(lab.ipvs, seen)
    assert (cp.dest, cp.quick) == (dest, True)


FIRST = 0xCB007101  #: the address whose bucket the engine uses


class Everyone(PersistenceEngine):
    """An engine with one key for all clients, which leaves comparing to the table."""

    name = "everyone"

    def fill_param(self, param, pkt):
        return ConnParam(param.af, param.protocol, param.client, param.virt, self, b"all")

    def hashkey_raw(self, pe_data, initval, inverse):
        return conn_hashkey(AF_INET, IPPROTO_UDP, FIRST << 16, initval)


def test_template_of_an_engine_is_found_by_its_addresses_in_the_same_bucket():
    """The kernel has one table: a template that an engine hashed is met by ordinary lookups that come to its bucket."""
    ipvs = IPVS(plugins=(Everyone,))
    web = ipvs.add_service("udp", "192.0.2.1:80", scheduler="rr", persistent=60, engine="everyone")
    ipvs.add_dest(web, "10.1.0.11:80")
    for client in range(FIRST, FIRST + 3):
        ipvs.run_hook(Hook.LOCAL_IN, Packet.udp((client, 40000), "192.0.2.1:80"))
    table = ipvs.ns.conns
    templates = {cp.caddr: cp for cp in ipvs.conns(templates=True)}
    assert sorted(templates) == [FIRST, FIRST + 1, FIRST + 2]
    assert table.ct_in_get(ConnParam(AF_INET, IPPROTO_UDP, FIRST << 16, web.endpoint)) is templates[FIRST]
    assert table.ct_in_get(ConnParam(AF_INET, IPPROTO_UDP, FIRST + 1 << 16, web.endpoint)) is None  # that address has another bucket
    templates[FIRST].plain_put()
    check(ipvs.ns)
