"""What holds for every test: hypothesis judges results, never how busy the machine is; CI repeats the same examples."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "silversmith",
    deadline=None,
    max_examples=int(os.environ.get("SILVERSMITH_EXAMPLES", "100")),
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("silversmith")
