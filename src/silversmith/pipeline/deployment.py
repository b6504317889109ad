"""The options of a deployment. They are no part of the pipeline, so that one definition can have several stages."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

from silversmith.errors import DefinitionError
from silversmith.pipeline import limits

#: The roles of a pipeline's buckets, and that of the one with tables, which a pipeline need not have.
ROLES, GOLD = ("bronze", "silver", "quarantine"), "gold"

#: The retentions that CloudWatch Logs takes, in days.
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
)

#: The least ephemeral storage of a function, which costs nothing, and the most, in MB.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-ephemeral-storage.html
STORAGE = (512, 10_240)

#: How many tags a user may set: S3 takes 50 of a bucket, and two are ours.
MOST_TAGS = 48

#: A user's function over the compiled template: it edits the dictionary, or returns another one.
Patch = Callable[[dict[str, Any]], dict[str, Any] | None]

#: The inventory that the stack has made: how often, where in quarantine, and under which id.
DAILY, INVENTORIES, INVENTORY_ID = "daily", "_inventory/", "silversmith"

#: A number for all transforms, or for some of them by their names.
Numbers = int | Mapping[str, int]

#: A function has five layers at most, and one is for its packages.
#: https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
MOST_LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class Vpc:
    """The functions' place in a VPC. There, S3, SQS and Lambda must be within reach: by endpoints or a NAT gateway.

    Args:
        subnets: ids of subnets, of several Availability Zones: ``("subnet-0a…", "subnet-0b…")``.
        security_groups: ids of security groups: ``("sg-0c…",)``. They must let HTTPS out.

    Raises:
        DefinitionError: something of it is no such id. https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    """

    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, prefix in (("subnets", "subnet-"), ("security_groups", "sg-")):
            ids = getattr(self, name)
            if isinstance(ids, str) or not ids:
                _refuse(f'{name}={ids!r} must be one id or more: {name}=("{prefix}0123456789abcdef0",)')
            for identity in ids:
                if not re.fullmatch(rf"{prefix}([0-9a-f]{{8}}|[0-9a-f]{{17}})", identity):
                    _refuse(f"{name}: {identity!r} is no such id: they look like {prefix}0123456789abcdef0")


@dataclass(frozen=True, kw_only=True)
class ObjectLock:
    """What lands in a bucket can be overwritten, and hidden by a deletion, but no version of it can be deleted before
    so many days. A bucket that is locked stays so for good.

    Args:
        days: how long each version is locked, 1 to 36,500.
        mode: ``"governance"``, which people with a right of their own may lift, or ``"compliance"``, which nobody may:
            not the account's root user, not AWS.
        buckets: of ``"bronze"``, ``"silver"``, ``"quarantine"`` and ``"gold"`` those that are locked.

    Raises:
        DefinitionError: one of them is not what S3 takes.
            https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
    """

    days: int
    mode: str = "governance"
    buckets: tuple[str, ...] = ("bronze",)

    def __post_init__(self) -> None:
        if not _whole(self.days) or not 1 <= self.days <= 36_500:
            _refuse(f"object_lock: days={self.days!r} must be 1 to 36,500")
        if self.mode not in {"governance", "compliance"}:
            _refuse(f'object_lock: mode={self.mode!r} must be "governance" or "compliance"')
        if isinstance(self.buckets, str) or not self.buckets or not set(self.buckets) <= {*ROLES, GOLD}:
            _refuse(f'object_lock: buckets={self.buckets!r} must name roles: buckets=("bronze",)')


#: Parts that a statement of a bucket's policy may have. Resource is filled in where it is left out.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
_IN_STATEMENT = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "Condition"}
)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment of a pipeline: a stage, an account, a set of rules that a company has.

    Args:
        prefix: put before the name of the stack, of everything in it and of the buckets that it makes: with ``"test"``,
            the pipeline ``flights`` becomes ``test-flights``. So one account can have several stages.
        bronze: the name of this deployment's bronze bucket, by default the pipeline's, after the prefix.
        silver: likewise.
        quarantine: likewise.
        gold: likewise.
        existing_buckets: which of ``"bronze"``, ``"silver"``, ``"quarantine"``, ``"gold"`` are there already. The stack
            neither makes nor changes them, and their names get no prefix; ``silversmith deploy`` switches EventBridge
            on in bronze, and in silver where tables are made of it.
        existing_keys: the ARNs of other KMS keys that objects in the buckets are encrypted with: functions may use
            them.
        customer_key: encrypt everything with one KMS key of yours, which the stack makes, instead of AWS's keys.
        old_versions_days: where a bucket keeps old versions, as bronze does, they are deleted after so many days, and
            with them the marks that deletions leave; 0: never. Existing buckets have rules of their own.
        bucket_policies: more statements for the policies of buckets, by role, as IAM writes them:
            ``{"silver": [{"Effect": "Allow", "Principal": {"AWS": "arn:…"}, "Action": "s3:GetObject"}]}``. Without a
            ``Resource`` they are for the bucket and all that is in it.
        access_logs: the name of the bucket that gets S3's access logs of all buckets that the stack makes. It must be
            there, in this region and account, and let S3 write.
        object_lock: no version of what lands can be deleted for so many days.
        replicate_to: S3 copies what lands into another bucket, by role: ``{"bronze": "example-bronze-copy"}``. That
            must be there, in this account, and keep old versions, and may be in another region. Deletions stay here.
        tags: put on everything that takes tags, and on the stack.
        log_retention_days: how long the functions' logs are kept.
        alarm_email: who gets the alarms. AWS sends a mail first that asks for consent.
        alarm_topic: the ARN of an SNS topic that gets the alarms.
        alarm_bad_share: raise an alarm when, of what came within an hour, more than this share of a transform's files
            went to quarantine, or of its rows was rejected: ``0.05`` for a twentieth; 0: never.
        alarm_on: what else raises an alarm of a transform: ``"quarantine"`` and ``"rejected"``, one file or row of that
            kind; ``"quarantine>5%"`` and ``"rejected>5%"``, more than this share of an hour's; ``"silent>24h"``, no new
            silver for so many hours, or days (``"silent>3d"``), 7 days at most. Local runs raise them, too.
            docs/template.md, docs/observability.md
        reconcile_hours: how often bronze and silver are compared; 0: never.
        architecture: of the functions: ``"arm64"``, which costs a fifth less, or ``"x86_64"``.
        snap_start: start the functions from a snapshot. Costs more, and starts in less than a second.
        vpc: run the functions in a VPC; or a dictionary by the names of the transforms whose functions run in one.
        permissions_boundary: the ARN of a policy that bounds what the stack's roles may do.
        service_role: the ARN of the role that CloudFormation makes, changes and deletes the stack with, so that people
            who deploy need no rights on what is in it.
        termination_protection: True: nobody can delete the stack before it is switched off; None: as it is on AWS.
        ephemeral_storage: the size of ``/tmp`` in MB, 512 to 10,240: as large as the largest file, and half as much
            again. A number for all transforms, or a dictionary by their names.
        reserved_concurrency: so many of the account's concurrent invocations are kept for a transform's function, and
            it never has more; 2 or more. Likewise.
        provisioned_concurrency: so many execution environments are kept warm, at a price. Likewise.
        glue_database: the name of the Glue database with the tables, by default the stack's, with ``_`` for ``-``.
        tables_memory: of the function that makes the tables, in MB, 512 to 10,240.
        tables_timeout: of one invocation of it, in seconds, 60 to 900.
        include: more files that go into the bundle, as patterns below the pipeline's folder: ``("lookup/*.csv",)``. The
            modules that the pipeline imports, and all files of its packages, are in it anyway.
        requirements: more packages that go into the bundle, as in a requirements file: ``("fastexcel",)``. What the
            pipeline imports is in it anyway. With ``"boto3"``, the functions use the locked version, not Lambda's.
        patch: a function over the compiled template, for all that no option is for: it gets the template as a
            dictionary, and edits it or returns another one. docs/template.md#a-patch
        openlineage: the URL of a server that the functions send OpenLineage events to. docs/observability.md
        layers: the ARNs of versions of layers that the functions of transforms have beside their packages, 4 at most;
            or a dictionary by the names of the transforms. docs/settings.md
        image: the functions of the transforms and the reconciler run from a container image, for packages that do not
            fit a zip. You build and push it, and name it: ``silversmith deploy --image URI``. docs/deploy.md#an-image
        inventory: S3's daily list of bronze, which reconciliation reads in the place of a listing: ``"daily"``, and the
            stack has it made; or the folder of one that there is, ``"s3://example-bucket/prefix/bronze-bucket/id"``. It
            needs ``Pipeline(lineage=True)``. docs/reconcile.md#s3-inventory

    Raises:
        DefinitionError: one of them is not what AWS takes, or two of them exclude each other.
    """

    prefix: str = ""
    bronze: str = ""
    silver: str = ""
    quarantine: str = ""
    gold: str = ""
    existing_buckets: tuple[str, ...] = ()
    existing_keys: tuple[str, ...] = ()
    customer_key: bool = False
    old_versions_days: int = 30
    bucket_policies: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    access_logs: str = ""
    object_lock: ObjectLock | None = None
    replicate_to: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    log_retention_days: int = 30
    alarm_email: str = ""
    alarm_topic: str = ""
    alarm_bad_share: float = 0.0
    alarm_on: tuple[str, ...] = ()
    reconcile_hours: int = 24
    architecture: str = "arm64"
    snap_start: bool = False
    vpc: Vpc | Mapping[str, Vpc] | None = None
    permissions_boundary: str = ""
    service_role: str = ""
    termination_protection: bool | None = None
    ephemeral_storage: Numbers = STORAGE[0]
    reserved_concurrency: Numbers | None = None
    provisioned_concurrency: Numbers | None = None
    glue_database: str = ""
    tables_memory: int = 2048
    tables_timeout: int = 300
    include: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    patch: Patch | None = None
    openlineage: str = ""
    layers: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ()
    inventory: str = ""
    image: bool = False

    def __post_init__(self) -> None:
        problem = (
            self._names_problem()
            or _tags_problem(self.tags)
            or self._arns_problem()
            or self._choices_problem()
            or self._alarms_problem()
            or self._numbers_problem()
            or self._storage_problem()
            or self._inventory_problem()
            or (f"patch={self.patch!r} must be a function" if not callable(self.patch or len) else "")
        )
        if problem:
            _refuse(problem)

    def name(self, pipeline: str) -> str:
        """The name of the stack, and the beginning of its resources' names.

        Raises:
            DefinitionError: with the prefix it is longer than AWS takes.
        """
        name = f"{self.prefix}-{pipeline}" if self.prefix else pipeline
        problem = limits.pipeline_name(name)
        if problem:
            _refuse(f"the pipeline {pipeline!r} cannot be deployed as {name!r}: {problem}")
        return name

    def bucket(self, role: str, name: str) -> str:
        """The bucket for ``role`` in this deployment, where the pipeline calls it ``name``."""
        own_name = getattr(self, role)
        if isinstance(own_name, str) and own_name:
            return own_name
        return name if role in self.existing_buckets or not self.prefix else f"{self.prefix}-{name}"

    @property
    def own_packages(self) -> tuple[str, ...]:
        """The packages that an option of ours puts into the bundles."""
        return ("openlineage-python",) if self.openlineage else ()

    @property
    def packages(self) -> tuple[str, ...]:
        """The requirements of the bundle of the transforms, beside what is imported."""
        return (*self.requirements, *self.own_packages)

    def inventory_folder(self, bronze: str, quarantine: str) -> str:
        """The bucket and the folder in it with the inventories of bronze, by the names of the buckets; empty: none."""
        if self.inventory == DAILY:
            return f"{quarantine}/{INVENTORIES}{bronze}/{INVENTORY_ID}"
        return self.inventory.removeprefix("s3://").strip("/")

    def number(self, option: str, transform: str) -> int | None:
        """The value of an option such as ``reserved_concurrency`` for a transform; None if it has none."""
        numbers = getattr(self, option)
        number = numbers.get(transform) if isinstance(numbers, Mapping) else numbers
        return number if number is None else int(number)

    def vpc_of(self, transform: str) -> Vpc | None:
        """The VPC of a transform's function; with an empty name, of the functions that are no transform's."""
        return self.vpc.get(transform) if isinstance(self.vpc, Mapping) else self.vpc

    def layers_of(self, transform: str) -> tuple[str, ...]:
        """The layers of a transform's function, beside its packages."""
        layers = self.layers.get(transform, ()) if isinstance(self.layers, Mapping) else self.layers
        return tuple(layers)

    def _names_problem(self) -> str:
        if self.prefix and not re.fullmatch(r"[a-z][a-z0-9-]{0,19}(?<!-)", self.prefix):
            return (
                f"prefix={self.prefix!r} must be lower-case letters, digits and '-', at most 20, a letter first and no "
                "'-' last"
            )
        for role in (*ROLES, GOLD):
            name = getattr(self, role)
            problem = limits.bucket_name(name) if name else ""
            if problem:
                return f"{role}={name!r} {problem}"
        for option in ("include", "requirements"):
            if isinstance(getattr(self, option), str):
                return f"{option}={getattr(self, option)!r} must be a tuple: {option}=({getattr(self, option)!r},)"
        if isinstance(self.existing_buckets, str) or not set(self.existing_buckets) <= {*ROLES, GOLD}:
            return f'existing_buckets={self.existing_buckets!r} must name roles: existing_buckets=("bronze", "silver")'
        if self.glue_database and not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", self.glue_database):
            return (
                f"glue_database={self.glue_database!r} must be lower-case letters, digits and '_', at most 63, a "
                "letter first: Athena takes it"
            )
        return ""

    def _arns_problem(self) -> str:
        if problem := _vpc_problem(self.vpc) or _layers_problem(self.layers):
            return problem
        if isinstance(self.existing_keys, str):
            return f"existing_keys={self.existing_keys!r} must be a tuple: existing_keys=({self.existing_keys!r},)"
        arns = [
            *(("existing_keys", key, "kms", "key/") for key in self.existing_keys),
            ("alarm_topic", self.alarm_topic, "sns", ""),
            ("permissions_boundary", self.permissions_boundary, "iam", "policy/"),
            ("service_role", self.service_role, "iam", "role/"),
        ]
        for name, arn, service, kind in arns:
            if arn and not re.fullmatch(rf"arn:[a-z-]+:{service}:[a-z0-9-]*:(\d{{12}}|aws):{kind}\S+", arn):
                return (
                    f"{name}: {arn!r} is no ARN of that kind: they look like arn:aws:{service}:…:123456789012:{kind}…"
                )
        return ""

    def _inventory_problem(self) -> str:
        if not self.inventory:
            return ""
        if self.reconcile_hours == 0:
            return "inventory and reconcile_hours=0 exclude each other: nobody would read it"
        if self.inventory != DAILY:
            parts = re.fullmatch(r"s3://([^/]+)/([^/].*)", self.inventory)
            if parts is None or limits.bucket_name(parts[1]):
                return (
                    f'inventory={self.inventory!r} must be "daily", or the folder of an inventory with its bucket: '
                    '"s3://example-bucket/prefix/bronze-bucket/id"'
                )
            return ""
        if self.customer_key or {"bronze", "quarantine"} & set(self.existing_buckets):
            return (
                'inventory="daily" needs a bronze and a quarantine bucket that the stack makes, under keys of AWS; '
                'have S3 make one otherwise, and name its folder: "s3://example-bucket/prefix/bronze-bucket/id"'
            )
        return ""

    def _choices_problem(self) -> str:
        if self.architecture not in {"arm64", "x86_64"}:
            return f'architecture={self.architecture!r} must be "arm64" or "x86_64"'
        if self.log_retention_days not in RETENTIONS:
            return f"log_retention_days={self.log_retention_days} is not one that CloudWatch Logs takes: {RETENTIONS}"
        if self.alarm_email and not re.fullmatch(r"[^@\s]+@[^@\s]+", self.alarm_email):
            return f"alarm_email={self.alarm_email!r} is no address; write name@example.com"
        if self.openlineage and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", self.openlineage):
            return (
                f"openlineage={self.openlineage!r} must be the URL of a server, without a secret: "
                "https://lineage.example.com"
            )
        if not _whole(self.reconcile_hours) or not 0 <= self.reconcile_hours <= 24 * 365:
            return f"reconcile_hours={self.reconcile_hours!r} must be 0 (never) to 8,760"
        return ""

    def _alarms_problem(self) -> str:
        share = self.alarm_bad_share
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            return f"alarm_bad_share={share!r} must be a share of all: 0 (no alarm) or more, and less than 1"
        problem = _alarms_problem(self.alarm_on)
        if not problem and share and any(item.kind != "silent" for item in alarm_conditions(self.alarm_on)):
            return "alarm_bad_share and alarm_on exclude each other; write alarm_on=('quarantine>5%', 'rejected>5%')"
        return problem

    def _numbers_problem(self) -> str:
        return (
            _out_of_range("ephemeral_storage", self.ephemeral_storage, *STORAGE, "MB")
            or _out_of_range("reserved_concurrency", self.reserved_concurrency, 2, 100_000, "invocations")
            or _out_of_range("provisioned_concurrency", self.provisioned_concurrency, 1, 100_000, "environments")
            or _out_of_range("tables_memory", self.tables_memory, 512, 10_240, "MB")
            or _out_of_range("tables_timeout", self.tables_timeout, 60, 900, "seconds")
            or self._snapshot_problem()
        )

    def _storage_problem(self) -> str:
        days = self.old_versions_days
        if not _whole(days) or not 0 <= days <= 36_500:
            return f"old_versions_days={days!r} must be 0 (they are kept forever) to 36,500"
        for option, role in configured_buckets(self):
            if role not in {*ROLES, GOLD}:
                return f"{option} speaks of {role!r}; there are {', '.join((*ROLES, GOLD))}"
            if role in self.existing_buckets:
                return (
                    f"{option} speaks of {role}, which existing_buckets says is there already: the stack does not "
                    "change it; configure it where it is made"
                )
        problems = ((role, _statements_problem(statements)) for role, statements in self.bucket_policies.items())
        if bad := [f"bucket_policies[{role!r}]: {problem}" for role, problem in problems if problem]:
            return bad[0]
        return self._copies_problem()

    def _copies_problem(self) -> str:
        for option, name in (
            ("access_logs", self.access_logs),
            *(("replicate_to", each) for each in self.replicate_to.values()),
        ):
            if name and (problem := limits.bucket_name(name)):
                return f"{option}: {name!r} {problem}"
        if self.replicate_to and self.customer_key:
            return (
                "replicate_to and customer_key exclude each other: a copy under a key of another region needs rights "
                "that only its owner can give; write it in a `patch`"
            )
        return ""

    def _snapshot_problem(self) -> str:
        """https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html"""
        if self.image and (self.snap_start or self.layers):
            option = "snap_start" if self.snap_start else "layers"
            return f"image and {option} exclude each other: Lambda has no {option} for functions that run from an image"
        if not self.snap_start:
            return ""
        if self.provisioned_concurrency is not None:
            return "snap_start and provisioned_concurrency exclude each other: Lambda takes one of them"
        if max(_each(self.ephemeral_storage), default=0) > STORAGE[0]:
            return f"snap_start and ephemeral_storage over {STORAGE[0]} MB exclude each other"
        return ""


