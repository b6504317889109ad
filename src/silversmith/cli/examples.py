"""What stands below the help of each command: calls as people make them. A test parses each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXAMPLES: Mapping[str, Sequence[str]] = {
    "init": ("silversmith init shop", "silversmith init meters --example meter-readings"),
    "run": (
        "silversmith run",
        "silversmith run --until-idle --workers 4",
        "silversmith run jobs/shop.py --lake /data/lake",
    ),
    "page": ("silversmith page", "silversmith page --target aws"),
    "put": (
        "silversmith put orders.csv --prefix orders",
        "silversmith put data --target aws",
    ),
    "check": ("silversmith check orders.csv", "silversmith check data --pipeline pipeline.py --json"),
    "infer": ("silversmith infer orders.csv", "silversmith infer data --output contract.py"),
    "schema": ("silversmith schema orders",),
    "status": ("silversmith status", "silversmith status --target aws --json"),
    "trace": ("silversmith trace orders/2026-01.csv",),
    "failures": ("silversmith failures", "silversmith failures --rejected"),
    "redrive": (
        "silversmith redrive --dry-run",
        "silversmith redrive --transform orders --newer-than 2h",
    ),
    "reconcile": ("silversmith reconcile --dry-run", "silversmith reconcile --changed --target aws"),
    "replay": (
        "silversmith replay 'orders/2026-*.csv'",
        "silversmith replay '*' --changed --dry-run",
    ),
    "take-over": ("silversmith take-over", "silversmith take-over --target aws --yes"),
    "template": ("silversmith template --output template.json",),
    "bundle": ("silversmith bundle --output code.zip",),
    "deploy": ("silversmith deploy", "silversmith deploy --yes --json"),
    "diff": ("silversmith diff",),
    "destroy": ("silversmith destroy",),
    "doctor": ("silversmith doctor", "silversmith doctor --target aws"),
}


def epilogue(command: str) -> str:
    """The examples of a command as its help shows them; empty where there are none."""
    lines = EXAMPLES.get(command, ())
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines) if lines else ""
