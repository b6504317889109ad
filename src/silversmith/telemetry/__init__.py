"""What a function on Lambda tells of its work: log lines and metrics. Part of every bundle: the standard library alone.

docs/observability.md
"""
