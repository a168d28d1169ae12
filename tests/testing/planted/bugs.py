"""Twenty-five planted bugs: each is a patch of a few lines that makes the model wrong in one way, and the sentence that says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from attrs import frozen

from ipvs_model import conn
from ipvs_model.conn import Conn
from ipvs_model.conn_table import ConnTable
from ipvs_model.control import Control
from ipvs_model.datapath import hooks, icmp, incoming, scheduling
from ipvs_model.dest import Dest, DestTrash
from ipvs_model.flags import IP_VS_CONN_F_INACTIVE, IP_VS_CONN_F_ONE_PACKET, IPPROTO_IP, Hook
from ipvs_model.protocol import Protocol, ProtoData
from ipvs_model.protocols import sctp, tcp, udp
from ipvs_model.schedulers import lc, mh, rr, sh, wlc, wrr
from ipvs_model.schedulers.base import Scheduler
from ipvs_model.schedulers.weights import usable
from ipvs_model.timers import Clock

Patch = Callable[[pytest.MonkeyPatch], None]


@frozen
class Bug:
    """A planted bug: its name, what is wrong, the patch, and where the toolkit finds it: "machine", "clock" or a scheduler's name."""

    name: str
    sentence: str
    patch: Patch
    where: str


BUGS: Final[dict[str, Bug]] = {}


def planted(where: str) -> Callable[[Patch], Patch]:
    """Register a patch; its docstring is the sentence."""

    def register(patch: Patch) -> Patch:
        BUGS[patch.__name__] = Bug(patch.__name__, (patch.__doc__ or "").strip(), patch, where)
        return patch

    return register


# --- connections ------------------------------------------------------------------------------------------------------
@planted("machine")
def template_period(m):
    """A template goes back to the service's timeout after a postponement."""
    real = conn.check_template

    def check_template(ct, wanted=None):
        good = real(ct, wanted)
        if good:
            ct.timeout = ct.dest.svc.timeout
        return good

    m.setattr(scheduling, "check_template", check_template)


@planted("machine")
def drop_path_put(m):
    """The reference is not given back when a packet is dropped because its server is deleted."""
    real = incoming.ip_vs_in_hook

    def ip_vs_in_hook(ns, hook, pkt):
        action = real(ns, hook, pkt)
        if action.reason == "dest unavailable":
            ns.conns.in_get(pkt.af, pkt.proto, pkt.src, pkt.dst)
        return action

    m.setitem(hooks.HANDLERS, Hook.LOCAL_IN, (hooks.HANDLERS[Hook.LOCAL_IN][0], ip_vs_in_hook))


@planted("machine")
def control_count(m):
    """n_control is not decremented when a controlled entry goes."""

    def control_del(self):
        self.control = None

    m.setattr(Conn, "control_del", control_del)


@planted("machine")
def inactive_flag(m):
    """The INACTIVE flag is not cleared when a connection becomes ESTABLISHED; the counter moves."""
    real = tcp.enter_state

    def enter_state(cp, state, established, *rest):
        inactive = cp.flags & IP_VS_CONN_F_INACTIVE
        real(cp, state, established, *rest)
        if state.index == established:
            cp.flags |= inactive

    m.setattr(tcp, "enter_state", enter_state)
    m.setattr(sctp, "enter_state", enter_state)


@planted("machine")
def one_packet_hashed(m):
    """A one-packet entry is put into the table."""
    real = ConnTable.hash

    def hash_(self, cp):
        one_packet = cp.flags & IP_VS_CONN_F_ONE_PACKET
        cp.flags &= ~IP_VS_CONN_F_ONE_PACKET
        done = real(self, cp)
        cp.flags |= one_packet
        return done

    m.setattr(ConnTable, "hash", hash_)


@planted("machine")
def expire_referenced(m):
    """An entry on which somebody holds a reference is removed all the same."""
    real = ConnTable.unlink

    def unlink(self, cp):
        cp.refcnt = 1
        return real(self, cp)

    m.setattr(ConnTable, "unlink", unlink)


