"""A capture in which much happens: conversations that end, templates, one-packet entries, IPv6, losses, a service without a server."""

from tests.tools.captures import timed

from ipvs_model.packet import Packet

WEB, NAMES, SIX, EMPTY = "192.0.2.1:80", "192.0.2.2:53", "[2001:db8::1]:80", "192.0.2.3:443"
RULES = f"""# <script>alert(1)</script> & "quotes"
-A -t {WEB} -s rr -p 100
-a -t {WEB} -r 10.1.0.11:8080 -m
-a -t {WEB} -r 10.1.0.12:8080 -m -w 3
-A -u {NAMES} -s rr -o
-a -u {NAMES} -r 10.1.0.21:53 -m
-A -t {SIX} -s rr
-a -t {SIX} -r [2001:db8:1::11]:8080 -m
-A -t {EMPTY} -s wrr
"""
CLIENTS = 6


def story(*, ethernet: bool = False) -> bytes:
    """Six clients come, one each nine seconds; a last packet at 400 s lets the timers between run."""
    packets = [packet for number in range(1, CLIENTS + 1) for packet in visit(number)]
    packets.append((400.0, Packet.tcp("203.0.113.99:40000", WEB, "S")))
    return timed(*((at, packet.raw) for at, packet in packets), ethernet=ethernet)


def visit(number: int) -> list[tuple[float, Packet]]:
    """Web, names, IPv6, and the service without a server; each second visit loses a packet, each third is left open."""
    client, at = f"203.0.113.{number}:{40000 + number}", 9.0 * number - 9
    packets = [
        (at, Packet.tcp(client, WEB, "S")),
        (at + 0.01, Packet.tcp(WEB, client, "SA")),
        (at + 0.02, Packet.tcp(client, WEB, "A")),
        (at + 0.5, Packet.tcp(client, WEB, "PA", payload=b"question")),
        (at + 0.6, Packet.tcp(WEB, client, "PA", payload=b"answer")),
        (at + 2, Packet.udp(f"203.0.113.{number}:50000", NAMES, payload=b"name")),
        (at + 3, Packet.tcp(f"[2001:db8:9::{number}]:4000", SIX, "S")),
        (at + 3.1, Packet.tcp(f"203.0.113.{number}:4000", EMPTY, "S")),
    ]
    if number % 2 == 0:
        packets.append((at + 1, Packet.tcp(client, WEB, "A", ttl=1)))
    if number % 3:
        packets += [(at + 5, Packet.tcp(client, WEB, "FA")), (at + 5.1, Packet.tcp(WEB, client, "FA")), (at + 5.2, Packet.tcp(client, WEB, "A"))]
    return packets
