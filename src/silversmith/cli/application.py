"""The commands by name, with examples for their help, and the exit code and message for whatever they raise."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from silversmith.cli.screen import console, hush, warn
from silversmith.errors import SilversmithError
from silversmith.operations.text import lines

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


DONE, FAILED, WRONG_CALL, BUG, INTERRUPTED = 0, 1, 2, 70, 130

#: The commands, in the order in which a newcomer meets them: name, where it is, what it does.
COMMANDS = (
    ("init", "develop:init", "Write a new pipeline project."),
    ("run", "run:run", "Run the pipeline on this machine: what lands in bronze comes out in silver."),
    ("page", "run:page", "Show the pipeline in a browser: a lake without an engine, or on AWS."),
    ("put", "send:put", "Put files in bronze."),
    ("check", "develop:check", "Show what a run would make of files, without a lake."),
    ("infer", "develop:infer", "Write a contract that files like these fulfil."),
    ("schema", "inspect:schema", "Show which columns silver has, and how they came to be."),
    ("status", "inspect:status", "Show where everything is."),
    ("trace", "inspect:trace", "Show where one file is, and what happened to it."),
    ("failures", "inspect:failures", "Show what failed, and why."),
    ("redrive", "send:redrive", "Try again what failed."),
    ("reconcile", "send:reconcile", "Repair what events missed."),
    ("replay", "send:replay", "Run files again."),
    ("take-over", "deploy:take_over", "Make silver that another pipeline made this one's."),
    ("template", "deploy:template", "Print the CloudFormation template of the pipeline."),
    ("bundle", "deploy:bundle", "Write the code that Lambda runs into a zip file."),
    ("deploy", "deploy:deploy", "Create the pipeline on AWS, or update it."),
    ("diff", "deploy:diff", "Show what deploying would change."),
    ("destroy", "deploy:destroy", "Remove the pipeline from AWS; its data stays."),
    ("doctor", "develop:doctor", "Check that everything is there that the pipeline needs."),
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
