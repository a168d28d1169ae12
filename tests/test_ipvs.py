"""The object as people use it: receive, dry runs, copies, watching, looking."""

import errno
import pickle

import pytest

from ipvs_model import IPVS, Clock, Environment, Hook, IPVSError, Packet, Scheduler, Verdict
from ipvs_model.events import Candidate, ConnCreated, StateChanged, TimerArmed, TimerFired
from ipvs_model.invariants import check

VIP = "192.0.2.1:80"
CLIENT = "203.0.113.7:40000"


def director(**environment):
    ipvs = IPVS(Environment(**environment))
    web = ipvs.add_service("tcp", VIP, scheduler="rr")
    for server in ("10.1.0.11:8080", "10.1.0.12:8080"):
        ipvs.add_dest(web, server)
    return ipvs, web


def established(ipvs):
    out = ipvs.receive(Packet.tcp(CLIENT, VIP, "S"))
    server = out.emitted[0].dst
    ipvs.receive(Packet.tcp((server >> 16, server & 0xFFFF), CLIENT, "SA"))
    ipvs.receive(Packet.tcp(CLIENT, VIP, "A"))
    return server


def test_a_virtual_address_is_local_without_a_routing_provider():
    ipvs, _ = director()
    out = ipvs.receive(Packet.tcp(CLIENT, VIP, "S"))
    assert (out.verdict, out.reason.code, out.reason.hook) == (Verdict.STOLEN, "forwarded", Hook.LOCAL_IN)
    assert out.emitted == (Packet.tcp(CLIENT, "10.1.0.12:8080", "S", ttl=63),)


def test_an_address_is_local_until_its_last_service_is_deleted():
    ipvs, web = director()
    other = ipvs.add_service("tcp", "192.0.2.1:81")
    established(ipvs)
    hooks = []
    for deleted in (None, web, other):
        if deleted is not None:
            ipvs.delete_service(deleted)
        hooks += [ipvs.receive(Packet.tcp(CLIENT, VIP, "A")).reason.hook, ipvs.receive(Packet.tcp(CLIENT, "192.0.2.1:82", "A")).reason.hook]
    assert hooks == [Hook.LOCAL_IN] * 4 + [Hook.FORWARD] * 2


@pytest.mark.parametrize("copied", [IPVS.fork, lambda ipvs: pickle.loads(pickle.dumps(ipvs))], ids=["fork", "pickle"])
def test_a_copy_opens_connections_for_services_of_its_own(copied):
    ipvs, _ = director()
    established(ipvs)
    twin = copied(ipvs)
    twin.add_dest(twin.add_service("tcp", "192.0.2.1:81"), "10.1.0.13:81")
    twin.add_dest(twin.add_service("tcp", "192.0.2.2:80"), "10.1.0.13:8080")
    codes = [
        [each.receive(Packet.tcp(("203.0.113.7", port), service, "S")).reason.code for port in (40001, 40002) for service in ("192.0.2.1:81", "192.0.2.2:80")]
        for each in (twin, ipvs)
    ]
    assert codes == [["forwarded"] * 4, ["no service", "no connection"] * 2]
    assert (len(twin.conns()), len(ipvs.conns())) == (5, 1)
    check(twin.ns)


def test_a_packet_for_a_loopback_address_is_local_whoever_it_is_for():
    ipvs, _ = director()
    ipvs.receive(Packet.tcp("127.0.0.1:40000", VIP, "S"))
    (cp,) = ipvs.conns()
    assert ipvs.receive(Packet.tcp((cp.daddr, cp.dport), "127.0.0.1:40000", "SA")).reason.hook is Hook.LOCAL_IN


def test_a_reply_is_forwarded_with_the_virtual_source():
    ipvs, _ = director()
    ipvs.receive(Packet.tcp(CLIENT, VIP, "S"))
    out = ipvs.receive(Packet.tcp("10.1.0.12:8080", CLIENT, "SA", ttl=63))
    assert (out.verdict, out.reason.code, out.reason.hook) == (Verdict.ACCEPT, "translated", Hook.FORWARD)
    assert out.emitted == (Packet.tcp(VIP, CLIENT, "SA", ttl=63),)


