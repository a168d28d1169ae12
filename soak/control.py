"""Random control commands in both families, sound and not: after an error nothing has changed, after success every invariant holds.

What the kernel itself changes although it refuses is left out: a valid first number of sync_threshold is stored before a malformed second one is met,
and a service whose new scheduler refuses it gets its old one back with fresh data.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from attrs import evolve, frozen

from ipvs_model.dest import DestUser
from ipvs_model.errors import IPVSError
from ipvs_model.flags import AF_INET, AF_INET6, Hook
from ipvs_model.invariants import check
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.service import ServiceUser
from ipvs_model.sync.daemon import DaemonUser
from ipvs_model.sysctl import VARS
from soak.snapshot import snapshot

VIPS: Final = {AF_INET: (0xC0000201, 0xC0000202), AF_INET6: (0x20010DB8000200000000000000000001,)}
SERVERS: Final = {
    AF_INET: (0x0A01000B, 0x0A01000C, 0x7F000001, 0, 0xE0000001, 0xFFFFFFFF),
    AF_INET6: (0x20010DB8000100000000000000000011, 1, 0, 0xFF020000000000000000000000000001),
}
SCHEDULERS: Final = (
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos", "none", "nope", "", "a name that is too long",
)  # fmt: skip
SOUND: Final = SCHEDULERS[:14]
ENGINES: Final = (None, None, None, "sip", "nope", "a name that is too long")
WEIGHTS: Final = (1, 1, 2, 0, -1, 100, 0x7FFFFFFF, -0x80000000)
THRESHOLDS: Final = (0, 0, 1, 2, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
SECONDS: Final = (0, 1, 60, 900, 0xFFFFFFFF, 0x7FFFFFFF // 250, 0x7FFFFFFF // 250 + 1, -1)
WRITTEN: Final = ("0", "1", "2", "3", "4", "-1", "10", "0x10", "010", "08", "", " ", "x", "1x", "3 50", "3 2", "3 x", "-1 2", "2147483647", "2147483648", "9" * 30, "0-1", "0,7")
WORDS: Final = (
    "-A", "-E", "-D", "-a", "-e", "-d", "-Z", "-L", "-S", "-C", "-R", "--set", "-t", "-u", "-f", "--sctp-service", "192.0.2.1:80", "192.0.2.1", "[2001:db8:2::1]:80",
    "1", "0", "-s", "rr", "mh", "nope", "-p", "60", "-M", "255.255.255.0", "64", "-6", "-r", "10.1.0.11:80", "[2001:db8:1::11]:80", "-m", "-g", "-i", "-w", "-1", "-x", "5",
    "-y", "-o", "--pe", "sip", "-b", "flag-1,flag-2", "--tun-type", "gue", "--tun-port", "6080", "--tun-csum", "--start-daemon", "master", "--mcast-interface", "eth0",
    "--stop-daemon", "backup", "--syncid", "-n", "-c", "--stats", "--sort", "--daemon",
)  # fmt: skip
#: so that many random lines get far: the words with which most begin
STARTS: Final = (
    "-A -t 192.0.2.1:80", "-E -t 192.0.2.1:80", "-D -t 192.0.2.1:80", "-a -t 192.0.2.1:80 -r 10.1.0.11:80", "-e -t 192.0.2.1:80 -r 10.1.0.11:80", "-A -f 1", "-a -f 1 -r",
    "-A -t [2001:db8:2::1]:80", "-a -t [2001:db8:2::1]:80 -r [2001:db8:1::11]:80", "-d -t 192.0.2.1:80 -r", "--start-daemon master", "--set 1 2", "-L", "-S", "-Z",
)  # fmt: skip


@frozen
class Outcome:
    """What a run saw: commands, those that were refused, and errno by command."""

    commands: int
    refused: int
    errors: dict[str, int]


class Run:
    """One run on one director."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ipvs = IPVS(Environment(interfaces={"lo": 65536, "eth0": 1500, "eth1": 9000}, cpus=2))
        ns = self.ipvs.ns
        self.ignored = frozenset((id(ns.log_lines), id(self.ipvs.log_limit)))
        self.errors: Counter[str] = Counter()
        self.last = "nothing"
        self.commands: tuple[Callable[[], Any], ...] = (
            self._new_service, self._new_service, self._set_service, self._del_service, self._new_dest, self._new_dest, self._new_dest, self._set_dest,
            self._set_dest, self._del_dest, self._zero, self._config, self._new_daemon, self._del_daemon, self._sysctl, self._sysctl, self._ipvsadm,
            self._ipvsadm, self._get,
        )  # fmt: skip

    # --- requests -----------------------------------------------------------------------------------------------------
    def service(self) -> ServiceUser:
        """Any request about a service; the family may be none, the address too long for it, names unknown."""
        rng = self.rng
        af = rng.choice((AF_INET, AF_INET, AF_INET6))
        address = rng.choice(VIPS[af if rng.random() < 0.97 else AF_INET6])
        if rng.random() < 0.5:
            user = ServiceUser(af=af, protocol=rng.choice((6, 17, 132)), addr=address, port=rng.choice((80, 0, 21)), sched_name=rng.choice(SOUND))
            return evolve(user, flags=rng.choice((0, 1, 4)), timeout=60, netmask=0xFFFFFFFF if af == AF_INET else 64)
        return ServiceUser(
            af=af if rng.random() < 0.97 else rng.choice((0, 7)),
            protocol=rng.choice((6, 6, 17, 132, 0, 50)),
            addr=address,
            port=rng.choice((80, 80, 0, 21, 5060)),
            fwmark=rng.choice((0, 0, 0, 1, 0xFFFFFFFF)),
            sched_name=rng.choice(SCHEDULERS),
            pe_name=rng.choice(ENGINES),
            flags=rng.choice((0, 1, 4, 5, 0x18, 0xFFFFFFFF)),
            flags_mask=rng.choice((0xFFFFFFFF, 0xFFFFFFFF, 0, 1)),
            timeout=rng.choice((0, 60, 0xFFFFFFFF)),
            netmask=rng.choice((0xFFFFFFFF, 128, 64, 0, 24, 129)),
        )

    def present(self) -> ServiceUser:
        """The identity of a service that is there, mostly."""
        services = self.ipvs.services
        if not services or self.rng.random() < 0.2:
            return self.service()
        return self.ipvs.service_user(self.rng.choice(services))

    def dest(self) -> DestUser:
        """Any request about a destination."""
        rng = self.rng
        af = rng.choice((AF_INET, AF_INET, AF_INET6))
        if rng.random() < 0.5:
            return DestUser(af=af, addr=rng.choice(SERVERS[af][:2]), port=rng.choice((80, 0)), conn_flags=rng.choice((0, 2)), weight=rng.choice((0, 1, 3)))
        return DestUser(
            addr=rng.choice(SERVERS[af]),
            port=rng.choice((80, 0, 8080)),
            conn_flags=rng.choice((0, 0, 1, 2, 2, 3, 4, 7, 0x2000, 0xFFFFFFFF)),
            weight=rng.choice(WEIGHTS),
            u_threshold=rng.choice(THRESHOLDS),
            l_threshold=rng.choice(THRESHOLDS),
            af=rng.choice((af, af, 0, 7)),
            tun_type=rng.choice((0, 0, 1, 2, 3)),
            tun_port=rng.choice((0, 6080)),
            tun_flags=rng.choice((0, 1, 2, 4)),
        )

    # --- commands -----------------------------------------------------------------------------------------------------
    def _new_service(self) -> None:
        self.ipvs.control.new_service(self.service())

    def _set_service(self) -> None:
        rng = self.rng
        present, new = self.present(), self.service()
        fields = ("sched_name", "pe_name", "flags", "flags_mask", "timeout", "netmask")
        values = {name: getattr(new if rng.random() < 0.5 else present, name) for name in fields}
        self.ipvs.control.set_service(
            ServiceUser(af=present.af, protocol=present.protocol, addr=present.addr, port=present.port, fwmark=present.fwmark, **values)
        )

    def _del_service(self) -> None:
        self.ipvs.control.del_service(self.present() if self.rng.random() < 0.3 else self.service())

    def _new_dest(self) -> None:
        self.ipvs.control.new_dest(self.present(), self.dest())

    def _set_dest(self) -> None:
        self.ipvs.control.set_dest(self.present(), self.dest())

    def _del_dest(self) -> None:
        self.ipvs.control.del_dest(self.present(), self.dest())

    def _zero(self) -> None:
        self.ipvs.control.zero(self.present() if self.rng.random() < 0.8 else None)

    def _config(self) -> None:
        self.ipvs.control.set_config(*(self.rng.choice(SECONDS) for _ in range(3)))

    def _new_daemon(self) -> None:
        rng = self.rng
        group = rng.choice((None, None, (AF_INET, 0xE0000051), (AF_INET, 0x0A000001), (AF_INET6, 0xFF02 << 112 | 0x51)))
        self.ipvs.control.new_daemon(
            DaemonUser(
                rng.choice((1, 2, 0, 3)), rng.choice(("eth0", "eth1", "nope", "", "a name that is too long")), rng.choice((0, 255, -1, 1 << 32)),
                rng.choice((0, 100, 70000)), group, rng.choice((0, 9000)), rng.choice((0, 255)),
            )
        )  # fmt: skip

    def _del_daemon(self) -> None:
        self.ipvs.control.del_daemon(self.rng.choice((1, 2, 0, 3)))

    def _sysctl(self) -> None:
        rng = self.rng
        name, text = rng.choice((*(var.name for var in VARS), "nope")), rng.choice(WRITTEN)
        if name == "sync_threshold" and text == "3 x":
            text = "3"
        self.ipvs.sysctl_write(name, text)

    def _get(self) -> None:
        control = self.ipvs.control
        control.get_dests(self.present())
        control.get_services()
        control.get_service(self.present())

    def _ipvsadm(self) -> None:
        rng = self.rng
        line = rng.choice(STARTS).split() if rng.random() < 0.8 else []
        line += (rng.choice(WORDS) for _ in range(rng.randrange(6)))
        self.last = " ".join(line)
        result = self.ipvs.ipvsadm([word for word in line if word != "-R"])
        assert result.status in (0, 1, 2, 255), f"exit status {result.status}"
        if result.status:
            raise IPVSError(result.status, result.err)

    # --- the run ------------------------------------------------------------------------------------------------------
    def step(self) -> None:
        """One command; then, at times, packets and time."""
        rng = self.rng
        command = rng.choice(self.commands)
        before = snapshot(self.ipvs, self.ignored)
        self.last = command.__name__
        try:
            command()
        except IPVSError as error:
            self.errors[f"{command.__name__.lstrip('_')} {error.errno}"] += 1
            if not any("init error" in text for _, text in self.ipvs.log):
                assert snapshot(self.ipvs, self.ignored) == before, f"refused ({error}), but something has changed"
        check(self.ipvs.ns)
        self.ipvs.log.clear()
        self.ipvs.ns.outbox.clear()
        self.ipvs.daemons.take()
        if rng.random() < 0.3:
            self._traffic()
        if rng.random() < 0.002:
            self.ipvs.control.flush()

    def _traffic(self) -> None:
        """A client's packet, so that there are entries, templates and references; then a while."""
        rng = self.rng
        af = rng.choice((AF_INET, AF_INET6))
        client = (0xCB007107 if af == AF_INET else 0x20010DB8000F << 80 | 1, rng.randrange(40000, 40010))
        make = rng.choice((Packet.tcp, Packet.udp))
        packet = make(client, (rng.choice(VIPS[af]), rng.choice((80, 21, 5060))), mark=rng.choice((0, 1)))
        self.last = f"{packet!r}"
        self.ipvs.run_hook(Hook.LOCAL_IN, packet)
        self.ipvs.clock.advance(seconds=rng.choice((0, 0, 1, 3, 70, 130)))
        check(self.ipvs.ns)


def run(count: int, seed: int) -> Outcome:
    """Give so many commands. Raises RuntimeError, with the command in hand, for whatever goes wrong."""
    soak = Run(seed)
    for number in range(count):
        try:
            soak.step()
        except Exception as error:
            raise RuntimeError(f"command {number} of seed {seed}: {soak.last}: {error}") from error
    return Outcome(count, sum(soak.errors.values()), dict(sorted(soak.errors.items())))
