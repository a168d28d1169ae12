"""A fake of `pyroute2.IPVS` for tests of controllers: the same calls and messages, an IPVS model instead of a kernel, failures on demand.

    from pyroute2 import IPVSDest, IPVSService          # the controller's own imports stay
    front = IPVS()                                       # in place of pyroute2.IPVS()
    front.service("add", service=IPVSService(addr="192.0.2.1", port=80, protocol=6))
    front.fail(errno.ENOBUFS, nth=2, command="dest add")  # the second "dest add" from now on fails
    front.model.clock.advance(seconds=900)               # counters fall by themselves

As pyroute2 0.9.7 has it: "update" sends the delete command; tunnel ports travel in host byte order, so the kernel reads them with their bytes
swapped on a little-endian machine; an IPv6 prefix length n is written as netmask "n.0.0.0".

source: pyroute2, ipvs.py and netlink/generic/ipvs.py; ip_vs_ctl.c, ip_vs_genl_set_cmd, ip_vs_genl_dump_services, ip_vs_genl_dump_dests
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol, Self

from attrs import define

from ipvs_model.addresses import format_addr, parse_addr
from ipvs_model.control import DestEntry, ServiceEntry
from ipvs_model.dest import DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET
from ipvs_model.ipvs import IPVS as Model
from ipvs_model.service import ServiceUser
from ipvs_model.stats import StatsEntry

SERVICE: Final = "IPVS_SVC_ATTR_"
DEST: Final = "IPVS_DEST_ATTR_"
STATS: Final = "IPVS_STATS_ATTR_"
COMMAND: Final = "IPVS_CMD_ATTR_"
VERSION: Final = 1
U32: Final = 0xFFFFFFFF
#: names of commands, and what each of them sends
VERBS: Final = {"add": "add", "set": "set", "update": "del", "del": "del", "get": "get", "dump": "dump"}
NUMBERS: Final = {"service": {"add": 1, "set": 2, "del": 3, "get": 4, "dump": 4}, "dest": {"add": 5, "set": 6, "del": 7, "get": 8, "dump": 8}}
#: what the kernel wants of a service that is added or changed, beside its identity
FULL_SERVICE: Final = ("SCHED_NAME", "FLAGS", "TIMEOUT", "NETMASK")
FULL_DEST: Final = ("FWD_METHOD", "WEIGHT", "U_THRESH", "L_THRESH")


class _OwnNetlinkError(Exception):
    """What pyroute2 raises, for those who have not installed it."""

    def __init__(self, code: int, msg: str | None = None) -> None:
        super().__init__(code, msg or os.strerror(code))
        self.code = code
        self.extra_code = 0


#: pyroute2's own exception where it is installed
NetlinkError: Final[type[Exception]] = import_module("pyroute2.netlink.exceptions").NetlinkError if find_spec("pyroute2") else _OwnNetlinkError


class Request(Protocol):
    """What pyroute2's IPVSService and IPVSDest can do."""

    def dump_nla(self) -> dict[str, list[tuple[str, Any]]]: ...


class Attributes(dict[str, Any]):
    """A netlink message or a nest in it: ``["attrs"]`` is the list of pairs, `get` finds an attribute by its whole or short name."""

    def __init__(self, prefix: str, pairs: Iterable[tuple[str, Any]], **fields: Any) -> None:
        super().__init__(attrs=[(prefix + name, value) for name, value in pairs], **fields)
        self.prefix = prefix

    def get_attr(self, name: str, default: Any = None) -> Any:
        """The first value of an attribute."""
        return next((value for key, value in self["attrs"] if key == name), default)

    def get_attrs(self, name: str) -> list[Any]:
        """All values of an attribute."""
        return [value for key, value in self["attrs"] if key == name]

    def get(self, name: Any, default: Any = None) -> Any:
        """A field, or an attribute: ``get("weight")`` is ``get_attr("IPVS_DEST_ATTR_WEIGHT")``."""
        if name in self:
            return self[name]
        full = name if name.startswith(self.prefix) else self.prefix + name.upper()
        return self.get_attr(full, default)

    def get_nested(self, *names: str) -> Any:
        """An attribute of a nest of a nest."""
        found: Any = self
        for name in names:
            found = found.get_attr(name)
            if found is None:
                return None
        return found


@define
class Failure:
    """A failure to come: after ``left`` - 1 more calls that match ``command`` (None: any), the next one fails."""

    errno: int
    left: int
    command: str | None


