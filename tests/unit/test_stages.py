"""The stopwatch."""

from __future__ import annotations

from silversmith.stages import Stages


def test_each_stage_has_the_time_since_the_one_before() -> None:
    ticks = iter([10.0, 11.0, 13.0, 17.0, 17.5])
    stages = Stages(lambda: next(ticks))
    for stage in ("read", "parse", "read", "commit"):
        stages.end(stage)
    assert stages.seconds == {"read": 5.0, "parse": 2.0, "commit": 0.5}
