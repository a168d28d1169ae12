"""Hypothesis strategies for packets."""

from hypothesis import strategies as st

from ipvs_model.flags import AF_INET, AF_INET6
from ipvs_model.packet import Packet

ports = st.integers(0, 0xFFFF)
words = st.integers(0, 0xFFFFFFFF)
addresses = {
    AF_INET: st.ip_addresses(v=4),
    AF_INET6: st.ip_addresses(v=6),
}
families = st.sampled_from((AF_INET, AF_INET6))
payloads = st.binary(max_size=80)
devices = st.sampled_from((None, "cli", "rs"))


def endpoint_ints(af: int) -> st.SearchStrategy[int]:
    """Endpoints as the model keeps them."""
    return st.integers(0, (1 << 48) - 1 if af == AF_INET else (1 << 144) - 1)


@st.composite
def common(draw: st.DrawFn) -> dict[str, object]:
    """Keyword arguments that all constructors take."""
    return {
        "ttl": draw(st.integers(1, 255)),
        "tos": draw(st.integers(0, 255)),
        "id": draw(ports),
        "df": draw(st.booleans()),
        "mark": draw(st.integers(0, 3)),
        "device": draw(devices),
    }


@st.composite
def tcp_packets(draw: st.DrawFn, payload: st.SearchStrategy[bytes] = payloads) -> Packet:
    af = draw(families)
    ends = [(draw(addresses[af]), draw(ports)) for _ in range(2)]
    return Packet.tcp(
        *ends,
        draw(st.integers(0, 255)),
        seq=draw(words),
        ack=draw(words),
        payload=draw(payload),
        window=draw(ports),
        options=draw(st.binary(max_size=40)),
        **draw(common()),
    )


@st.composite
def udp_packets(draw: st.DrawFn, payload: st.SearchStrategy[bytes] = payloads) -> Packet:
    af = draw(families)
    ends = [(draw(addresses[af]), draw(ports)) for _ in range(2)]
    return Packet.udp(*ends, draw(payload), checksum=draw(st.booleans()), **draw(common()))


@st.composite
def sctp_packets(draw: st.DrawFn) -> Packet:
    af = draw(families)
    ends = [(draw(addresses[af]), draw(ports)) for _ in range(2)]
    chunk = st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=9))
    return Packet.sctp(*ends, draw(st.lists(chunk, max_size=3)), vtag=draw(words), **draw(common()))


@st.composite
def portless_packets(draw: st.DrawFn) -> Packet:
    """ICMP, ICMPv6, ESP, AH and unknown protocols; IPv4 options and IPv6 extension headers now and then."""
    af = draw(families)
    ends = [draw(addresses[af]) for _ in range(2)]
    kind = draw(st.sampled_from(("icmp", "esp", "ah", "ip")))
    kwargs = draw(common())
    if kind == "icmp":
        return Packet.icmp(*ends, draw(st.integers(0, 255)), draw(st.integers(0, 255)), draw(st.binary(min_size=4, max_size=4)), draw(payloads), **kwargs)
    if kind == "esp":
        return Packet.esp(*ends, draw(words), draw(words), draw(payloads), **kwargs)
    if kind == "ah":
        return Packet.ah(*ends, draw(words), draw(words), draw(payloads), **kwargs)
    protocol = draw(st.sampled_from((0, 4, 6, 17, 41, 43, 44, 47, 51, 59, 60, 132, 255)))
    return Packet.ip(*ends, protocol, draw(payloads), options=draw(st.binary(max_size=40)), **kwargs)


transport_packets = st.one_of(tcp_packets(), udp_packets(), sctp_packets())
packets = st.one_of(transport_packets, portless_packets())
