"""A reply to client port 0 finds a template: the kernel runs the state machine on it, and its counters go wrong."""

from ipvs_model.flags import Hook, Verdict
from ipvs_model.ipvs import IPVS
from ipvs_model.packet import Packet
from ipvs_model.protocols.sctp import SctpState
from ipvs_model.protocols.tcp import ESTABLISHED, SYN_RECV

CLIENT, VIP, SERVER = "203.0.113.7", "192.0.2.1:80", "10.1.0.11:80"
INIT, COOKIE_ACK, SHUTDOWN_ACK = [(1, 0, bytes(16))], [(11, 0, b"")], [(8, 0, b"")]


def template_of(protocol, packet):
    """The template of a client on a persistent service, its destination, the director."""
    ipvs = IPVS()
    web = ipvs.add_service(protocol, VIP, scheduler="rr", persistent=60)
    dest = ipvs.add_dest(web, SERVER)
    ipvs.receive(packet)
    (template,) = ipvs.conns(templates=True)
    return ipvs, dest, template


def test_a_tcp_reply_to_port_zero_moves_the_template_like_a_connection():
    ipvs, dest, template = template_of("tcp", Packet.tcp((CLIENT, 40000), VIP, "S"))
    before = dest.activeconns
    out = ipvs.receive(Packet.tcp(SERVER, (CLIENT, 0), "SA"), Hook.FORWARD)
    assert (out.verdict, out.reason.code) == (Verdict.ACCEPT, "translated")
    assert template.state is ipvs.ns.protocols[6].states[2]  # NONE and a server's SYN: SYN_SENT
    assert (template.state_name, template.timeout) == ("ERR!", 120 * 250)
    assert dest.activeconns == before + 1  # nothing ever takes this one back


def test_the_state_of_an_assured_template_counts_as_established():
    ipvs, _dest, template = template_of("tcp", Packet.tcp((CLIENT, 40000), VIP, "S"))
    ipvs.receive(Packet.tcp(SERVER, (CLIENT, 40000), "SA"), Hook.FORWARD)
    ipvs.receive(Packet.tcp((CLIENT, 40000), VIP, "A"))
    assert (template.state_name, template.state.index) == ("ASSURED", ESTABLISHED)
    ipvs.receive(Packet.tcp(SERVER, (CLIENT, 0), "FA"), Hook.FORWARD)
    assert template.state.index == 4  # FIN_WAIT


def test_an_sctp_reply_to_port_zero_moves_the_template_like_an_association():
    ipvs, _dest, template = template_of("sctp", Packet.sctp((CLIENT, 40000), VIP, INIT))
    ipvs.receive(Packet.sctp(SERVER, (CLIENT, 0), COOKIE_ACK), Hook.FORWARD)
    assert template.state.index == SctpState.ESTABLISHED
    ipvs.receive(Packet.sctp(SERVER, (CLIENT, 0), SHUTDOWN_ACK), Hook.FORWARD)
    assert template.state.index == SctpState.ESTABLISHED


def test_the_connection_beside_the_template_keeps_its_own_state():
    ipvs, _, template = template_of("tcp", Packet.tcp((CLIENT, 40000), VIP, "S"))
    ipvs.receive(Packet.tcp(SERVER, (CLIENT, 0), "R"), Hook.FORWARD)
    (cp,) = ipvs.conns(templates=False)
    assert (cp.state.index, cp.control) == (SYN_RECV, template)
