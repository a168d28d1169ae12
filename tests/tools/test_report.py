"""The report as text; tests/browser looks at it."""

import json
import re
from html import unescape

import pytest
from click.testing import CliRunner
from tests.tools.captures import timed
from tests.tools.stories import CLIENTS, RULES, WEB, story

from ipvs_model.packet import Packet
from ipvs_model.tools.commands.replay import command


@pytest.fixture
def files(tmp_path):
    (tmp_path / "capture.pcap").write_bytes(story())
    (tmp_path / "rules").write_text(RULES)
    return tmp_path


def report(files, capture: str = "capture.pcap", *more: str, stdin: bytes | None = None) -> str:
    out = files / "report.html"
    name = capture if capture == "-" else str(files / capture)
    done = CliRunner().invoke(command, [name, "--rules", str(files / "rules"), "--report", str(out), *more], input=stdin)
    assert done.exit_code == 0, done.output
    assert f"written: {out}" in done.output
    return out.read_text("utf-8")


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def cells(page: str, marker: str) -> list[list[str]]:
    """Rows of the table in which a text stands."""
    table = next(table for table in re.findall(r"<table.*?</table>", page, re.DOTALL) if marker in table)
    return [[unescape(re.sub(r"<.*?>", "", cell)) for cell in re.findall(r"<t[dh].*?</t[dh]>", row)] for row in re.findall(r"<tr.*?</tr>", table)]


def test_nothing_is_loaded_from_elsewhere(files):
    page = report(files)
    assert re.findall(r"(?:src|href|action)=[\"']?([^\"'> ]*)", page.partition('<script type="application/json"')[0]) == [
        "data:,", "#servers", "#time", "#connections", "#packets", "#rules",
    ]  # fmt: skip
    assert "@import" not in page and "url(" not in page


def test_servers_and_their_shares(files):
    rows = cells(report(files), "10.1.0.12:8080")
    assert rows[0][:5] == ["Server", "Method", "Weight", "Connections", "Share"]
    assert [row[:5] for row in rows[1:]] == [["10.1.0.11:8080", "Masq", "1", "3", "42.9%"], ["10.1.0.12:8080", "Masq", "3", "4", "57.1%"]]


def test_losses_with_their_reasons(files):
    rows = cells(report(files), "its time to live is over")
    assert ["client packet", "the scheduler found no destination: refused", "DROP", "nowhere", str(CLIENTS), "8: explain"] in rows


def test_the_page_says_how_many_connections_it_shows(files):
    assert f"All {4 * CLIENTS - CLIENTS + 1} connections are shown." in report(files)
    many = b"".join([story()[:24], *(record(number) for number in range(150))])
    (files / "capture.pcap").write_bytes(many)
    assert "120 of 150 connections are shown, so that this page stays small: the first ones of each service, 120 in all." in report(files)


def record(number: int) -> bytes:
    return timed((float(number), Packet.tcp(f"203.0.113.7:{10000 + number}", WEB, "S").raw))[24:]


def test_of_many_servers_and_services_the_busiest_are_drawn(files):
    servers = "".join(f"-a -t {WEB} -r 10.1.0.{number}:80 -m\n" for number in range(1, 31))
    others = "".join(f"-A -t 192.0.2.{number}:80 -s rr\n-a -t 192.0.2.{number}:80 -r 10.2.0.1:80 -m\n" for number in range(10, 30))
    (files / "rules").write_text(f"-A -t {WEB} -s rr\n{servers}{others}")
    to_others = [(100.0 + number, Packet.tcp("203.0.113.8:999", f"192.0.2.{number}:80", "S").raw) for number in range(10, 30)]
    (files / "capture.pcap").write_bytes(timed(*((number / 9, Packet.tcp(f"203.0.113.7:{9000 + number}", WEB, "S").raw) for number in range(34)), *to_others))
    page = report(files)
    services = data_of(page)["services"]
    assert len(services) == 12 and services[0]["name"] == f"TCP {WEB}"
    lines = services[0]["lines"]
    assert [line["colour"] for line in lines] == list(range(10)) and lines[-1]["name"] == "21 others"
    assert sorted(line["given"][-1] for line in lines) == [1, 1, 1, 1, 1, 2, 2, 2, 2, 21]
    assert len(cells(page, "10.1.0.30:80")) == 31 and page.count("background:var(--c9)") == 21


def test_what_files_say_stays_text(files):
    name = "$summary</script><script>alert(2)<!--.pcap".replace("/", "\N{DIVISION SLASH}")
    (files / name).write_bytes(story())
    page = report(files, name)
    assert "<script>alert" not in page and "$summary" in page
    assert "# &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;" in page
    assert page.count("<script") == page.count("</script>") == 2


def test_the_data_are_json_for_the_script(files):
    data = data_of(report(files))
    assert len(data["times"]) == len(data["services"][0]["lines"][0]["given"])
    assert {life["client"] for life in data["lives"]} >= {"203.0.113.1:40001", "203.0.113.1:0", "[2001:db8:9::1]:4000"}
    assert all(0 <= number < len(data["events"]) for life in data["lives"] for step in life["steps"] for number in step["events"])


def test_frames_make_the_same_page(files):
    page = report(files)
    (files / "capture.pcap").write_bytes(story(ethernet=True))
    assert report(files) == page


def test_a_pipe_makes_the_same_page(files):
    page = report(files).replace(str(files / "capture.pcap"), "-")
    assert report(files, "-", stdin=story()) == page


def test_the_same_capture_makes_the_same_page(files):
    assert report(files) == report(files)


def test_options_hold_for_the_walks_too(files):
    words = data_of(report(files))["words"]
    assert "answer" in words and not any(word.startswith("sh chose") for word in words)
    words = data_of(report(files, "capture.pcap", "--scheduler", "sh", "--answers", "none"))["words"]
    assert "answer" not in words and any(word.startswith("sh chose") for word in words)
