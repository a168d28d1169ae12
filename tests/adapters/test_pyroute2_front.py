"""The fake of pyroute2.IPVS against pyroute2's own classes: what they send it understands, what it answers they can read."""

from __future__ import annotations

import asyncio
import errno
import inspect

import pyroute2
import pytest
from pyroute2 import IPVSDest, IPVSService
from pyroute2.ipvs import AsyncIPVS
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.ipvs import ipvsmsg

from ipvs_model import IPVS as Model
from ipvs_model import Packet
from ipvs_model.adapters import pyroute2_front
from ipvs_model.adapters.pyroute2_front import IPVS, NUMBERS, VERBS

WEB = {"addr": "192.0.2.1", "port": 80, "protocol": 6}


class Wire:
    """Stands in for pyroute2's socket and keeps what would be sent."""

    def __init__(self):
        self.sent = []

    async def _do_request(self, msg, msg_flags):
        msg.encode()
        again = ipvsmsg(msg.data)
        again.decode()
        self.sent.append(again)


def web(front=None, **values):
    front = front or IPVS()
    service = IPVSService(**{**WEB, "sched_name": "rr", **values})
    front.service("add", service=service)
    return front, service


def through_the_wire(message):
    """A message as pyroute2 would decode it from the bytes that it encodes it to."""
    sent = ipvsmsg()
    sent["cmd"], sent["version"] = message["cmd"], message["version"]
    sent["attrs"] = [(name, plain(value)) for name, value in message["attrs"]]
    sent.encode()
    back = ipvsmsg(sent.data)
    back.decode()
    return back


def plain(value):
    """Nests as lists and dicts."""
    if isinstance(value, dict):
        return {"attrs": [(name, plain(inner)) for name, inner in value["attrs"]]} if "attrs" in value else dict(value)
    return value


# --- against pyroute2's classes ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", ["service", "dest"])
def test_the_calls_are_the_same(call):
    assert list(inspect.signature(getattr(IPVS, call)).parameters) == list(inspect.signature(getattr(pyroute2.IPVS, call)).parameters)


@pytest.mark.parametrize("command", VERBS)
@pytest.mark.parametrize("what", ["service", "dest"])
def test_the_commands_send_the_same(what, command):
    wire = Wire()
    arguments = (IPVSService(**WEB),) if what == "service" else (IPVSService(**WEB), IPVSDest(addr="10.1.0.11", port=80))
    asyncio.run(getattr(AsyncIPVS, what)(wire, command, *arguments))
    assert wire.sent[0]["cmd"] == NUMBERS[what][VERBS[command]]
    assert wire.sent[0]["version"] == pyroute2_front.VERSION


def test_no_other_commands():
    wire = Wire()
    with pytest.raises(KeyError):
        asyncio.run(AsyncIPVS.service(wire, "flush"))
    with pytest.raises(KeyError):
        IPVS().service("flush")


@pytest.mark.parametrize(
    "values", [WEB, {"fwmark": 3, "af": 2, "netmask": "255.255.255.0"}, {"addr": "2001:db8::1", "port": 80, "protocol": 17, "netmask": "128.0.0.0"}]
)
def test_what_is_listed_survives_the_wire(values):
    front = IPVS()
    service = IPVSService(**values)
    front.service("add", service=service)
    front.dest("add", service, IPVSDest(addr="2001:db8::11" if "2001" in str(values) else "10.1.0.11", port=80, fwd_method=0, weight=7, u_thresh=9, l_thresh=3))
    for message in (*front.service("dump"), *front.dest("dump", service)):
        back = through_the_wire(message)
        assert [(name, plain(value)) for name, value in back["attrs"]] == [(name, plain(value)) for name, value in message["attrs"]]


