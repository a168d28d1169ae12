"""Entries of a destination with the same method and endpoints share a transmitter; those that nobody uses any more are forgotten."""

from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.transmit.xmit import MANY


def marked(packets, wait=0):
    """A fwmark service with one destination, after a packet to each of so many virtual ports."""
    ipvs = IPVS()
    dest = ipvs.add_dest(ipvs.add_service(fwmark=1, scheduler="rr"), "10.1.0.11:0")
    for port in range(1, packets + 1):
        ipvs.run_hook(1, Packet.udp("203.0.113.7:40000", ("192.0.2.1", port), mark=1))
        ipvs.clock.advance(seconds=wait)
    return ipvs, dest


def test_virtual_endpoints_that_nobody_talks_to_any_more_leave_nothing_behind():
    ipvs, dest = marked(10 * MANY, wait=301)
    assert ipvs.ns.conn_count <= 1
    assert len(dest.xmits) <= MANY + 2


def test_transmitters_in_use_are_kept_however_many_they_are():
    ipvs, dest = marked(3 * MANY)
    assert {id(cp.xmit) for cp in ipvs.conns()} == {id(xmit) for xmit in dest.xmits.values()}
    assert [xmit.users for xmit in dest.xmits.values()] == [1] * 3 * MANY


def test_an_expired_entry_gives_its_transmitter_back():
    ipvs, dest = marked(1)
    (xmit,) = dest.xmits.values()
    ipvs.run_hook(1, Packet.udp("203.0.113.8:40000", ("192.0.2.1", 1), mark=1))
    assert xmit.users == 2
    ipvs.clock.advance(seconds=400)
    assert (xmit.users, list(dest.xmits.values())) == (0, [xmit])


def test_the_transmitter_of_the_services_own_endpoint_is_kept_uncounted():
    ipvs = IPVS()
    dest = ipvs.add_dest(ipvs.add_service("udp", "192.0.2.1:0", scheduler="rr", persistent=10), "10.1.0.11:0")
    for port in range(1, 3 * MANY):
        ipvs.run_hook(1, Packet.udp("203.0.113.7:40000", ("192.0.2.1", port)))
        ipvs.clock.advance(seconds=301)
    template = next(xmit for xmit in dest.xmits.values() if not xmit.counted)
    assert (template.virt & 0xFFFF, template.users, len(dest.xmits) <= MANY + 3) == (0, 0, True)


def test_entries_that_expire_together_are_taken_off_their_own_transmitters():
    ipvs, dest = marked(3)
    ipvs.run_hook(1, Packet.udp("203.0.113.8:40000", ("192.0.2.1", 2), mark=1))
    ipvs.clock.advance(seconds=400)
    assert (ipvs.ns.conn_count, [xmit.users for xmit in dest.xmits.values()]) == (0, [0, 0, 0])


def test_entries_that_only_their_transmitter_counts_are_taken_off_it():
    """As those of a backup are: neither mark nor controller."""
    ipvs = IPVS()
    ipvs.add_dest(ipvs.add_service("udp", "192.0.2.1:0", scheduler="rr", persistent=10), "10.1.0.11:0")
    for port in (1, 2):
        ipvs.run_hook(1, Packet.udp(("203.0.113.7", 40000 + port), ("192.0.2.1", port)))
    entries = [cp for cp in ipvs.conns() if not cp.is_template]
    for cp in entries:
        cp.control_del()
    xmits = [cp.xmit for cp in entries]
    assert [(cp.quick, cp.ext) for cp in entries] == [(0, None)] * 2 and [xmit.users for xmit in xmits] == [1, 1]
    for cp in entries:
        cp.update_quick()
    assert all(cp.quick for cp in entries)
    ipvs.clock.advance(seconds=400)
    assert (ipvs.ns.conn_count, [xmit.users for xmit in xmits]) == (0, [0, 0])
