"""Linux IPVS, the kernel's layer-4 load balancer, as an importable pure-Python object."""

from ipvs_model.apps import App as App
from ipvs_model.conn import Conn as Conn
from ipvs_model.dest import Dest as Dest
from ipvs_model.dest import DestUser as DestUser
from ipvs_model.engines import PersistenceEngine as PersistenceEngine
from ipvs_model.errors import IPVSError as IPVSError
from ipvs_model.events import Event as Event
from ipvs_model.flags import KERNEL_VERSION as KERNEL_VERSION
from ipvs_model.flags import Hook as Hook
from ipvs_model.flags import Verdict as Verdict
from ipvs_model.ipvs import IPVS as IPVS
from ipvs_model.ipvs import Outcome as Outcome
from ipvs_model.ipvs import Reason as Reason
from ipvs_model.netns import Environment as Environment
from ipvs_model.packet import Packet as Packet
from ipvs_model.routing import DefaultRouting as DefaultRouting
from ipvs_model.routing import Route as Route
from ipvs_model.routing import RoutingProvider as RoutingProvider
from ipvs_model.schedulers import Scheduler as Scheduler
from ipvs_model.service import Service as Service
from ipvs_model.service import ServiceUser as ServiceUser
from ipvs_model.timers import Clock as Clock

__version__ = "0.1.0"