def configured_buckets(options: Deployment) -> Iterator[tuple[str, str]]:
    """The options that speak of a bucket by its role, each with the role."""
    locked = options.object_lock.buckets if options.object_lock is not None else ()
    yield from (("bucket_policies", role) for role in options.bucket_policies)
    yield from (("object_lock", role) for role in locked)
    yield from (("replicate_to", role) for role in options.replicate_to)


class AlarmCondition(NamedTuple):
    """What raises an alarm: ``limit`` is a share of an hour's files or rows, or a number of hours; 0: any."""

    kind: str
    limit: float


_CONDITION = re.compile(
    r"(?P<kind>quarantine|rejected)(?:>(?P<share>[0-9]+(?:\.[0-9]+)?)%)?|silent>(?P<time>[0-9]+)(?P<unit>[hd])"
)

#: The longest silence that CloudWatch can see, in hours.
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
MOST_SILENT = 7 * 24


def alarm_conditions(texts: Iterable[str]) -> list[AlarmCondition]:
    """The conditions of a deployment's ``alarm_on``, which are valid."""
    conditions = []
    for text in texts:
        parts = _CONDITION.fullmatch(text)
        assert parts is not None
        hours = int(parts["time"] or 0) * (24 if parts["unit"] == "d" else 1)
        conditions.append(AlarmCondition(parts["kind"] or "silent", hours or float(parts["share"] or 0) / 100))
    return conditions


