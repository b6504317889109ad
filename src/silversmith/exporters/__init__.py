"""What a local run tells other systems of itself: metrics to Prometheus, spans by OpenTelemetry. Each by option only.

Both read the engine's journal through a connection of their own, as ``silversmith status`` does: the engine knows
nothing of them, and where they are not asked for they are not imported.
"""

from __future__ import annotations

import importlib.util

from silversmith.operations import WrongCall


class NotInstalled(WrongCall):
    """An option needs packages that do not come with Silversmith itself."""


def require(package: str, *, extra: str, option: str) -> None:
    """Have a package, or say how to get it.

    Raises:
        NotInstalled: it is not there.
    """
    try:
        specification = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        specification = None
    if specification is None:
        raise NotInstalled(f"{option} needs {package}, which is not installed: pip install 'silversmith[{extra}]'")
