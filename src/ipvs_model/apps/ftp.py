"""The FTP helper: prepares an entry for each data connection that the control connection announces.

Of a control connection in state ESTABLISHED it reads PASV, EPSV, PORT and EPRT requests and the 227 and 229 replies. It never changes a request;
in a reply it replaces the server's address by the virtual one, and conntrack, not the IPVS record of sequence numbers, shifts the stream from then on.

1. A request only notes that a reply is due (`FtpMode` in ``app_data``), or makes the entry for an active data connection.
2. A reply makes the entry for a passive data connection, whose client port is not known yet.
3. A reply that should be rewritten but has no conntrack entry is dropped; its retransmission then passes unchanged.

source: ip_vs_ftp.c
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ipvs_model.apps.base import IP_VS_APP_MAX_PORTS, App, HookResult, has_conntrack
from ipvs_model.apps.ftp_text import FORMATS, Announcement, Format, FtpMode, announced, passive_request
from ipvs_model.apps.seqadj import ConntrackSeqAdj
from ipvs_model.conn import Conn, ConnParam, new_conn
from ipvs_model.flags import AF_INET, FTPPORT, IP_VS_CONN_F_NFCT, IP_VS_CONN_F_NO_CPORT, IPPROTO_TCP
from ipvs_model.packet import Packet, replace_payload
from ipvs_model.protocols import tcp

IP_VS_APP_TYPE_FTP: Final = 1

#: what a control connection waits for → the reply that announces it
REPLIES: Final[dict[int, Format]] = {FtpMode.PASV: FORMATS["227"], FtpMode.EPSV: FORMATS["229"]}


class Ftp(App):
    """FTP on the given virtual ports: module ip_vs_ftp with its parameter ``ports`` (giving it replaces the default 21; at most 8, 0 is skipped).

    >>> Ftp().ports, Ftp(ports=[2121, 21]).ports
    ((21,), (2121, 21))
    """

    name = "ftp"
    type = IP_VS_APP_TYPE_FTP
    protocol = IPPROTO_TCP

    def __init__(self, ports: Iterable[int] = (FTPPORT,)) -> None:
        self.ports = tuple(ports)
        if len(self.ports) > IP_VS_APP_MAX_PORTS or not all(0 <= port <= 0xFFFF for port in self.ports):
            raise ValueError(f"at most {IP_VS_APP_MAX_PORTS} ports of 16 bits, not {self.ports}")

    def init_conn(self, cp: Conn) -> None:
        """A control connection keeps its conntrack entry (source: ip_vs_ftp.c, ip_vs_ftp_init_conn)."""
        cp.flags |= IP_VS_CONN_F_NFCT

    def pkt_in(self, cp: Conn, pkt: Packet) -> HookResult:
        """Read a request; the packet is never changed (source: ip_vs_ftp.c, ip_vs_ftp_in)."""
        payload = control_payload(cp, pkt)
        if payload:
            found, mode = passive_request(payload, cp.af)
            if mode is not None:
                cp.app_data = int(mode)
            if not found:
                self._active(cp, pkt, payload)
        return HookResult(1, pkt)

    def _active(self, cp: Conn, pkt: Packet, payload: bytes) -> None:
        """PORT or EPRT: an entry for the connection that the server will open."""
        found = announced(payload, FORMATS["PORT"], cp.af) if cp.af == AF_INET else None
        if found is None:
            found = announced(payload, FORMATS["EPRT"], cp.af)
        if found is None or found.address is None:
            return
        cp.app_data = int(FtpMode.ACTIVE)
        client = found.address << 16 | found.port
        virt = cp.vaddr << 16 | (cp.vport - 1) & 0xFFFF
        data = cp.ipvs.conns.in_get(cp.af, IPPROTO_TCP, client, virt)
        if data is None:
            data = _data_conn(cp, pkt, client, virt, cp.daddr << 16 | (cp.dport - 1) & 0xFFFF, IP_VS_CONN_F_NFCT)
        tcp.conn_listen(data)
        data.put()

    def pkt_out(self, cp: Conn, pkt: Packet) -> HookResult:
        """Read a reply that is due, make the entry, put the virtual address in it (source: ip_vs_ftp.c, ip_vs_ftp_out)."""
        payload = control_payload(cp, pkt)
        form = REPLIES.get(cp.app_data) if payload else None
        found = announced(payload, form, cp.af) if form is not None else None
        if form is None or found is None:
            return HookResult(1, pkt)
        server = (cp.daddr if found.address is None else found.address) << 16 | found.port
        client = cp.caddr << 16
        data = cp.ipvs.conns.out_get(cp.af, IPPROTO_TCP, server, client)
        if data is None:
            data = _data_conn(cp, pkt, client, cp.vaddr << 16 | found.port, server, IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_NFCT)
        text = b"|||%d|" % data.vport if form.extended else six_numbers(data.virt)
        rewritten = mangle(cp, pkt, payload, found, text) if has_conntrack(cp, pkt) else None
        cp.app_data = int(FtpMode.ACTIVE)
        tcp.conn_listen(data)
        data.put()
        return HookResult(0, pkt) if rewritten is None else HookResult(1, rewritten)


def control_payload(cp: Conn, pkt: Packet) -> bytes:
    """The payload of this segment, empty unless the control connection is ESTABLISHED."""
    segment = pkt.l4_bytes
    offset = segment[12] >> 4
    if cp.state.index != tcp.ESTABLISHED or offset < 5:
        return b""
    return segment[offset * 4 :]


def six_numbers(endpoint: int) -> bytes:
    """An IPv4 endpoint as PORT and 227 write it.

    >>> six_numbers(0xC0A86401 << 16 | 50000)
    b'192,168,100,1,195,80'
    """
    return ",".join(str(byte) for byte in endpoint.to_bytes(6, "big")).encode()


def _data_conn(cp: Conn, pkt: Packet, client: int, virt: int, real: int, flags: int) -> Conn:
    """An entry for a data connection, controlled by its control connection."""
    data = new_conn(cp.ipvs, ConnParam(cp.af, IPPROTO_TCP, client, virt), cp.af, real, flags, cp.dest, pkt.mark)
    data.control_add(cp)
    return data


def mangle(cp: Conn, pkt: Packet, payload: bytes, found: Announcement, text: bytes) -> Packet | None:
    """The reply with other text in place of the announced address; None if it would not fit into a packet.

    Lengths and checksums become right; a change of length is noted with the number that the segment has (source: nf_nat_helper.c, nf_nat_mangle_tcp_packet).
    """
    diff = len(text) - (found.end - found.start)
    if diff > 0 and pkt.length + diff > 0xFFFF:
        return None
    rewritten = replace_payload(pkt, payload[: found.start] + text + payload[found.end :])
    if diff:
        if cp.seqadj is None:
            cp.seqadj = ConntrackSeqAdj()
        cp.seqadj.set(pkt.seq, diff, reply=True)
    return rewritten
