"""The command line. The module of a command is imported when it is called, and slow modules when they are needed."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command ``silversmith``."""
    try:
        from silversmith.cli.application import call
    except KeyboardInterrupt:  # so early that nothing was begun
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(call(sys.argv[1:], debug=os.environ.get("SILVERSMITH_DEBUG") == "1"))
