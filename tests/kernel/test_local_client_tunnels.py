"""Clients on the director itself whose packets go into tunnels: their checksums are left partial, and GUE may leave them to the far end (REMCSUM).

`questions/local_client_tunnels.jsonl.gz` was recorded from a kernel: TCP and UDP clients were started on the director (`nc`, `nslookup`), with MTUs at the limits.
Their packets are taken out of the tunnels, made partial and whole again as the sockets gave them, and sent through the model.
"""

from __future__ import annotations

from pathlib import Path
from struct import pack_into
from typing import Final

import pytest

from ipvs_model.flags import (
    AF_INET,
    AF_INET6,
    IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM,
    IPPROTO_UDP,
    PKT_PARTIAL,
    PKT_ROUTE_LOCAL,
    Hook,
    Verdict,
)
from ipvs_model.packet import Packet
from ipvs_model.packet.checksum import TRANSPORT_CHECKSUMS, pseudo_sum
from ipvs_model.packet.encap import encapsulate, tunnel_overhead
from ipvs_model.packet.patch import set_header
from ipvs_model.packet.rewrite import dec_ttl, transport_csum_ok
from ipvs_model.tools.host_output import Emission, Origin
from ipvs_model.tools.machine import Host, trace_machine
from ipvs_model.tools.trace_compare import compare_emitted
from ipvs_model.tools.traces import Trace, read_traces

TRACES: Final = {trace.name: trace for trace in read_traces(Path(__file__).parent / "questions" / "local_client_tunnels.jsonl.gz")}
GUE: Final = 1
UDP_HEADER: Final = 8
SYN_OPTIONS: Final = bytes.fromhex("0204ffd70402080a000000010000000001030306")  #: those of a Linux client


def outer_header(raw: bytes) -> int:
    """Length of the outer IP header."""
    return 20 if raw[0] >> 4 == 4 else 40


def inner_offset(raw: bytes) -> int:
    """Where the inner packet begins."""
    at = outer_header(raw)
    protocol = raw[9 if at == 20 else 6]
    if protocol == 17:
        return at + UDP_HEADER + 4 + 4 * (raw[at + UDP_HEADER] & 31)
    if protocol == 47:
        return at + (8 if raw[at] & 0x80 else 4)
    return at


def as_sent(raw: bytes) -> Packet:
    """A local client's packet as LOCAL_OUT saw it, from the tunnel packet that left: one hop more, a partial checksum."""
    inner = Packet.parse(raw[inner_offset(raw) :])
    buffer = bytearray(inner.raw)
    field = inner.l4 + TRANSPORT_CHECKSUMS[inner.proto][0]
    pack_into("!H", buffer, field, pseudo_sum(inner.saddr, inner.daddr, inner.proto, inner.l4_len))
    set_header(buffer, inner.af, inner.saddr, inner.daddr, inner.ttl + 1)
    return Packet.parse(bytes(buffer), bits=PKT_PARTIAL | PKT_ROUTE_LOCAL)


def without_drawn_id(raw: bytes) -> bytes:
    """A tunnel packet around a UDP socket's packet, as the model makes it.

    The kernel lets such packets be cut although they carry DF (the socket's path MTU discovery is "want"), so it draws an id for the outer header too.
    """
    outer = Packet.parse(raw)
    if outer.af != AF_INET or not outer.df or Packet.parse(raw[inner_offset(raw) :]).proto != IPPROTO_UDP:
        return raw
    assert raw[4:6] != bytes(2)
    buffer = bytearray(raw)
    buffer[4:6] = bytes(2)
    set_header(buffer, AF_INET, outer.saddr, outer.daddr, outer.ttl)
    return bytes(buffer)


def local_syn(port: int, version: int) -> Packet:
    """The SYN of a local client that never left."""
    local, virtual = (f"192.0.2.1:{port}", "192.0.2.1:80") if version == 4 else (f"[2001:db8:9::1]:{port}", "[2001:db8:2::1]:80")
    whole = Packet.tcp(local, virtual, "S", options=SYN_OPTIONS)
    return Packet.parse(whole.raw, bits=PKT_PARTIAL | PKT_ROUTE_LOCAL)


def send(host: Host, packet: Packet) -> list[Emission]:
    """A local client's packet through LOCAL_OUT: what leaves in a tunnel."""
    action = host.ipvs.run_hook(Hook.LOCAL_OUT, packet)
    assert action.verdict is Verdict.STOLEN
    out = action.apply(packet)
    return [] if out is None else [Emission(action.device, out.raw, Origin.TUNNEL)]


