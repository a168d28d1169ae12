"""Connection entries by themselves: what they say, when the fast path may have them, counters and control as events tell them."""

import pytest
from tests.lab import Lab

from ipvs_model.conn import ConnExt, ConnParam, Seq, bind_dest, check_template, fill_cport, new_conn, unbind_dest
from ipvs_model.engines import PersistenceEngine
from ipvs_model.events import ControlMoved, CounterMoved, RefMoved, TemplateChecked, TimerArmed, TimerFired, TimerPostponed, TimerStopped
from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    IP_VS_CONN_F_FWD_MASK,
    IP_VS_CONN_F_INACTIVE,
    IP_VS_CONN_F_NO_CPORT,
    IP_VS_CONN_F_NOOUTPUT,
    IP_VS_CONN_F_ONE_PACKET,
    IP_VS_CONN_F_SYNC,
    IP_VS_CONN_F_TEMPLATE,
    IPPROTO_AH,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from ipvs_model.protocol import TEMPLATE_NONE


@pytest.fixture
def lab():
    return Lab().service("rr", "A")


def listening(lab, *kinds):
    """Events of some kinds from now on."""
    events = []
    lab.ipvs.subscribe(lambda event: events.append(event) if isinstance(event, kinds) else None)
    return events


def entry(lab, protocol=IPPROTO_TCP, flags=0, sport=40000, dest="A"):
    """An entry that the caller holds and whose timer is not set."""
    param = ConnParam(AF_INET, protocol, 0xCB007105 << 16 | sport, lab.svc.endpoint)
    server = lab.dest("A")
    return new_conn(lab.ns, param, AF_INET, server.addr << 16 | 8080, flags, server if dest else None, 0)


# --- what an entry says -------------------------------------------------------------------------------------------------


def test_an_entry_in_words(lab):
    lab.client("S")
    cp = lab.conn()
    lab.wait(9.5)
    assert repr(cp) == "<Conn TCP 203.0.113.5:40000 -> 192.0.2.1:80 -> 10.1.0.11:8080 SYN_RECV 50 [MASQ|HASHED] ref 1 ctl 0>"
    cp.ipvs.clock.del_timer(cp)
    assert " SYN_RECV - [" in repr(cp)


def test_parts_of_an_entry(lab):
    lab.client("S")
    cp = lab.conn()
    assert (cp.caddr, cp.cport, cp.vaddr, cp.vport, cp.daddr, cp.dport) == (0xCB007105, 40000, 0xC0000201, 80, 0x0A01000B, 8080)
    assert (cp.daf, cp.method, cp.is_template, cp.is_hashed) == (AF_INET, 0, False, True)
    assert (cp.fwmark, cp.old_state, cp.app, cp.app_data, cp.pe, cp.pe_data, cp.seqadj, cp.ext) == (0, 0, None, 0, None, b"", None, None)
    assert cp.in_seq == cp.out_seq == Seq(init_seq=0, delta=0, previous_delta=0)
    cp.fwmark = 0
    assert cp.ext is None  # nothing new is nothing to keep
    cp.fwmark = 7
    assert (cp.fwmark, cp.daf, cp.old_state, cp.app_data) == (7, AF_INET, 0, 0)
    cp.ext = ConnExt(AF_INET6)
    assert (cp.daf, cp.fwmark) == (AF_INET6, 0)


@pytest.mark.parametrize(
    ("protocol", "flags", "index", "name"),
    [
        (IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE, 0, "NONE"), (IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE, 1, "ASSURED"), (IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE, 2, "ERR!"),
        (IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE, 3, "ERR!"), (IPPROTO_TCP, 0, 1, "ESTABLISHED"), (IPPROTO_UDP, 0, 0, "UDP"), (IPPROTO_AH, 0, 0, "ERR!"), (0, 0, 0, "NONE"),
        (99, 0, 0, "ERR!"),
    ],
)  # fmt: skip
def test_names_of_states(lab, protocol, flags, index, name):
    class Numbered:
        pass

    cp = entry(lab, protocol, flags)
    cp.state = Numbered()
    cp.state.index = index
    assert cp.state_name == name