class IPVS:
    """The call surface of `pyroute2.IPVS` over a model (a new one, or the one given). ``calls`` names every call, in order."""

    def __init__(self, model: Model | None = None) -> None:
        self.model = model if model is not None else Model()
        self.calls: list[str] = []
        self._failures: list[Failure] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""

    def fail(self, code: int, *, nth: int = 1, command: str | None = None) -> None:
        """Let the nth call from now on fail with an errno, without effect; ``command`` "dest add", "service dump" …: of those calls only."""
        if nth < 1:
            raise ValueError(f"nth={nth}: the next call is the first")
        self._failures.append(Failure(code, nth, command))

    # --- the calls ----------------------------------------------------------------------------------------------------
    def service(self, command: str, service: Request | None = None) -> list[Attributes]:
        """ "add", "set", "del", "get" a service, "dump" all. Raises NetlinkError with the kernel's errno; KeyError for another command."""
        verb = self._called("service", command)
        if verb == "dump":
            return [self._message("service", _service_message(entry)) for entry in self.model.control.get_services()]
        attrs = _attributes(SERVICE, service.dump_nla() if service is not None else {"attrs": []})
        try:
            if verb == "get":
                return [self._message("service", _service_message(self.model.control.get_service(_identity(attrs))))]
            if verb == "del":
                self.model.control.del_service(_identity(attrs))
            elif verb == "add":
                self.model.control.new_service(_full_service(attrs))
            else:
                self.model.control.set_service(_full_service(attrs))
        except IPVSError as error:
            raise NetlinkError(error.errno) from error
        return []

    def dest(self, command: str, service: Any, dest: Request | None = None) -> list[Attributes]:
        """ "add", "set", "del" a server of a service, "dump" all of it, none for an unknown one. Raises as `service`; "get" is EOPNOTSUPP."""
        verb = self._called("dest", command)
        svc = _attributes(SERVICE, service.dump_key())
        if verb == "get":
            raise NetlinkError(errno.EOPNOTSUPP)
        try:
            if verb == "dump":
                return [self._message("dest", _dest_message(entry)) for entry in self.model.control.get_dests(_identity(svc))]
            if dest is None:
                raise IPVSError(errno.EINVAL)
            attrs = _attributes(DEST, dest.dump_nla())
            if verb == "del":
                self.model.control.del_dest(_identity(svc), _dest_identity(attrs))
            elif verb == "add":
                self.model.control.new_dest(_identity(svc), _full_dest(attrs))
            else:
                self.model.control.set_dest(_identity(svc), _full_dest(attrs))
        except IPVSError as error:
            raise NetlinkError(error.errno) from error
        return []

    def _called(self, what: str, command: str) -> str:
        """Note a call, and let it fail if it is to; what it sends."""
        verb = VERBS[command]
        name = f"{what} {command}"
        self.calls.append(name)
        due = [failure for failure in self._failures if failure.command in (None, name)]
        for failure in due:
            failure.left -= 1
        for failure in due:
            if not failure.left:
                self._failures.remove(failure)
                raise NetlinkError(failure.errno)
        return verb

    @staticmethod
    def _message(what: str, nest: Attributes) -> Attributes:
        return Attributes(COMMAND, [(what.upper(), nest)], cmd=NUMBERS[what]["add"], version=VERSION, reserved=0)


# --- what comes in ----------------------------------------------------------------------------------------------------
def _attributes(prefix: str, nest: dict[str, Any]) -> dict[str, Any]:
    """Attributes by short name; of several the last counts, as in the kernel."""
    return {name.removeprefix(prefix): value for name, value in nest["attrs"]}


def _number(text: str) -> int:
    """The four bytes of a netmask attribute, as a big-endian number."""
    return int(ipaddress.IPv4Address(text))


def _identity(attrs: dict[str, Any]) -> ServiceUser:
    """A service's identity. Raises EINVAL without family, and without a mark or protocol, address and port."""
    whole = all(name in attrs for name in ("PROTOCOL", "ADDR", "PORT"))
    if "AF" not in attrs or not ("FWMARK" in attrs or whole):
        raise IPVSError(errno.EINVAL)
    if "FWMARK" in attrs:
        return ServiceUser(af=int(attrs["AF"]), fwmark=attrs["FWMARK"])
    return ServiceUser(af=int(attrs["AF"]), protocol=attrs["PROTOCOL"], addr=parse_addr(attrs["ADDR"])[1], port=attrs["PORT"])


