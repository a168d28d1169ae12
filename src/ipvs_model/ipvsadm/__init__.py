"""ipvsadm 1.31 on a model: the same command lines, output, messages and exit status."""

from ipvs_model.ipvsadm.names import Resolver, TableResolver
from ipvs_model.ipvsadm.run import Result, run

__all__ = ["Resolver", "Result", "TableResolver", "run"]
