"""How the page is written: Jinja2 with autoescape, and every text that goes in shown as text, whatever is in it.

A key, a cell or an error message is what strangers write. What could be taken for markup is escaped by Jinja2; what a
browser would obey or hide (control characters, those that turn the line around) is spelled out, as on the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from silversmith.cli.text import duration, shown, size
from silversmith.page.plots import millis


def visible(value: Any) -> Any:
    """What is put in for every ``{{ … }}``."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return shown(value)
    return value


def block(text: str) -> Markup:
    """A text of several lines, for inside ``<pre>``: each line shown, the lines kept."""
    return Markup("\n").join(escape(shown(line)) for line in text.expandtabs(4).splitlines())


def exact(text: str) -> Markup:
    """A text as it is, for what nobody sees: the value of a hidden field."""
    return escape(text)


def number(value: int | None) -> str:
    """With commas; a dash where it is not known."""
    return "-" if value is None else f"{value:,}"


def instant(at: float) -> str:
    """A time in ISO 8601, for ``<time datetime>``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def clock(at: float) -> str:
    """A time of day in UTC; a browser with scripts turns it into its own."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def link(path: str, **values: str | int | None) -> str:
    """A URL of the page, with what is not None in its query."""
    query = urlencode({name: value for name, value in values.items() if value is not None}, errors="replace")
    return f"{path}?{query}" if query else path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("silversmith.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        block=block,
        exact=exact,
        number=number,
        size=size,
        duration=duration,
        millis=millis,
        instant=instant,
        clock=clock,
    )
    environment.globals.update(link=link)
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template of the package, as HTML."""
    return _environment().get_template(template).render(values)
