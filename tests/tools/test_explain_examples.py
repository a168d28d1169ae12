"""The worked examples of the datapath specification, W1 to W15: their explanation names every step that the specification names, in its order.

Of each packet: the hook, what was looked up and found, what was decided and why, state and timeout, the transmitter, the timer, the verdict, what left the
director, and the counters that moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from ipvs_model.tools.explain import Explainer, Walk
from ipvs_model.tools.walk import as_text

VIP, CLIENT, R1, R2 = "192.0.2.1", "203.0.113.5", "10.1.0.11", "10.1.0.12"
DIRECTOR = ("10.9.0.1", "10.1.0.1")
COUNTERS = ("conns", "inpkts", "outpkts", "inbytes", "outbytes")


class Story:
    """Steps that are explained one after the other, and what their texts must name."""

    def __init__(self, *rules: str, addresses: Sequence[str] = DIRECTOR, **options) -> None:
        self.explainer = Explainer("\n".join(rules) + "\n", addresses=addresses, local_stack=True, **options)
        self.texts: list[str] = []  #: not explained yet
        self.walks: Iterator[Walk] = self.explainer.steps(iter(self.texts.pop, ""))
        self.total = [0, 0, 0, 0, 0]
        self.text = ""

    def step(self, *steps: str) -> Story:
        """Explain steps; the last one is what is looked at."""
        for text in steps:
            self.texts.append(text)
            self.text = _plain(as_text(next(self.walks)))
        self.total = list(self.explainer.ipvs.ns.tot_stats.live())
        return self

    def client(self, what: str, port: int = 40000, *, to: str = f"{VIP}:80", address: str = CLIENT) -> str:
        return f"tcp {address}:{port} > {to} {what}"

    def __call__(self, step: str, *named: str, totals: Sequence[int] | None = None) -> Story:
        """A step and what its explanation names, in order; `totals`: the namespace's counters after it, of which those that moved are named last."""
        before = self.total
        self.step(step)
        if totals is not None:
            assert self.total == list(totals)
            moved = [f"{name} {was} {now}" for name, was, now in zip(COUNTERS, before, totals, strict=True) if was != now]
            named += ("total", *moved) if moved else ()
            assert moved or "\ntotal\n" not in self.text, self.text
        at = 0
        for words in named:
            found = self.text.find(words, at)
            assert found >= 0, f"{words!r} is not named, or not here:\n{self.text}"
            at = found + len(words)
        return self

    def not_named(self, *words: str) -> Story:
        """What the explanation of the last step must not say."""
        for word in words:
            assert word not in self.text, self.text
        return self


