"""How an inner pytest of our tests loads the plugin: by its entry point, or by name where that is not installed."""

from __future__ import annotations

from importlib.metadata import entry_points

PLUGIN = "silversmith.testing.plugin"
_IS_INSTALLED = any(entry_point.value == PLUGIN for entry_point in entry_points(group="pytest11"))

#: Arguments for pytest.
LOAD: tuple[str, ...] = () if _IS_INSTALLED else ("-p", PLUGIN)
