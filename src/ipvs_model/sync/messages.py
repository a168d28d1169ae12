"""Sync messages: the bytes that a master director sends and a backup reads.

A message is the payload of one UDP datagram: a header and connection records. Version 1 is what present kernels send; version 0 is older, IPv4 only,
and still understood. Everything is big-endian, but for the sequence words of version 0, which are in the sender's own order (here: little-endian).
Encoding is strict, decoding tolerant: `decode_message` never raises, it gives each record one of the `RESULTS`.

source: ip_vs_sync.c
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from attrs import frozen

from ipvs_model import flags as F

# --- wire formats: (field, struct code), in the order of the bytes ------------------------------------------------------
HEADER_V0: Final = (
    ("nr_conns", "B"),  #: records that follow, modulo 256
    ("syncid", "B"),  #: low 8 bits of the master's syncid
    ("size", "H"),  #: length of the whole message in bytes
)
HEADER_V1: Final = (
    ("reserved", "B"),  #: 0: a receiver that knows only version 0 sees no records
    ("syncid", "B"),
    ("size", "H"),
    ("nr_conns", "B"),
    ("version", "b"),  #: 1
    ("spare", "H"),  #: 0
)
RECORD_V0: Final = (
    ("reserved", "B"),  #: 0
    ("protocol", "B"),
    ("cport", "H"),
    ("vport", "H"),
    ("dport", "H"),
    ("caddr", "I"),
    ("vaddr", "I"),
    ("daddr", "I"),
    ("flags", "H"),  #: low 16 bits
    ("state", "H"),
)
RECORD_V1: Final = (
    ("type", "B"),  #: bit 0: IPv6
    ("protocol", "B"),
    ("ver_size", "H"),  #: record version (0) in the top 4 bits; length with options, without padding, in the low 12
    ("flags", "I"),
    ("state", "H"),
    ("cport", "H"),
    ("vport", "H"),
    ("dport", "H"),
    ("fwmark", "I"),
    ("timeout", "I"),  #: seconds
)
ADDRESSES_V4: Final = (("caddr", "4s"), ("vaddr", "4s"), ("daddr", "4s"))
ADDRESSES_V6: Final = (("caddr", "16s"), ("vaddr", "16s"), ("daddr", "16s"))
SEQ_DATA: Final = (
    ("in_seq.init_seq", "I"),
    ("in_seq.delta", "I"),
    ("in_seq.previous_delta", "I"),
    ("out_seq.init_seq", "I"),
    ("out_seq.delta", "I"),
    ("out_seq.previous_delta", "I"),
)


def _struct(order: str, *tables: tuple[tuple[str, str], ...]) -> Struct:
    return Struct(order + "".join(code for table in tables for _, code in table))


_HEADER_V0: Final = _struct("!", HEADER_V0)
_HEADER_V1: Final = _struct("!", HEADER_V1)
_RECORD_V0: Final = _struct("!", RECORD_V0)
_RECORD_V4: Final = _struct("!", RECORD_V1, ADDRESSES_V4)
_RECORD_V6: Final = _struct("!", RECORD_V1, ADDRESSES_V6)
_SEQ_V0: Final = _struct("<", SEQ_DATA)
_SEQ_V1: Final = _struct("!", SEQ_DATA)

HEADER_V0_LEN: Final = _HEADER_V0.size  #: 4
HEADER_V1_LEN: Final = _HEADER_V1.size  #: 8
RECORD_V0_LEN: Final = _RECORD_V0.size  #: 24
RECORD_V0_SEQ_LEN: Final = RECORD_V0_LEN + _SEQ_V0.size  #: 48
RECORD_V4_LEN: Final = _RECORD_V4.size  #: 36
RECORD_V6_LEN: Final = _RECORD_V6.size  #: 72

STYPE_F_INET6: Final = 0x01
SVER_SHIFT: Final = 12
SVER_MASK: Final = 0x0FFF
IPVS_OPT_SEQ_DATA: Final = 1
IPVS_OPT_PE_DATA: Final = 2
IPVS_OPT_PE_NAME: Final = 3
IPVS_OPT_F_PARAM: Final = 0x40  #: the receiver may ignore the option if it does not know it
IP_VS_PENAME_MAXLEN: Final = 16
IP_VS_PEDATA_MAXLEN: Final = 255

# --- what the receiver says about a record ------------------------------------------------------------------------------
# Negative: the rest of the message is dropped too. Zero: applied. Positive: this record is skipped.
# -10 to 50 are the kernel's numbers; the kernel has none for -1 to -3, it only logs.
RESULTS: Final = {
    -1: "too small: less than the fixed part is left of the message",
    -2: "record reaches beyond the message",
    -3: "unknown record version",
    -10: "unknown record type",
    -20: "record shorter than its fixed part",
    -30: "half an option header",
    -40: "option of length 0 or beyond the record",
    -50: "sequence option of wrong length, or repeated",
    -60: "engine data repeated",
    -70: "engine name too long, or repeated",
    0: "applied",
    20: "unknown option that must be understood",
    25: "NO_CPORT with TEMPLATE, or ONE_PACKET",
    30: "protocol not synchronised",
    40: "state out of range",
    50: "engine data without name, or engine not registered",
}

#: protocol → number of states that a received connection may name
RECEIVED_STATES: Final = {F.IPPROTO_TCP: 11, F.IPPROTO_UDP: 1, F.IPPROTO_SCTP: 14, F.IPPROTO_AH: 1, F.IPPROTO_ESP: 1}
TEMPLATE_STATES: Final = 2  #: NONE and ASSURED, whatever the protocol

#: why a whole datagram is ignored
MESSAGE_ERRORS: Final = {
    "short": "fewer than 4 bytes",
    "size": "length is not the one in the header",
    "syncid": "message of another synchronisation group",
    "stopped": "no backup daemon runs",
    "address": "not sent to this backup's group and ports",
}


@frozen
class SyncSeq:
    """Sequence number adjustment of one direction (struct ip_vs_seq); three 32-bit words."""

    init_seq: int = 0
    delta: int = 0
    previous_delta: int = 0


@frozen(kw_only=True)
class SyncRecord:
    """One connection as a sync message describes it.

    client, virt and real are endpoints (address << 16 | port) of family af; timeout is in seconds, 0 = the receiver's own for the state.
    Version 0 carries neither fwmark, timeout nor engine data, and the low 16 bits of flags only.
    """

    af: int = F.AF_INET
    protocol: int
    client: int
    virt: int
    real: int
    flags: int = 0
    state: int = 0
    fwmark: int = 0
    timeout: int = 0
    in_seq: SyncSeq | None = None
    out_seq: SyncSeq | None = None
    pe_data: bytes | None = None
    pe_name: bytes | None = None

    @property
    def is_template(self) -> bool:
        """Does the record describe a persistence template?"""
        return bool(self.flags & F.IP_VS_CONN_F_TEMPLATE)


@frozen
class SyncMessage:
    """A message before it is put into bytes."""

    version: int
    syncid: int
    records: tuple[SyncRecord, ...] = ()


@frozen
class Decoded:
    """What decoding made of the record at one offset: a result code (0 = well formed) and, unless it is malformed, the record."""

    offset: int
    code: int
    record: SyncRecord | None = None


@frozen
class DecodedMessage:
    """What decoding made of a datagram; `error` is a key of MESSAGE_ERRORS if all of it is ignored."""

    version: int
    syncid: int
    entries: tuple[Decoded, ...] = ()
    error: str | None = None

    @property
    def records(self) -> tuple[SyncRecord, ...]:
        """The well-formed records, in their order."""
        return tuple(entry.record for entry in self.entries if entry.record is not None and entry.code == 0)


# --- encoding -----------------------------------------------------------------------------------------------------------


def encode_options(record: SyncRecord) -> bytes:
    """The options of a version 1 record: sequence data, engine data, engine name, without gaps."""
    out = b""
    if record.in_seq is not None or record.out_seq is not None:
        out += bytes((IPVS_OPT_SEQ_DATA, _SEQ_V1.size)) + _SEQ_V1.pack(*_seq_words(record))
    if record.pe_data:
        out += bytes((IPVS_OPT_PE_DATA, len(record.pe_data))) + record.pe_data
    if record.pe_name:
        out += bytes((IPVS_OPT_PE_NAME, len(record.pe_name))) + record.pe_name
    return out


def encode_record_v1(record: SyncRecord) -> bytes:
    """A version 1 record with its options, without padding. Raises struct.error if a value does not fit.

    source: ip_vs_sync.c, ip_vs_sync_conn
    """
    options = encode_options(record)
    v6 = record.af == F.AF_INET6
    form, size = (_RECORD_V6, 16) if v6 else (_RECORD_V4, 4)
    return (
        form.pack(
            STYPE_F_INET6 if v6 else 0,
            record.protocol,
            form.size + len(options),
            record.flags,
            record.state,
            record.client & 0xFFFF,
            record.virt & 0xFFFF,
            record.real & 0xFFFF,
            record.fwmark,
            record.timeout,
            *((endpoint >> 16).to_bytes(size, "big") for endpoint in (record.client, record.virt, record.real)),
        )
        + options
    )


def encode_record_v0(record: SyncRecord) -> bytes:
    """A version 0 record, 24 bytes or 48 with sequence data; the upper 16 flag bits are lost. Raises struct.error if a value does not fit.

    source: ip_vs_sync.c, ip_vs_sync_conn_v0
    """
    fixed = _RECORD_V0.pack(
        0,
        record.protocol,
        record.client & 0xFFFF,
        record.virt & 0xFFFF,
        record.real & 0xFFFF,
        record.client >> 16,
        record.virt >> 16,
        record.real >> 16,
        record.flags & 0xFFFF,
        record.state,
    )
    if record.flags & F.IP_VS_CONN_F_SEQ_MASK:
        return fixed + _SEQ_V0.pack(*_seq_words(record))
    return fixed


def encode_header(version: int, syncid: int, size: int, nr_conns: int) -> bytes:
    """The header of a message of `size` bytes; syncid and nr_conns are taken modulo 256."""
    if version == 0:
        return _HEADER_V0.pack(nr_conns & 0xFF, syncid & 0xFF, size)
    return _HEADER_V1.pack(0, syncid & 0xFF, size, nr_conns & 0xFF, 1, 0)


def encode_message(message: SyncMessage) -> bytes:
    """A whole message. Version 1 records start at multiples of 4.

    >>> encode_message(SyncMessage(1, 7)).hex()
    '0007000800010000'
    """
    out = bytearray(HEADER_V0_LEN if message.version == 0 else HEADER_V1_LEN)
    for record in message.records:
        out += encode_record_v0(record) if message.version == 0 else bytes(-len(out) % 4) + encode_record_v1(record)
    header = encode_header(message.version, message.syncid, len(out), len(message.records))
    return header + bytes(out[len(header) :])


def _seq_words(record: SyncRecord) -> tuple[int, int, int, int, int, int]:
    i, o = record.in_seq or SyncSeq(), record.out_seq or SyncSeq()
    return i.init_seq, i.delta, i.previous_delta, o.init_seq, o.delta, o.previous_delta


# --- decoding -----------------------------------------------------------------------------------------------------------


def message_version(payload: bytes) -> int:
    """Version of a message by its header; bytes that are missing count as 0.

    source: ip_vs_sync.c, ip_vs_process_message
    """
    head = payload[:HEADER_V1_LEN].ljust(HEADER_V1_LEN, b"\0")
    reserved, _, _, _, version, spare = _HEADER_V1.unpack(head)
    return 1 if version == 1 and reserved == 0 and spare == 0 else 0


def decode_message(payload: bytes) -> DecodedMessage:
    """Read a datagram as a backup does; never raises.

    The entries end with the first one whose code is negative. Bytes behind the last announced record are ignored.
    source: ip_vs_sync.c, ip_vs_process_message

    >>> decode_message(bytes.fromhex("0007000800010000"))
    DecodedMessage(version=1, syncid=7, entries=(), error=None)
    """
    if len(payload) < HEADER_V0_LEN:
        return DecodedMessage(0, 0, error="short")
    nr_conns, syncid, size = _HEADER_V0.unpack_from(payload)
    version = message_version(payload)
    if size != len(payload):
        return DecodedMessage(version, syncid, error="size")
    if version == 0:
        return DecodedMessage(0, syncid, _decode_v0(payload, nr_conns))
    return DecodedMessage(1, syncid, _decode_v1(payload, payload[4]))


def _decode_v0(payload: bytes, nr_conns: int) -> tuple[Decoded, ...]:
    entries: list[Decoded] = []
    offset = HEADER_V0_LEN
    for _ in range(nr_conns):
        if offset + RECORD_V0_LEN > len(payload):
            entries.append(Decoded(offset, -1))
            break
        _, protocol, cport, vport, dport, caddr, vaddr, daddr, flags, state = _RECORD_V0.unpack_from(payload, offset)
        end = offset + RECORD_V0_LEN
        in_seq = out_seq = None
        if flags & F.IP_VS_CONN_F_SEQ_MASK:
            end = offset + RECORD_V0_SEQ_LEN
            if end > len(payload):
                entries.append(Decoded(offset, -2))
                break
            in_seq, out_seq = _seq_pair(_SEQ_V0.unpack_from(payload, offset + RECORD_V0_LEN))
        record = SyncRecord(
            protocol=protocol,
            client=caddr << 16 | cport,
            virt=vaddr << 16 | vport,
            real=daddr << 16 | dport,
            flags=flags,
            state=state,
            in_seq=in_seq,
            out_seq=out_seq,
        )
        entries.append(Decoded(offset, 0, record))
        offset = end
    return tuple(entries)


def _decode_v1(payload: bytes, nr_conns: int) -> tuple[Decoded, ...]:
    entries: list[Decoded] = []
    offset = HEADER_V1_LEN
    for _ in range(nr_conns):
        entry = _decode_record_v1(payload, offset)
        entries.append(entry)
        if entry.code < 0:
            break
        size = int.from_bytes(payload[offset + 2 : offset + 4], "big") & SVER_MASK
        offset += size + 3 & ~3
    return tuple(entries)


def _decode_record_v1(payload: bytes, offset: int) -> Decoded:
    """source: ip_vs_sync.c, ip_vs_proc_sync_conn and the loop around it"""
    if offset + RECORD_V4_LEN > len(payload):
        return Decoded(offset, -1)
    kind = payload[offset]
    ver_size = int.from_bytes(payload[offset + 2 : offset + 4], "big")
    end = offset + (ver_size & SVER_MASK)
    if end > len(payload):
        return Decoded(offset, -2)
    if ver_size >> SVER_SHIFT:
        return Decoded(offset, -3)
    if kind & STYPE_F_INET6:
        af, form = F.AF_INET6, _RECORD_V6
    elif kind == 0:
        af, form = F.AF_INET, _RECORD_V4
    else:
        return Decoded(offset, -10)
    if offset + form.size > end:
        return Decoded(offset, -20)
    code, options = _decode_options(payload[offset + form.size : end])
    if code < 0:
        return Decoded(offset, code)
    _, protocol, _, flags, state, cport, vport, dport, fwmark, timeout, caddr, vaddr, daddr = form.unpack_from(payload, offset)
    seq = options.get(IPVS_OPT_SEQ_DATA)
    in_seq, out_seq = (None, None) if seq is None else _seq_pair(_SEQ_V1.unpack(seq))
    record = SyncRecord(
        af=af,
        protocol=protocol,
        client=int.from_bytes(caddr, "big") << 16 | cport,
        virt=int.from_bytes(vaddr, "big") << 16 | vport,
        real=int.from_bytes(daddr, "big") << 16 | dport,
        flags=flags,
        state=state,
        fwmark=fwmark,
        timeout=timeout,
        in_seq=in_seq,
        out_seq=out_seq,
        pe_data=options.get(IPVS_OPT_PE_DATA),
        pe_name=options.get(IPVS_OPT_PE_NAME),
    )
    return Decoded(offset, code, record)


#: option → (result code if it is refused, shortest, longest)
OPTION_RULES: Final = {
    IPVS_OPT_SEQ_DATA: (-50, _SEQ_V1.size, _SEQ_V1.size),
    IPVS_OPT_PE_DATA: (-60, 1, IP_VS_PEDATA_MAXLEN),
    IPVS_OPT_PE_NAME: (-70, 1, IP_VS_PENAME_MAXLEN),
}


def _decode_options(data: bytes) -> tuple[int, dict[int, bytes]]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            return -30, found
        kind, size = data[at], data[at + 1]
        body = data[at + 2 : at + 2 + size]
        if size == 0 or len(body) < size:
            return -40, found
        number = kind & ~IPVS_OPT_F_PARAM
        rule = OPTION_RULES.get(number)
        if rule is not None:
            refused, shortest, longest = rule
            if not shortest <= size <= longest or number in found:
                return refused, found
            found[number] = body
        elif not kind & IPVS_OPT_F_PARAM:
            return 20, found  # the options behind it are not even looked at
        at += 2 + size
    return 0, found


def union_addr(addr: int, af: int, read_as: int) -> int:
    """An address of one family read as another's: the address union is taken as it lies, an IPv4 address being its first word.

    >>> hex(union_addr(0x0a000001, 2, 10) >> 96), union_addr(5, 10, 10)
    ('0xa000001', 5)
    """
    if af == read_as:
        return addr
    return addr << 96 if read_as == F.AF_INET6 else addr >> 96


def _seq_pair(words: tuple[int, ...]) -> tuple[SyncSeq, SyncSeq]:
    return SyncSeq(*words[:3]), SyncSeq(*words[3:])


# --- validation ---------------------------------------------------------------------------------------------------------


def validate(record: SyncRecord, knows_engine: Callable[[str], bool]) -> int:
    """Result code of a well-formed record: 0 if a backup that knows these persistence engines applies it, else why it skips it.

    source: ip_vs_sync.c, ip_vs_sync_validate_flags, ip_vs_proc_sync_conn, ip_vs_process_message_v0, ip_vs_conn_fill_param_sync
    """
    hidden_template = F.IP_VS_CONN_F_NO_CPORT | F.IP_VS_CONN_F_TEMPLATE
    if record.flags & hidden_template == hidden_template or record.flags & F.IP_VS_CONN_F_ONE_PACKET:
        return 25
    if record.is_template:
        states = TEMPLATE_STATES
    elif record.protocol in RECEIVED_STATES:
        states = RECEIVED_STATES[record.protocol]
    else:
        return 30
    if record.state >= states:
        return 40
    if record.pe_data and (not record.pe_name or not knows_engine(engine_name(record.pe_name))):
        return 50
    return 0


def engine_name(raw: bytes) -> str:
    """The engine's name up to the first NUL, as the kernel compares it.

    >>> engine_name(b"sip")
    'sip'
    """
    return raw.partition(b"\0")[0].decode("latin-1")
