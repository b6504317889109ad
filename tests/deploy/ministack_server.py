"""MiniStack, which takes alarms over a metric math expression for alarms over the first metric of the expression, and
lets buckets be imported.

CloudWatch there evaluates no expressions, and CloudFormation there refuses a template that has one. So the template for
AWS is deployed there as it is; no test asks what the alarm says. The validation before a deploy there refuses a bucket
that exists, also where the change set imports it. docs/stand-ins.md

It runs in MiniStack's own environment, in place of its program ``ministack``: nothing of ours can be imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ministack.app import main
from ministack.services.cloudformation import provisioners, stacks

_record = provisioners._cw_metric_alarm_record


def record(name: str, properties: Mapping[str, Any]) -> Any:
    """As MiniStack's own, of the first metric."""
    if not properties.get("Metrics"):
        return _record(name, properties)
    first = next(each["MetricStat"] for each in properties["Metrics"] if "MetricStat" in each)
    others = {key: value for key, value in properties.items() if key != "Metrics"}
    return _record(name, {**others, **first["Metric"], "Period": first["Period"], "Statistic": first["Stat"]})


provisioners._cw_metric_alarm_record = record

_errors = stacks._validation_errors


def errors(resources: Mapping[str, Any], *arguments: Any) -> list[Any]:
    """As MiniStack's own, but for the names of buckets that are retained: our change sets import them all."""
    return [
        error
        for error in _errors(resources, *arguments)
        if error[2] != "NAME_CONFLICT_VALIDATION" or resources[error[0]].get("DeletionPolicy") != "Retain"
    ]


stacks._validation_errors = errors

if __name__ == "__main__":
    main()
