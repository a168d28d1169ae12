"""The messages printed in the specification, as bytes and as records."""

from __future__ import annotations

from ipvs_model.addresses import parse_endpoint
from ipvs_model.sync.messages import SyncMessage, SyncRecord, SyncSeq


def ep(text: str) -> int:
    """An endpoint int."""
    _, addr, port = parse_endpoint(text)
    return addr << 16 | port


def flat(text: str) -> bytes:
    """Hex with any blanks."""
    return bytes.fromhex("".join(text.split()))


def record(protocol: int, flags: int, state: int, client: str, virt: str, real: str, timeout: int = 0, **more: object) -> SyncRecord:
    """A record from what people write."""
    af = 10 if client.startswith("[") else 2
    return SyncRecord(
        af=af, protocol=protocol, client=ep(client), virt=ep(virt), real=ep(real), flags=flags, state=state, timeout=timeout, **more  # type: ignore[arg-type]
    )


TCP_CONN = record(6, 0, 1, "172.16.0.5:3000", "192.168.100.1:80", "10.1.0.11:8080", 900)
SIP_TEMPLATE = record(17, 0x1100, 0, "172.16.0.5:0", "192.168.100.1:5060", "10.1.0.12:5060", 60, pe_data=b"xyz", pe_name=b"sip")
SIP_CONN = record(17, 0x100, 0, "172.16.0.5:4000", "192.168.100.1:5060", "10.1.0.12:5060", 300)


def dr_template(state: int, timeout: int) -> SyncRecord:
    return record(6, 0x1183, state, "172.16.0.5:0", "192.168.100.1:443", "10.1.0.13:443", timeout)


_SIP = "00 11 002e 00001100 0000 0000 13c4 13c4 00000000 0000003c ac100005 c0a86401 0a01000c 02 03 78797a 03 03 736970"
_DR = "0000 01bb 01bb 00000000 00000064 ac100005 c0a86401 0a01000d"
_SEQ = (SyncSeq(0x11111111, 4, 0), SyncSeq(0x22222222, 0xFFFFFFFC, 1))

EXAMPLES = {
    "v1 NAT": (
        "00 07 002c 01 01 0000  00 06 0024 00000000 0001 0bb8 0050 1f90 00000000 00000384 ac100005 c0a86401 0a01000b",
        SyncMessage(1, 7, (TCP_CONN,)),
    ),
    "v1 SIP template with padding": (
        (f"00 07 00ba 04 01 0000 {_SIP} 0000 {_SIP} 0000"
        f"00 11 0024 00000100 0000 0fa0 13c4 13c4 00000000 0000012c ac100005 c0a86401 0a01000c {_SIP}"),
        SyncMessage(1, 7, (SIP_TEMPLATE, SIP_TEMPLATE, SIP_CONN, SIP_TEMPLATE)),
    ),
    "v1 persistent direct routing": (
        (f"00 07 0098 04 01 0000 00 06 0024 00001183 0000 {_DR} 00 06 0024 00001183 0001 {_DR}"
        f"00 06 0024 00000083 0001 0c1c 01bb 01bb 00000000 00000384 ac100005 c0a86401 0a01000d 00 06 0024 00001183 0001 {_DR}"),
        SyncMessage(
            1,
            7,
            (
                dr_template(0, 100),
                dr_template(1, 100),
                record(6, 0x83, 1, "172.16.0.5:3100", "192.168.100.1:443", "10.1.0.13:443", 900),
                dr_template(1, 100),
            ),
        ),
    ),
    "v1 IPv6": (
        ("00 07 0050 01 01 0000 01 06 0048 00000000 0001 0bb8 0050 0050 00000000 00000384"
        "20010db8001600000000000000000005 20010db8010000000000000000000001 20010db8000100000000000000000011"),
        SyncMessage(1, 7, (record(6, 0, 1, "[2001:db8:16::5]:3000", "[2001:db8:100::1]:80", "[2001:db8:1::11]:80", 900),)),
    ),
    "v0": (
        ("03 07 004c 00 06 0c80 0050 1f90 ac100005 c0a86401 0a01000b 0000 0001"
        "00 06 0c81 01bb 01bb ac100005 c0a86401 0a01000d 0083 0001 00 06 0000 01bb 01bb ac100005 c0a86401 0a01000d 1183 0001"),
        SyncMessage(
            0,
            7,
            (
                record(6, 0, 1, "172.16.0.5:3200", "192.168.100.1:80", "10.1.0.11:8080"),
                record(6, 0x83, 1, "172.16.0.5:3201", "192.168.100.1:443", "10.1.0.13:443"),
                dr_template(1, 0),
            ),
        ),
    ),
    "v1 sequence data": (
        ("00 09 0046 01 01 0000 00 06 003e 00000620 0001 0bb8 0050 1f90 00000000 00000384 ac100005 c0a86401 0a01000b"
        "01 18 11111111 00000004 00000000 22222222 fffffffc 00000001"),
        SyncMessage(
            1,
            9,
            (record(6, 0x620, 1, "172.16.0.5:3000", "192.168.100.1:80", "10.1.0.11:8080", 900, in_seq=_SEQ[0], out_seq=_SEQ[1]),),
        ),
    ),
    "v0 sequence data": (
        ("01 09 0034 00 06 0bb8 0050 1f90 ac100005 c0a86401 0a01000b 0620 0001"
        "11111111 04000000 00000000 22222222 fcffffff 01000000"),
        SyncMessage(0, 9, (record(6, 0x620, 1, "172.16.0.5:3000", "192.168.100.1:80", "10.1.0.11:8080", in_seq=_SEQ[0], out_seq=_SEQ[1]),)),
    ),
}
