"""The commands by name, with examples for their help, and the exit code and message of every error."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cyclopts import App, CycloptsError, Group

from silversmith.cli.screen import console, set_quiet, warn
from silversmith.errors import SilversmithError
from silversmith.operations.text import lines

DONE, FAILED, WRONG_CALL, BUG, INTERRUPTED = 0, 1, 2, 70, 130


@dataclass(frozen=True)
class Command:
    """A command: its name, its function (``module:function`` in ``silversmith.cli``), its help and examples, and its
    arguments as its usage shows them."""

    name: str
    function: str
    text: str
    examples: tuple[str, ...]
    arguments: str = "[PIPELINE]"


#: By the groups of the help, in its order: as a newcomer meets them. A module is imported when its command is called.
GROUPS = {
    "Develop": (
        Command(
            "init", "develop:init", "Write a new pipeline project.",
            ("silversmith init shop", "silversmith init meters --example meter-readings"), "DIR",
        ),
        Command(
            "dev", "run:dev", "Run while you edit: watch files and code, and open the page in a browser.",
            ("silversmith dev", "silversmith dev --no-browser"),
        ),
        Command(
            "check", "develop:check", "Show what a run would make of files, without a lake.",
            (
                "silversmith check orders.csv",
                "silversmith check data --json",
                "silversmith check x.csv --key orders/x.csv",
            ), "FILE...",
        ),
        Command(
            "infer", "develop:infer", "Write a pipeline for files like these.",
            ("silversmith infer orders.csv", "silversmith infer data --output pipeline.py"), "FILE...",
        ),
        Command(
            "explain", "develop:explain", "Explain an error code: what happened, and what to do.",
            ("silversmith explain MissingColumn",), "CODE",
        ),
        Command(
            "doctor", "develop:doctor", "Check that everything is there that the pipeline needs.",
            ("silversmith doctor", "silversmith doctor --target aws"),
        ),
    ),
    "Run": (
        Command(
            "run", "run:run", "Run the pipeline on this machine: what lands in bronze comes out in silver.",
            (
                "silversmith run",
                "silversmith run --until-idle --workers 4",
                "silversmith run jobs/shop.py --lake /data/lake",
            ),
        ),
        Command(
            "page", "run:page", "Show the pipeline in a browser: a lake without an engine, or on AWS.",
            ("silversmith page", "silversmith page --target aws"),
        ),
        Command(
            "put", "send:put", "Put files in bronze.",
            ("silversmith put orders.csv --prefix orders", "silversmith put data --target aws"), "FILE...",
        ),
        Command(
            "schema", "inspect:schema", "Show which columns silver has, and how they came to be.",
            ("silversmith schema orders",), "TRANSFORM",
        ),
        Command(
            "status", "inspect:status", "Show where everything is.",
            ("silversmith status", "silversmith status --target aws --json"),
        ),
        Command(
            "trace", "inspect:trace", "Show where one file is, and what happened to it.",
            ("silversmith trace orders/2026-01.csv",), "KEY",
        ),
        Command(
            "preview", "inspect:preview", "Show the rows that a file became, and those that were rejected.",
            ("silversmith preview orders/2026-01.csv", "silversmith preview orders/2026-01.csv --limit 50"), "KEY",
        ),
        Command(
            "query", "tables:query", "Ask the tables and views, in SQL.",
            (
                "silversmith query 'select * from orders limit 10'",
                "silversmith query 'select count(*) from daily' --json",
            ), "SQL",
        ),
        Command(
            "tables", "tables:tables", "Show the tables and views, and keep them in order.",
            (
                "silversmith tables",
                "silversmith tables optimize orders",
                "silversmith tables vacuum --older-than 30d",
                "silversmith tables rebuild orders",
            ), "[ACTION] [NAME]",
        ),
    ),
    "Repair": (
        Command(
            "failures", "inspect:failures", "Show what failed, and why.",
            ("silversmith failures", "silversmith failures --rejected"),
        ),
        Command(
            "redrive", "send:redrive", "Try again what failed.",
            ("silversmith redrive --dry-run", "silversmith redrive --transform orders --newer-than 2h"),
        ),
        Command(
            "reconcile", "reconcile:reconcile", "Repair what events missed.",
            ("silversmith reconcile --dry-run", "silversmith reconcile --changed --target aws"),
        ),
        Command(
            "replay", "send:replay", "Run files again.",
            ("silversmith replay 'orders/2026-*.csv'", "silversmith replay '*' --changed --dry-run"), "PATTERN",
        ),
        Command(
            "erase", "reconcile:erase", "Delete everything that came of a file, for good.",
            (
                "silversmith erase people/jane.csv --dry-run",
                "silversmith erase --from keys.txt --target aws --report erased.json",
            ), "KEY...",
        ),
        Command(
            "take-over", "deploy:take_over", "Make silver that another pipeline made this one's.",
            ("silversmith take-over", "silversmith take-over --target aws --yes"),
        ),
    ),
    "Deploy": (
        Command(
            "template", "deploy:template", "Print the CloudFormation template of the pipeline.",
            ("silversmith template --output template.json",),
        ),
        Command(
            "bundle", "deploy:bundle", "Write the code that Lambda runs into a zip file.",
            ("silversmith bundle --output code.zip",),
        ),
        Command(
            "deploy", "deploy:deploy", "Create the pipeline on AWS, or update it.",
            ("silversmith deploy", "silversmith deploy --yes --json"),
        ),
        Command(
            "diff", "deploy:diff", "Show what deploying would change.",
            ("silversmith diff",),
        ),
        Command(
            "destroy", "deploy:destroy", "Remove the pipeline from AWS; its data stays.",
            ("silversmith destroy",),
        ),
        Command(
            "estimate", "develop:estimate", "Estimate how long files take on AWS, and what they cost.",
            (
                "silversmith estimate --files 1000000 --size 4096",
                "silversmith estimate --files 50000 --size 20000000 --rate 100 --target aws --json",
            ),
        ),
    ),
}  # fmt: skip

COMMANDS = [command for commands in GROUPS.values() for command in commands]


def _version() -> str:
    from importlib.metadata import version

    return version("silversmith")


def application() -> App:
    """The command line as cyclopts knows it."""
    app = App(
        name="silversmith",
        help="Files land in bronze. Silversmith makes them silver.",
        version=_version,
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for number, (name, commands) in enumerate(GROUPS.items()):
        group = Group(name, sort_key=number)
        for position, command in enumerate(commands):
            app.command(
                f"silversmith.cli.{command.function}",
                name=command.name,
                help=command.text,
                group=group,
                usage=f"Usage: silversmith {command.name} [OPTIONS] {command.arguments}",
                sort_key=position,
                help_epilogue="Examples:\n\n" + "\n\n".join(f"  {line}" for line in command.examples),
            )
    app.register_install_completion_command(add_to_startup=False)
    others = Group("Options", sort_key=len(GROUPS))
    for name in ("--help", "--version", "--install-completion"):
        app[name].group = others
    return app


def call(arguments: Sequence[str], *, app: App | None = None, debug: bool = False) -> int:
    """Run one command and return its exit code: 0 done, 1 the work failed, 2 the call was wrong, 70 a bug of ours.

    ``debug`` adds the traceback of an error.
    """
    set_quiet(False)
    try:
        code = (app or application())(
            list(arguments), console=console(wraps=True), exit_on_error=False, print_error=False
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # As in `silversmith failures | head`: the reader has enough. Nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- here every error becomes a message and an exit code
        if debug:
            _print_traceback(error)
        return _explain(error)
    return code if isinstance(code, int) else DONE


def _explain(error: Exception) -> int:
    """Print what was wrong, without a traceback, and return the exit code."""
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
        is_disk = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
        hint = ". Nothing is lost: make room on the disk, and run again." if is_disk else ""
        warn(f"the engine's journal, .silversmith/journal.db in the lake: {error}{hint}")
        return FAILED
    warn(
        f"this is a bug in Silversmith: {type(error).__name__}: {error}\n"
        "Please report it, with what you did and what SILVERSMITH_DEBUG=1 adds to this message."
    )
    return BUG


def _print_traceback(error: Exception) -> None:
    import traceback

    for line in lines("".join(traceback.format_exception(error))):
        sys.stderr.write(f"{line}\n")


def _is_wrong_call(error: SilversmithError) -> bool:
    from silversmith.errors import DefinitionError, LakeInUse
    from silversmith.operations import WrongCall
    from silversmith.page.process import NoPort
    from silversmith.stores.keys import InvalidKey

    return isinstance(error, (DefinitionError, LakeInUse, NoPort, WrongCall, InvalidKey))