def test_every_attribute_is_one_of_pyroute2s():
    front, service = web()
    front.dest("add", service, IPVSDest(addr="10.1.0.11", port=80))
    known = {name for kind in (ipvsmsg.service, ipvsmsg.dest) for name, _ in kind.nla_map}
    for message in (*front.service("dump"), *front.dest("dump", service)):
        for _, nest in message["attrs"]:
            assert {name for name, _ in nest["attrs"]} <= known


def test_messages_become_pyroute2s_objects_and_can_be_sent_back():
    front, service = web(flags={"flags": 0, "mask": 0xFFFF})
    front.dest("add", service, IPVSDest(addr="10.1.0.11", port=80, fwd_method=0, weight=3))
    listed = IPVSService.from_message(front.service("dump")[0])
    assert (listed["addr"], listed["port"], listed["sched_name"]) == ("192.0.2.1", 80, "rr")
    server = IPVSDest.from_message(front.dest("dump", service=listed)[0])
    assert (server["addr"], server["weight"], server["IPVS_DEST_ATTR_FWD_METHOD"]) == ("10.1.0.11", 3, 0)
    front.service("set", service=listed)
    front.dest("set", listed, server)
    assert front.model.ipvsadm("-Sn").out == "-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.1.0.11:80 -m -w 3\n"


def test_the_exception_is_pyroute2s():
    assert pyroute2_front.NetlinkError is NetlinkError
    own = pyroute2_front._OwnNetlinkError(errno.EEXIST)
    theirs = NetlinkError(errno.EEXIST)
    assert (own.code, own.args, own.extra_code) == (theirs.code, theirs.args, theirs.extra_code)


# --- what the kernel says ---------------------------------------------------------------------------------------------
def code(call) -> int:
    with pytest.raises(NetlinkError) as caught:
        call()
    return caught.value.code


def test_errors_are_the_kernels():
    front, service = web()
    server, other = IPVSDest(addr="10.1.0.11", port=80), IPVSDest(addr="10.1.0.12", port=80)
    missing = IPVSService(addr="192.0.2.9", port=80, protocol=6)
    front.dest("add", service, server)
    assert code(lambda: front.service("add", service)) == errno.EEXIST
    assert code(lambda: front.service("del", missing)) == errno.ESRCH
    assert code(lambda: front.service("set", missing)) == errno.ESRCH
    assert code(lambda: front.service("get", missing)) == errno.ESRCH
    assert code(lambda: front.service("add", IPVSService(**{**WEB, "port": 81}, sched_name="nosuch"))) == errno.ENOENT
    assert code(lambda: front.dest("add", service, server)) == errno.EEXIST
    assert code(lambda: front.dest("set", service, other)) == errno.ENOENT
    assert code(lambda: front.dest("del", service, other)) == errno.ENOENT
    assert code(lambda: front.dest("add", missing, other)) == errno.ESRCH
    assert code(lambda: front.dest("add", service, IPVSDest(addr="10.1.0.12", port=80, u_thresh=1, l_thresh=2))) == errno.ERANGE
    assert code(lambda: front.dest("add", service, IPVSDest(addr="10.1.0.12", port=80, weight=0xFFFFFFFF))) == errno.ERANGE
    assert code(lambda: front.dest("get", service, server)) == errno.EOPNOTSUPP
    assert front.dest("dump", missing) == []


def test_incomplete_requests_are_refused():
    front, service = web()
    assert code(lambda: front.service("add")) == errno.EINVAL
    assert code(lambda: front.service("add", IPVSService(addr="192.0.2.1", port=80))) == errno.EINVAL
    assert code(lambda: front.service("add", IPVSService(fwmark=1, af=2))) == errno.EINVAL  # no netmask
    assert code(lambda: front.service("add", IPVSService(fwmark=1))) == errno.EINVAL
    assert code(lambda: front.dest("add", service)) == errno.EINVAL
    assert code(lambda: front.dest("add", service, IPVSDest(addr="10.1.0.11"))) == errno.EINVAL