def _full_service(attrs: dict[str, Any]) -> ServiceUser:
    """A service with all that the kernel wants. Raises EINVAL."""
    user = _identity(attrs)
    if any(name not in attrs for name in FULL_SERVICE):
        raise IPVSError(errno.EINVAL)
    mask = _number(attrs["NETMASK"])
    if user.af != AF_INET:
        mask = int.from_bytes(mask.to_bytes(4, "big"), "little")  # a number of the host in a field for addresses
    return ServiceUser(
        af=user.af, protocol=user.protocol, addr=user.addr, port=user.port, fwmark=user.fwmark, sched_name=attrs["SCHED_NAME"], pe_name=attrs.get("PE_NAME"),
        flags=attrs["FLAGS"]["flags"], flags_mask=attrs["FLAGS"]["mask"], timeout=attrs["TIMEOUT"], netmask=mask,
    )  # fmt: skip


def _dest_identity(attrs: dict[str, Any]) -> DestUser:
    """A server's identity. Raises EINVAL without address or port."""
    if "ADDR" not in attrs or "PORT" not in attrs:
        raise IPVSError(errno.EINVAL)
    return DestUser(af=int(attrs.get("ADDR_FAMILY", 0)), addr=parse_addr(attrs["ADDR"])[1], port=attrs["PORT"])


def _full_dest(attrs: dict[str, Any]) -> DestUser:
    """A server with all that the kernel wants. Raises EINVAL."""
    user = _dest_identity(attrs)
    if any(name not in attrs for name in FULL_DEST):
        raise IPVSError(errno.EINVAL)
    return DestUser(
        af=user.af, addr=user.addr, port=user.port, conn_flags=attrs["FWD_METHOD"], weight=_signed(attrs["WEIGHT"]), u_threshold=attrs["U_THRESH"],
        l_threshold=attrs["L_THRESH"], tun_type=attrs.get("TUN_TYPE", 0), tun_port=_swapped(attrs.get("TUN_PORT", 0)), tun_flags=attrs.get("TUN_FLAGS", 0),
    )  # fmt: skip


def _signed(value: int) -> int:
    """An unsigned attribute that the kernel keeps in an int."""
    return value - (1 << 32) if value >> 31 else value


def _swapped(port: int) -> int:
    """A port whose bytes a little-endian host wrote and the network reads."""
    return int.from_bytes(port.to_bytes(2, "little"), "big")


# --- what goes out, in the kernel's order -----------------------------------------------------------------------------
def _stats(stats: StatsEntry, bits: int) -> Attributes:
    """A nest of counters; the older one has 32 bits of all but the bytes."""
    names = ("conns", "inpkts", "outpkts", "inbytes", "outbytes", "cps", "inpps", "outpps", "inbps", "outbps")
    wide = ("inbytes", "outbytes")
    return Attributes(STATS, [(name.upper(), getattr(stats, name) if bits == 64 or name in wide else getattr(stats, name) & U32) for name in names])


def _netmask(entry: ServiceEntry) -> str:
    mask = entry.netmask if entry.af == AF_INET else int.from_bytes(entry.netmask.to_bytes(4, "little"), "big")
    return format_addr(AF_INET, mask)


def _service_message(entry: ServiceEntry) -> Attributes:
    if entry.fwmark:
        who: list[tuple[str, Any]] = [("AF", entry.af), ("FWMARK", entry.fwmark)]
    else:
        who = [("AF", entry.af), ("PROTOCOL", entry.protocol), ("ADDR", format_addr(entry.af, entry.addr)), ("PORT", entry.port)]
    engine = [("PE_NAME", entry.pe_name)] if entry.pe_name else []
    rest = [("FLAGS", {"flags": entry.flags, "mask": U32}), ("TIMEOUT", entry.timeout), ("NETMASK", _netmask(entry))]
    return Attributes(
        SERVICE, [*who, ("SCHED_NAME", entry.sched_name), *engine, *rest, ("STATS", _stats(entry.stats, 32)), ("STATS64", _stats(entry.stats, 64))]
    )


def _dest_message(entry: DestEntry) -> Attributes:
    return Attributes(
        DEST,
        [
            ("ADDR", format_addr(entry.af, entry.addr)), ("PORT", entry.port), ("FWD_METHOD", entry.conn_flags), ("WEIGHT", entry.weight),
            ("TUN_TYPE", entry.tun_type), ("TUN_PORT", _swapped(entry.tun_port)), ("TUN_FLAGS", entry.tun_flags), ("U_THRESH", entry.u_threshold),
            ("L_THRESH", entry.l_threshold), ("ACTIVE_CONNS", entry.activeconns), ("INACT_CONNS", entry.inactconns), ("PERSIST_CONNS", entry.persistconns),
            ("ADDR_FAMILY", entry.af), ("STATS", _stats(entry.stats, 32)), ("STATS64", _stats(entry.stats, 64)),
        ],
    )  # fmt: skip