def test_what_nobody_serves_is_delivered_to_the_host():
    ipvs, _ = director()
    packet = Packet.tcp(CLIENT, "192.0.2.1:81", "S")
    out = ipvs.receive(packet)
    assert (out.verdict, out.emitted, out.reason.code) == (Verdict.ACCEPT, (), "no service")
    assert out.delivered is packet


def test_a_refused_packet_is_answered_by_an_icmp_error():
    ipvs = IPVS()
    ipvs.add_service("tcp", VIP, scheduler="rr")
    out = ipvs.receive(Packet.tcp(CLIENT, VIP, "S"))
    assert (out.verdict, out.reason.code) == (Verdict.DROP, "no destination")
    (error,) = out.emitted
    assert (error.proto, error.raw[20:22], error.dst >> 16) == (1, b"\x03\x03", 0xCB007107)


def test_a_hook_may_be_named():
    ipvs, _ = director()
    out = ipvs.receive(Packet.tcp(CLIENT, VIP, "S"), hook="FORWARD")
    assert (out.verdict, out.reason.code) == (Verdict.ACCEPT, "no connection")


def test_the_reason_carries_every_decision_on_the_way():
    ipvs, _ = director()
    events = ipvs.receive(Packet.tcp(CLIENT, VIP, "S")).reason.events
    assert [str(event.dest) for event in events if isinstance(event, Candidate)] == ["10.1.0.12:8080", "10.1.0.11:8080"]
    assert [(event.before, event.after) for event in events if isinstance(event, StateChanged)] == [("NONE", "SYN_RECV")]
    assert all(event.function and event.describe() for event in events)


def test_which_server_changes_nothing():
    ipvs, web = director()
    before = pickle.dumps(ipvs.proc("ip_vs_conn") + ipvs.proc("ip_vs"))
    syn = Packet.tcp(CLIENT, VIP, "S")
    assert ipvs.which_server(syn) is web.destinations[0]
    assert ipvs.which_server(syn) is web.destinations[0]
    assert pickle.dumps(ipvs.proc("ip_vs_conn") + ipvs.proc("ip_vs")) == before
    assert ipvs.which_server(Packet.tcp(CLIENT, "192.0.2.9:80", "S")) is None


def test_which_server_follows_an_existing_connection_both_ways():
    ipvs, web = director()
    server = established(ipvs)
    assert ipvs.which_server(Packet.tcp(CLIENT, VIP, "A")) is web.destinations[0]
    assert ipvs.which_server(Packet.tcp((server >> 16, server & 0xFFFF), CLIENT, "A")) is web.destinations[0]


@pytest.mark.parametrize("copier", [IPVS.fork, lambda ipvs: pickle.loads(pickle.dumps(ipvs))], ids=["fork", "pickle"])
@pytest.mark.parametrize("timers", ["kernel", "exact"])
def test_a_copy_goes_on_independently_and_alike(copier, timers):
    ipvs, _ = director(timers=timers)
    established(ipvs)
    twin = copier(ipvs)
    for each in (ipvs, twin):
        each.receive(Packet.tcp("203.0.113.8:1025", VIP, "S"))
        each.clock.advance(seconds=30)
        check(each.ns)
    for name in ("ip_vs", "ip_vs_conn", "ip_vs_stats_percpu"):
        assert ipvs.proc(name) == twin.proc(name)
    twin.clock.advance(seconds=1000)
    assert not twin.conns()
    assert len(ipvs.conns()) == 2
    check(ipvs.ns)


def test_a_copy_is_not_watched():
    ipvs, _ = director()
    events = []
    ipvs.subscribe(events.append)
    twin = ipvs.fork()
    twin.receive(Packet.tcp(CLIENT, VIP, "S"))
    assert events == []


