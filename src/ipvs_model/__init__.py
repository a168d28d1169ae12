"""Linux IPVS, the kernel's layer-4 load balancer, as an importable pure-Python object."""

__version__ = "0.1.0"
