"""The five protocols of IPVS, in the order in which the kernel registers them."""

from ipvs_model.protocols.ah_esp import AH, ESP
from ipvs_model.protocols.sctp import SCTP
from ipvs_model.protocols.tcp import TCP
from ipvs_model.protocols.udp import UDP

PROTOCOLS = (TCP, UDP, SCTP, AH, ESP)

__all__ = ["AH", "ESP", "PROTOCOLS", "SCTP", "TCP", "UDP"]
