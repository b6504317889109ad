"""``python -m silversmith.cli``: the same as the command ``silversmith``."""

from silversmith.cli import main

main()
