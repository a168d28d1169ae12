"""Persistence engines: what decides, beside the client's address, which template a packet belongs to.

An engine reads a key out of the packet (`fill_param`) and compares it with those of templates. The kernel's own is SIP (`sip.Sip`); another one
is a subclass of `PersistenceEngine`, handed to ``IPVS(plugins=[…])``.

source: include/net/ip_vs.h, struct ip_vs_pe
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from ipvs_model.fields import Field

if TYPE_CHECKING:
    from ipvs_model.conn import Conn, ConnParam

FIELDS: Final = (
    Field("n_list", "EngineRegistry", "list node", "derived"),
    Field("name", "name", "string", "slot", "at most 16 characters can be asked for"),
    Field("refcnt", "", "atomic int", "not modelled", "engines are not unloaded while services use them"),
    Field("module", "", "pointer", "not modelled"),
    Field("fill_param", "fill_param()", "function", "slot"),
    Field("ct_match", "ct_match()", "function", "slot"),
    Field("hashkey_raw", "hashkey_raw()", "function", "slot"),
    Field("show_pe_data", "show_pe_data()", "function", "slot"),
    Field("conn_out", "conn_out()", "function", "slot"),
)

IP_VS_PENAME_MAXLEN: Final = 16  #: characters of an engine's name in a request
IP_VS_PEDATA_MAXLEN: Final = 255  #: bytes of a template's key


class PersistenceEngine:
    """A persistence engine; subclass it, give it a ``name`` and the methods it needs. What is None is not there.

    An engine object holds no state: what it knows of a client is the template's ``pe_data``, at most 255 bytes.

    * ``fill_param(param, pkt)``: the param with ``pe`` and ``pe_data`` filled in (``attrs.evolve``); without ``pe_data`` ordinary persistence
      applies; None refuses the packet, which is dropped.
    * ``ct_match(param, ct)``: whether a template is the one that the param asks for; without it templates are compared as usual.
    * ``hashkey_raw(pe_data, initval, inverse)``: a 32-bit hash of the key; without it templates are hashed by client address.
    * ``conn_out(svc, dest, pkt, iph, sport, dport)``: the held connection for a UDP packet that a real server sent on its own, or None. A
      non-persistent service uses only this one.
    """

    name: str = ""

    fill_param: ClassVar[Callable[..., ConnParam | None] | None] = None
    ct_match: ClassVar[Callable[..., bool] | None] = None
    hashkey_raw: ClassVar[Callable[..., int] | None] = None
    conn_out: ClassVar[Callable[..., Conn | None] | None] = None

    def show_pe_data(self, cp: Conn) -> str:
        """The key of a template as /proc/net/ip_vs_conn shows it."""
        data: bytes = cp.pe_data
        return data.decode("latin-1")

    def __repr__(self) -> str:
        return f"<engine {self.name}>"