def test_get_dump_and_delete():
    front, service = web(timeout=300, flags={"flags": 1, "mask": 0xFFFF})
    (message,) = front.service("get", service)
    nest = message.get("service")
    assert nest.get("timeout") == 300
    assert nest.get_attr("IPVS_SVC_ATTR_FLAGS") == {"flags": 3, "mask": 0xFFFFFFFF}
    assert nest.get_attrs("IPVS_SVC_ATTR_PORT") == [80]
    assert message.get_nested("IPVS_CMD_ATTR_SERVICE", "IPVS_SVC_ATTR_STATS", "IPVS_STATS_ATTR_CONNS") == 0
    assert message.get_nested("IPVS_CMD_ATTR_DEST", "IPVS_DEST_ATTR_ADDR") is None
    front.dest("add", service, IPVSDest(addr="10.1.0.11", port=80))
    front.dest("del", service, IPVSDest(addr="10.1.0.11", port=80))
    assert front.dest("dump", service) == []
    front.service("del", service)
    assert front.service("dump") == []


def test_update_deletes_as_pyroute2s_does():
    front, service = web()
    front.service("update", service)
    assert front.service("dump") == []


def test_a_tunnel_port_is_swapped_on_its_way():
    front, service = web()
    front.dest("add", service, IPVSDest(addr="10.1.0.11", port=80, fwd_method=2, tun_type=1, tun_port=6080))
    assert front.model.services[0].destinations[0].tun_port == int.from_bytes((6080).to_bytes(2, "little"), "big")
    assert front.dest("dump", service)[0].get("dest").get("tun_port") == 6080


def test_engine_and_mark_are_listed():
    model = Model()
    model.add_service(fwmark=7, scheduler="rr")
    model.add_service("udp", "192.0.2.1:5060", scheduler="rr", persistent=60, engine="sip")
    marked, sip = sorted((message.get("service") for message in IPVS(model).service("dump")), key=lambda nest: nest.get("fwmark") is None)
    assert marked.get("fwmark") == 7
    assert marked.get("addr") is None
    assert sip.get("pe_name") == "sip"


# --- failures and time ------------------------------------------------------------------------------------------------
def test_the_nth_call_fails_without_effect_and_the_others_do_not():
    front, service = web()
    front.fail(errno.ENOBUFS, nth=2, command="dest add")
    servers = [IPVSDest(addr=f"10.1.0.{number}", port=80) for number in (11, 12, 13)]
    front.dest("add", service, servers[0])
    assert front.service("dump")
    assert code(lambda: front.dest("add", service, servers[1])) == errno.ENOBUFS
    front.dest("add", service, servers[2])
    assert [dest.addr & 255 for dest in front.model.services[0].destinations] == [13, 11]
    assert front.calls == ["service add", "dest add", "service dump", "dest add", "dest add"]


def test_any_call_and_several_failures():
    front = IPVS()
    front.fail(errno.EINTR)
    front.fail(errno.EPERM, nth=3)
    codes = []
    for _ in range(4):
        try:
            front.service("dump")
        except NetlinkError as error:
            codes.append(error.code)
        else:
            codes.append(0)
    assert codes == [errno.EINTR, 0, errno.EPERM, 0]


def test_the_next_call_is_the_first():
    with pytest.raises(ValueError, match="the next call is the first"):
        IPVS().fail(errno.EINTR, nth=0)


def test_counters_move_by_themselves():
    with IPVS() as front:
        web(front)
        service = IPVSService(**WEB)
        front.dest("add", service, IPVSDest(addr="10.1.0.11", port=80, fwd_method=0))
        front.model.receive(Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S"))
        counts = [front.dest("dump", service)[0].get("dest").get("active_conns")]
        front.model.clock.advance(seconds=63)
        counts.append(front.dest("dump", service)[0].get("dest").get("active_conns"))
        assert counts == [1, 0]
        assert front.dest("dump", service)[0].get_nested("IPVS_CMD_ATTR_DEST", "IPVS_DEST_ATTR_STATS64", "IPVS_STATS_ATTR_CONNS") == 1