def _alarms_problem(texts: object) -> str:
    if isinstance(texts, str) or not isinstance(texts, Collection):
        return f"alarm_on={texts!r} must be a tuple: alarm_on=('quarantine', 'silent>24h')"
    for text in texts:
        if not isinstance(text, str) or not _CONDITION.fullmatch(text):
            return (
                f"alarm_on: {text!r} is no condition; there are 'quarantine', 'quarantine>5%', 'rejected', "
                "'rejected>5%' and 'silent>24h'"
            )
    conditions = alarm_conditions(texts)
    if len({condition.kind for condition in conditions}) < len(conditions):
        return f"alarm_on={texts!r} names a kind twice"
    for condition in conditions:
        if condition.kind == "silent" and not 1 <= condition.limit <= MOST_SILENT:
            return f"alarm_on: silent must be 1 hour to {MOST_SILENT // 24} days: CloudWatch looks back no longer"
        if condition.kind != "silent" and condition.limit >= 1:
            return f"alarm_on: {condition.kind} must be less than 100%"
    return ""


def _statements_problem(statements: object) -> str:
    if isinstance(statements, Mapping | str) or not isinstance(statements, Sequence):
        return "it must be a list of statements: [{…}]"
    for statement in statements:
        if not isinstance(statement, Mapping) or (unknown := set(statement) - _IN_STATEMENT):
            what = repr(statement) if not isinstance(statement, Mapping) else ", ".join(sorted(map(str, unknown)))
            return f"{what} is no part of a statement; there are {', '.join(sorted(_IN_STATEMENT))}"
        for choices in (("Effect",), ("Principal", "NotPrincipal"), ("Action", "NotAction")):
            if not set(choices) & set(statement):
                return f"a statement of a bucket's policy needs {' or '.join(choices)}: {dict(statement)!r}"
        if statement["Effect"] not in {"Allow", "Deny"}:
            return f"Effect={statement['Effect']!r} must be 'Allow' or 'Deny'"
    return ""


