"""Every error that Silversmith raises on purpose. Each says what was wrong, where, and what to do."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: What the system says of a disk that is full, over its quota, or cannot be written.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def as_utf8(text: str) -> str:
    """The text as UTF-8 can hold it: half of a surrogate pair, which Python allows in a text, becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


#: A shorter text is not masked: it stands in many a text that has nothing to do with it.
_SHORTEST_SECRET = 4

_secrets: set[str] = set()


def keep_secret(value: str) -> None:
    """Have a text masked from now on, in every error and log line of this process."""
    if len(value) >= _SHORTEST_SECRET:
        _secrets.update({value, json.dumps(value)[1:-1]})


def masked(text: str) -> str:
    """The text without the secrets that this process has read."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


class SilversmithError(Exception):
    """The root of all of these: its text is meant to be read by a person, without a traceback."""


class DefinitionError(SilversmithError, ValueError):
    """A pipeline is declared in a way that cannot work. Raised at its declaration; exit code 2."""


@dataclass(frozen=True)
class Place:
    """The place of an error in an object. Lines, rows and columns count from 1.

    ``line`` is a line of text, ``row`` a record (the header is not one), ``column`` a named column or,
    where there are no names, the position in the line. ``text`` is the offending text, shortened.
    """

    line: int | None = None
    row: int | None = None
    column: str | int | None = None
    text: str | None = None


class DataError(SilversmithError):
    """The data is at fault: unreadable, of the wrong schema, over a limit. Permanent, so it is never retried.

    ``code`` is a stable CamelCase word for programs (``UnreadableCsv``, ``MissingColumn`` …), ``message`` says what
    was wrong, ``hint`` what to do about it. ``format`` and ``dialect`` were detected before, as in the lineage of a
    file that can be read: a wrong guess can be seen there.
    """

    def __init__(self, code: str, message: str, *, hint: str = "", place: Place | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.place = place or Place()
        self.format: str | None = None
        self.dialect: Mapping[str, object] = {}


class SystemFault(SilversmithError):
    """The system is at fault, not the file and not the user's code: tried again for about a day."""


class SourceChanged(SystemFault):
    """The bytes of a bronze object changed while they were read (a folder is no S3). Read again."""


class PreconditionFailed(SystemFault):
    """A conditional put or delete found another object than it named: somebody else was first (HTTP 412 or 409)."""


class NotOurs(SystemFault):
    """Silver or quarantine belongs to another pipeline, and is left as it is. The configuration is at fault, not the
    data."""


class AccessDenied(SystemFault):
    """No policy of the template allows this action on this resource."""


class AwsFailed(SilversmithError, OSError):
    """An AWS service did not do what was asked, for all the SDK's own retries. The system is at fault: try again
    later."""


class Archived(AwsFailed):
    """An object of S3 is in a tier from which it must be restored before it can be read."""


class LakeInUse(SilversmithError):
    """Another engine runs over this lake."""


class LakeUnusable(SilversmithError):
    """The disk that holds the lake is full, over its quota, or cannot be written."""


class TransformError(SilversmithError):
    """The user's own code raised. The text is its traceback, without Silversmith's own frames."""


def help_for(code: str) -> str:
    """The command that explains an error code."""
    return f"silversmith explain {code}"


def describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON values: its kind and the text for a person. A disk that cannot be written is a kind."""
    text = masked(str(error) if isinstance(error, SilversmithError) else f"{type(error).__name__}: {error}")
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return {"code": errno.errorcode[error.errno], "message": text}
    return {"code": type(error).__name__, "message": as_utf8(text[:4000])}