# --- the fast path ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "quick"),
    [
        ({}, 1), ({"flags": 0}, 1), ({"flags": IP_VS_CONN_F_NOOUTPUT}, 2), ({"flags": IP_VS_CONN_F_INACTIVE}, 1), ({"flags": IP_VS_CONN_F_NO_CPORT}, 0), ({"flags": IP_VS_CONN_F_TEMPLATE}, 0),
        ({"flags": IP_VS_CONN_F_ONE_PACKET}, 0), ({"flags": 0xFFFFFFFF}, 0), ({"dest": None}, 0), ({"xmit": None}, 0), ({"client": 0xCB007105 << 16}, 0),
        ({"client": 0xCB007105 << 16 | 1}, 1), ({"client": 0xCB007105 << 16 | 0x8000}, 1), ({"client": 0x7F000001 << 16 | 40000}, 0),
        ({"client": 0x7E000001 << 16 | 40000}, 1), ({"client": 0x80000001 << 16 | 40000}, 1), ({"ext": ConnExt(AF_INET)}, 1),
        ({"protocol": IPPROTO_UDP}, 1), ({"control": "itself"}, 1), ({"control": "itself", "protocol": IPPROTO_UDP}, 0),
        ({"control": "itself", "protocol": IPPROTO_SCTP}, 1),
    ],
)  # fmt: skip
def test_which_entries_are_quick(lab, changes, quick):
    changes = dict(changes)
    cp = entry(lab, changes.pop("protocol", IPPROTO_TCP))
    for name, value in changes.items():
        setattr(cp, name, cp if value == "itself" else value)
    cp.update_quick()
    assert cp.quick == quick


def test_an_entry_with_a_helper_is_not_quick(lab):
    cp = entry(lab)
    assert cp.quick
    cp.app = object()
    cp.update_quick()
    assert not cp.quick


# --- a destination's counters -------------------------------------------------------------------------------------------


def counters(dest):
    return dest.activeconns, dest.totalconns, dest.persistconns, dest.refcnt


@pytest.mark.parametrize(
    ("protocol", "flags", "moved", "name"),
    [
        (IPPROTO_TCP, 0, (1, 1, 0, 1), "totalconns"), (IPPROTO_TCP, IP_VS_CONN_F_INACTIVE, (0, 1, 0, 1), "totalconns"),
        (IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE, (0, 0, 1, 1), "persistconns"), (IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE | IP_VS_CONN_F_INACTIVE, (0, 0, 1, 1), "persistconns"),
        (IPPROTO_UDP, 0, (1, 1, 0, 1), "totalconns"),
    ],
)  # fmt: skip
def test_an_entry_counts_at_its_destination_while_it_is_bound(lab, protocol, flags, moved, name):
    dest = lab.dest("A")
    dest.conn_flags = 0  # without INACTIVE, with which a connection begins
    before = counters(dest)
    events = listening(lab, CounterMoved)
    cp = entry(lab, protocol, flags)
    assert tuple(now - then for now, then in zip(counters(dest), before, strict=True)) == moved
    unbind_dest(cp)
    assert (counters(dest), cp.dest) == (before, None)
    unbind_dest(cp)
    assert counters(dest) == before
    key = str(dest.key())
    assert events == [CounterMoved("ip_vs_bind_dest", key, name, 1, 1), CounterMoved("ip_vs_unbind_dest", key, name, -1, 0)]


def test_binding_to_nothing_changes_nothing(lab):
    cp = entry(lab, dest=None)
    flags = cp.flags
    bind_dest(cp, None)
    assert (cp.dest, cp.flags, lab.dest("A").refcnt) == (None, flags, 1)


@pytest.mark.parametrize(
    ("protocol", "flags", "kept"),
    [
        (IPPROTO_UDP, 0, IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_INACTIVE), (IPPROTO_TCP, 0, IP_VS_CONN_F_INACTIVE), (IPPROTO_UDP, IP_VS_CONN_F_TEMPLATE, IP_VS_CONN_F_INACTIVE),
        (IPPROTO_UDP, IP_VS_CONN_F_SYNC, 0), (IPPROTO_UDP, IP_VS_CONN_F_SYNC | IP_VS_CONN_F_TEMPLATE, IP_VS_CONN_F_INACTIVE),
    ],
)  # fmt: skip
def test_which_flags_of_a_destination_an_entry_takes_over(lab, protocol, flags, kept):
    dest = lab.dest("A")
    dest.conn_flags = 3 | IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_INACTIVE
    cp = entry(lab, protocol, flags, dest=None)
    cp.flags |= 2 | IP_VS_CONN_F_NOOUTPUT if flags & IP_VS_CONN_F_SYNC else 0  # what the master did with it is forgotten
    bind_dest(cp, dest)
    assert cp.flags & (IP_VS_CONN_F_FWD_MASK | IP_VS_CONN_F_NOOUTPUT | IP_VS_CONN_F_ONE_PACKET | IP_VS_CONN_F_INACTIVE) == 3 | kept


# --- references, timers, control ----------------------------------------------------------------------------------------


def test_references_and_the_timer_as_told(lab):
    cp = entry(lab)
    events = listening(lab, RefMoved, TimerArmed, TimerStopped)
    key = cp.key()
    cp.get("a test")
    cp.put()
    cp.expire_now()
    cp.expire_now()  # overdue already
    at = lab.clock.now + 3 * lab.hz
    assert events == [
        RefMoved("__ip_vs_conn_get", key, 1, 2 + 1, "a test"), TimerArmed("ip_vs_conn_put", key, lab.clock.now, at), RefMoved("__ip_vs_conn_put", key, -1, 2, "caller"),
        TimerStopped("ip_vs_conn_expire_now", key, "expires at the next tick"),
    ]  # fmt: skip
    assert cp.expires == lab.clock.now


