"""What watchers hear of control calls, and services whose scheduler or engine is unusual."""

import errno

import pytest
from tests.lab import Lab

from ipvs_model.dest import DestUser
from ipvs_model.engines import PersistenceEngine
from ipvs_model.errors import IPVSError
from ipvs_model.events import DestChanged, ServiceChanged
from ipvs_model.flags import AF_INET, IPPROTO_TCP
from ipvs_model.schedulers import Scheduler
from ipvs_model.service import ServiceUser


def test_watchers_hear_of_every_change_of_services_and_destinations():
    lab = Lab()
    heard = []
    lab.ipvs.subscribe(lambda event: heard.append(event) if isinstance(event, (ServiceChanged, DestChanged)) else None)
    lab.service("rr", "A")
    lab.ipvs.edit_service(lab.svc, scheduler="wrr")
    lab.edit("A", weight=3).delete("A").add("A")
    lab.ipvs.delete_service(lab.svc)
    lab.clock.advance(seconds=300)
    assert [event.function for event in heard] == [
        "ip_vs_add_service", "ip_vs_add_dest", "ip_vs_edit_service", "ip_vs_edit_dest", "ip_vs_del_dest", "ip_vs_add_dest", "ip_vs_del_dest",
        "ip_vs_del_service", "ip_vs_dest_free",
    ]  # fmt: skip
    assert [str(event).split()[-1] for event in heard] == ["added", "added", "edited", "edited", "deleted", "reinstated", "deleted", "deleted", "freed"]


@pytest.mark.parametrize("call", ["new_service", "get_service", "del_service"])
def test_an_address_too_long_for_its_family_is_refused_for_a_service(call):
    user = ServiceUser(af=AF_INET, protocol=IPPROTO_TCP, addr=1 << 32, port=80)
    with pytest.raises(IPVSError) as refused:
        getattr(Lab().control, call)(user)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("call", ["new_dest", "set_dest", "del_dest"])
def test_an_address_too_long_for_its_family_is_refused_for_a_destination(call):
    lab = Lab()
    lab.service("rr")
    with pytest.raises(IPVSError) as refused:
        getattr(lab.control, call)(lab.ipvs.service_user(lab.svc), DestUser(addr=1 << 32, port=80, af=AF_INET))
    assert refused.value.errno == errno.EINVAL
    assert (lab.svc.destinations, lab.ns.trash.dests) == ([], [])


class Once(Scheduler):
    """Lets itself be bound once."""

    name = "once"

    def __init__(self):
        self.bound = 0

    def init_service(self, svc):
        self.bound += 1
        if self.bound > 1:
            raise IPVSError(errno.ENOMEM)

    def schedule(self, svc, pkt, iph):
        return svc.destinations[0]


class Never(Once):
    """Never lets itself be bound."""

    name = "never"

    def __init__(self):
        self.bound = 1


def refusal(lab, scheduler):
    with pytest.raises(IPVSError) as refused:
        lab.ipvs.edit_service(lab.svc, scheduler=scheduler, persistent=60)
    lab.check()
    return refused.value.errno


def test_a_service_whose_old_scheduler_does_not_come_back_has_none():
    lab = Lab(plugins=(Once(), Never()))
    lab.service("once", "A").client("S").goes_to("A")
    assert refusal(lab, "never") == errno.ENOMEM
    assert (lab.svc.scheduler, lab.svc.flags & 1) == (None, 0)
    lab.client("S", 40001).dropped("no destination")


def test_a_service_without_scheduler_stays_without_one_when_the_new_one_refuses():
    lab = Lab(plugins=(Never(),))
    lab.service("none", "A")
    assert refusal(lab, "never") == errno.ENOMEM
    assert (lab.svc.scheduler, lab.ipvs.log[-1][1]) == (None, "IPVS: ip_vs_bind_scheduler(): init error")


def test_destinations_of_a_service_without_scheduler_are_edited_and_deleted():
    lab = Lab()
    lab.service("none", "A").edit("A", weight=5)
    assert lab.dest("A").weight == 5
    lab.delete("A").add("A", weight=2)
    assert (len(lab.svc.destinations), lab.dest("A").weight, lab.ns.trash.dests) == (1, 2, [])


class Quiet(PersistenceEngine):
    """An engine whose servers never begin connections."""

    name = "quiet"


def test_only_engines_whose_servers_begin_connections_are_counted():
    lab = Lab(plugins=(Quiet,))
    lab.service("rr", protocol="udp", engine="quiet", persistent=60)
    assert lab.ns.conn_out_counter == 0
    lab.ipvs.edit_service(lab.svc, engine="sip")
    assert lab.ns.conn_out_counter == 1
    lab.ipvs.edit_service(lab.svc, engine="quiet")
    lab.check()
    lab.ipvs.delete_service(lab.svc)
    assert lab.ns.conn_out_counter == 0