@planted("machine")
def reuse_mode(m):
    """A TIME_WAIT entry is replaced although conn_reuse_mode is 0."""
    real = incoming.must_reschedule

    def must_reschedule(ns, cp, pkt, pd):
        if cp.control is None and pd.pp.is_new_conn_expected(cp, 1):
            return True, False
        return real(ns, cp, pkt, pd)

    m.setattr(incoming, "must_reschedule", must_reschedule)


@planted("machine")
def udp_active(m):
    """A UDP entry is counted as active."""
    real = udp.Udp.state_transition

    def state_transition(self, cp, direction, pkt, pd):
        real(self, cp, direction, pkt, pd)
        if cp.dest is not None and cp.flags & IP_VS_CONN_F_INACTIVE:
            cp.dest.activeconns += 1
            cp.flags &= ~IP_VS_CONN_F_INACTIVE

    m.setattr(udp.Udp, "state_transition", state_transition)


@planted("machine")
def out_protocol(m):
    """The entry of a reply is looked up without regard to its protocol."""
    real = Protocol.conn_out_get

    def conn_out_get(self, ns, pkt, iph):
        cp = real(self, ns, pkt, iph)
        others = (number for number in (6, 17) if cp is None and iph.sport is not None and number != iph.protocol)
        for number in others:
            cp = cp or ns.conns.out_get(iph.af, number, pkt.src, pkt.dst)
        return cp

    m.setattr(Protocol, "conn_out_get", conn_out_get)


@planted("machine")
def icmp_rearms(m):
    """An ICMP error gives the connection that it is about a new period."""
    real = icmp._response_icmp

    def response_icmp(ns, hook, pkt, quoted, cp):
        action = real(ns, hook, pkt, quoted, cp)
        cp.arm(cp.timeout)
        return action

    m.setattr(icmp, "_response_icmp", response_icmp)


@planted("machine")
def set_timeout_late(m):
    """A timeout that is set within the jiffy of a packet is not applied to the next one."""

    def set_timeout(self, index, jiffies):
        self.states[index].timeout = jiffies

    m.setattr(ProtoData, "set_timeout", set_timeout)


# --- persistence ------------------------------------------------------------------------------------------------------
@planted("machine")
def persistence_mask(m):
    """The persistence mask is not applied to the client's address."""
    m.setattr(scheduling, "client_network", lambda svc, addr: addr)


@planted("machine")
def fwmark_port(m):
    """The template of a fwmark service is keyed by the port."""
    port = [0]
    real_roles, real_param = scheduling.roles, scheduling.ConnParam

    def roles(iph):
        client, virt = real_roles(iph)
        port[0] = virt & 0xFFFF
        return client, virt

    def param(af, protocol, client, virt, *rest):
        return real_param(af, protocol, client, virt | port[0] if protocol == IPPROTO_IP else virt, *rest)

    m.setattr(scheduling, "roles", roles)
    m.setattr(scheduling, "ConnParam", param)


# --- destinations and control -----------------------------------------------------------------------------------------
@planted("machine")
def overload_late(m):
    """OVERLOAD is cleared one connection late."""
    real = Dest.update_overload

    def update_overload(self, mode):
        if mode >= 0:
            real(self, mode)

    m.setattr(Dest, "update_overload", update_overload)


@planted("machine")
def lower_zero(m):
    """A lower threshold of 0 counts as none instead of three quarters of the upper one."""
    real = Control._update_dest

    def update_dest(self, svc, dest, user, add):
        real(self, svc, dest, user, add)
        if dest.u_threshold and not dest.l_threshold:
            dest.l_threshold_val = 0

    m.setattr(Control, "_update_dest", update_dest)


