"""The names of resources: logical ids within the template, and physical names within the account.

Pipeline and transform names are lower-case, pipelines have no ``_``, transforms begin with a letter. So
``{pipeline}_{transform}_DLQ`` cannot be confused with anything: the first ``_`` ends the pipeline's name, and what
begins with a capital is ours.
"""

from __future__ import annotations

import hashlib
import re

#: What a transform's logical ids end in. None is the end of another, nor of a logical id of the pipeline's own; so
#: two ids are equal only if both the transform and the kind are.
KINDS = (
    "Queue",
    "QueuePolicy",
    "QueueDLQ",
    "QueueDLQPolicy",
    "SubscriptionDLQ",
    "SubscriptionDLQPolicy",
    "Subscription",
    "Role",
    "LogGroup",
    "Function",
    "Version",
    "Alias",
    "Mapping",
    "QueueDLQAlarm",
    "SubscriptionDLQAlarm",
    "QueueAgeAlarm",
    "FunctionAlarm",
    "QuarantineAlarm",
    "RejectedAlarm",
)


def logical(transform: str, kind: str) -> str:
    """A logical id, which has letters and digits only: ``late_flights``, ``Queue`` → ``LateFlightsQueue``.

    It depends on nothing but these two, so that declaring another transform never replaces a resource. A name that is
    not written like a Python name in lower case gets a digest, or ``late-flights`` would be the same.
    """
    camel = "".join(part.capitalize() for part in re.split(r"[_-]", transform))
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*", transform):
        camel += hashlib.sha256(transform.encode()).hexdigest()[:8].upper()
    return camel + kind


def physical(pipeline: str, transform: str = "", kind: str = "") -> str:
    """The name that AWS's consoles show: ``flights_late_DLQ``, or ``flights_Topic`` for what is the pipeline's own."""
    return "_".join(part for part in (pipeline, transform, kind) if part)