def test_putting_what_was_not_held_is_loud(lab):
    lab.client("S")
    cp = lab.conn()
    with pytest.raises(AssertionError, match=r"<Conn .*> was put once too often"):
        cp.plain_put()


def test_control_as_told(lab):
    child, one, other = entry(lab), entry(lab, sport=40001), entry(lab, sport=40002)
    events = listening(lab, ControlMoved)
    child.control_add(one)
    child.control_add(other)
    assert (child.control, one.n_control, other.n_control) == (other, 0, 1)
    child.control_del()
    child.control_del()
    assert (child.control, other.n_control) == (None, 0)
    assert events == [
        ControlMoved("ip_vs_control_add", child.key(), one.key(), 1, 1), ControlMoved("ip_vs_control_del", child.key(), one.key(), -1, 0),
        ControlMoved("ip_vs_control_add", child.key(), other.key(), 1, 1), ControlMoved("ip_vs_control_del", child.key(), other.key(), -1, 0),
    ]  # fmt: skip
    child.control = one
    child.control_del()
    assert (one.n_control, lab.ipvs.log[-1]) == (0, ("err", "IPVS: BUG control DEL with n=0"))


@pytest.mark.parametrize("state", range(4))
def test_only_a_master_tells_of_a_postponement(state):
    lab = Lab().service("rr", "A", persistent=30)
    lab.client("S")
    (template,) = lab.templates
    told = []
    lab.ns.sync_conn = lambda cp, packets: told.append((cp, packets))
    lab.ns.sync_state = state
    events = listening(lab, TimerPostponed)
    lab.clock.advance(seconds=34)
    lab.ns.sync_state = 0
    assert told == ([(template, 3)] if state & 1 else [])
    assert events == [TimerPostponed("ip_vs_conn_expire", template.key(), 1, 1)]
    assert (template.timeout, template.refcnt) == (60 * lab.hz, 1)


# --- templates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sysctl", "weight", "other", "gone", "why"),
    [
        (0, 1, False, False, ""), (0, 0, False, False, ""), (1, 1, False, False, ""), (1, 0, False, False, "its destination is quiesced"),
        (0, 1, True, False, "it belongs to another destination"), (0, 1, False, True, "its destination is deleted"), (1, 0, True, True, "its destination is deleted"),
    ],
)  # fmt: skip
def test_whether_a_template_is_used(sysctl, weight, other, gone, why):
    lab = Lab().service("rr", "A", "B", persistent=30)
    lab.client("S")
    (template,) = lab.templates
    name = "A" if template.dest is lab.dest("A") else "B"
    lab.sysctl(expire_quiescent_template=sysctl)
    lab.edit(name, weight=weight)
    wanted = lab.dest("AB".replace(name, "")) if other else template.dest
    if gone:
        lab.delete(name)
    template.get("a test")
    key, client, virt, real = template.key(), template.client, template.virt, template.real
    events = listening(lab, TemplateChecked)
    assert check_template(template, wanted) is not bool(why)
    assert events == [TemplateChecked("ip_vs_check_template", key, not why, why or "its destination is available")]
    if why:
        assert (template.client, template.virt, template.real, template.refcnt) == (client & ~0xFFFF, virt | 0xFFFF, real | 0xFFFF, 1)
    else:
        assert (template.client, template.virt, template.real, template.refcnt) == (client, virt, real, 2)
        template.plain_put()
    lab.check()


