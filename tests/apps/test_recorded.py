"""Helpers and engines against a kernel: what 6.12.115 did with well-formed, odd and random FTP and SIP payloads.

``recorded.jsonl.gz`` holds one recording a line: packets with what left for each, and the connection table at the end. Here only what helpers and
engines decide is compared: transport bytes, and the rows without their expiry. The random ones keep their seed in the name.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.apps.lab import Lab

from ipvs_model.apps import Ftp
from ipvs_model.conn import Conn
from ipvs_model.engines import Sip
from ipvs_model.flags import AF_INET, proto_name
from ipvs_model.packet import Packet

RECORDINGS: list[dict[str, Any]] = [json.loads(line) for line in gzip.decompress((Path(__file__).parent / "recorded.jsonl.gz").read_bytes()).splitlines()]


def address(af: int, endpoint: int) -> str:
    text = f"{endpoint >> 16:08X}" if af == AF_INET else ":".join(f"{endpoint >> 16 >> shift & 0xFFFF:04x}" for shift in range(112, -1, -16))
    return f"{text} {endpoint & 0xFFFF:04X}"


def row(cp: Conn) -> str:
    """A row of /proc/net/ip_vs_conn without padding and expiry; bytes beyond ASCII as the recorder shows them."""
    fields = [proto_name(cp.protocol), address(cp.af, cp.client), address(cp.af, cp.virt), address(cp.daf, cp.real), cp.state_name]
    if cp.pe_data:
        fields += [cp.pe.name, cp.pe_data.decode("ascii", "replace")]
    return " ".join(" ".join(fields).split())


def recorded_row(line: str) -> str:
    fields = line.split()
    return " ".join(fields[:8] + fields[9:])


def seen(pkt: Packet) -> tuple[int, int, bytes]:
    return pkt.saddr, pkt.daddr, pkt.l4_bytes


def configure(lab: Lab, commands: list[str]) -> None:
    """The one service and destination of a recording."""
    address_of, _, options = commands[0].partition(" -s ")
    server = commands[1].split()[4]
    lab.apps.register(Ftp)
    udp = address_of.split()[1] == "-u"
    lab.service(address_of.split()[2], server, protocol=17 if udp else 6, persistent=" -p " in options, engine=Sip() if "--pe sip" in options else None)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording["name"])
def test_as_the_kernel_did(lab: Lab, recording: dict[str, Any]) -> None:
    steps = recording["steps"]
    configure(lab, [step["args"] for step in steps if step["op"] == "ipvsadm"])
    for number, step in enumerate(steps):
        if step["op"] == "packet":
            pkt = Packet.parse(bytes.fromhex(step["hex"]))
            lab.tracked = pkt.flags != 0  # conntrack does not follow a segment without flags
            out = lab.client(pkt) if step["dev"] == "cli" else lab.server(pkt)
            expected = [seen(Packet.parse(bytes.fromhex(data))) for _, data in step.get("emitted", [])]
            assert ([] if out is None else [seen(out)]) == expected, (number, pkt)
    rows = next(step for step in steps if step["op"] == "dump")["files"]["ip_vs_conn"][1:]
    assert sorted(map(row, lab.ns.conns)) == sorted(map(recorded_row, rows))
