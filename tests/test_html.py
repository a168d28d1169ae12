"""What a notebook shows: listings, structures and packets, as they are and escaped."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from ipvs_model import IPVS, Packet, html
from ipvs_model.events import Event
from ipvs_model.flags import Hook, Verdict
from ipvs_model.ipvs import Outcome, Reason

SYN = Packet.tcp("203.0.113.7:40000", "192.0.2.1:80", "S")


@pytest.fixture
def ipvs() -> IPVS:
    ipvs = IPVS()
    web = ipvs.add_service("tcp", "192.0.2.1:80", scheduler="rr", persistent=300, netmask="255.255.255.0")
    ipvs.add_dest(web, "10.1.0.11:8080", weight=3)
    ipvs.add_dest(web, "10.1.0.12:8080", forward="masq")
    six = ipvs.add_service("udp", "[2001:db8::1]:53", one_packet=True)
    ipvs.add_dest(six, "[2001:db8::2]:53", forward="direct")
    ipvs.add_service(fwmark=7)
    return ipvs


def cells(text: str) -> list[list[str]]:
    """The rows of all tables."""
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in re.findall(r"<tr>(.*?)</tr>", text)]


def fields(text: str) -> dict[str, str]:
    return {row[0]: row[1] for row in cells(text) if len(row) == 2}


class Balanced(HTMLParser):
    """Fails at an end tag that closes something else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_ipvs_shows_what_ipvsadm_lists(ipvs):
    shown = ipvs._repr_html_()
    words = [" ".join(filter(None, row)) for row in cells(shown)[1:]]
    assert words == [" ".join(line.split()) for line in str(ipvs).splitlines()[3:]]
    assert re.search(r"<caption[^>]*>IP Virtual Server version [^<]*</caption>", shown)


def test_a_service_shows_its_fields_and_its_servers(ipvs):
    ipvs.receive(SYN)
    web, mark, six = sorted(ipvs.services, key=lambda svc: (svc.protocol == 17, svc.fwmark))
    shown = web._repr_html_()
    assert fields(shown) == {
        "scheduler": "rr", "persistent": "300 s, clients told apart by 255.255.255.0", "connections": "1", "packets in": "1", "packets out": "0",
        "bytes in": "40", "bytes out": "0",
    }  # fmt: skip
    assert cells(shown)[-2:] == [["10.1.0.12:8080", "Masq", "1", "1", "0", "1", "3"], ["10.1.0.11:8080", "Masq", "3", "0", "0", "0", "1"]]
    assert fields(six._repr_html_())["one packet"] == "every datagram is scheduled anew"
    assert cells(six._repr_html_())[-1][:2] == ["[2001:db8::2]:53", "Route"]
    assert "Service FWM 7" in mark._repr_html_()


def test_a_prefix_length_is_shown_as_one(ipvs):
    svc = ipvs.add_service("tcp", "[2001:db8::1]:80", persistent=60, netmask=64)
    assert fields(svc._repr_html_())["persistent"] == "60 s, clients told apart by /64"


def test_a_connection_shows_state_timer_and_holders(ipvs):
    ipvs.receive(SYN)
    ipvs.clock.advance(seconds=10)
    entry, template = sorted(ipvs.conns(), key=lambda cp: cp.is_template)
    assert fields(entry._repr_html_()) == {
        "client": "203.0.113.7:40000", "virtual": "192.0.2.1:80", "server": "10.1.0.12:8080", "state": "SYN_RECV", "timer": "fires in 50 s; restarted with 60 s",
        "flags": "MASQ|HASHED", "refcnt": "1", "in_pkts": "1", "n_control": "0", "control": "TCP 203.0.113.0:0 -> 192.0.2.1:80 -> 10.1.0.12:8080",
    }  # fmt: skip
    assert "Connection, TCP" in entry._repr_html_() and "Template, TCP" in template._repr_html_()
    ipvs.clock.advance(seconds=100)
    assert fields(entry._repr_html_())["timer"] == "stopped; restarted with 60 s"


def test_an_outcome_shows_where_the_packet_went_and_every_decision(ipvs):
    out = ipvs.receive(SYN)
    shown = out._repr_html_()
    assert fields(shown) == {
        "verdict": "STOLEN", "reason": "sent to its real server", "hook": "LOCAL_IN", "leaves": "Packet.tcp('203.0.113.7:40000', '10.1.0.12:8080', 'S', ttl=63)"
    }  # fmt: skip
    steps = [unescape(re.sub("<.*?>", "", step)) for step in re.findall("<li>(.*?)</li>", shown)]
    assert steps == [f"{event.function} {event.describe()}" for event in out.reason.events]
    ack = ipvs.receive(Packet.tcp("203.0.113.7:40001", "192.0.2.1:80", "A"))
    assert fields(ack._repr_html_())["the host gets"] == "Packet.tcp('203.0.113.7:40001', '192.0.2.1:80', 'A')"


def test_everything_is_escaped(ipvs):
    nasty = Outcome(Verdict.DROP, (), None, Reason("x", "<script>&", Hook.LOCAL_IN, (Event("<b>"),)))
    shown = [nasty._repr_html_(), html.table("<i>", ("<u>",), [("<a>", "<p>")]), html.listing("<x>\n\n\nTCP <y> <z>\n")]
    for text in shown:
        assert not re.search(r"<(script|b|i|u|a|p|x|y|z)>", text)
    assert "&lt;script&gt;&amp;" in shown[0] and "<code>&lt;b&gt;</code>" in shown[0]


def test_tags_are_balanced_and_no_colour_is_set(ipvs):
    out = ipvs.receive(SYN)
    for shown in (ipvs, out, ipvs.conns()[0], next(iter(ipvs.services))):
        text = shown._repr_html_()
        Balanced(text)
        assert set(re.findall(r"(?:color|background): ?([a-z#0-9]+)", text)) == {"inherit", "transparent"}


def test_showing_changes_nothing(ipvs):
    ipvs.receive(SYN)
    heard: list[Event] = []
    before = ipvs.proc("ip_vs_conn")
    with_watcher = ipvs.subscribe(heard.append)
    for shown in (ipvs, *ipvs.conns(), *ipvs.services):
        shown._repr_html_()
    with_watcher()
    assert heard == [] and ipvs.proc("ip_vs_conn") == before


def test_without_services_the_listing_is_empty():
    assert len(cells(IPVS()._repr_html_())) == 1
