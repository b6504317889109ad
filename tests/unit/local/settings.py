"""Settings of a function, flat, for tests of what takes them."""

from __future__ import annotations

from typing import Any

from silversmith.local.iam import Policy
from silversmith.local.services.function import Settings
from silversmith.local.stack import EventSourceMapping, FunctionResource, QueueResource
from silversmith.runtime.queue import queue_receives

QUEUE = "arn:aws:sqs:eu-central-1:000000000000:shop_orders"


def function_settings(
    name: str = "shop_orders",
    transform: str = "orders",
    *,
    queue_arn: str = QUEUE,
    timeout: float = 60,
    memory: int = 512,
    tries: int = 0,
    reserved_concurrency: int | None = None,
    **mapping: Any,
) -> Settings:
    """``tries`` 0: the queue has no dead-letter queue. ``mapping``: properties of the event source mapping."""
    arn = f"arn:aws:lambda:eu-central-1:000000000000:function:{name}"
    environment = {"SILVERSMITH_TRANSFORM": transform}
    return Settings(
        FunctionResource(name, arn, memory, timeout, environment, Policy.parse(""), reserved_concurrency, "arn:role"),
        EventSourceMapping(queue_arn, arn, **mapping),
        QueueResource(
            "shop_orders",
            queue_arn,
            visibility_timeout=360,
            retention=2_000_000,
            dead_letter_arn="arn:dead" if tries else None,
            dead_letter_retention=1_209_600,
            max_receive_count=queue_receives(tries) if tries else 0,
        ),
    )
