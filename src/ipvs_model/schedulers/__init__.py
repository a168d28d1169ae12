"""The schedulers: who gets the next connection."""

from ipvs_model.schedulers.base import NO_DESTINATION as NO_DESTINATION
from ipvs_model.schedulers.base import Scheduler as Scheduler
from ipvs_model.schedulers.base import error_text as error_text
from ipvs_model.schedulers.ratelimit import RateLimit as RateLimit
from ipvs_model.schedulers.registry import SCHEDULERS as SCHEDULERS
from ipvs_model.schedulers.registry import Registry as Registry
from ipvs_model.schedulers.registry import bind_scheduler as bind_scheduler
from ipvs_model.schedulers.registry import unbind_scheduler as unbind_scheduler