def _deployments(names: Mapping[str, object]) -> dict[str, Deployment]:
    return {name: value for name, value in names.items() if isinstance(value, Deployment)}


def named(attributes: Mapping[str, object], name: str = "") -> Deployment:
    """The deployment of that name among a module's attributes: ``vars(module)``.

    Without a name it is the one called ``deployment``. Where a module has none at all, every option is as by default.

    Raises:
        DefinitionError: there is none of that name; or none is named, and the module has some, none of them called
            ``deployment``: then somebody must say which.
    """
    deployments = _deployments(attributes)
    if not name and not deployments:
        return Deployment()
    if (name or "deployment") in deployments:
        return deployments[name or "deployment"]
    names = ", ".join(deployments) or "none"
    raise DefinitionError(
        f"there is no deployment {name!r} in the pipeline's module; there are: {names}"
        if name
        else f"say which deployment, with --deployment: {names}"
    )


def on_this_machine(names: Mapping[str, object]) -> Deployment | None:
    """Of the deployments among a module's names, the one whose template the local engine runs, with the pipeline's own
    names of buckets; None: the template without options. It is one with a patch: no other option changes what the
    engine does.

    Raises:
        DefinitionError: several have a patch, and none of them is called ``deployment``.
    """
    deployments = _deployments(names)
    patches = {name: each for name, each in deployments.items() if each.patch is not None}
    if "deployment" in deployments:
        patches = {name: each for name, each in patches.items() if name == "deployment"}
    if len(patches) > 1:
        raise DefinitionError(
            f"the deployments {', '.join(patches)} each have a patch: call the one that runs on this machine "
            "`deployment`"
        )
    chosen = next(iter(patches.values()), None)
    if chosen is None:
        return None
    return replace(chosen, prefix="", bronze="", silver="", quarantine="", gold="", existing_buckets=())


