"""The commands by name, and what becomes of what they raise: a message for a person, and an exit code."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from silversmith.cli.examples import epilogue
from silversmith.cli.screen import console, hush, warn
from silversmith.errors import SilversmithError
from silversmith.operations.text import lines

DONE, FAILED, WRONG_CALL, BUG, INTERRUPTED = 0, 1, 2, 70, 130

#: The commands, in the order in which a newcomer meets them: name, where it is, what it does.
COMMANDS = (
    ("init", "init:init", "Write a new pipeline project."),
    ("run", "run:run", "Run the pipeline on this machine: what lands in bronze comes out in silver."),
    ("page", "page:page", "Show the pipeline in a browser: a lake without an engine, or on AWS."),
    ("put", "put:put", "Put files in bronze."),
    ("check", "check:check", "Show what a run would make of files, without a lake."),
    ("infer", "infer:infer", "Write a contract that files like these fulfil."),
    ("schema", "schema:schema", "Show which columns silver has, and how they came to be."),
    ("status", "status:status", "Show where everything is."),
    ("trace", "trace:trace", "Show where one file is, and what happened to it."),
    ("failures", "failures:failures", "Show what failed, and why."),
    ("redrive", "redrive:redrive", "Try again what failed."),
    ("reconcile", "reconcile:reconcile", "Repair what events missed."),
    ("replay", "replay:replay", "Run files again."),
    ("take-over", "take_over:take_over", "Make silver that another pipeline made this one's."),
    ("template", "template:template", "Print the CloudFormation template of the pipeline."),
    ("bundle", "bundle:bundle", "Write the code that Lambda runs into a zip file."),
    ("deploy", "deploy:deploy", "Create the pipeline on AWS, or update it."),
    ("diff", "diff:diff", "Show what deploying would change."),
    ("destroy", "destroy:destroy", "Remove the pipeline from AWS; its data stays."),
    ("doctor", "doctor:doctor", "Check that everything is there that the pipeline needs."),
)


def application() -> App:
    """The command line as cyclopts knows it."""
    app = App(
        name="silversmith",
        help="Files land in bronze. Silversmith makes them silver.",
        version=version("silversmith"),
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for position, (name, place, text) in enumerate(COMMANDS):
        app.command(f"silversmith.cli.{place}", name=name, help=text, sort_key=position, help_epilogue=epilogue(name))
    app.register_install_completion_command(add_to_startup=False)
    return app


def call(arguments: Sequence[str], *, app: App | None = None, debug: bool = False) -> int:
    """Run one command and return its exit code: 0 done, 1 the work failed, 2 the call was wrong, 70 a bug of ours.

    ``debug`` adds the traceback of whatever went wrong.
    """
    hush(False)
    try:
        code = (app or application())(list(arguments), console=console(), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_is_gone()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- the last one who can tell a person what happened
        if debug:
            _trace(error)
        return _explain(error)
    return code if isinstance(code, int) else DONE


def _explain(error: Exception) -> int:
    """Tell what was wrong, without a traceback, and whose fault it is."""
    if isinstance(error, CycloptsError):
        warn(f"{error} Try `silversmith --help`.")
        return WRONG_CALL
    if isinstance(error, SilversmithError):
        warn(str(error))
        return WRONG_CALL if _is_wrong_call(error) else FAILED
    if isinstance(error, OSError):
        warn(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return FAILED
    if isinstance(error, sqlite3.Error):
        warn(f"the engine's journal, .silversmith/journal.db in the lake: {error}{_hint(error)}")
        return FAILED
    warn(
        f"this is a bug in Silversmith: {type(error).__name__}: {error}\n"
        "Please report it, with what you did and what SILVERSMITH_DEBUG=1 adds to this message."
    )
    return BUG


def _hint(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return ". Nothing is lost: make room on the disk, and run again."
    return ""


def _trace(error: Exception) -> None:
    import traceback

    for line in lines("".join(traceback.format_exception(error))):
        sys.stderr.write(f"{line}\n")


def _is_wrong_call(error: SilversmithError) -> bool:
    from silversmith.errors import DefinitionError, LakeInUse
    from silversmith.operations import WrongCall
    from silversmith.page.process import NoPort
    from silversmith.stores.keys import InvalidKey

    return isinstance(error, (DefinitionError, LakeInUse, NoPort, WrongCall, InvalidKey))


def _reader_is_gone() -> int:
    """As in ``silversmith failures | head``: the reader has all it wanted. Nothing more may be written at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