@planted("machine")
def trash_port(m):
    """A deleted server is taken out of the trash by its address alone, whatever its port."""

    def get(self, svc, af, addr, port):
        for dest in self.dests:
            if (dest.af, dest.addr, dest.vfwmark, dest.protocol, dest.vaddr, dest.vport) == (af, addr, svc.fwmark, svc.protocol, svc.addr, svc.port):
                self.dests.remove(dest)
                return dest
        return None

    m.setattr(DestTrash, "get", get)


@planted("machine")
def counted_before_error(m):
    """A server that is added takes its reference on the service before it is known that it is there already."""
    real = Control.add_dest

    def add_dest(self, svc, user):
        svc.refcnt += 1
        dest = real(self, svc, user)
        svc.refcnt -= 1
        return dest

    m.setattr(Control, "add_dest", add_dest)


# --- schedulers -------------------------------------------------------------------------------------------------------
@planted("rr")
def rr_cursor(m):
    """rr's cursor is not moved when its server is deleted."""
    m.setattr(rr.RoundRobin, "del_dest", Scheduler.del_dest)


@planted("wrr")
def wrr_gcd(m):
    """wrr keeps the old step after a weight was edited."""
    m.setattr(wrr.WeightedRoundRobin, "upd_dest", Scheduler.upd_dest)


@planted("wlc")
def wlc_weight_0(m):
    """wlc takes servers of weight 0."""

    def schedule(self, svc, pkt, iph):
        live = [dest for dest in svc.destinations if not dest.overloaded]
        return min(live, key=lambda dest: (256 * dest.activeconns + dest.totalconns) / max(1, dest.weight), default=None)

    m.setattr(wlc.WeightedLeastConnection, "schedule", schedule)


@planted("lc")
def lc_tie(m):
    """Of equally loaded servers lc takes the last."""

    def schedule(self, svc, pkt, iph):
        live = [dest for dest in reversed(svc.destinations) if usable(dest)]
        return min(live, key=lambda dest: 256 * dest.activeconns + dest.totalconns, default=None)

    m.setattr(lc.LeastConnection, "schedule", schedule)


@planted("mh")
def mh_weight(m):
    """mh's table is built from the present weight, not from the last one above 0."""
    real = mh.State.fill

    def fill(self, svc, destinations):
        kept = [dest.last_weight for dest in destinations]
        for dest in destinations:
            dest.last_weight = dest.weight
        real(self, svc, destinations)
        for dest, weight in zip(destinations, kept, strict=True):
            dest.last_weight = weight

    m.setattr(mh.State, "fill", fill)


@planted("sh")
def sh_fallback(m):
    """sh-fallback begins at the client's bucket instead of bucket 2h."""

    def fallback(table, bucket):
        return next((dest for offset in range(256) if (dest := table[(bucket + offset) % 256]) is None or usable(dest)), None)

    m.setattr(sh.SourceHashing, "_fallback", staticmethod(fallback))


# --- timers -----------------------------------------------------------------------------------------------------------
def _arm_in(shortcut: bool, at_head: bool):
    """Clock.arm_in, with or without the same-expiry shortcut, putting a timer first or last in its bucket."""

    def arm_in(self, timer, expires, bucket):
        old = timer.bucket
        if old is not None:
            if old is bucket or (shortcut and self._wheel and timer.expires == expires):
                timer.expires = expires
                return
            timer.prev.next, timer.next.prev = timer.next, timer.prev
        timer.expires, timer.bucket = expires, bucket
        timer.prev, timer.next = (bucket, bucket.next) if at_head else (bucket.prev, bucket)
        timer.prev.next = timer.next.prev = timer

    return arm_in


@planted("clock")
def same_expiry(m):
    """A timer that is armed anew for the expiry that it has moves to another place."""
    m.setattr(Clock, "arm_in", _arm_in(shortcut=False, at_head=True))


@planted("clock")
def bucket_order(m):
    """Of one bucket the timer that came first goes first."""
    m.setattr(Clock, "arm_in", _arm_in(shortcut=True, at_head=False))