def replay(trace: Trace) -> int:
    """Do all steps and compare what leaves; how many packets did."""
    host = trace_machine(trace.start_jiffies)
    start, left = host.ipvs.clock.now, 0
    for number, step in enumerate(trace.steps):
        host.run_until(start + step.at[0])
        emitted: list[Emission] = []
        if step.op == "ipvsadm":
            assert host.ipvs.ipvsadm(step.operands["args"]).status == step.operands["rc"] == 0
        elif step.op == "packet":
            host.inject(step.operands["dev"], bytes.fromhex(step.operands["hex"]))
            emitted = host.drain()
        elif step.op == "dump":
            assert len(host.ipvs.proc("ip_vs_conn").splitlines()) == len(step.operands["files"]["ip_vs_conn"])
        elif step.operands["cmd"].startswith("ip link set rs mtu "):
            host.routing.set_mtu("rs", int(step.operands["cmd"].split()[-1]))
        else:
            packets = [as_sent(raw) for _, raw in step.emitted] or [local_syn(1024 + number, 6 if ":" in step.operands["cmd"] else 4)]
            emitted = [emission for packet in packets for emission in send(host, packet)]
        assert compare_emitted([(device, without_drawn_id(raw)) for device, raw in step.emitted], emitted) is None, str(step)
        left += len(step.emitted)
    return left


#: scenario → packets that left
LEFT: Final = {
    "local-ipip-4in4": 1,
    "local-gue-nocsum-4in4": 1,
    "local-gue-csum-4in4": 1,
    "local-gue-remcsum-4in4": 1,
    "local-gre-4in4": 1,
    "local-gre-csum-4in4": 1,
    "local-gue-remcsum-4in6": 1,
    "local-gue-remcsum-6in6": 1,
    "local-gue-remcsum-6in4": 1,
    "local-gue-remcsum-udp": 2,
    "local-gue-csum-4in6": 1,
    "local-gue-csum-6in6": 1,
    "local-gue-csum-6in4": 1,
    "local-gue-csum-udp": 2,
    "local-mtu-4in4": 4,
    "local-mtu-4in6": 4,
    "local-mtu-6in4": 1,
}


def test_no_scenario_is_left_out() -> None:
    assert list(TRACES) == list(LEFT)


@pytest.mark.parametrize("name", LEFT)
def test_what_local_clients_send_leaves_as_from_the_kernel(name: str) -> None:
    assert replay(TRACES[name]) == LEFT[name]


def remote(name: str) -> list[bytes]:
    """The tunnel packets of a scenario."""
    return [raw for step in TRACES[name].steps for _, raw in step.emitted]


#: scenario → GUE header: option length 2, inner protocol, flags 0001; private word; start and place of the checksum in the inner packet
HEADERS: Final = {
    "local-gue-remcsum-4in4": "02 04 0001 80000000 0014 0024",  # 20, and 16 bytes into the TCP header
    "local-gue-remcsum-4in6": "02 04 0001 80000000 0014 0024",
    "local-gue-remcsum-6in6": "02 29 0001 80000000 0028 0038",
    "local-gue-remcsum-6in4": "02 29 0001 80000000 0028 0038",
    "local-gue-remcsum-udp": "02 04 0001 80000000 0014 001a",  # 6 bytes into the UDP header
    "local-gue-csum-4in4": "00 04 0000",
    "local-gue-csum-6in6": "00 29 0000",
    "local-gue-csum-udp": "00 04 0000",
}


@pytest.mark.parametrize("name", HEADERS)
def test_every_byte_of_the_tunnel_packet_is_the_kernel_s(name: str) -> None:
    """With the source port and id that the kernel drew; the checksum over all of it included."""
    header = bytes.fromhex(HEADERS[name])
    flags = IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM if header[0] else 1
    for raw in remote(name):
        outer = Packet.parse(raw)
        at = outer_header(raw) + UDP_HEADER
        assert raw[at : at + len(header)] == header and inner_offset(raw) == at + len(header)
        sent = dec_ttl(as_sent(raw))
        made = encapsulate(
            sent,
            outer.af,
            outer.saddr,
            outer.daddr,
            tun_type=GUE,
            tun_port=outer.dport,
            tun_flags=flags,
            sport=outer.sport,
            ident=int.from_bytes(raw[4:6], "big") if outer.af == AF_INET else 0,
        )
        assert made.raw == without_drawn_id(raw) and transport_csum_ok(made)
        assert tunnel_overhead(sent, outer.af, GUE, flags) == inner_offset(raw) == len(raw) - sent.length
        assert outer_header(raw) + 12 + (8 if header[0] else 0) == inner_offset(raw)


