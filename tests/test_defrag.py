"""Reassembly under the clock: what is given up, when, and who is told."""

import copy
import pickle

import pytest

from ipvs_model.defrag import IP6FRAG_TIME_S, IPFRAG_TIME_S, Defragmenter
from ipvs_model.ipvs import IPVS
from ipvs_model.netns import Environment
from ipvs_model.packet import Packet
from ipvs_model.packet.fragment import fragment
from ipvs_model.timers import Clock

CLIENT = "203.0.113.7:40000"


def pieces(client=CLIENT, server="192.0.2.1:53", mtu=76, **kwargs):
    return fragment(Packet.udp(client, server, bytes(100), device="cli", **kwargs), mtu, ident=9)


class Waiting:
    """A Defragmenter, and what it has given up: (jiffy, packet)."""

    def __init__(self, seconds=IPFRAG_TIME_S):
        self.clock = Clock(hz=250, start_jiffies=1000)
        self.gone = []
        self.reassembly = Defragmenter(self.clock, seconds, lambda first: self.gone.append((self.clock.now, first)))


@pytest.mark.parametrize("seconds", [IPFRAG_TIME_S, IP6FRAG_TIME_S])
def test_a_datagram_is_given_up_when_its_timer_fires(seconds):
    """As late as the timer wheel is for such a timeout: 30 s are rounded up to the next multiple of 512 jiffies."""
    waiting = Waiting(seconds)
    first, last = pieces(df=False)
    assert waiting.reassembly.add(first) is None
    due = ((1000 + seconds * 250 >> 9) + 1) << 9
    waiting.clock.advance_to(due - 1)
    assert waiting.gone == [] and len(waiting.reassembly) == 1
    waiting.clock.advance(1)
    assert waiting.gone == [(due, first)] and len(waiting.reassembly) == 0
    assert waiting.reassembly.add(last) is None


def test_the_time_counts_from_the_fragment_that_came_first():
    waiting = Waiting()
    first, last = pieces(df=False)
    waiting.reassembly.add(last)
    waiting.clock.advance(7000)
    waiting.reassembly.add(last)
    waiting.clock.advance(1300)
    assert len(waiting.reassembly) == 0
    assert waiting.gone == []  # without a first fragment nobody is told
    assert waiting.reassembly.add(first) is None


def test_of_one_tick_the_datagram_that_came_last_goes_first():
    waiting = Waiting()
    firsts = [pieces(df=False, id=ident)[0] for ident in range(5)]
    for first in firsts:
        waiting.reassembly.add(first)
        waiting.clock.advance(2)
    waiting.clock.advance(seconds=40)
    assert [first for _, first in waiting.gone] == firsts[::-1]


def test_a_whole_datagram_leaves_no_timer():
    waiting = Waiting()
    assert [waiting.reassembly.add(piece) is None for piece in pieces(df=False)] == [True, False]
    assert list(waiting.clock.pending_timers()) == []


def test_bytes_that_were_cut_off_are_not_quoted():
    waiting = Waiting()
    first = pieces(df=False)[0]
    odd = Packet.parse(first.raw[:2] + (first.length - 3).to_bytes(2) + first.raw[4:-3])
    waiting.reassembly.add(odd)
    waiting.clock.advance(seconds=40)
    assert waiting.gone[0][1].raw == odd.raw[: 20 + 48]


def director():
    ipvs = IPVS(Environment(hz=250))
    ipvs.add_dest(ipvs.add_service("udp", "192.0.2.1:53", scheduler="rr"), "10.1.0.11:53")
    return ipvs


def sent(ipvs):
    out = [error.packet for error in ipvs.ns.outbox]
    ipvs.ns.outbox.clear()
    return out


@pytest.mark.parametrize("hook", ["FORWARD", "LOCAL_OUT"])
@pytest.mark.parametrize("duplicate", [lambda ipvs: ipvs, copy.deepcopy, lambda ipvs: pickle.loads(pickle.dumps(ipvs))])
def test_senders_of_forwarded_fragments_are_told(duplicate, hook):
    ipvs = director()
    first, last = pieces("10.1.0.11:53", CLIENT, df=False)
    assert ipvs.receive(first, hook).emitted == ()
    ipvs = duplicate(ipvs)
    ipvs.clock.advance(seconds=40)
    told = [(error.l4_bytes[:2], error.daddr) for error in sent(ipvs)]
    assert told == ([(b"\x0b\x01", first.saddr)] if hook == "FORWARD" else [])
    assert ipvs.receive(last, hook).emitted == ()
    ipvs.clock.advance(seconds=40)
    assert sent(ipvs) == []