def _plain(text: str) -> str:
    """A walk's text with one space between words."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def rules(service: str, *servers: str, method: str = "-m", scheduler: str = "rr", more: str = "") -> tuple[str, ...]:
    """Lines of ipvsadm -S: `service` is "-t ADDR:PORT", "-u ADDR:PORT" or "-f MARK"."""
    return (f"-A {service} -s {scheduler} {more}", *(f"-a {service} -r {server} {method}" for server in servers))


def handshake(story: Story, server: str = f"{R2}:8080", port: int = 40000) -> Story:
    """An established connection with a server that NAT reaches."""
    return story.step(story.client("S", port), f"tcp {server} > {CLIENT}:{port} SA", story.client("A", port))


def put(seconds: int) -> str:
    """The reference is given back and the timer restarted."""
    return f"expires in {seconds * 250} jiffies ({seconds} s)"


def state(before: str, after: str, seconds: int) -> str:
    return f"{before} -> {after}, timeout {seconds * 250} jiffies ({seconds} s)"


def entry(port: int, server: str, virtual: str = f"{VIP}:80") -> str:
    return f"TCP {CLIENT}:{port} -> {virtual} -> {server}"


NOT_FOUND = f"ip_vs_conn_in_get TCP {CLIENT}:40000 -> {VIP}:80: no entry"
SENT = "STOLEN: sent to its real server"
REPLIED = "ACCEPT: a reply, translated"
LOCAL_RESET = f"tcp_v4_send_reset nothing listens, the host answers tcp {VIP}:80 > {CLIENT}:40000"


def sent(what: str, server: str = f"{R1}:8080", port: int = 40000) -> str:
    return f"leaves: tcp {CLIENT}:{port} > {server} {what} ttl=63"


def replied(what: str, port: int = 40000, source: str = f"{VIP}:80") -> str:
    return f"leaves: tcp {source} > {CLIENT}:{port} {what} ttl=63"


# --- W1 to W3: whole exchanges ------------------------------------------------------------------------------------------
def test_w1_nat():
    """NAT, full TCP exchange: the server closes first."""
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:8080"))
    conn = entry(40000, f"{R1}:8080")
    told(
        told.client("S seq=1000"), "hook ip_vs_in_hook LOCAL_IN", NOT_FOUND, "ip_vs_service_find TCP 192.0.2.1:80 by exact",
        f"ip_vs_schedule rr chose {R1}:8080",
        f"ip_vs_conn_new {conn}", "conns +1 = 1", "ip_vs_in_stats", state("INPUT syn: NONE", "SYN_RECV", 60), f"ip_vs_nat_xmit nat {conn}: forwarded", put(60),
        "__ip_vs_conn_put", SENT, sent("S"), "in_pkts - 1", "active 0 1", totals=(1, 1, 0, 40, 0),
    )  # fmt: skip
    told(
        f"tcp {R1}:8080 > {CLIENT}:40000 SA", "hook ip_vs_out_hook FORWARD", f"ip_vs_conn_out_get TCP {R1}:8080 -> {CLIENT}:40000: {conn}", "ip_vs_out_stats",
        state("OUTPUT syn: SYN_RECV", "SYN_RECV", 60), put(60), REPLIED, replied("SA"), totals=(1, 1, 1, 40, 40),
    ).not_named("in_pkts", "active")  # fmt: skip
    in_get = f"ip_vs_conn_in_get TCP {CLIENT}:40000 -> {VIP}:80: {conn}"
    told(
        told.client("A"), "hook ip_vs_in_hook LOCAL_IN", in_get, "ip_vs_in_stats", state("INPUT ack: SYN_RECV", "ESTABLISHED", 900), "forwarded", put(900),
        SENT,
        sent("A"), "in_pkts 1 2", totals=(1, 2, 1, 80, 40),
    )  # fmt: skip
    told(
        told.client("PA len=18"),
        in_get,
        state("INPUT ack: ESTABLISHED", "ESTABLISHED", 900),
        put(900),
        sent("PA len=18"),
        "in_pkts 2 3",
        totals=(1, 3, 1, 138, 40),
    )
    told(
        f"tcp {R1}:8080 > {CLIENT}:40000 PA len=5", state("OUTPUT ack: ESTABLISHED", "ESTABLISHED", 900), put(900), REPLIED, replied("PA len=5"),
        totals=(1, 3, 2, 138, 85),
    )  # fmt: skip
    told(
        f"tcp {R1}:8080 > {CLIENT}:40000 FA", state("OUTPUT fin: ESTABLISHED", "FIN_WAIT", 120), put(120), replied("FA"), "active 1 0", "inactive 0 1",
        totals=(1, 3, 3, 138, 125),
    )  # fmt: skip
    told(told.client("A"), state("INPUT ack: FIN_WAIT", "FIN_WAIT", 120), put(120), sent("A"), "in_pkts 3 4", totals=(1, 4, 3, 178, 125))
    told(told.client("FA"), state("INPUT fin: FIN_WAIT", "TIME_WAIT", 120), put(120), sent("FA"), "in_pkts 4 5", totals=(1, 5, 3, 218, 125))
    told(f"tcp {R1}:8080 > {CLIENT}:40000 A", state("OUTPUT ack: TIME_WAIT", "TIME_WAIT", 120), put(120), replied("A"), totals=(1, 5, 4, 218, 165))
    told("+130", "ip_vs_conn_expire", "timer fired", "ip_vs_conn_unhash", f"{conn} removed", "inactive 1 0")


def test_w1_the_client_closes_first():
    told = handshake(Story(*rules(f"-t {VIP}:80", f"{R1}:8080")), f"{R1}:8080")
    told(told.client("FA"), state("INPUT fin: ESTABLISHED", "CLOSE_WAIT", 60), put(60), sent("FA"))
    told(f"tcp {R1}:8080 > {CLIENT}:40000 A", state("OUTPUT ack: CLOSE_WAIT", "CLOSE_WAIT", 60), put(60))
    told(f"tcp {R1}:8080 > {CLIENT}:40000 FA", state("OUTPUT fin: CLOSE_WAIT", "TIME_WAIT", 120), put(120))
    told(told.client("A"), state("INPUT ack: TIME_WAIT", "TIME_WAIT", 120), put(120))


@pytest.mark.parametrize(
    ("method", "xmit", "name", "leaves"),
    [
        ("-g", "ip_vs_dr_xmit dr", "DROUTE", "leaves: tcp 203.0.113.5:40000 > 192.0.2.1:80 {} ttl=63 via 10.1.0.11"),
        ("-i", "ip_vs_tunnel_xmit tunnel", "TUNNEL", "leaves: ipip 10.1.0.1 > 10.1.0.11 {len} ttl=63 around tcp 203.0.113.5:40000 > 192.0.2.1:80 {} ttl=63"),
    ],
    ids=["W2", "W3"],
)
def test_w2_and_w3_direct_routing_and_tunnel(method, xmit, name, leaves):
    """Replies do not pass the director: the input-only table, and NOOUTPUT stays set."""
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:80", method=method))
    conn = entry(40000, f"{R1}:80")
    told(
        told.client("S"), NOT_FOUND, f"rr chose {R1}:80", f"ip_vs_conn_new {conn}", state("INPUT_ONLY syn: NONE", "SYN_RECV", 60), f"{xmit} {conn}: forwarded",
        put(60), SENT, leaves.format("S", len="len=40"), f"flags - {name}|NOOUTPUT", "active 0 1", totals=(1, 1, 0, 40, 0),
    )  # fmt: skip
    told(told.client("A"), state("INPUT_ONLY ack: SYN_RECV", "ESTABLISHED", 900), xmit, put(900), leaves.format("A", len="len=40"), totals=(1, 2, 0, 80, 0))
    told(
        told.client("PA len=10"),
        state("INPUT_ONLY ack: ESTABLISHED", "ESTABLISHED", 900),
        xmit,
        leaves.format("PA len=10", len="len=50"),
        totals=(1, 3, 0, 130, 0),
    )
    told(
        told.client("FA"), state("INPUT_ONLY fin: ESTABLISHED", "FIN_WAIT", 120), xmit, put(120), leaves.format("FA", len="len=40"), f"|NOOUTPUT {name}|",
        "NOOUTPUT", "active 1 0", "inactive 0 1", totals=(1, 4, 0, 170, 0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "outer"),
    [("--tun-type gue --tun-port 6080", f"> {R1}:6080 len=44 ttl=63"), ("--tun-type gre", f"leaves: gre 10.1.0.1 > {R1} len=44 ttl=63")],
)
def test_w3_other_kinds_of_tunnel(options, outer):
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:80", method=f"-i {options}"))
    told(told.client("S"), "ip_vs_tunnel_xmit tunnel", SENT, f"{outer} around tcp {CLIENT}:40000 > {VIP}:80 S ttl=63", totals=(1, 1, 0, 40, 0))


def test_w3_what_does_not_fit_into_the_tunnel():
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:80", method="-i")).step("tcp 203.0.113.5:40000 > 192.0.2.1:80 S")
    told(
        told.client("A len=1460"), "ip_vs_in_stats", "icmp_send ICMP 3/4 to 203.0.113.5", "hook ip_vs_out_hook LOCAL_OUT", "ip_vs_out_stats", "ACCEPT (reply)",
        ": mtu", put(900), "STOLEN: too big for the way to the real server", "leaves: icmp 192.0.2.1 > 203.0.113.5 3/4 len=548 info=1480", "ttl=63",
        totals=(1, 2, 1, 1540, 576),
    )  # fmt: skip
    told(told.client("A len=1440"), SENT, "leaves: ipip 10.1.0.1 > 10.1.0.11 len=1480 ttl=63 around", totals=(1, 3, 1, 3020, 576))


# --- W4, W5: marks, persistence ------------------------------------------------------------------------------------------
def test_w4_a_mark_service():
    told = Story(*rules("-f 7", R1, R2, method="-g"), addresses=(*DIRECTOR, VIP))
    rows = [(40000, VIP, 80, R2), (40001, VIP, 443, R1), (40002, "192.0.2.9", 80, R2)]
    for number, (port, address, vport, server) in enumerate(rows, 1):
        told(
            told.client("S mark=7", port, to=f"{address}:{vport}"), "ip_vs_service_find FWM 7 by fwmark", f"rr chose {server}:0 for FWM 7",
            f"ip_vs_conn_new TCP {CLIENT}:{port} -> {address}:{vport} -> {server}:{vport}", state("NONE", "SYN_RECV", 60), SENT, f"via {server}",
            totals=(number, number, 0, 40 * number, 0),
        )  # fmt: skip
    told(
        told.client("S", 40003, to=f"{VIP}:22"), "ip_vs_service_find no service", "ip_vs_in_hook ACCEPT (no service)", "tcp_v4_send_reset",
        "ACCEPT: no service for its destination", f"the host gets: tcp {CLIENT}:40003 > {VIP}:22 S", f"leaves: tcp {VIP}:22 > {CLIENT}:40003 RA",
        totals=(3, 3, 0, 120, 0),
    )  # fmt: skip


def test_w4_the_servers_port_or_the_clients():
    told = Story(*rules("-f 7", f"{R1}:0", f"{R2}:8088"), addresses=(*DIRECTOR, VIP))
    told(told.client("S mark=7"), f"rr chose {R2}:8088", f"ip_vs_conn_new {entry(40000, f'{R2}:8088')}", sent("S", f"{R2}:8088"))
    told(told.client("S mark=7", 40001, to=f"{VIP}:443"), f"rr chose {R1}:0", "ip_vs_conn_new", f"{VIP}:443 -> {R1}:443", sent("S", f"{R1}:443", 40001))
    told(f"tcp {R2}:8088 > {CLIENT}:40000 SA", "hook ip_vs_out_hook FORWARD", entry(40000, f"{R2}:8088"), REPLIED, replied("SA"))


def test_w4_a_persistent_mark_service():
    told = Story(*rules("-f 7", f"{R1}:0", f"{R2}:8088", more="-p 60"), addresses=(*DIRECTOR, VIP))
    template = f"IP {CLIENT}:0 -> 0.0.0.7:0 -> {R2}:0"
    told(
        told.client("S mark=7"), "ip_vs_service_find FWM 7", "ip_vs_ct_in_get", "no entry", f"rr chose {R2}:8088",
        f"ip_vs_conn_new {template} [MASQ|INACTIVE|TEMPLATE",
        f"ip_vs_conn_new {entry(40000, f'{R2}:80')}", f"ip_vs_control_add {entry(40000, f'{R2}:80')} under {template}: n_control 1", f"{template} {put(60)}",
        sent("S", f"{R2}:80"), "timeout - 60 s",
    )  # fmt: skip
    told(
        told.client("S mark=7", 40001, to=f"{VIP}:443"), f"ip_vs_ct_in_get IP {CLIENT}:0 -> 0.0.0.7:0: {template}", "ip_vs_check_template", "usable",
        f"under {template}: n_control 2", sent("S", f"{R2}:443", 40001),
    )  # fmt: skip
    other = f"TCP {CLIENT}:0 -> {VIP}:0 -> {R1}:0"
    told(
        told.client("S mark=7", 40002, to=f"{VIP}:0"), f"ip_vs_ct_in_get TCP {CLIENT}:0 -> {VIP}:0: no entry", f"rr chose {R1}:0", f"ip_vs_conn_new {other}",
        f"under {other}: n_control 1", sent("S", f"{R1}:0", 40002),
    )  # fmt: skip


def test_w5_a_persistent_port_zero_service():
    told = Story(*rules(f"-t {VIP}:0", R1, R2, more="-p 300 -M 255.255.255.0"))
    template = f"TCP 203.0.113.0:0 -> {VIP}:0 -> {R2}:0"
    told(
        told.client("S"), "ip_vs_service_find TCP 192.0.2.1:0 by port zero", f"ip_vs_ct_in_get TCP 203.0.113.0:0 -> {VIP}:0: no entry", f"rr chose {R2}:0",
        f"ip_vs_conn_new {template} [MASQ|INACTIVE|TEMPLATE", f"ip_vs_conn_new {entry(40000, f'{R2}:80')}", f"under {template}: n_control 1",
        f"{template} {put(300)}",
        sent("S", f"{R2}:80"), "state - NONE", "n_control - 1", "timeout - 300 s", f"server {R2}:0", "active 0 1", "templates 0 1", totals=(1, 1, 0, 40, 0),
    )  # fmt: skip
    known = f"ip_vs_ct_in_get TCP 203.0.113.0:0 -> {VIP}:0: {template}"
    told(
        f"+10 {told.client('S', 40001, to=f'{VIP}:443')}", known, f"ip_vs_check_template {template} usable", f"{VIP}:443 -> {R2}:443",
        f"under {template}: n_control 2", f"{template} {put(300)}", sent("S", f"{R2}:443", 40001), "n_control 1 2", "timer 290.000 s 300.000 s", "active 1 2",
        totals=(2, 2, 0, 80, 0),
    ).not_named("rr chose")  # fmt: skip
    told(
        told.client("S", 40002, to=f"{VIP}:22", address="203.0.113.77"), known, f"{VIP}:22 -> {R2}:22", f"under {template}: n_control 3",
        f"{template} {put(300)}",
        f"leaves: tcp 203.0.113.77:40002 > {R2}:22 S", "active 2 3", totals=(3, 3, 0, 120, 0),
    )  # fmt: skip
    other = f"TCP 203.0.114.0:0 -> {VIP}:0 -> {R1}:0"
    told(
        told.client("S", 40003, address="203.0.114.1"), "no entry", f"rr chose {R1}:0", f"ip_vs_conn_new {other}", f"under {other}: n_control 1",
        f"leaves: tcp 203.0.114.1:40003 > {R1}:80 S", "active 0 1", "templates 0 1", totals=(4, 4, 0, 160, 0),
    )  # fmt: skip
    told(
        told.client("S", 20, to=f"{VIP}:20", address="203.0.113.77"), "ip_vs_in_hook ACCEPT (ftp data)", "tcp_v4_send_reset",
        "ACCEPT: client port 20: never scheduled", f"leaves: tcp {VIP}:20 > 203.0.113.77:20 RA", totals=(4, 4, 0, 160, 0),
    ).not_named("ip_vs_conn_new")  # fmt: skip
    told(told.client("A"), state("SYN_RECV", "ESTABLISHED", 900), f"template {template}", "state NONE ASSURED")


# --- W6: FTP --------------------------------------------------------------------------------------------------------------
def ftp(vip: str = VIP) -> Story:
    """An established control connection with the helper."""
    told = Story(*rules(f"-t {vip}:21", f"{R1}:21"))
    return told.step(
        "modprobe ip_vs_ftp", f"tcp {CLIENT}:40000 > {vip}:21 S ct=1", f"tcp {R1}:21 > {CLIENT}:40000 SA ct=1", f"tcp {CLIENT}:40000 > {vip}:21 A ct=1"
    )


def says(text: str) -> str:
    """A line of a control connection."""
    return f"PA ct=1 data={text.encode().hex()}0d0a"


def test_w6_the_control_connection():
    told = Story(*rules(f"-t {VIP}:21", f"{R1}:21")).step("modprobe ip_vs_ftp")
    control = entry(40000, f"{R1}:21", f"{VIP}:21")
    told(
        told.client("S ct=1", to=f"{VIP}:21"),
        f"ip_vs_conn_new {control} [MASQ|INACTIVE|NFCT",
        SENT,
        "flags - MASQ|NFCT",
        "helper - ftp",
        "active 0 1",
        "conns 0 1",
    )
    told(f"tcp {R1}:21 > {CLIENT}:40000 SA ct=1", state("SYN_RECV", "SYN_RECV", 60), REPLIED)
    told(told.client("A ct=1", to=f"{VIP}:21"), state("SYN_RECV", "ESTABLISHED", 900), SENT)


def test_w6_an_active_transfer():
    told = ftp()
    control = entry(40000, f"{R1}:21", f"{VIP}:21")
    data = entry(51210, f"{R1}:20", f"{VIP}:20")
    told(
        told.client(says("PORT 203,0,113,5,200,10"), to=f"{VIP}:21"), f"ip_vs_conn_in_get TCP {CLIENT}:51210 -> {VIP}:20: no entry", f"ip_vs_conn_new {data}",
        f"ip_vs_control_add {data} under {control}: n_control 1", f"{data} {put(120)}", f"ip_vs_nat_xmit nat {control}: forwarded", sent("PA len=25",
        f"{R1}:21"),
        "n_control 0 1", f"entry {data}", "state - LISTEN", "timeout - 120 s", f"control - {control}", "inactive 0 1",
    ).not_named("payload", "\nconns")  # fmt: skip
    told(
        f"tcp {R1}:20 > {CLIENT}:51210 S ct=1", "hook ip_vs_out_hook FORWARD", f"ip_vs_conn_out_get TCP {R1}:20 -> {CLIENT}:51210: {data}",
        state("OUTPUT syn: LISTEN", "LISTEN", 120), REPLIED, replied("S", 51210, f"{VIP}:20"),
    )  # fmt: skip
    told(
        told.client("SA ct=1", 51210, to=f"{VIP}:20"), f"ip_vs_conn_in_get TCP {CLIENT}:51210 -> {VIP}:20: {data}", f"{data} kept: it is controlled",
        state("INPUT syn: LISTEN", "SYN_RECV", 60), SENT, sent("SA", f"{R1}:20", 51210), "active 1 2",
    )  # fmt: skip
    told(f"tcp {R1}:20 > {CLIENT}:51210 A ct=1", state("OUTPUT ack: SYN_RECV", "ESTABLISHED", 900), REPLIED)


def test_w6_a_passive_transfer():
    told = ftp()
    control = entry(40000, f"{R1}:21", f"{VIP}:21")
    expected = entry(0, f"{R1}:50000", f"{VIP}:50000")
    told(told.client(says("PASV"), to=f"{VIP}:21"), SENT, sent("PA len=6", f"{R1}:21"), "inbytes 80 126")
    told(
        f"tcp {R1}:21 > {CLIENT}:40000 {says('227 Entering Passive Mode (10,1,0,11,195,80)')}", f"ip_vs_conn_new {expected} [MASQ|INACTIVE|NO_CPORT|NFCT",
        f"ip_vs_control_add {expected} under {control}: n_control 1", f"{expected} {put(120)}", "ip_vs_out_stats", REPLIED,
        replied("PA len=46", source=f"{VIP}:21") + r" payload b'227 Entering Passive Mode (192,0,2,1,195,80)\r\n'", "state - LISTEN", "outbytes 40 126",
    )  # fmt: skip
    found = entry(40100, f"{R1}:50000", f"{VIP}:50000")
    told(
        told.client("S ct=1", 40100, to=f"{VIP}:50000"), f"ip_vs_conn_in_get TCP {CLIENT}:40100 -> {VIP}:50000: {expected}",
        f"{expected} kept: it is controlled",
        state("LISTEN", "SYN_RECV", 60), f"{expected} unhashed", f"{found} hashed", f"ip_vs_nat_xmit nat {found}: forwarded", sent("S", f"{R1}:50000", 40100),
    )  # fmt: skip


def test_w6_a_reply_that_grows_and_one_that_stays():
    told = ftp("192.0.2.100").step(f"tcp {CLIENT}:40000 > 192.0.2.100:21 {says('PASV')}")
    before = told.total[4]
    told(
        f"tcp {R1}:21 > {CLIENT}:40000 {says('227 Entering Passive Mode (10,1,0,11,195,80)')}",
        REPLIED,
        "PA len=48",
        "(192,0,2,100,195,80)",
        f"outbytes {before} {before + 88}",
    )
    told(f"tcp {R1}:21 > {CLIENT}:40000 PA seq=1046 ack=5 len=3 ct=1", REPLIED, "PA len=3 ttl=63 seq=1048 ack=5\n")
    told(f"tcp {CLIENT}:40000 > 192.0.2.100:21 A seq=5 ack=1051 ct=1", SENT, "A ttl=63 seq=5 ack=1049\n")
    told = ftp().step(f"tcp {CLIENT}:40000 > {VIP}:21 {says('EPSV')}")
    told(
        f"tcp {R1}:21 > {CLIENT}:40000 {says('229 Entering Extended Passive Mode (|||50010|)')}",
        f"ip_vs_conn_new {entry(0, f'{R1}:50010', f'{VIP}:50010')}",
        REPLIED,
    ).not_named("payload")


def test_w6_a_control_connection_with_data_is_hidden_by_a_new_one():
    told = Story(*rules(f"-t {VIP}:21", f"{R1}:21"))
    told.step("modprobe ip_vs_ftp", told.client("S ct=1", to=f"{VIP}:21"), told.client("A ct=1", to=f"{VIP}:21"))
    told.step(told.client(says("PORT 203,0,113,5,200,10"), to=f"{VIP}:21"), f"tcp {R1}:21 > {CLIENT}:40000 FA ct=1", told.client("FA ct=1", to=f"{VIP}:21"))
    told.step(f"ipvsadm -a -t {VIP}:21 -r {R2}:21 -m")
    old, new = entry(40000, f"{R1}:21", f"{VIP}:21"), entry(40000, f"{R2}:21", f"{VIP}:21")
    told(told.client("S ct=1", to=f"{VIP}:21"), f"{old} replaced: it is in TIME_WAIT", f"rr chose {R2}:21", f"ip_vs_conn_new {new}", sent("S", f"{R2}:21"))
    told.not_named("ip_vs_conn_expire_now")
    told(f"+10 {told.client('A ct=1', to=f'{VIP}:21')}", f"ip_vs_conn_in_get TCP {CLIENT}:40000 -> {VIP}:21: {new}", sent("A", f"{R2}:21"))


def test_w6_without_the_module():
    told = Story(*rules(f"-t {VIP}:21", f"{R1}:21", method="-g"))
    for port in (2000, 20):
        told(
            told.client("S", to=f"{VIP}:{port}"),
            "TCP 192.0.2.1:21 by ftp",
            "ip_vs_in_hook ACCEPT (other port)",
            "tcp_v4_send_reset",
            f"leaves: tcp {VIP}:{port}",
        )
    told(told.client("S", to=f"{VIP}:22"), "no service", "ACCEPT (no service)", "tcp_v4_send_reset")
    told = Story(*rules(f"-t {VIP}:21", f"{R1}:21", method="-g", more="-p 300"))
    template = f"TCP {CLIENT}:0 -> {VIP}:0 -> {R1}:0"
    told(told.client("S", to=f"{VIP}:21"), f"ip_vs_conn_new {template}", f"under {template}: n_control 1", SENT)
    for number, port in enumerate((2000, 20), 2):
        told(
            told.client("S", 40000 + number, to=f"{VIP}:{port}"),
            f": {template}",
            "usable",
            f"under {template}: n_control {number}",
            SENT,
            f":{port} S ttl=63 via {R1}",
        )
    told(told.client("S", to=f"{VIP}:22"), "no service", "ACCEPT (no service)")
    told(told.client("S", 20, to=f"{VIP}:21"), "ACCEPT (ftp data)")


# --- W7 to W9: UDP and ICMP ------------------------------------------------------------------------------------------------
QUERY = f"udp {CLIENT}:5000 > {VIP}:53 len=5"


def test_w7_one_packet_scheduling():
    told = Story(*rules(f"-u {VIP}:53", f"{R1}:53", f"{R2}:53", more="-o"))
    for number, server in enumerate((R2, R1), 1):
        conn = f"UDP {CLIENT}:5000 -> {VIP}:53 -> {server}:53"
        told(
            QUERY, f"ip_vs_conn_in_get UDP {CLIENT}:5000 -> {VIP}:53: no entry", f"rr chose {server}:53", f"ip_vs_conn_new {conn} [MASQ|", "ONE_PACKET",
            f"nat {conn}: forwarded", f"{conn} removed", SENT, f"leaves: udp {CLIENT}:5000 > {server}:53 len=5 ttl=63",
            totals=(number, number, 0, 33 * number, 0),
        ).not_named("hashed", "\nentry UDP", "\nactive", "\ninactive")  # fmt: skip
    told(
        f"udp {R2}:53 > {CLIENT}:5000 len=5", "hook ip_vs_out_hook FORWARD", "no entry", "ACCEPT: a packet of no connection",
        f"leaves: udp {R2}:53 > {CLIENT}:5000 len=5", totals=(2, 2, 0, 66, 0),
    )  # fmt: skip


def test_w7_one_packet_scheduling_with_persistence():
    told = Story(*rules(f"-u {VIP}:53", f"{R1}:53", f"{R2}:53", more="-o -p 60"))
    template = f"UDP {CLIENT}:0 -> {VIP}:53 -> {R2}:53"
    told(
        QUERY,
        f"ip_vs_conn_new {template}",
        f"under {template}: n_control 1",
        f"leaves {template}: n_control 0",
        f"template {template}",
        "in_pkts - 1",
        "templates 0 1",
    )
    told(QUERY, f": {template}", "usable", f"under {template}: n_control 1", f"template {template}", "in_pkts 1 2")


def test_w7_an_ordinary_udp_service():
    told = Story(*rules(f"-u {VIP}:53", f"{R1}:5353"))
    told(QUERY, "ip_vs_conn_new", "INPUT datagram: UDP -> UDP, timeout 75000 jiffies (300 s)", put(300), SENT, f"> {R1}:5353", "inactive 0 1").not_named(
        "\nactive"
    )
    told(
        f"udp {R1}:5353 > {CLIENT}:5000 len=5", "ip_vs_conn_out_get", "OUTPUT datagram: UDP -> UDP", put(300), REPLIED, f"leaves: udp {VIP}:53 > {CLIENT}:5000"
    )


def error(kind: str, info: str = "", source: str = "198.51.100.9", target: str = VIP) -> str:
    return f"icmp {source} > {target} {kind} {info} ttl=250 quote=28 about tcp {VIP}:80 > {CLIENT}:40000 A len=1400 ttl=60"


def established_with_r1(method: str = "-m", port: int = 8080) -> Story:
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:{port}", method=method))
    return handshake(told, f"{R1}:{port}") if method == "-m" else told.step(told.client("S"), told.client("A"))


def test_w8_fragmentation_needed():
    told = established_with_r1()
    told(
        error("3/4", "info=1300"), "hook ip_vs_out_hook LOCAL_IN", f"ip_vs_conn_out_get TCP {CLIENT}:40000 -> {VIP}:80: no entry", "ip_vs_out_hook ACCEPT",
        "hook ip_vs_in_hook LOCAL_IN", f"ip_vs_conn_in_get TCP {CLIENT}:40000 -> {VIP}:80: {entry(40000, f'{R1}:8080')}", "ip_vs_in_stats", "__ip_vs_conn_put",
        "STOLEN: an ICMP error, sent to the real server of its connection",
        f"leaves: icmp 198.51.100.9 > {R1} 3/4 len=28 ttl=249 info=1300 about tcp {R1}:8080 > {CLIENT}:40000 len=8 ttl=60", totals=(1, 3, 1, 136, 40),
    ).not_named("state_transition", "ip_vs_conn_put TCP", "expires", "\nentry", "in_pkts")  # fmt: skip


@pytest.mark.parametrize("kind", ["3/1", "11/0", "4/0"])
def test_w8_other_errors_likewise(kind):
    established_with_r1()(error(kind), "ip_vs_conn_in_get", "ip_vs_in_stats", f"leaves: icmp 198.51.100.9 > {R1} {kind}", totals=(1, 3, 1, 136, 40))


@pytest.mark.parametrize("kind", ["5/0", "12/0"])
def test_w8_what_is_for_the_local_stack(kind):
    told = established_with_r1()
    told(error(kind), "ip_vs_in_hook ACCEPT (protocol)", "ACCEPT: IPVS does not handle its protocol", "the host gets: icmp").not_named("leaves")


def test_w8_an_echo_is_answered_by_the_host():
    told = established_with_r1()
    told(f"icmp {CLIENT} > {VIP}", "ip_vs_in_hook ACCEPT (protocol)", "icmp_echo nothing listens, the host answers", f"leaves: icmp {VIP} > {CLIENT} 0/0")


def test_w8_direct_routing():
    told = established_with_r1("-g", 80)
    told(error("3/4", "info=1300"), "ip_vs_in_stats", "ip_vs_dr_xmit dr", f"leaves: icmp 198.51.100.9 > {VIP} 3/4 len=28 ttl=249", f"via {R1}", "in_pkts 2 3")


def test_w8_an_error_addressed_to_the_server_itself():
    told = established_with_r1()
    told(
        error("3/4", "info=1300", target=R1), "hook ip_vs_forward_icmp FORWARD", "ip_vs_conn_in_get", "ip_vs_in_stats", "ip_vs_forward_icmp STOLEN (icmp forwarded)",
        f"leaves: icmp 198.51.100.9 > {R1} 3/4 len=28 ttl=248",
    )  # fmt: skip


def test_w9_port_unreachable_from_a_real_server():
    told = Story(*rules(f"-u {VIP}:53", f"{R1}:5353"))
    told(QUERY, "hook ip_vs_in_hook LOCAL_IN", SENT, totals=(1, 1, 0, 33, 0))
    about = f"about udp {CLIENT}:5000 > {R1}:5353 len=5"
    told(
        f"+1 icmp {R1} > {CLIENT} 3/3 {about}", "hook ip_vs_forward_icmp FORWARD", "no entry", "ip_vs_forward_icmp ACCEPT", "hook ip_vs_out_hook FORWARD",
        f"ip_vs_conn_out_get UDP {R1}:5353 -> {CLIENT}:5000: UDP {CLIENT}:5000 -> {VIP}:53 -> {R1}:5353", "ip_vs_out_stats", "__ip_vs_conn_put",
        "ACCEPT: an ICMP error from the server's side, translated", f"leaves: icmp {VIP} > {CLIENT} 3/3 len=33 ttl=63 about udp {CLIENT}:5000 > {VIP}:53 len=5",
        totals=(1, 1, 1, 33, 61),
    ).not_named("expires", "\nentry")  # fmt: skip
    told(
        f"icmp {R1} > {CLIENT} 3/3 about udp {CLIENT}:5001 > {R1}:5353 len=5", "no entry", "ACCEPT: an ICMP error about a packet of no connection",
        f"leaves: icmp {R1} > {CLIENT} 3/3",
    )  # fmt: skip
    told(f"icmp 10.1.0.99 > {CLIENT} 3/3 {about}", "ip_vs_conn_out_get", f"leaves: icmp {VIP} > {CLIENT} 3/3")


# --- W10 to W12: the same port again -----------------------------------------------------------------------------------------
def two_servers(*, method: str = "-m", more: str = "", port: int = 8080) -> Story:
    return Story(*rules(f"-t {VIP}:80", f"{R1}:{port}", f"{R2}:{port}", method=method, more=more))


def test_w10_retransmitted_syns():
    told = two_servers()
    told(
        f"+0.4 {told.client('S seq=1')}",
        f"rr chose {R2}:8080",
        state("NONE", "SYN_RECV", 60),
        put(60),
        sent("S", f"{R2}:8080"),
        "in_pkts - 1",
        totals=(1, 1, 0, 40, 0),
    )
    for packets, wait in ((2, 1), (3, 2)):
        told(
            f"+{wait} {told.client('S seq=1')}", f"{entry(40000, f'{R2}:8080')} kept: it is in SYN_RECV", state("SYN_RECV", "SYN_RECV", 60), put(60),
            sent("S", f"{R2}:8080"), f"in_pkts {packets - 1} {packets}", totals=(1, packets, 0, 40 * packets, 0),
        ).not_named("rr chose")  # fmt: skip
    told(told.client("S", 40001), f"rr chose {R1}:8080")


def closed_by_server(told: Story) -> Story:
    """A connection of R2 in TIME_WAIT."""
    return handshake(told).step(f"tcp {R2}:8080 > {CLIENT}:40000 FA", told.client("FA"))


OLD, NEW = entry(40000, f"{R2}:8080"), entry(40000, f"{R1}:8080")
CASE_A, CASE_B = "its server has weight 0 and expire_nodest_conn is set", "it is in TIME_WAIT and conn_reuse_mode is {}"
REUSE = [(0, 0, 1), (0, 0, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (1, 1, 1), (1, 1, 0), (2, 0, 1), (2, 0, 0), (2, 1, 1), (2, 1, 0)]


@pytest.mark.parametrize(("mode", "nodest", "weight"), REUSE)
def test_w11_port_reuse(mode, nodest, weight):
    told = closed_by_server(two_servers())
    told.step(f"sysctl conn_reuse_mode={mode}", f"sysctl expire_nodest_conn={nodest}", f"ipvsadm -e -t {VIP}:80 -r {R2}:8080 -m -w {weight}")
    case_a = bool(nodest) and not weight
    if not mode and not case_a:
        told(told.client("S"), f"{OLD} kept: conn_reuse_mode is 0", state("TIME_WAIT", "SYN_RECV", 60), put(60), sent("S", f"{R2}:8080")).not_named("conns")
        return
    told(
        told.client("S"), f"ip_vs_conn_in_get TCP {CLIENT}:40000 -> {VIP}:80: {OLD}", f"{OLD} replaced: {CASE_A if case_a else CASE_B.format(mode)}",
        f"ip_vs_conn_expire_now {OLD}: expires at the next tick", "__ip_vs_conn_put", f"rr chose {R1}:8080", f"ip_vs_conn_new {NEW}",
        state("NONE", "SYN_RECV", 60), put(60), sent("S"), f"entry {NEW}", "state - SYN_RECV", f"entry {OLD}", "timer 120.000 s 0.000 s", "conns 1 2",
    ).not_named(f"{OLD} removed")  # fmt: skip
    told("+0.004", f"{OLD}: timer fired", f"{OLD} removed", f"server {R2}:8080", "inactive 1 0")


def test_w11_a_connection_that_was_reset():
    told = two_servers()
    told.step(told.client("S"), f"tcp {R2}:8080 > {CLIENT}:40000 RA")
    told(told.client("S"), f"{OLD} replaced: it is in CLOSE and conn_reuse_mode is 1", f"ip_vs_conn_new {NEW}")


@pytest.mark.parametrize("weight", [1, 0])
def test_w11_other_states_are_rescheduled_by_case_a_alone(weight):
    told = handshake(two_servers()).step("sysctl expire_nodest_conn=1", f"ipvsadm -e -t {VIP}:80 -r {R2}:8080 -m -w {weight}")
    if weight:
        told(told.client("S"), f"{OLD} kept: it is in ESTABLISHED", sent("S", f"{R2}:8080"))
    else:
        told(told.client("S"), f"{OLD} replaced: {CASE_A}", f"ip_vs_conn_new {NEW}", sent("S"))


@pytest.mark.parametrize(("mode", "server"), [(1, R2), (2, R1)])
def test_w11_direct_routing_in_fin_wait(mode, server):
    told = two_servers(method="-g", port=80).step(f"sysctl conn_reuse_mode={mode}")
    told.step(told.client("S"), told.client("A"), told.client("FA"))
    what = "kept" if server == R2 else "replaced"
    told(told.client("S"), f"{what}: it is in FIN_WAIT and conn_reuse_mode is {mode}", "SYN_RECV, timeout 15000 jiffies (60 s)", SENT, f"via {server}")


def test_w11_a_persistent_connection_is_kept():
    told = closed_by_server(two_servers(more="-p 60"))
    told(told.client("S"), f"{OLD} kept: it is controlled", state("TIME_WAIT", "SYN_RECV", 60), sent("S", f"{R2}:8080"))


@pytest.mark.parametrize("quiescent", [0, 1])
def test_w11_a_persistent_connection_of_a_quiesced_server(quiescent):
    told = handshake(two_servers(more="-p 60"))
    told.step("sysctl expire_nodest_conn=1", f"sysctl expire_quiescent_template={quiescent}", f"ipvsadm -e -t {VIP}:80 -r {R2}:8080 -m -w 0")
    template = f"TCP {CLIENT}:0 -> {VIP}:80 -> {R2}:8080"
    begins = (f"{OLD} replaced: {CASE_A}", f"ip_vs_conn_expire_now {OLD}")
    if not quiescent:
        told(told.client("S"), *begins, f"{template} usable", f"ip_vs_conn_new {OLD}", f"under {template}: n_control 2", sent("S", f"{R2}:8080"))
        return
    told(
        told.client("S"), *begins, f"{template} not usable: its destination is quiesced", f"TCP {CLIENT}:0 -> {VIP}:65535 -> {R2}:65535 hashed",
        f"rr chose {R1}:8080",
        f"ip_vs_conn_new TCP {CLIENT}:0 -> {VIP}:80 -> {R1}:8080", f"ip_vs_conn_new {NEW}", sent("S"),
    )  # fmt: skip


def test_w12_a_late_reply_revives_the_replaced_connection():
    told = closed_by_server(two_servers())
    told.step(f"+1 {told.client('S')}")
    told(
        f"tcp {R2}:8080 > {CLIENT}:40000 A", f"ip_vs_conn_out_get TCP {R2}:8080 -> {CLIENT}:40000: {OLD}", state("OUTPUT ack: TIME_WAIT", "TIME_WAIT", 120),
        f"ip_vs_conn_put {OLD} {put(120)}", REPLIED, replied("A"), "timer 0.000 s 120.000 s",
    )  # fmt: skip
    told("+1 " + told.client("A"), f"ip_vs_conn_in_get TCP {CLIENT}:40000 -> {VIP}:80: {NEW}", sent("A"))
    told(f"tcp {R2}:8080 > {CLIENT}:40000 A", f": {OLD}", REPLIED)


# --- W13: servers on the director -----------------------------------------------------------------------------------------
HOME = (*DIRECTOR, VIP)


def test_w13_a_local_nat_server():
    told = Story(*rules(f"-t {VIP}:80", "10.1.0.1:81"))
    conn = entry(40000, "10.1.0.1:81")
    told(
        told.client("S"), f"ip_vs_conn_new {conn}", state("NONE", "SYN_RECV", 60), f"ip_vs_nat_xmit nat {conn}: local", "ip_vs_in_hook ACCEPT (local)",
        f"tcp_v4_send_reset nothing listens, the host answers tcp 10.1.0.1:81 > {CLIENT}:40000 RA", "hook ip_vs_out_hook LOCAL_OUT", f": {conn}",
        state("OUTPUT rst: SYN_RECV", "CLOSE", 10), put(10), "ip_vs_out_hook ACCEPT (translated)", "ACCEPT: its real server is this host",
        f"the host gets: tcp {CLIENT}:40000 > 10.1.0.1:81 S\n", f"leaves: tcp {VIP}:80 > {CLIENT}:40000 RA\n", "inactive 0 1", totals=(1, 1, 1, 40, 40),
    ).not_named("ttl=63", "\nactive")  # fmt: skip


def test_w13_a_local_direct_server():
    told = Story(*rules(f"-t {VIP}:80", "10.1.0.1:80", method="-g"))
    told(
        told.client("S"), ": local", "ip_vs_in_hook ACCEPT (local)", LOCAL_RESET, "hook ip_vs_out_hook LOCAL_OUT", entry(40000, "10.1.0.1:80"),
        "ip_vs_out_stats",
        "SYN_RECV -> CLOSE, timeout 2500 jiffies (10 s)", "ip_vs_out_hook ACCEPT (reply)", f"the host gets: tcp {CLIENT}:40000 > {VIP}:80 S\n",
        totals=(1, 1, 1, 40, 40),
    )  # fmt: skip


def test_w13_loopback_servers():
    told = Story(*rules(f"-t {VIP}:80", "127.0.0.1:81"))
    told(
        told.client("S"),
        state("NONE", "SYN_RECV", 60),
        ": loopback server",
        put(60),
        "STOLEN: a loopback real server for a remote client",
        totals=(1, 1, 0, 40, 0),
    )
    told.not_named("leaves", "the host gets")
    told = Story(*rules(f"-t {VIP}:80", "127.0.0.1:80", method="-g"))
    told(told.client("S"), "ip_vs_in_hook ACCEPT (local)", "the host gets")


def test_w13_a_closed_udp_port():
    told = Story(*rules(f"-u {VIP}:53", "10.1.0.1:5353"))
    told(
        QUERY, ": local", f"icmp_send nothing listens, the host answers icmp 10.1.0.1 > {CLIENT} 3/3", "hook ip_vs_out_hook LOCAL_OUT", "ip_vs_out_stats",
        "ip_vs_out_hook ACCEPT (icmp translated)", f"leaves: icmp {VIP} > {CLIENT} 3/3 len=33 about udp {CLIENT}:5000 > {VIP}:53 len=5",
        totals=(1, 1, 1, 33, 61),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "port", "leaves"),
    [
        ("-m", 8080, f"leaves: tcp {VIP}:40000 > {R1}:8080 S ttl=63"),
        ("-g", 80, f"leaves: tcp {VIP}:40000 > {VIP}:80 S ttl=63 via {R1}"),
        ("-i", 80, f"leaves: ipip 10.1.0.1 > {R1} len=40 ttl=63 around tcp {VIP}:40000 > {VIP}:80 S ttl=63"),
    ],
)
def test_w13_a_client_on_the_director(method, port, leaves):
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:{port}", method=method))
    told(told.client("S", address=VIP), "packet of the director itself", "hook ip_vs_in_hook LOCAL_OUT", f"rr chose {R1}", SENT, leaves)


def test_w13_a_client_on_the_director_without_a_server():
    told = Story(*rules(f"-t {VIP}:80"))
    told(told.client("S", address=VIP), "rr chose nothing", f"icmp_send ICMP 3/3 to {VIP}", "DROP: the scheduler found no destination: refused").not_named("leaves")


# --- W14, W15: deletion -----------------------------------------------------------------------------------------------------
def test_w14_the_last_service_is_deleted():
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:8080"))
    told.step(told.client("S"))
    told(f"ipvsadm -D -t {VIP}:80", "ip_vs_del_service TCP 192.0.2.1:80 deleted")
    told(
        told.client("A ack=5001"), LOCAL_RESET + " R seq=5001 ack=0\n", "ACCEPT: no service of its family: IPVS does not see it",
        f"the host gets: tcp {CLIENT}:40000 > {VIP}:80 A",
        f"leaves: tcp {VIP}:80 > {CLIENT}:40000 R",
    ).not_named("hook", "lookup")  # fmt: skip
    told(f"tcp {R1}:8080 > {CLIENT}:40000 SA", "ACCEPT: no service of its family", f"leaves: tcp {R1}:8080 > {CLIENT}:40000 SA").not_named("hook")
    told("+62", f"{NEW}: timer fired", f"{NEW} removed")


def test_w15_a_deleted_server_with_the_default():
    told = handshake(two_servers()).step(f"+10 ipvsadm -d -t {VIP}:80 -r {R2}:8080")
    told(told.client("A"), f": {OLD}", "__ip_vs_conn_put", "DROP: its destination is deleted and expire_nodest_conn is 0", totals=(1, 2, 1, 80, 40))
    told.not_named("expires", "leaves", "state_transition", "\nentry")
    told(f"tcp {R2}:8080 > {CLIENT}:40000 A", f": {OLD}", state("ESTABLISHED", "ESTABLISHED", 900), put(900), REPLIED, replied("A"), totals=(1, 2, 1, 80, 40))


def test_w15_a_deleted_server_with_expire_nodest_conn():
    told = handshake(two_servers()).step(f"ipvsadm -d -t {VIP}:80 -r {R2}:8080", "sysctl expire_nodest_conn=1")
    told(
        told.client("A ack=77"), f": {OLD}", f"ip_vs_conn_expire_now {OLD}: expires at the next tick", "ip_vs_in_hook ACCEPT (not a starter)",
        LOCAL_RESET + " R seq=77 ack=0\n",
        "ACCEPT: a packet that may not begin a connection", f"leaves: tcp {VIP}:80 > {CLIENT}:40000 R",
    )  # fmt: skip
    told("+0.004", f"{OLD}: timer fired", f"{OLD} removed")


def test_w15_a_syn_is_placed_at_once():
    told = handshake(two_servers()).step(f"ipvsadm -d -t {VIP}:80 -r {R2}:8080", "sysctl expire_nodest_conn=1")
    told(
        told.client("S"),
        f"{OLD} kept: it is in ESTABLISHED",
        f"ip_vs_conn_expire_now {OLD}",
        f"rr chose {R1}:8080",
        f"ip_vs_conn_new {NEW}",
        sent("S"),
        "conns 1 2",
    )
    told("+0.004", f"{OLD}: timer fired", f"{OLD} removed")


def test_w15_direct_routing_the_hosts_reset_moves_the_old_connection_to_close():
    told = two_servers(method="-g", port=80)
    told.step(told.client("S"), told.client("A"), f"ipvsadm -d -t {VIP}:80 -r {R2}:80", "sysctl expire_nodest_conn=1")
    old = entry(40000, f"{R2}:80")
    told(
        told.client("A tos=8"), f"ip_vs_conn_expire_now {old}", "ACCEPT (not a starter)", LOCAL_RESET + " R seq=0 ack=0 tos=8", "hook ip_vs_out_hook LOCAL_OUT", f": {old}",
        state("OUTPUT rst: ESTABLISHED", "CLOSE", 10), f"ip_vs_conn_put {old} {put(10)}", "ip_vs_out_hook ACCEPT (reply)", totals=(1, 2, 0, 80, 0),
    )  # fmt: skip
    told(f"+1 {told.client('S')}", f"{old} replaced: it is in CLOSE and conn_reuse_mode is 1", f"ip_vs_conn_new {entry(40000, f'{R1}:80')}", f"via {R1}")


def test_a_step_that_is_not_named_is_noticed():
    told = Story(*rules(f"-t {VIP}:80", f"{R1}:8080"))
    with pytest.raises(AssertionError, match="is not named"):
        told(told.client("S"), SENT, NOT_FOUND)
