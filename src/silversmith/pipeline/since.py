"""The time from which on a transform takes files."""

from __future__ import annotations

from datetime import UTC, date, datetime

from silversmith.errors import DefinitionError

#: From the first deploy of the transform on; locally from the first run over a lake.
DEPLOY = "deploy"

#: Where nobody knows yet when the transform was first deployed, no file is new enough.
_NEVER = datetime.max.replace(tzinfo=UTC)


def normalized(value: object) -> str:
    """A user's ``since`` as ISO 8601 in UTC, ``"deploy"``, or an empty text for all files.

    Raises:
        DefinitionError: it is no time.
    """
    if value is None or value == DEPLOY:
        return str(value or "")
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise DefinitionError(
            f'since={value!r} is no time: give a date, a datetime, a text like "2026-12-01" or '
            '"2026-12-01T06:00+01:00" (UTC where it names no zone), or "deploy"'
        )
    return iso(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def iso(moment: datetime) -> str:
    """A time as ``since`` has it: S3 knows the time of an object to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def moment_of(since: str) -> datetime | None:
    """The time of a transform's ``since``; None: it takes all files."""
    if not since:
        return None
    return _NEVER if since == DEPLOY else datetime.fromisoformat(since)
