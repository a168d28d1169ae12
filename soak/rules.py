"""A director with services of every kind, as ipvsadm commands, and what ipvsadm cannot say."""

from __future__ import annotations

from typing import Final

from ipvs_model.dest import DestUser
from ipvs_model.ipvs import IPVS
from ipvs_model.service import ServiceUser

#: addresses of the director for clients, and of the director itself on the servers' side
VIPS: Final = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8:2::1", "2001:db8:2::2")}
OWN: Final = {4: "10.1.0.1", 6: "2001:db8:1::1"}
CLIENTS: Final = {4: ("203.0.113.7", "203.0.113.8", "198.51.100.9", "10.9.0.7"), 6: ("2001:db8:f::1", "2001:db8:f::2", "2001:db8:9::7")}
SERVERS: Final = {
    4: ("10.1.0.11", "10.1.0.12", "10.1.0.21", "10.1.0.22", "10.2.0.23"),
    6: ("2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::21", "2001:db8:1::22", "2001:db8:1::23"),
}
LOCAL: Final = ("192.0.2.0/24", "2001:db8:2::/64", "10.1.0.1/32", "2001:db8:1::1/128")
TUNNEL_PORTS: Final = (6080, 6081)

#: V the virtual address, W the second one, A B T G H servers, L the director's own address, X Y servers of the other family
TEMPLATE: Final = """
-A -t V:80 -s rr
-a -t V:80 -r A:8080 -m
-a -t V:80 -r B:80 -m -x 4 -y 2
-A -t V:81 -s wlc
-a -t V:81 -r A:81 -g -w 3
-a -t V:81 -r B:81 -g
-A -t V:82 -s wrr
-a -t V:82 -r A:82 -i
-a -t V:82 -r B:82 -i --tun-type gue --tun-port 6080 --tun-nocsum
-a -t V:82 -r T:82 -i --tun-type gue --tun-port 6081 --tun-csum
-a -t V:82 -r G:82 -i --tun-type gre --tun-csum
-a -t V:82 -r H:82 -i --tun-type gre --tun-nocsum
-a -t V:82 -r X:82 -i --tun-type gue --tun-port 6080 --tun-remcsum
-a -t V:82 -r Y:82 -i
-A -t V:83 -s lc
-a -t V:83 -r L:8083 -m
-a -t V:83 -r L:83 -g
-a -t V:83 -r LOOP:83 -m
-A -t V:84 -s mh -b mh-fallback,mh-port
-a -t V:84 -r A:84 -m
-a -t V:84 -r B:84 -m -w 0
-A -t V:85 -s nq
-A -t V:443 -s sh -p 60 -M NET
-a -t V:443 -r A:443 -m
-a -t V:443 -r B:443 -g
-A -t V:444 -s lblcr -p 300
-a -t V:444 -r A:443 -m
-A -t W:0 -s dh -p 30 -M HOST
-a -t W:0 -r A:0 -m
-a -t W:0 -r B:0 -i
-A -t V:21 -s rr
-a -t V:21 -r A:21 -m
-A -t W:21 -s rr -p 40
-a -t W:21 -r B:21 -m
-A -u V:53 -s rr -o
-a -u V:53 -r A:53 -m
-a -u V:53 -r B:5353 -i
-A -u V:500 -s sed
-a -u V:500 -r A:500 -m
-A -u W:500 -s ovf
-a -u W:500 -r B:500 -g
-A -u V:5060 -s twos -p 60 --pe sip
-a -u V:5060 -r A:5060 -m
-a -u V:5060 -r B:5060 -m
-A -u W:5060 -s fo --pe sip -p 20 -o
-a -u W:5060 -r A:5061 -m
-A --sctp-service V:9899 -s rr
-a --sctp-service V:9899 -r A:9899 -m
-a --sctp-service V:9899 -r B:9898 -g
-A --sctp-service W:9899 -s lblc -p 50
-a --sctp-service W:9899 -r A:9897 -m
-A -f 1 FAMILY -s rr
-a -f 1 FAMILY -r A:0 -m
-a -f 1 FAMILY -r B:0 -g
-A -f 2 FAMILY -s rr -p 25
-a -f 2 FAMILY -r A:80 -m
-A -f 3 FAMILY -s rr -o
"""
#: methods that only netlink can ask for, on the service V:85: local, bypass, and one that has no transmitter
METHODS: Final = (1, 4, 5)
WORDS: Final = {
    4: {"LOOP": "127.0.0.1", "NET": "255.255.255.0", "HOST": "255.255.255.255", "FAMILY": "", "X": f"[{SERVERS[6][0]}]", "Y": f"[{SERVERS[6][1]}]"},
    6: {"LOOP": "[::1]", "NET": "64", "HOST": "128", "FAMILY": "-6", "X": SERVERS[4][0], "Y": SERVERS[4][1]},
}


def commands(version: int, mixed: bool) -> list[str]:
    """The services of one family as ipvsadm command lines; ``mixed``: with the servers X and Y."""

    def shown(address: str) -> str:
        return address if version == 4 else f"[{address}]"

    words = {**WORDS[version], "V": shown(VIPS[version][0]), "W": shown(VIPS[version][1]), "L": shown(OWN[version])}
    words |= zip("ABTGH", map(shown, SERVERS[version]), strict=True)

    def word(text: str) -> str:
        name, colon, port = text.partition(":")
        return words.get(name, name) + colon + port

    lines = [line.split() for line in TEMPLATE.strip().splitlines()]
    return [" ".join(map(word, line)) for line in lines if mixed or line[4][0] not in "XY"]


def fill(ipvs: IPVS, *, mixed: bool = True) -> None:
    """Give a director all these services; ``mixed``: also the destinations of the other family, with which no sync daemon can be started."""
    for line in commands(4, mixed) + commands(6, mixed):
        result = ipvs.ipvsadm(line)
        assert not result.status, f"{line}: {result}"
    for svc in ipvs.services:
        if svc.port == 85:
            user = ServiceUser(af=svc.af, protocol=svc.protocol, addr=svc.addr, port=svc.port)
            for method in METHODS:
                address = svc.addr - 1 + 0x100 + method
                ipvs.control.new_dest(user, DestUser(addr=address, port=85, conn_flags=method))
