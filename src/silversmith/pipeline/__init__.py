"""The user's declaration: a pipeline and its transforms. It records and checks, and never acts."""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn, TypedDict, TypeVar, Unpack

import polars as pl
from polars.exceptions import PolarsError

from silversmith.contract import Contract
from silversmith.contract.foreign import accepted
from silversmith.errors import DefinitionError
from silversmith.formats import Reader
from silversmith.keypatterns import InvalidPattern, KeyPattern
from silversmith.pipeline import limits, needs, writers
from silversmith.pipeline.lookups import Context
from silversmith.pipeline.needs import Secret
from silversmith.pipeline.since import DEPLOY, moment_of, normalized
from silversmith.pipeline.tables import Gold
from silversmith.pipeline.writers import CustomWriter
from silversmith.tables.spec import GoldSpec
from silversmith.usercode.analysis import fingerprint
from silversmith.usercode.loading import import_fresh, parse

_COMMENTS = re.compile(r"\s+|--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Sql:
    """A query over the table ``rows``, to be called like a transform's function."""

    query: str

    def __call__(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return pl.SQLContext(rows=rows, eager=False).execute(inspect.cleandoc(self.query))

    def check(self, schema: Mapping[str, pl.DataType | type[pl.DataType]] | None) -> None:
        """Look for what would fail at every file; ``schema`` is that of ``rows``, None where it is not known.

        Raises:
            DefinitionError: it is no SELECT, cannot be parsed, or names an unknown table, function or column.
        """
        if not isinstance(self.query, str):
            raise DefinitionError(f"it is a {type(self.query).__name__}, not a text")
        start = 0
        while comment := _COMMENTS.match(self.query, start):
            start = comment.end()
        if not re.match(r"(select|with)\b", self.query[start:], re.IGNORECASE):
            raise DefinitionError("it must be one SELECT, or WITH … SELECT: it makes rows of rows, and changes nothing")
        try:
            result = self(pl.LazyFrame(schema=schema or {}))
        except PolarsError as error:
            raise DefinitionError(_first_line(error)) from None
        try:
            result.collect_schema()
        except PolarsError as error:
            if schema is not None or _FAILS_ALWAYS.match(str(error)):
                raise DefinitionError(_first_line(error)) from None


#: Errors about names other than columns. Without a schema all columns are unknown, so errors about them say nothing.
_FAILS_ALWAYS = re.compile(r"relation '|unsupported function")


def _first_line(error: PolarsError) -> str:
    line = str(error).strip().partition("\n")[0]
    return f"{line} (the table is called rows)" if line.startswith("relation") else line


#: A transform's function: from the good rows of one bronze object, and maybe its context, to the rows of silver.
Function = Callable[[pl.LazyFrame], pl.LazyFrame] | Callable[[pl.LazyFrame, Context], pl.LazyFrame]

_F = TypeVar("_F", bound=Function)


class Options(TypedDict, total=False):
    """The options that :meth:`Pipeline.transform`, which documents them, and :meth:`Pipeline.sql` share."""

    contract: Contract | Any | None
    reader: Reader | str | None
    writer: CustomWriter | str | None
    lookups: Sequence[str]
    metadata_columns: Sequence[str] | None
    batch_size: int
    batch_window: int
    memory: int
    timeout: int
    maximum_concurrency: int | None
    max_receive_count: int
    environment: Mapping[str, str]
    secrets: Mapping[str, Secret]
    permissions: Sequence[Mapping[str, Any]]
    since: datetime | date | str | None
    was: str


@dataclass(frozen=True)
class Transform:
    """One declared transform. Times in seconds, ``memory`` in MB; ``maximum_concurrency`` None: the template's default.

    ``lookups`` are keys in bronze; ``environment``, ``secrets`` and ``permissions`` are what the function needs beside
    them. ``takes_context`` tells whether the function takes two arguments. ``removes`` tells
    whether a bronze object that is deleted takes its silver with it. ``since``: files that landed
    before this ISO time in UTC are left alone; or ``"deploy"``, or empty. ``was``: a former name.

    ``fingerprint`` changes when the meaning of its code, contract, reader or writer does, and only then.
    """

    name: str
    pattern: KeyPattern
    function: Callable[..., pl.LazyFrame]
    contract: Contract | None
    reader: Reader | None
    batch_size: int
    batch_window: int
    memory: int
    timeout: int
    maximum_concurrency: int | None
    max_receive_count: int
    fingerprint: str
    writer: CustomWriter | None = None
    lookups: tuple[str, ...] = ()
    metadata_columns: tuple[str, ...] = ()
    takes_context: bool = False
    removes: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    permissions: tuple[Mapping[str, Any], ...] = ()
    since: str = ""
    was: str = ""

    def is_before_since(self, modified: datetime) -> bool:
        """Whether a bronze object that landed then is one that the transform leaves alone."""
        since = moment_of(self.since)
        return since is not None and modified < since

    def apply(self, rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
        """The result of the function for some rows."""
        return self.function(rows, context) if self.takes_context else self.function(rows)


class Pipeline:
    """A pipeline: its buckets, the transforms that make silver of what lands in bronze, and the tables made of silver.

    Args:
        name: the name of its CloudFormation stack and the beginning of its resources' names: lower-case letters,
            digits and ``-``, at most 40 characters, a letter first.
        bronze: the name of the bucket where files land.
        silver: the name of the bucket of the results.
        quarantine: the name of the bucket for what cannot become silver, with the reasons.
        gold: the name of the bucket of the tables, made only where the pipeline has some. docs/tables.md
        on_delete: what becomes of silver, quarantine and rows of tables when a bronze object is deleted: ``"keep"``, or
            ``"remove"``. docs/deletion.md
        metadata_columns: what transforms that do not say otherwise add to their rows, see :meth:`transform`.
        lineage: keep the lineage of all silver, and what is in quarantine, as one more table in gold: then
            reconciliation costs one listing of bronze, however much silver there is. docs/lineage.md

    Raises:
        DefinitionError: the name, or one of the buckets, is not one that AWS takes.
            https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """

    def __init__(
        self,
        name: str,
        *,
        bronze: str = "dl-bronze-layer",
        silver: str = "dl-silver-layer",
        quarantine: str = "dl-quarantine-layer",
        gold: str = "dl-gold-layer",
        on_delete: str = "keep",
        metadata_columns: Sequence[str] = (),
        lineage: bool = False,
    ) -> None:
        buckets = {"bronze": bronze, "silver": silver, "quarantine": quarantine, "gold": gold}
        problem = limits.pipeline_name(name) or limits.buckets(buckets)
        if on_delete not in {"keep", "remove"}:
            problem = f'on_delete={on_delete!r} must be "keep" or "remove"'
        if not isinstance(lineage, bool):
            problem = f"lineage={lineage!r} must be True or False"
        problem = problem or limits.metadata_columns(metadata_columns)
        if problem:
            _refuse(f"the pipeline {name!r} is not valid: {problem}")
        self.name = name
        self.bronze = bronze
        self.silver = silver
        self.quarantine = quarantine
        self.gold = gold
        self.on_delete = on_delete
        self.metadata_columns = tuple(dict.fromkeys(metadata_columns))
        self.lineage = lineage
        self.module_names: Mapping[str, object] = {}  # with its deployments, once it is loaded by its name
        self._gold = Gold()
        self._transforms: dict[str, Transform] = {}
        self._places: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, transforms={list(self._transforms)})"

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transforms, in the order in which they are declared."""
        return tuple(self._transforms.values())

    def find(self, name: str) -> Transform:
        """The transform of that name.

        Raises:
            DefinitionError: there is none.
        """
        if name not in self._transforms:
            names = ", ".join(self._transforms) or "none"
            raise DefinitionError(f"the pipeline {self.name!r} has no transform {name!r}; it has: {names}")
        return self._transforms[name]

    @property
    def tables(self) -> GoldSpec:
        """The tables and views, as plain data, and whose lineage is one."""
        return self._gold.spec(tuple(self._transforms) if self.lineage else ())

    def matching(self, key: str) -> tuple[Transform, ...]:
        """The transforms whose pattern matches a bronze key: each makes its own silver object of it."""
        return tuple(transform for transform in self._transforms.values() if transform.pattern.matches(key))

    def transform(
        self,
        pattern: str,
        *others: str,
        name: str | None = None,
        contract: Contract | Any | None = None,
        reader: Reader | str | None = None,
        writer: CustomWriter | str | None = None,
        lookups: Sequence[str] = (),
        metadata_columns: Sequence[str] | None = None,
        batch_size: int = 10,
        batch_window: int = 0,
        memory: int = 512,
        timeout: int = 300,
        maximum_concurrency: int | None = None,
        max_receive_count: int = 5,
        environment: Mapping[str, str] | None = None,
        secrets: Mapping[str, Secret] | None = None,
        permissions: Sequence[Mapping[str, Any]] = (),
        since: datetime | date | str | None = None,
        was: str = "",
    ) -> Callable[[_F], _F]:
        """Declare that a function makes silver of the bronze objects whose key matches a pattern, or one of several.

        The function takes the rows as a ``pl.LazyFrame``, and if it has a second parameter a :class:`Context`; it
        returns a ``pl.LazyFrame``. The decorator returns it unchanged.

        Args:
            pattern: which keys: ``*`` is any run of characters, ``/`` too. See docs/pipeline.md.
            others: more patterns: a key that matches any of them is taken, once.
            name: the first part of the silver keys, and a part of the AWS resources' names; by default the function's.
            contract: what the rows must be like; what breaks it goes to quarantine. A Dataframely schema, or one of
                pandera.polars, is taken for one.
            reader: how to parse the files, by one of Silversmith's readers, one of your own (:class:`CustomReader`), or
                the name of one that an installed package offers; by default as the ending of the key says.
            writer: how to write silver's Parquet file: one of your own (:class:`CustomWriter`), or a package's name.
            lookups: keys in bronze that the function may ask its context for. docs/lookups.md
            metadata_columns: which of these columns silver has: ``_file``, the bronze key; ``_row``, the number of the
                row in the file, which the function gets and must keep; ``_loaded_at``, when the object landed in
                bronze. None: those of the pipeline. docs/pipeline.md
            batch_size: most messages in one invocation, 1 to 10,000.
            batch_window: the seconds Lambda waits for a batch to fill, 0 to 300; at least 1 when batch_size is over 10.
            memory: of the function, in MB, 128 to 10,240.
            timeout: of one invocation, in seconds, 1 to 900.
            maximum_concurrency: most invocations at once, 2 to 1,000; None: 100, or what the deployment reserves.
            max_receive_count: how often a message is tried before it goes to the dead-letter queue, 1 to 950. What is
                the system's fault does not count.
            environment: variables of the function: ``{"COUNTRY": "CH"}``. They are part of the fingerprint.
                docs/settings.md
            secrets: by the name that the context knows them by, where they lie: ``{"token":
                Secret(parameter="/shop/token")}``. docs/settings.md
            permissions: more IAM statements for the function's role: ``[{"Action": "dynamodb:GetItem", "Resource":
                "arn:…"}]``. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
            since: leave files alone that landed before: a date or a datetime (UTC where it names no zone), the same as
                a text, or ``"deploy"``, the first deploy of this transform; None: all files. docs/deploy.md
            was: the name that this transform had before: its silver is taken over where it was made of the same bytes,
                and not computed again. docs/deploy.md

        Raises:
            DefinitionError: something of it cannot work; with the file and line of the declaration.
                https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
        """
        if callable(pattern):
            called = getattr(pattern, "__name__", "orders")
            _refuse(f'@pipeline.transform needs a key pattern: write @pipeline.transform("{called}/*.csv")')
        with _ERRORS_WITH_PLACE:
            options = Options(
                contract=accepted(contract),
                reader=_reader(reader),
                writer=writers.named(writer) if isinstance(writer, str) else writer,
                lookups=lookups,
                metadata_columns=self.metadata_columns if metadata_columns is None else metadata_columns,
                batch_size=batch_size,
                batch_window=batch_window,
                memory=memory,
                timeout=timeout,
                maximum_concurrency=maximum_concurrency,
                max_receive_count=max_receive_count,
                environment=environment if environment is not None else {},
                secrets=secrets if secrets is not None else {},
                permissions=permissions,
                since=normalized(since),
                was=was,
            )
            keys = KeyPattern.any_of([pattern, *others])

        def declare(function: _F) -> _F:
            chosen = name if name is not None else getattr(function, "__name__", "<lambda>")
            self._declare(chosen, keys, function, options)
            return function

        return declare

    def sql(
        self, pattern: str | Sequence[str], query: str, *, name: str | None = None, **options: Unpack[Options]
    ) -> None:
        """Declare a transform that is one SQL query over the table ``rows``, in Polars' dialect.

        Args:
            pattern: which keys, as in :meth:`transform`; or a list of patterns.
            query: a SELECT, or a WITH and a SELECT. https://docs.pola.rs/user-guide/sql/intro/
            name: by default from what stands before the first ``*`` of the pattern: ``"orders/*.csv"`` is ``orders``.
            options: as in :meth:`transform`. Where the contract names all columns that there can be, because it drops
                or rejects the others, the columns of the query are checked too.

        Raises:
            DefinitionError: the query cannot be parsed or names unknown columns, or as :meth:`transform`.
        """
        with _ERRORS_WITH_PLACE:
            keys = KeyPattern.any_of([pattern] if isinstance(pattern, str) else pattern)
            contract = options["contract"] = accepted(options.get("contract"))
        chosen = name if name is not None else _name_of(keys)
        is_known = contract is not None and contract.schema and contract.on_extra_column != "keep"
        try:
            function = Sql(query)
            function.check({**contract.schema, "_row": pl.UInt64()} if contract and is_known else None)
        except DefinitionError as error:
            _refuse(f"the query of the transform {chosen!r} is not valid: {error}")
        self.transform(*keys.texts, name=chosen, **options)(function)

    def table(
        self,
        name: str,
        *,
        of: str | Callable[..., Any],
        partition_by: Sequence[str] = (),
        sort_by: Sequence[str] = (),
    ) -> None:
        """Declare a table in gold that holds every row of a transform's silver, once. docs/tables.md

        Args:
            name: lower-case letters, digits and underscores: so every engine takes it.
            of: the transform, by its function or its name.
            partition_by: columns whose values become folders: queries for some values read only these. A few hundred
                values at most.
            sort_by: columns by which rows lie together within a data file: queries for some values skip the others.

        Raises:
            DefinitionError: there is no such transform, or there is a table or view of that name.
        """
        try:
            transform = self._transform_of(of)
            if "_file" in self._transforms[transform].metadata_columns:
                raise DefinitionError(f"a table has _file anyway: take it out of the metadata_columns of {transform!r}")
            self._gold.add_table(name, transform, partition_by=partition_by, sort_by=sort_by)
        except DefinitionError as error:
            _refuse(f"the table {name!r} is not valid: {error}")

    def view(self, name: str, sql: str, *, by: Sequence[str] = ()) -> None:
        """Declare a table in gold that a query over tables and views of this pipeline computes. docs/tables.md

        Args:
            name: as in :meth:`table`.
            sql: a SELECT in DataFusion's dialect. https://datafusion.apache.org/user-guide/sql/index.html
            by: the columns of the result that it is grouped by. When rows of a table change, only their groups are
                computed anew; without it the whole is.

        Raises:
            DefinitionError: the query cannot be parsed, reads what is not declared before, or does not fit ``by``; or
                as :meth:`table`.
        """
        try:
            self._gold.add_view(name, sql, by=by)
        except DefinitionError as error:
            _refuse(f"the view {name!r} is not valid: {error}")

    def _transform_of(self, of: object) -> str:
        """The name of a transform, by itself or by its function."""
        names = [
            transform.name for transform in self._transforms.values() if of in (transform.name, transform.function)
        ]
        if len(names) != 1:
            known = ", ".join(self._transforms) or "none"
            problem = "is no transform of this pipeline" if not names else f"is the function of {' and '.join(names)}"
            raise DefinitionError(f"of={of!r} {problem}; name one of its transforms: {known}")
        return names[0]

    def _former_problem(self, name: str, was: object) -> str:
        """Why a transform cannot have had this name; empty where it can, or where it had no other."""
        if was == "":
            return ""
        problem = limits.transform_name(self.name, was)
        if problem or was == name or was in self._transforms:
            reason = problem or ("it is its name now" if was == name else "another transform has this name")
            return f"was={was!r} is no former name of it: {reason}"
        return ""

    def _declare(self, name: str, pattern: KeyPattern, function: Function, options: Options) -> None:
        takes_context = _takes_context(function)
        problem = (
            limits.transform_name(self.name, name)
            or _function_problem(function)
            or limits.options(options)
            or limits.lookups(options["lookups"], takes_context=takes_context)
            or limits.metadata_columns(options["metadata_columns"])
            or limits.environment(options["environment"])
            or limits.secrets(options["secrets"], takes_context=takes_context)
            or limits.permissions(options["permissions"])
            or self._former_problem(name, options["was"])
        )
        if problem:
            _refuse(f"the transform {name!r} is not valid: {problem}")
        if any(each.was == name for each in self._transforms.values()):
            _refuse(
                f"the transform {name!r} is not valid: another one says was={name!r}, and would take its silver over"
            )
        if name in self._transforms:
            _refuse(
                f"there is a transform {name!r} already, declared at {self._places[name]}: "
                "give this one another name, with name=…"
            )
        contract, reader, writer = options["contract"], options["reader"], options["writer"]
        if problem := _reader_problem(reader) or _writer_problem(writer):
            _refuse(f"the transform {name!r} is not valid: {problem}")
        options["lookups"] = tuple(dict.fromkeys(options["lookups"]))
        columns = options["metadata_columns"] = tuple(sorted(set(options["metadata_columns"] or ())))
        options["permissions"] = needs.with_effects(options["permissions"])
        variables = needs.for_fingerprint(options["environment"])
        code = _fingerprint(function, contract, reader, writer, [list(columns), variables])
        self._transforms[name] = Transform(
            name=name,
            pattern=pattern,
            function=function,
            fingerprint=code,
            takes_context=takes_context,
            removes=self.on_delete == "remove",
            **options,  # type: ignore[arg-type]  # by now readers and writers are objects
        )
        self._places[name] = _place()


def as_deployed(pipeline: Pipeline, buckets: Mapping[str, str], transforms: Iterable[Transform]) -> Pipeline:
    """The same pipeline with other buckets, by what they are for, and with these transforms in place of its own."""
    deployed = copy.copy(pipeline)
    deployed.bronze, deployed.silver, deployed.quarantine = buckets["bronze"], buckets["silver"], buckets["quarantine"]
    deployed._transforms = {transform.name: transform for transform in transforms}
    return deployed


def with_moments(pipeline: Pipeline, moments: Mapping[str, str]) -> Pipeline:
    """The same pipeline, where a ``since`` of ``"deploy"`` is when the transform, by its name, was first deployed."""
    resolved = copy.copy(pipeline)
    resolved._transforms = {
        each.name: replace(each, since=moments[each.name]) if each.since == DEPLOY and each.name in moments else each
        for each in pipeline.transforms
    }
    return resolved


def _reader(reader: Reader | str | None) -> Reader | None:
    from silversmith.formats import custom

    return custom.named(reader) if isinstance(reader, str) else reader


def _reader_problem(reader: object) -> str:
    from silversmith.formats import OWN_READERS, custom

    if reader is None or isinstance(reader, OWN_READERS):
        return ""
    problem = custom.problem_of(reader)
    return f"reader={reader!r} is no reader: {problem}. Give one, such as Csv()" if problem else ""


def _writer_problem(writer: object) -> str:
    problem = writers.problem_of(writer) if writer is not None else ""
    return f"writer={writer!r} is no writer: {problem}" if problem else ""


def _fingerprint(
    function: object, contract: Contract | None, reader: object, writer: object, optional: Sequence[object]
) -> str:
    """``optional`` are values that do not count where they are empty, so that silver of before they existed stays."""
    from silversmith.formats import OWN_READERS, Archive

    parts = [contract.fingerprint() if contract else None, reader, *([writer] if writer is not None else [])]
    parts += [value for value in optional if value]
    inner = reader.reader if isinstance(reader, Archive) else reader
    custom = tuple(part for part in (inner, writer) if part is not None and not isinstance(part, OWN_READERS))
    return fingerprint(function, *parts, followed=custom)


def _takes_context(function: object) -> bool:
    """Whether a function has a second parameter that must be given, or one of the name ``context``."""
    try:
        parameters = list(inspect.signature(function).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    plain = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    return len(plain) > 1 and (plain[1].default is plain[1].empty or plain[1].name == "context")


def _name_of(pattern: KeyPattern) -> str:
    """A name from the pattern's literal prefix."""
    name = re.sub(r"[^a-z0-9_-]+", "_", pattern.literal_prefix.lower()).strip("_-")
    if not name:
        _refuse(f"the query over {pattern.text!r} needs a name: add name=…")
    return name