def test_watching_sees_timers_and_changes_nothing():
    ipvs, _ = director()
    quiet = ipvs.fork()
    events = []
    stop = ipvs.subscribe(events.append)
    for each in (ipvs, quiet):
        established(each)
        each.clock.advance(seconds=950)
    assert ipvs.proc("ip_vs_stats_percpu") == quiet.proc("ip_vs_stats_percpu")
    kinds = {type(event) for event in events}
    assert {ConnCreated, StateChanged, TimerArmed, TimerFired} <= kinds
    stop()
    count = len(events)
    ipvs.receive(Packet.tcp(CLIENT, VIP, "S"))
    assert len(events) == count


def test_conns_are_found_by_state_server_client_and_kind():
    ipvs, web = director()
    established(ipvs)
    ipvs.receive(Packet.tcp("203.0.113.8:1025", VIP, "S"))
    assert [cp.state_name for cp in ipvs.conns(client=CLIENT)] == ["ESTABLISHED"]
    assert [cp.cport for cp in ipvs.conns(state="SYN_RECV")] == [1025]
    assert [cp.cport for cp in ipvs.conns(dest=web.destinations[0])] == [40000]
    assert ipvs.conns(templates=True) == []


def test_objects_on_one_clock_move_together():
    clock = Clock()
    first, second = IPVS(clock=clock), IPVS(clock=clock)
    for each in (first, second):
        web = each.add_service("tcp", VIP, scheduler="rr")
        each.add_dest(web, "10.1.0.11:8080")
        each.receive(Packet.tcp(CLIENT, VIP, "S"))
    assert clock.advance(seconds=63) >= 2
    assert first.conns() == second.conns() == []


def test_a_plugin_scheduler_is_bound_by_name():
    class Last(Scheduler):
        name = "last"

        def schedule(self, svc, pkt, iph):
            return svc.destinations[-1] if svc.destinations else None

    ipvs = IPVS(plugins=[Last])
    web = ipvs.add_service("tcp", VIP, scheduler="last")
    first = ipvs.add_dest(web, "10.1.0.11:8080")
    ipvs.add_dest(web, "10.1.0.12:8080")
    ipvs.receive(Packet.tcp(CLIENT, VIP, "S"))
    assert ipvs.conns()[0].dest is first


def test_an_unknown_scheduler_is_refused_with_enoent():
    with pytest.raises(IPVSError) as refused:
        IPVS().add_service("tcp", VIP, scheduler="nosuch")
    assert refused.value.errno == errno.ENOENT


def test_something_else_is_no_plugin():
    with pytest.raises(TypeError, match="not a scheduler"):
        IPVS(plugins=[object()])


def test_edits_keep_what_they_do_not_name():
    ipvs, web = director()
    ipvs.edit_service(web, persistent=60)
    ipvs.edit_service(web, scheduler="wlc")
    assert (web.scheduler.name, web.timeout, web.flags & 1) == ("wlc", 15000, 1)
    dest = ipvs.edit_dest(web, "10.1.0.11:8080", weight=0)
    assert (dest.weight, dest.method, dest.last_weight) == (0, 0, 1)
    ipvs.edit_service(web, persistent=None)
    assert not web.flags & 1
    with pytest.raises(TypeError):
        ipvs.edit_service(web, colour="red")


def test_sysctls_go_by_short_and_full_name():
    ipvs = IPVS()
    ipvs.sysctl_write("net.ipv4.vs.conn_reuse_mode", 0)
    assert ipvs.sysctl_read("conn_reuse_mode") == "0"
    with pytest.raises(IPVSError) as refused:
        ipvs.sysctl_write("sync_version", 2)
    assert refused.value.errno == errno.EINVAL
    assert ipvs.sysctl_read("sync_version") == "1"


def test_printing_gives_the_listing():
    ipvs, _ = director()
    assert str(ipvs) == ipvs.ipvsadm("-Ln").out
    assert "2 connections" not in repr(ipvs)
