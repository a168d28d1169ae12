"""A controller: it takes a server out of service gracefully. The page about testing shows it, and its tests."""

import errno

from pyroute2 import IPVSDest
from pyroute2.netlink.exceptions import NetlinkError


class Drainer:
    """Sets a server's weight to 0 and deletes it when its connections are gone. Call ``poll`` now and then; it returns True when all is done."""

    def __init__(self, ipvs, service, address, port):
        self.ipvs, self.service, self.address, self.port = ipvs, service, address, port
        self.drained = False

    def poll(self):
        """One look: nothing that fails for the moment ends the drain."""
        try:
            server = self._find()
            if server is None:
                return True
            if not self.drained:
                self.ipvs.dest("set", self.service, IPVSDest(addr=self.address, port=self.port, fwd_method=server.get("fwd_method"), weight=0))
                self.drained = True
            elif server.get("active_conns") + server.get("inact_conns") == 0:
                self.ipvs.dest("del", self.service, IPVSDest(addr=self.address, port=self.port))
                return True
        except NetlinkError as error:
            if error.code not in (errno.EINTR, errno.ENOBUFS, errno.EAGAIN):
                raise
        return False

    def _find(self):
        dests = [message.get("dest") for message in self.ipvs.dest("dump", self.service)]
        return next((dest for dest in dests if (dest.get("addr"), dest.get("port")) == (self.address, self.port)), None)
