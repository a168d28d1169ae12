"""For each planted bug the small program that shows it: found and shrunk by the toolkit, steps that say nothing taken out by hand.

A program is run as it stands: `state` is the machine (or the clock's machine). For a scheduler it is a history, and the property that it breaks.
"""

from __future__ import annotations

from typing import Final

from ipvs_model.testing.trial import Added, Connects, Deleted, Event, Weighs

PROGRAMS: Final = {
    "template_period": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr -p 5', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.waits(wait=Wait(0, deadline=True))
state.comes_back(flow=flow, neighbour=False, other=False, port=1, wait=Wait())
""",
    "drop_path_put": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.runs(command='-d -t 192.0.2.1:80 -r 10.1.0.11:80')
state.says(flow=flow, side='client', word=2)
""",
    "control_count": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr -p 5', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.waits(wait=Wait(0, deadline=True))
state.waits(wait=Wait(0, deadline=True))
""",
    "inactive_flag": """
flow = state.begins(service='--sctp-service 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-g -w 1'], settings=[])
state.goes_on(flow=flow, words=4)
""",
    "one_packet_hashed": """
flow = state.begins(service='-u 192.0.2.1:80 -s rr -o', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
""",
    "expire_referenced": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.holds(number=0)
state.waits(wait=Wait(0, deadline=True))
""",
    "reuse_mode": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[('conn_reuse_mode', 0)])
state.goes_on(flow=flow, words=1)
state.opens_again(after='reset', confirmed=0, flow=flow)
""",
    "udp_active": """
flow = state.begins(service='-u 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
""",
    "out_protocol": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.strays(flow=flow, how='protocol', side='server')
""",
    "icmp_rearms": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.waits(wait=Wait(-1, deadline=True))
state.strays(flow=flow, how='icmp 0', side='server')
""",
    "set_timeout_late": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.goes_on(flow=flow, words=3)
state.tunes(flow=flow, setting='--set 60 0 0')
""",
    "persistence_mask": """
state.begins(service='-t 192.0.2.1:0 -s rr -p 5 -M 255.255.255.0', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1', '-m -w 1'], settings=[])
state.connects(client=(0, 40000), name='-t 192.0.2.1:0', port=443, protocol='tcp')
state.connects(client=(1, 40000), name='-t 192.0.2.1:0', port=443, protocol='tcp')
""",
    "fwmark_port": """
flow = state.begins(service='-f 1 -s rr -p 5', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1', '-m -w 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.comes_back(flow=flow, neighbour=False, other=True, port=1, wait=Wait())
""",
    "overload_late": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1 -x 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.waits(wait=Wait(0, deadline=True))
""",
    "lower_zero": """
flow = state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1 -x 1'], settings=[])
state.goes_on(flow=flow, words=1)
state.waits(wait=Wait(0, deadline=True))
""",
    "trash_port": """
state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.runs(command='-d -t 192.0.2.1:80 -r 10.1.0.11:80')
state.runs(command='-a -t 192.0.2.1:80 -r 10.1.0.11:8080 -m -w 1')
""",
    "counted_before_error": """
state.begins(service='-t 192.0.2.1:80 -s rr', other='-t 192.0.2.1:80 -s rr', dests=['-m -w 1'], settings=[])
state.runs(command='-a -t 192.0.2.1:80 -r 10.1.0.11:80 -m -w 1')
""",
    "same_expiry": """
state.begins(mode='kernel', start=0)
state.passes(jiffies=64)
state.arms(delay=4032, name=0)
state.passes(jiffies=1)
state.arms_again(name=0)
""",
    "bucket_order": """
state.begins(mode='kernel', start=0)
state.arms_as(name=1, other=0)
state.arms_as(name=0, other=0)
state.passes(jiffies=1)
""",
}

HISTORIES: Final[dict[str, tuple[str, list[Event]]]] = {
    "rr_cursor": ("own", [Added(0), Connects(0), Deleted(0), Connects(0)]),
    "wrr_gcd": ("answers", [Added(0, 0), Weighs(0, 1), Connects(0)]),
    "wlc_weight_0": ("drained", [Added(0, 0), Connects(0)]),
    "lc_tie": ("twin", [Added(0), Added(1), Connects(0)]),
    "mh_weight": ("disruption", [Added(0), Added(1), Added(2, 3), Added(4, 2)]),
    "sh_fallback": ("twin", [Added(0, 0), Added(1), Added(2), *(Connects(client) for client in range(12))]),
}