@pytest.mark.parametrize("name", [name for name in LEFT if "remcsum" in name])
def test_the_far_end_can_finish_the_checksum_from_the_header(name: str) -> None:
    """Summing from start to the end and putting the complement in place (remcsum_adjust of the receiver) gives a right packet."""
    for raw in remote(name):
        header, inner = raw[outer_header(raw) + UDP_HEADER :], bytearray(raw[inner_offset(raw) :])
        begin, field = int.from_bytes(header[8:10], "big"), int.from_bytes(header[10:12], "big")
        assert not transport_csum_ok(Packet.parse(bytes(inner)))
        data = bytes(inner[begin:])
        total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
        pack_into("!H", inner, field, 0xFFFF - (total % 65535 or 0xFFFF) or 0xFFFF)
        assert transport_csum_ok(Packet.parse(bytes(inner)))


# --- the eight bytes count --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "without", "with_it"),
    [("local-mtu-4in4", 100, 108), ("local-mtu-4in6", 1332, 1340)],  # at least 68 and 1280 bytes must be left for the inner packet
)
def test_narrowest_device_for_received_packets_and_for_local_clients(name: str, without: int, with_it: int) -> None:
    """As recorded: at each MTU a client from outside, whose checksum is complete, and one on the director."""
    assert with_it - without == 8
    mtu, passed = 0, []
    for step in TRACES[name].steps:
        if step.op == "sh" and step.operands["cmd"].startswith("ip link"):
            mtu = int(step.operands["cmd"].split()[-1])
        elif step.op in ("packet", "sh"):
            passed.append((mtu, step.op, bool(step.emitted)))
    assert passed == [(mtu, op, mtu >= (without if op == "packet" else with_it)) for mtu, op, _ in passed]
    assert {mtu for mtu, _, _ in passed} == {without - 1, without, with_it - 1, with_it}


def director(vip: str, server: str, mtu: int) -> Host:
    """A machine with a GUE REMCSUM server behind a device of this MTU."""
    host = trace_machine(0)
    host.routing.set_mtu("rs", mtu)
    for args in (f"-A -u {vip} -s rr", f"-a -u {vip} -r {server} -i --tun-type gue --tun-port 6080 --tun-remcsum"):
        assert host.ipvs.ipvsadm(args).status == 0
    return host


@pytest.mark.parametrize(
    ("vip", "local", "server", "room"),
    [
        ("192.0.2.1:53", "192.0.2.1:2000", "10.1.0.11:53", 1468),
        ("192.0.2.1:53", "192.0.2.1:2000", "[2001:db8:1::11]:53", 1448),
        ("[2001:db8:2::1]:53", "[2001:db8:2::1]:2000", "10.1.0.11:53", 1468),
        ("[2001:db8:2::1]:53", "[2001:db8:2::1]:2000", "[2001:db8:1::11]:53", 1448),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_largest_packet(vip: str, local: str, server: str, room: int, partial: bool) -> None:
    """MTU 1500: outer header, 12 bytes, and 8 more for a partial checksum; a packet one byte longer gets an error that names what would fit."""
    room -= 8 * partial
    for size, fits in ((room, True), (room + 1, False)):
        host = director(vip, server, 1500)
        headers = Packet.udp(local, vip).length
        whole = Packet.udp(local, vip, bytes(size - headers))
        packet = Packet.parse(whole.raw, bits=PKT_ROUTE_LOCAL | (PKT_PARTIAL if partial else 0))
        action = host.ipvs.run_hook(Hook.LOCAL_OUT, packet)
        out = action.apply(packet)
        if fits:
            assert out is not None and out.length == 1500 and transport_csum_ok(out)
        else:
            assert action.reason == "mtu" and out is None
            (error,) = host.ns.outbox
            quoted = error.packet.l4_bytes
            assert (quoted[0], quoted[1]) == ((3, 4) if packet.af == AF_INET else (2, 0))
            assert int.from_bytes(quoted[4:8], "big") == room


def test_a_packet_whose_checksum_is_complete_goes_as_with_csum() -> None:
    whole = Packet.tcp("192.0.2.1:2000", "192.0.2.1:80", "S")
    for af, far in ((AF_INET, 0x0A01000B), (AF_INET6, 0x20010DB8 << 96 | 17)):
        tunnels = [encapsulate(whole, af, 1, far, tun_type=GUE, tun_port=6080, tun_flags=flags, sport=40000).raw for flags in (1, 2, 3)]
        assert len(set(tunnels)) == 1


@pytest.mark.parametrize("tun_type", [0, 2])
def test_other_tunnels_have_no_remote_checksum(tun_type: int) -> None:
    packet = Packet.tcp("192.0.2.1:2000", "192.0.2.1:80", "S")
    packet.bits |= PKT_PARTIAL
    for flag in (0, IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM):
        out = encapsulate(packet, AF_INET, 1, 2, tun_type=tun_type, tun_flags=flag)
        assert out.raw.endswith(packet.raw) and len(out.raw) == packet.length + tunnel_overhead(packet, AF_INET, tun_type, flag)