# --- beginning and end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jiffy", range(1000, 1005))
def test_the_end_of_a_sync_period_is_kept_in_four_jiffies(jiffy):
    lab = Lab(start_jiffies=jiffy).service("rr", "A")
    cp = entry(lab)
    assert (cp.sync_endtime, cp.timeout) == (jiffy // 4 * 4, 3 * lab.hz)


def test_what_is_noted_for_the_backup_does_not_change_the_order(lab):
    one, two = entry(lab), entry(lab, sport=40001)
    number, born = one.hash_seq, one.sync_endtime
    two.sync_endtime = 12
    assert [(cp.hash_seq, cp.sync_endtime) for cp in (one, two)] == [(number, born), (number, 12)]


def test_first_states(lab):
    assert entry(lab).state is lab.ns.protocols[IPPROTO_TCP].states[0]
    assert entry(lab, IPPROTO_UDP).state is lab.ns.protocols[IPPROTO_UDP].states[0]
    assert entry(lab, IPPROTO_TCP, IP_VS_CONN_F_TEMPLATE).state is TEMPLATE_NONE
    assert entry(lab, IPPROTO_AH).state is TEMPLATE_NONE
    assert entry(lab, 0).state is TEMPLATE_NONE


def test_an_entry_that_is_in_no_table_may_be_let_go(lab):
    cp = entry(lab, IPPROTO_UDP, IP_VS_CONN_F_ONE_PACKET)
    assert (cp.refcnt, cp.is_hashed) == (1, False)
    cp.plain_put()
    assert cp.refcnt == 0


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("conntrack", [0, 1])
@pytest.mark.parametrize(("flags", "sport", "forgotten"), [(0, 40000, True), (IP_VS_CONN_F_ONE_PACKET, 40000, False), (0, 0, False), (IP_VS_CONN_F_NO_CPORT, 0, False)])
def test_which_entries_take_their_conntrack_along(lab, watched, conntrack, flags, sport, forgotten):
    if watched:
        listening(lab)
    lab.sysctl(conntrack=conntrack)
    cp = entry(lab, IPPROTO_UDP, flags, sport)
    told = []
    lab.ns.drop_conntrack = told.append
    without_port = lab.ns.no_cport_count
    assert without_port == bool(flags & IP_VS_CONN_F_NO_CPORT)
    cp.put()
    lab.wait(5)
    assert told == ([cp] if conntrack and forgotten else [])
    assert (lab.ns.conn_count, lab.ns.no_cport_count) == (0, 0)


def test_the_entry_of_a_conversation_takes_its_conntrack_along():
    lab = Lab().sysctl(conntrack=1).service("rr", "A")
    lab.client("S")
    cp = lab.conn()
    told = []
    lab.ns.drop_conntrack = told.append
    lab.wait(63)
    assert told == [cp]


def test_a_port_that_is_filled_in_changes_nothing_else(lab):
    cp = entry(lab, IPPROTO_TCP, IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_SYNC, 0)
    flags = cp.flags
    assert (lab.ns.no_cport_count, cp.quick) == (1, False)
    fill_cport(cp, 40000)
    assert (cp.flags, cp.cport, lab.ns.no_cport_count, cp.quick) == (flags & ~IP_VS_CONN_F_NO_CPORT, 40000, 0, True)
    fill_cport(cp, 5)  # it has one
    assert (cp.flags, cp.cport, lab.ns.no_cport_count) == (flags & ~IP_VS_CONN_F_NO_CPORT, 40000, 0)


@pytest.mark.parametrize("watched", [False, True])
def test_overload_ends_with_the_connection_that_leaves_the_lower_threshold(watched):
    lab = Lab().service("rr", "A", u_threshold=4, l_threshold=2)
    fired = listening(lab, TimerFired) if watched else []
    conns = []
    for number in range(4):
        lab.at(10 * number).client("S", 40000 + number)
        conns.append(lab.conn(40000 + number))
    keys = [cp.key() for cp in conns]
    for left, overloaded in ((4, True), (3, True), (2, True), (1, False), (0, False)):
        dest = lab.dest("A")
        assert (dest.totalconns, dest.refcnt, dest.overloaded) == (left, left + 1, overloaded)
        lab.wait(10 if left < 4 else 36)
    for cp in conns:
        assert (cp.refcnt, cp.is_hashed, cp.dest, cp.is_template) == (0, False, None, False)
    assert [event.conn for event in fired] == (keys if watched else [])


@pytest.mark.parametrize(("af", "daf"), [(AF_INET, AF_INET), (AF_INET, AF_INET6), (AF_INET6, AF_INET), (AF_INET6, AF_INET6)])
def test_the_family_of_the_server_is_kept_apart_if_it_is_another(lab, af, daf):
    cp = new_conn(lab.ns, ConnParam(af, IPPROTO_TCP, 5 << 16 | 40000, 7 << 16 | 80), daf, 9 << 16 | 80, 0, None, 0)
    assert (cp.af, cp.daf, cp.ext is None) == (af, daf, af == daf)


class OneBucket(PersistenceEngine):
    """An engine that has one bucket for all."""

    name = "one-bucket"

    def fill_param(self, param, pkt):
        return None

    def hashkey_raw(self, pe_data, initval, inverse):
        return 0


@pytest.mark.parametrize(("flags", "kept"), [(0, False), (IP_VS_CONN_F_TEMPLATE, True)])
def test_only_a_template_keeps_its_engine(lab, flags, kept):
    engine = OneBucket()
    cp = new_conn(lab.ns, ConnParam(AF_INET, IPPROTO_UDP, 5 << 16, 7 << 16 | 80, engine, b"call"), AF_INET, 9 << 16 | 80, flags, None, 0)
    assert (cp.pe, cp.pe_data) == ((engine, b"call") if kept else (None, b""))
