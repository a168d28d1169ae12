"""Hypothesis profiles. `ci` (the default) draws the same examples on every run; `soak` is for the long hunts of `make soak`, `mutation` for its mutants."""

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", deadline=None, print_blob=True, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "mutation", derandomize=True, deadline=None, max_examples=25, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
