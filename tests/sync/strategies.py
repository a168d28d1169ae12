"""Records and messages for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from ipvs_model import flags as F
from ipvs_model.sync.messages import SyncMessage, SyncRecord, SyncSeq

u8, u16, u32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
seqs = st.builds(SyncSeq, u32, u32, u32)


@st.composite
def records_v1(draw: st.DrawFn) -> SyncRecord:
    """Any record that version 1 can carry."""
    af = draw(st.sampled_from([F.AF_INET, F.AF_INET6]))
    endpoint = st.integers(0, (1 << (48 if af == F.AF_INET else 144)) - 1)
    in_seq, out_seq = draw(st.one_of(st.just((None, None)), st.tuples(seqs, seqs)))
    return SyncRecord(
        af=af,
        protocol=draw(u8),
        client=draw(endpoint),
        virt=draw(endpoint),
        real=draw(endpoint),
        flags=draw(u32),
        state=draw(u16),
        fwmark=draw(u32),
        timeout=draw(u32),
        in_seq=in_seq,
        out_seq=out_seq,
        pe_data=draw(st.none() | st.binary(min_size=1, max_size=255)),
        pe_name=draw(st.none() | st.binary(min_size=1, max_size=16)),
    )


@st.composite
def records_v0(draw: st.DrawFn) -> SyncRecord:
    """Any record that version 0 can carry: sequence data goes with the flags."""
    endpoint = st.integers(0, (1 << 48) - 1)
    flags = draw(u16)
    in_seq, out_seq = draw(st.tuples(seqs, seqs)) if flags & F.IP_VS_CONN_F_SEQ_MASK else (None, None)
    return SyncRecord(
        protocol=draw(u8), client=draw(endpoint), virt=draw(endpoint), real=draw(endpoint), flags=flags, state=draw(u16), in_seq=in_seq, out_seq=out_seq
    )


messages = st.one_of(
    st.builds(SyncMessage, st.just(1), u8, st.lists(records_v1(), max_size=6).map(tuple)),
    st.builds(SyncMessage, st.just(0), u8, st.lists(records_v0(), max_size=6).map(tuple)),
)


VIRTUALS = ((6, 80), (17, 5060), (6, 443), (51, 0), (50, 0), (132, 80))


@st.composite
def neighbours(draw: st.DrawFn) -> SyncRecord:
    """Records that a backup applies, of so few connections that they meet: the same entry again, on another server, active or not, ended."""
    protocol, vport = draw(st.sampled_from(VIRTUALS))
    is_template = draw(st.booleans()) and protocol in (6, 17)
    state = draw(st.integers(0, 1 if is_template else 0 if protocol in (17, 50, 51) else 10))
    cport = 0 if is_template else draw(st.sampled_from([3000, 3001]))
    dport, server = draw(st.sampled_from([(8080, 11), (80, 12), (443, 13), (5060, 12), (80, 99)]))
    return SyncRecord(
        protocol=protocol,
        client=0xAC100005 << 16 | cport,
        virt=0xC0A86401 << 16 | vport,
        real=(0x0A010000 | server) << 16 | dport,
        flags=draw(st.sampled_from([0, 0x100, 0x83, 0x183, 0x600])) | (0x1000 if is_template else draw(st.sampled_from([0, 0, 0, 0x800]))),
        state=state,
        timeout=draw(st.sampled_from([0, 1, 60, 900])),
    )


crowds = st.builds(SyncMessage, st.sampled_from([0, 1]), st.just(7), st.lists(neighbours(), min_size=1, max_size=6).map(tuple))