def _tags_problem(tags: Mapping[str, str]) -> str:
    """https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html"""
    if len(tags) > MOST_TAGS:
        return f"{len(tags)} tags are too many: at most {MOST_TAGS}"
    for key, value in tags.items():
        if not re.fullmatch(r"[\w .:/=+@-]{1,128}", key) or not re.fullmatch(r"[\w .:/=+@-]{0,256}", value):
            return f"the tag {key!r}={value!r} must be of letters, digits, spaces and . : / = + @ _ -, 128 and 256 long"
        if key.lower().startswith(("aws:", "silversmith:")):
            return f"the tag {key!r} begins with what others use: take another name"
    return ""


def _vpc_problem(vpc: object) -> str:
    each = [*vpc.values()] if isinstance(vpc, Mapping) else [vpc] if vpc is not None else []
    if all(isinstance(item, Vpc) for item in each):
        return ""
    return f"vpc={vpc!r} must be a Vpc(subnets=…, security_groups=…), or a dictionary of them by transforms' names"


def _layers_problem(layers: object) -> str:
    for each in layers.values() if isinstance(layers, Mapping) else [layers]:
        if isinstance(each, str) or not isinstance(each, Collection) or len(each) > MOST_LAYERS:
            return f'layers: {each!r} must be a tuple of at most {MOST_LAYERS} ARNs: layers=("arn:…:layer:name:3",)'
        for arn in each:
            if not re.fullmatch(r"arn:[a-z-]+:lambda:[a-z0-9-]+:\d{12}:layer:[\w-]+:\d+", str(arn)):
                return f"layers: {arn!r} is no ARN of a layer's version: they look like arn:aws:lambda:…:layer:name:3"
    return ""


def _out_of_range(name: str, numbers: Numbers | None, least: int, most: int, unit: str) -> str:
    for number in _each(numbers):
        if not _whole(number) or not least <= number <= most:
            return f"{name}={number!r} is out of range: {least:,} to {most:,} {unit}"
    return ""


def _each(numbers: Numbers | None) -> list[int]:
    if numbers is None:
        return []
    return list(numbers.values()) if isinstance(numbers, Mapping) else [numbers]


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _refuse(problem: str) -> NoReturn:
    raise DefinitionError(f"the deployment is not valid: {problem}")
