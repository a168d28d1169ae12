"""Packets for the director of ``rules.py``: conversations of every protocol, errors about them, tunnels, fragments, extension headers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from ipvs_model.addresses import format_addr
from ipvs_model.events import ConnKey
from ipvs_model.flags import AF_INET, AF_INET6, Hook
from ipvs_model.packet import Packet
from ipvs_model.packet.build import ip_packet, ipv4_header
from ipvs_model.packet.encap import encapsulate
from ipvs_model.packet.fragment import fragment
from soak.rules import CLIENTS, OWN, SERVERS, TUNNEL_PORTS, VIPS

TCP_FLAGS: Final = ("S", "S", "S", "SA", "A", "A", "A", "PA", "FA", "F", "R", "RA", "SF", "SR", "", "FPU")
TCP_PORTS: Final = (80, 80, 81, 82, 82, 83, 84, 85, 443, 444, 21, 20, 8, 1024, 40000)
UDP_PORTS: Final = (53, 500, 5060, 5060, 80, 40000)
SERVER_PORTS: Final = {6: (8080, 80, 81, 82, 443, 21, 8083, 84), 17: (53, 500, 5060, 5061, 5353), 132: (9899, 9898, 9897)}
CLIENT_PORTS: Final = (40000, 40001, 40002, 500, 20, 0)
TCP_PAYLOADS: Final = (
    b"", b"", b"PASV\r\n", b"EPSV\r\n", b"EPSV ALL\r\n", b"PORT 203,0,113,7,156,65\r\n", b"EPRT |1|203.0.113.7|40001|\r\n", b"EPRT |2|2001:db8:f::1|40001|\r\n",
    b"227 Entering Passive Mode (10,1,0,11,156,66).\r\n", b"229 Entering Extended Passive Mode (|||40002|)\r\n", b"227 (10,1,0,11,300,66)\r\n", b"PORT 1,2\r\n",
    b"x" * 1500,
)  # fmt: skip
UDP_PAYLOADS: Final = (
    b"", b"x", b"INVITE sip:a@b SIP/2.0\r\nCall-ID: one@host\r\nCSeq: 1 INVITE\r\n\r\n", b"BYE sip:a@b SIP/2.0\r\ni: two\r\n\r\n", b"SIP/2.0 200 OK\r\nCall-ID:\r\n",
    b"\r\nCall-ID: " + b"y" * 300 + b"\r\n", b"z" * 1600,
)  # fmt: skip
CHUNKS: Final = (0, 1, 1, 1, 2, 6, 7, 8, 9, 10, 11, 14, 3, 4, 192)
#: IPv6 extension headers, and numbers that are none
EXTENSIONS: Final = (0, 60, 43, 44, 51, 59, 135, 139, 253)
ICMP_TYPES: Final = {4: (3, 3, 3, 4, 11, 8, 0, 5, 12, 13), 6: (1, 1, 2, 2, 3, 4, 128, 129, 133, 137)}
ROUTERS: Final = {4: "198.51.100.1", 6: "2001:db8:e::1"}
TCP_OPTIONS: Final = (b"", b"", bytes.fromhex("020405b4"), bytes.fromhex("0101050a000003e8000007d0"), bytes.fromhex("05ff"), bytes.fromhex("0303070000"), bytes(40))
IP_OPTIONS: Final = (b"\1", bytes.fromhex("94040000"), bytes.fromhex("8307040a010001"), bytes.fromhex("44ff"), bytes.fromhex("07"), bytes(40), b"\x86" * 40)


class Traffic:
    """A source of packets; the same ``rng`` gives the same ones."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        #: makers of ordinary packets, by name: a run truncates what each of them makes at every offset
        self.makers: dict[str, Callable[[int], Packet]] = {
            "tcp request": self.tcp_request,
            "tcp reply": self.tcp_reply,
            "udp request": self.udp_request,
            "udp reply": self.udp_reply,
            "sctp request": self.sctp_request,
            "sctp reply": self.sctp_reply,
            "ipsec": self.ipsec,
            "icmp error": self.icmp_error,
            "icmp error about a tunnel": self.tunnel_error,
            "icmp error about an icmp error": self.nested_error,
            "icmp query": self.icmp_query,
            "tunnel": self.tunnel,
            "other protocol": self.other_protocol,
            "options": self.options,
            "extension headers": self.extensions,
            "fragment": self.fragment,
            "sync": self.sync,
        }

    def packet(self) -> Packet:
        """Any packet; every second one is a TCP, UDP or SCTP packet of a client or a server."""
        names = tuple(self.makers)
        name = self.rng.choice(names[:6] if self.rng.random() < 0.5 else names)
        return self.makers[name](self.rng.choice((4, 4, 6)))

    # --- endpoints ----------------------------------------------------------------------------------------------------
    def client(self, version: int) -> tuple[str, int]:
        return self.rng.choice(CLIENTS[version]), self.rng.choice(CLIENT_PORTS)

    def request_ends(self, version: int, ports: tuple[int, ...]) -> tuple[tuple[str, int], tuple[str, int]]:
        """A client (sometimes a server, or the director) and a virtual endpoint (sometimes a server's)."""
        rng = self.rng
        src = self.client(version)
        if rng.random() < 0.05:
            src = (rng.choice((*SERVERS[version], OWN[version], *VIPS[version])), rng.choice(CLIENT_PORTS))
        addresses = VIPS[version] if rng.random() < 0.9 else (*SERVERS[version], OWN[version])
        return src, (rng.choice(addresses), rng.choice(ports))

    def reply_ends(self, version: int, protocol: int) -> tuple[tuple[str, int], tuple[str, int]]:
        """A server, or (methods other than NAT) a virtual endpoint, and a client."""
        rng = self.rng
        addresses = SERVERS[version] if rng.random() < 0.8 else (*VIPS[version], OWN[version])
        return (rng.choice(addresses), rng.choice(SERVER_PORTS[protocol])), self.client(version)

    # --- ordinary packets ---------------------------------------------------------------------------------------------
    def _tcp(self, ends: tuple[tuple[str, int], tuple[str, int]]) -> Packet:
        rng = self.rng
        flags, payload, options = rng.choice(TCP_FLAGS), rng.choice(TCP_PAYLOADS), rng.choice(TCP_OPTIONS)
        return Packet.tcp(*ends, flags, payload=payload, options=options, seq=rng.choice((1, 1000, 0xFFFFFFF0)), ttl=rng.choice((64, 64, 1, 2)), df=rng.random() < 0.7)

    def tcp_request(self, version: int) -> Packet:
        return self._tcp(self.request_ends(version, TCP_PORTS))

    def tcp_reply(self, version: int) -> Packet:
        return self._tcp(self.reply_ends(version, 6))

    def _udp(self, ends: tuple[tuple[str, int], tuple[str, int]]) -> Packet:
        rng = self.rng
        return Packet.udp(*ends, rng.choice(UDP_PAYLOADS), checksum=rng.random() < 0.8, ttl=rng.choice((64, 1)), df=rng.random() < 0.5)

    def udp_request(self, version: int) -> Packet:
        return self._udp(self.request_ends(version, UDP_PORTS))

    def udp_reply(self, version: int) -> Packet:
        return self._udp(self.reply_ends(version, 17))

    def _sctp(self, ends: tuple[tuple[str, int], tuple[str, int]]) -> Packet:
        rng = self.rng
        chunks = [(rng.choice(CHUNKS), rng.getrandbits(2), rng.randbytes(rng.choice((0, 0, 4, 16, 17)))) for _ in range(rng.choice((1, 1, 2, 3)))]
        return Packet.sctp(*ends, chunks)

    def sctp_request(self, version: int) -> Packet:
        return self._sctp(self.request_ends(version, (9899, 9899, 9898)))

    def sctp_reply(self, version: int) -> Packet:
        return self._sctp(self.reply_ends(version, 132))

    def ipsec(self, version: int) -> Packet:
        (src, _), (dst, _) = self.request_ends(version, (0,)) if self.rng.random() < 0.5 else self.reply_ends(version, 17)
        return self.rng.choice((Packet.esp, Packet.ah))(src, dst, payload=self.rng.randbytes(self.rng.choice((0, 3, 16))))

    def flow(self, version: int) -> Packet:
        """What an ICMP error may be about."""
        makers = (self.tcp_request, self.tcp_reply, self.udp_request, self.udp_reply, self.sctp_request, self.sctp_reply, self.ipsec)
        return self.rng.choice(makers)(version)

    def reversed_flow(self, version: int) -> Packet:
        """A packet of the other direction, as the quoted one of an error on its way to a server is."""
        p = self.flow(version)
        pair = ((p.daddr, p.dport), (p.saddr, p.sport))
        if version == 4 and p.proto == 6:
            return Packet.tcp(*pair, "A")
        return p

    def along(self, key: ConnKey) -> tuple[Packet, Hook]:
        """A packet of an entry's connection, or an error about one, and the hook where it belongs."""
        rng = self.rng
        version = 4 if key.af == 2 else 6
        client, virtual, real = (divmod(endpoint, 1 << 16) for endpoint in (key.client, key.virtual, key.real))
        server = real if key.daf == key.af and rng.random() < 0.7 else virtual
        makers = {6: self._tcp, 17: self._udp, 132: self._sctp}
        make = makers.get(key.protocol, self._tcp)
        ends = [((_address(version, a), p), (_address(version, b), q)) for (a, p), (b, q) in ((client, virtual), (server, client), (virtual, client), (client, server))]
        what = rng.randrange(8)
        if what < 3:
            return make(ends[0]), Hook.LOCAL_IN
        if what < 6:
            return make(ends[1]), Hook.FORWARD
        if what == 6:
            return self._error(version, make(ends[2]).raw, ends[0][1][0]), Hook.LOCAL_IN
        return self._error(version, make(ends[3]).raw, ends[0][0][0]), Hook.FORWARD

    def _error(self, version: int, quoted: bytes, dst: int | str) -> Packet:
        rng = self.rng
        rest = rng.choice((bytes(4), (1400).to_bytes(4), (68).to_bytes(4), (90).to_bytes(4), rng.randbytes(4)))
        source = rng.choice((ROUTERS[version], rng.choice(CLIENTS[version]), rng.choice(SERVERS[version])))
        return Packet.icmp(source, dst, rng.choice(ICMP_TYPES[version][:5]), rng.choice((0, 1, 3, 4, 4, 13)), rest, quoted)

    def icmp_error(self, version: int) -> Packet:
        rng = self.rng
        inner = self.flow(version) if rng.random() < 0.5 else self.reversed_flow(version)
        dst: int | str = inner.saddr if rng.random() < 0.7 else rng.choice((*VIPS[version], OWN[version], *CLIENTS[version]))
        cut = rng.choice((len(inner.raw), 28, 48, 40, rng.randrange(len(inner.raw) + 1)))
        return self._error(version, inner.raw[:cut], dst)

    def tunnel_error(self, version: int) -> Packet:
        return self._error(version, self.tunnel(version).raw, OWN[version])

    def nested_error(self, version: int) -> Packet:
        inner = self.icmp_error(version)
        for _ in range(self.rng.randrange(3)):
            inner = self._error(version, inner.raw, inner.saddr)
        return self._error(version, inner.raw, inner.saddr)

    def icmp_query(self, version: int) -> Packet:
        (src, _), (dst, _) = self.request_ends(version, (0,))
        return Packet.icmp(src, dst, self.rng.choice(ICMP_TYPES[version][5:]), 0, b"\0\1\0\1", self.rng.randbytes(8))

    def tunnel(self, version: int) -> Packet:
        """A packet such as a transmitter sends."""
        rng = self.rng
        inner = self.tcp_request(rng.choice((4, 6)))
        server = Packet.ip(OWN[version], rng.choice(SERVERS[version]), 0)
        return encapsulate(
            inner, server.af, server.saddr, server.daddr, tun_type=rng.randrange(3), tun_port=rng.choice(TUNNEL_PORTS), tun_flags=rng.randrange(3)
        )

    def other_protocol(self, version: int) -> Packet:
        (src, _), (dst, _) = self.request_ends(version, (0,))
        return Packet.ip(src, dst, self.rng.choice((2, 47, 4, 41, 58, 1, 89, 103, 255, self.rng.randrange(256))), self.rng.randbytes(self.rng.randrange(40)))

    def options(self, version: int) -> Packet:
        """IPv4 with options in front of a transport header."""
        p = self.flow(4)
        options = self.rng.choice(IP_OPTIONS)
        header = ipv4_header(p.proto, p.saddr, p.daddr, p.l4_len, ttl=p.ttl, options=options)
        return Packet.parse(header + p.l4_bytes)

    def extensions(self, version: int) -> Packet:
        """IPv6 with a chain of up to four extension headers, well formed or not, in front of a transport header."""
        rng = self.rng
        p = self.flow(6) if rng.random() < 0.8 else self.icmp_error(6)
        kind, body = p.raw[6], p.raw[40:]
        for _ in range(rng.randrange(1, 5)):
            extension = rng.choice(EXTENSIONS)
            size = rng.choice((0, 0, 0, 1, 2, 255))
            data = rng.randbytes(6 + 8 * min(size, 2))
            if extension == 44:
                size, data = 0, rng.choice((bytes(2), b"\0\1", b"\0\10", b"\0\11", b"\xff\xf8", rng.randbytes(2))) + rng.randbytes(4)
            body = bytes((kind, size)) + data + body
            kind = extension
        return Packet.parse(ip_packet(p.af, kind, p.saddr, p.daddr, body))

    def fragment(self, version: int) -> Packet:
        """One fragment of a packet; identifications are few, so that datagrams become whole, or do not fit together."""
        rng = self.rng
        p = self.flow(version)
        mtu = rng.choice((28 + 24, 60, 256)) if version == 4 else rng.choice((104, 256))
        pieces = fragment(Packet.parse(p.raw), mtu, ident=rng.randrange(4))
        raw = bytearray(rng.choice(pieces).raw)
        if version == 4:
            raw[4:6] = bytes((0, rng.randrange(4)))
        return Packet.parse(bytes(raw))

    def sync(self, version: int) -> Packet:
        """A datagram for the backup daemon."""
        record = bytes.fromhex("000600340000018300010bb80050 1f90 00000000 00000384 ac100005 c0000201 0a01000b".replace(" ", ""))
        message = bytes((0, 7)) + (8 + len(record)).to_bytes(2) + bytes((1, 1, 0, 0)) + record
        return Packet.udp((OWN[4], 32768), ("224.0.0.81", 8848), message, ttl=1)


def _address(version: int, addr: int) -> str:
    return format_addr(AF_INET if version == 4 else AF_INET6, addr)
