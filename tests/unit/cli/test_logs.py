"""A command writes its log to stderr, escaped as everything else is."""

from __future__ import annotations

import logging

import pytest

from silversmith.cli.screen import log_to_stderr


def test_a_warning_is_shown_escaped_and_only_while_the_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("silversmith")
    before = (list(logger.handlers), logger.propagate)
    with log_to_stderr():
        logging.getLogger("silversmith.local").warning("%s is not taken", "evil\x1b[2J\nname")
        logger.info("nobody asked")
    assert capsys.readouterr() == ("", "silversmith: evil\\x1b[2J\n  name is not taken\n")
    assert (list(logger.handlers), logger.propagate) == before