def _function_problem(function: object) -> str:
    """Why an object cannot be a transform's function; empty where it can."""
    if not callable(function) or isinstance(function, type):
        return f"it is put on {type(function).__name__}, not on a function"
    if inspect.iscoroutinefunction(function):
        return (
            "its function is async; a transform only describes what to do, so there is nothing to wait for: drop async"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "its function yields; it must return one pl.LazyFrame"
    try:
        inspect.signature(function).bind(*[object()] * (2 if _takes_context(function) else 1))
    except TypeError:
        return (
            f"its function takes {inspect.signature(function)}, but it gets the rows, a pl.LazyFrame, and if it has a "
            "second parameter a silversmith.Context"
        )
    except ValueError:
        return ""  # a builtin that does not tell its signature
    return ""


_HERE = str(Path(__file__).parent)


def _place() -> str:
    """File and line of the user's code that is declaring."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_code):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{frame.f_lineno}"


def _is_ours(code: CodeType) -> bool:
    return str(Path(code.co_filename).parent) == _HERE


def _refuse(problem: str) -> NoReturn:
    raise DefinitionError(f"{_place()}: {problem}") from None


class _ErrorsWithPlace:
    """Adds file and line of the declaration to errors."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, DefinitionError | InvalidPattern):
            _refuse(str(error))


_ERRORS_WITH_PLACE = _ErrorsWithPlace()


@dataclass(frozen=True)
class Located:
    """A loaded pipeline and where it is: ``reference`` is ``module:attribute`` as seen from the folder ``root``;
    ``names`` are all names of the module, with its deployments."""

    pipeline: Pipeline
    reference: str
    root: Path
    names: Mapping[str, object] = field(repr=False, compare=False)


def locate(target: str) -> Located:
    """Load a pipeline, freshly, and say where it is.

    Args:
        target: ``path/to/file.py``, ``path/to/file.py:attribute``, ``package.module`` or ``package.module:attribute``.
            Where no attribute is named, the module must have one pipeline.

    Raises:
        DefinitionError: there is no such module, its own code fails, or it has no such pipeline.
    """
    parsed = parse(target)
    module = import_fresh(parsed)
    pipelines = _pipelines(vars(module))
    if not parsed.attribute and len(pipelines) != 1:
        if not pipelines:
            raise DefinitionError(f'{target} declares no pipeline; it should say: pipeline = Pipeline("name")')
        choices = " or ".join(f"{target}:{name}" for name in pipelines)
        raise DefinitionError(f"{target} declares {len(pipelines)} pipelines; say which: {choices}")
    attribute = parsed.attribute or pipelines[0]
    pipeline = getattr(module, attribute, None)
    if not isinstance(pipeline, Pipeline):
        problem = f"is a {type(pipeline).__name__}" if hasattr(module, attribute) else "is not there"
        names = ", ".join(pipelines) or "none"
        raise DefinitionError(f"{target}: {attribute!r} {problem}, not a Pipeline; pipelines of this module: {names}")
    pipeline.module_names = vars(module)
    return Located(pipeline, f"{parsed.module}:{attribute}", parsed.root, vars(module))


def load(target: str) -> Pipeline:
    """The pipeline that a target names; each call imports it anew. See :func:`locate`."""
    return locate(target).pipeline


def _pipelines(names: Mapping[str, object]) -> list[str]:
    """The names of the pipelines among a module's names; of two names for one, the first."""
    first_names: dict[int, str] = {}
    for name, value in names.items():
        if isinstance(value, Pipeline):
            first_names.setdefault(id(value), name)
    return list(first_names.values())
