"""MiniStack, which takes alarms over a metric math expression for alarms over the first metric of the expression.

CloudWatch there evaluates no expressions, and CloudFormation there refuses a template that has one. So the template for
AWS is deployed there as it is; no test asks what the alarm says. docs/stand-ins.md

It runs in MiniStack's own environment, in place of its program ``ministack``: nothing of ours can be imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ministack.app import main
from ministack.services.cloudformation import provisioners

_record = provisioners._cw_metric_alarm_record


def record(name: str, properties: Mapping[str, Any]) -> Any:
    """As MiniStack's own, of the first metric."""
    if not properties.get("Metrics"):
        return _record(name, properties)
    first = next(each["MetricStat"] for each in properties["Metrics"] if "MetricStat" in each)
    others = {key: value for key, value in properties.items() if key != "Metrics"}
    return _record(name, {**others, **first["Metric"], "Period": first["Period"], "Statistic": first["Stat"]})


provisioners._cw_metric_alarm_record = record

if __name__ == "__main__":
    main()
